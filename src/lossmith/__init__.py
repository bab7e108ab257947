"""Lossmith finds the loss function that trains your classifier best, and proves it.

>>> import lossmith
>>> loss = lossmith.create("rooted:k=3")  # a drop-in for torch.nn.CrossEntropyLoss
"""

from lossmith import losses
from lossmith.catalog import available, create

__all__ = ["available", "create", "losses"]
