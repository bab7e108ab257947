"""Losses learned by gradient descent: AdaLFL, its offline initialisation, and ML3."""

from lossmith.learned.adaptive import AdaptiveLoss
from lossmith.learned.distil import Distilled, distil, strictness_curve
from lossmith.learned.frozen import FrozenLoss
from lossmith.learned.ml3 import ML3Loss
from lossmith.learned.network import LossNetwork, smooth_leaky_relu
from lossmith.learned.offline import OfflineLog, learn_offline
from lossmith.learned.online import OnlineLossLearner, StepRecord
from lossmith.learned.parameters import LearnedLoss
from lossmith.learned.regression import AdaptiveRegressionLoss

__all__ = [
    "AdaptiveLoss",
    "AdaptiveRegressionLoss",
    "Distilled",
    "FrozenLoss",
    "LearnedLoss",
    "LossNetwork",
    "ML3Loss",
    "OfflineLog",
    "OnlineLossLearner",
    "StepRecord",
    "distil",
    "learn_offline",
    "smooth_leaky_relu",
    "strictness_curve",
]
