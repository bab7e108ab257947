"""Texts as rows of token numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lossmith.data.encode import Encoder
from lossmith.data.errors import DataError

TOKEN = re.compile(r"\w+|[^\w\s]")
PADDING, UNKNOWN = "<pad>", "<unk>"
LONGEST = 256
MOST_TOKENS = 20_000
RAREST = 2


def fit_text(texts: Sequence[str], train: NDArray[np.int64]) -> tuple[Encoder, tuple[str, ...]]:
    r"""Learn the vocabulary and the length of the training texts.

    A text is lower-cased and cut into tokens, `\w+|[^\w\s]`. The vocabulary is the padding (0), the unknown token (1)
    and the up to 20,000 most frequent tokens that the training texts hold at least twice, ties in alphabetical order.

    Args:
        texts: All texts of the data set.
        train: The training rows.

    Returns:
        What encodes any rows (n,) as int64 (n, L), with L the longest training text's number of tokens, at most 256:
        longer texts are cut, shorter ones padded, and a text without tokens is one unknown token. And the vocabulary.

    Raises:
        DataError: If no token is held twice.
    """
    counts: Counter[str] = Counter()
    length = 1
    for row in train:
        tokens = _tokens(texts[row])
        counts.update(tokens)
        length = max(length, len(tokens))
    length = min(length, LONGEST)
    frequent = sorted((-count, token) for token, count in counts.items() if count >= RAREST)
    if not frequent:
        raise DataError("the training texts hold no token twice, so there is no vocabulary; give more texts.")
    vocabulary = (PADDING, UNKNOWN, *(token for _, token in frequent[:MOST_TOKENS]))
    number = {token: code for code, token in enumerate(vocabulary)}

    def encode(rows: NDArray[np.int64]) -> torch.Tensor:
        codes = np.zeros((len(rows), length), np.int64)
        for i, row in enumerate(rows):
            tokens = _tokens(texts[row])[:length] or [UNKNOWN]
            codes[i, : len(tokens)] = [number.get(token, 1) for token in tokens]
        return torch.from_numpy(codes)

    return encode, vocabulary


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text.lower())
