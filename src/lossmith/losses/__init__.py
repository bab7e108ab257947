"""The losses, as modules to import.

Every classification loss is a drop-in for `torch.nn.CrossEntropyLoss`; `ClassificationLoss` documents the arguments
they share. By name and text form: `lossmith.create`.
"""

from lossmith.losses.alternate import (
    CircleLoss,
    CosLoss,
    LFullLoss,
    LLoss,
    MFullLoss,
    MLoss,
    ParabolicLoss,
    ParamMLoss,
)
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.baselines import (
    BrierLoss,
    FocalLoss,
    PolyLoss,
    SymmetricCrossEntropyLoss,
    TaylorCrossEntropyLoss,
)
from lossmith.losses.bi_tempered import BiTemperedLoss
from lossmith.losses.cross_entropy import (
    CrossEntropyLoss,
    LabelSmoothingLoss,
    LogitAdjustedLoss,
    SparseLabelSmoothingLoss,
)
from lossmith.losses.dynamical import DynamicalLoss, gamma, static_tail
from lossmith.losses.evolved import NextGenerationLoss
from lossmith.losses.formula import FormulaLoss
from lossmith.losses.linear import linear_loss
from lossmith.losses.loss import Loss
from lossmith.losses.regression import (
    AbsoluteErrorLoss,
    HuberLoss,
    LogCoshLoss,
    MeanSquaredErrorLoss,
    QuantileLoss,
    RegressionLoss,
    SmoothAbsoluteErrorLoss,
)
from lossmith.losses.rooted import RootedGANLoss, RootedLogisticLoss
from lossmith.losses.scaled import ScaledLoss
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss
from lossmith.losses.soft_dice import SoftDiceLoss
from lossmith.losses.sums import SumLoss
from lossmith.losses.tempered import (
    GeneralizedCrossEntropyLoss,
    MeanAbsoluteErrorLoss,
    TemperedCrossEntropyLoss,
)
from lossmith.losses.wrapper import Wrapper

__all__ = [
    "AbsoluteErrorLoss",
    "BiTemperedLoss",
    "BrierLoss",
    "CircleLoss",
    "ClassificationLoss",
    "ClasswiseLoss",
    "CosLoss",
    "CrossEntropyLoss",
    "DynamicalLoss",
    "FocalLoss",
    "FormulaLoss",
    "GeneralizedCrossEntropyLoss",
    "HuberLoss",
    "LFullLoss",
    "LLoss",
    "LabelSmoothingLoss",
    "LogCoshLoss",
    "LogitAdjustedLoss",
    "Loss",
    "MFullLoss",
    "MLoss",
    "MeanAbsoluteErrorLoss",
    "MeanSquaredErrorLoss",
    "NextGenerationLoss",
    "ParabolicLoss",
    "ParamMLoss",
    "PolyLoss",
    "QuantileLoss",
    "RegressionLoss",
    "RootedGANLoss",
    "RootedLogisticLoss",
    "ScaledLoss",
    "SmoothAbsoluteErrorLoss",
    "SoftDiceLoss",
    "SparseLabelSmoothingLoss",
    "SumLoss",
    "SymmetricCrossEntropyLoss",
    "TargetLoss",
    "TaylorCrossEntropyLoss",
    "TemperedCrossEntropyLoss",
    "Wrapper",
    "gamma",
    "linear_loss",
    "static_tail",
]
