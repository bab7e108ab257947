"""Why a loss trains as it does: curvature, kernels and instabilities of a training.

An *operator* is a symmetric matrix that is known by its products with vectors. An *algorithm* is a function of an
operator that returns a frozen result.

>>> from lossmith import dynamics
>>> hessian = dynamics.Hessian(model, loss, (inputs, targets))
>>> dynamics.eigenvalues(hessian, k=3).values
"""

from lossmith.dynamics.conditioning import Condition, condition_number
from lossmith.dynamics.instability import Bifurcation, Instability, bifurcation, instabilities, sharpness_around
from lossmith.dynamics.lanczos import Eigenvalues, eigenvalues
from lossmith.dynamics.landscape import Flatness, Interpolation, Slice, flatness, interpolate, loss_slice
from lossmith.dynamics.measurements import MEASUREMENTS, Measurement, Moment
from lossmith.dynamics.operators import Fisher, GaussNewton, Hessian, Operator, Scaled, TangentKernel, dense
from lossmith.dynamics.recorder import Recorder
from lossmith.dynamics.separability import (
    MaximumMargin,
    MinimumNorm,
    Separability,
    angle,
    margins,
    maximum_margin,
    minimum_norm,
    separability,
)
from lossmith.dynamics.sharpness import adam_preconditioned, sharpness, threshold
from lossmith.dynamics.spectrum import Density, Trace, spectral_density, trace
from lossmith.dynamics.tangent_kernel import tangent_kernel

__all__ = [
    "MEASUREMENTS",
    "Bifurcation",
    "Condition",
    "Density",
    "Eigenvalues",
    "Fisher",
    "Flatness",
    "GaussNewton",
    "Hessian",
    "Instability",
    "Interpolation",
    "MaximumMargin",
    "Measurement",
    "MinimumNorm",
    "Moment",
    "Operator",
    "Recorder",
    "Scaled",
    "Separability",
    "Slice",
    "TangentKernel",
    "Trace",
    "adam_preconditioned",
    "angle",
    "bifurcation",
    "condition_number",
    "dense",
    "eigenvalues",
    "flatness",
    "instabilities",
    "interpolate",
    "loss_slice",
    "margins",
    "maximum_margin",
    "minimum_norm",
    "separability",
    "sharpness",
    "sharpness_around",
    "spectral_density",
    "tangent_kernel",
    "threshold",
    "trace",
]
