"""Losses learned by gradient: AdaLFL online, its offline start, ML3."""

from lossmith.learned.adaptive import AdaptiveLoss
from lossmith.learned.ml3 import ML3Loss
from lossmith.learned.network import LossNetwork, smooth_leaky_relu
from lossmith.learned.online import OnlineLossLearner, StepRecord
from lossmith.learned.regression import AdaptiveRegressionLoss

__all__ = [
    "AdaptiveLoss",
    "AdaptiveRegressionLoss",
    "LossNetwork",
    "ML3Loss",
    "OnlineLossLearner",
    "StepRecord",
    "smooth_leaky_relu",
]
