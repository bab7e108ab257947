"""Lossmith finds the loss function that trains your model best, and proves it.

>>> import lossmith
>>> loss = lossmith.create("rooted:k=3")  # a drop-in for torch.nn.CrossEntropyLoss
"""

from lossmith import learned, losses
from lossmith.catalog import available, create
from lossmith.properties.scale import match_scale

__all__ = ["available", "create", "learned", "losses", "match_scale"]
