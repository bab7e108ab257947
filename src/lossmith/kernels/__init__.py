"""The arithmetic of losses on large logits: fused forward and backward passes that know no loss.

They promise ``.backward()`` and ``torch.compile(fullgraph=True)`` only; a second derivative is refused.
`lossmith.kernels.fitting`, which needs NumPy, makes the polynomials they sum over the classes.
"""

from lossmith.kernels.batch import Polynomial
from lossmith.kernels.rows import RowTerms, fuses, row_terms

__all__ = ["Polynomial", "RowTerms", "fuses", "row_terms"]
