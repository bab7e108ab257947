"""The regression experiment of AdaLFL, made fair: ``python -m lossmith.studies.regression DATA.csv --label COLUMN``.

Every loss has one tuning budget, seeds are paired, and controls say how much of a gain is adaptation.

Source: Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, which trains small networks
on three tables of numbers; the controls are ours.
"""

from lossmith.studies.regression.protocol import Study, run_study
from lossmith.studies.regression.table import read_regression

__all__ = ["Study", "read_regression", "run_study"]
