"""Dynamical losses on spirals: ``lossmith study spirals``.

Does a loss whose class weights oscillate fit what plain gradient descent does not? The authors' data, network and
schedule; then what their paper lacked: other rates, schedules and momentum for the static loss, constant class weights,
the triangle on the learning rate, several draws of the data, and validation.

Source: Ruiz-Garcia, Zhang, Schoenholz and Liu, "Tilting the playing field: Dynamical loss functions for machine
learning", 2021, arXiv 2102.03793; the data, the network and the schedule are those of the authors' notebook,
github.com/miguel-rg/dynamical-loss-functions. The controls are ours.
"""

from lossmith.studies.spirals.page import study

__all__ = ["study"]
