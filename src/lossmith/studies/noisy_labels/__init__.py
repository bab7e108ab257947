"""Noisy labels and a small clean set: ``python -m lossmith.studies.noisy_labels DATA --out FOLDER``.

Does a loss that learns online from a few clean examples beat what else those examples are good for? Every method has
the same clean set, the same tuning budget and the same seeds.

Source: the loss that learns is AdaLFL (Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv
2301.13247); the question, the controls and the protocol are ours.
"""

from lossmith.studies.noisy_labels.protocol import Study, run_study

__all__ = ["Study", "run_study"]
