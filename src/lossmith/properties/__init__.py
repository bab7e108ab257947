"""What a loss is: its shape, scale, convexity, optimum, robustness and numbers, as a certificate.

`certify` examines a loss; `lossmith describe` prints what it finds. SciPy comes in when it is called.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.properties.certificate import Certificate, certify, to_json
    from lossmith.properties.regression import RegressionCertificate

__all__ = ["Certificate", "RegressionCertificate", "certify", "to_json"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lossmith.properties import certificate

    return getattr(certificate, name)
