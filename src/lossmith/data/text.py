"""Texts as rows of token numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lossmith.data.dataset import Kind
from lossmith.data.encode import Encoding
from lossmith.data.errors import DataError

TOKEN = re.compile(r"\w+|[^\w\s]")
PADDING, UNKNOWN = "<pad>", "<unk>"
LONGEST = 256
MOST_TOKENS = 20_000
RAREST = 2


@dataclass(frozen=True)
class TextEncoding(Encoding):
    r"""Texts as rows of L token numbers, int64 (n, L); the first tokens are the padding (0) and the unknown token (1).

    A text is lower-cased and cut into tokens, `\w+|[^\w\s]`. Longer texts are cut, shorter ones padded, and a text
    without tokens is one unknown token. `column` is that of the texts in a table; None where they had no table.
    """

    tokens: tuple[str, ...]
    length: int
    column: str | None = None

    kind: ClassVar[Kind] = "text"

    @property
    @override
    def input_shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    @override
    def vocabulary(self) -> tuple[str, ...]:
        return self.tokens

    @override
    def read(self, examples: Any) -> list[str]:
        texts = [examples] if isinstance(examples, str) else list(examples)
        if not all(isinstance(text, str) for text in texts):
            raise DataError("the examples are not all texts, as those of training were; give a sequence of strings.")
        return texts

    @override
    def encode(self, inputs: Sequence[str]) -> Tensor:
        number = {token: code for code, token in enumerate(self.tokens)}
        codes = np.zeros((len(inputs), self.length), np.int64)
        for i, text in enumerate(inputs):
            tokens = _tokens(text)[: self.length] or [UNKNOWN]
            codes[i, : len(tokens)] = [number.get(token, 1) for token in tokens]
        return torch.from_numpy(codes)

    @classmethod
    @override
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        return cls(tuple(plain["tokens"]), plain["length"], plain["column"])


def fit_text(
    texts: Sequence[str], train: NDArray[np.int64], column: str | None = None
) -> tuple[TextEncoding, tuple[str, ...]]:
    """Learn the vocabulary and the length of the training texts.

    The vocabulary is the padding, the unknown token and the up to 20,000 most frequent tokens that the training texts
    hold at least twice, ties in alphabetical order. The length is the longest training text's number of tokens, at most
    256. Notes say what of the training texts is not read.
    """
    counts: Counter[str] = Counter()
    length, cut = 1, 0
    for row in train:
        tokens = _tokens(texts[row])
        counts.update(tokens)
        length = max(length, len(tokens))
        cut += len(tokens) > LONGEST
    frequent = sorted((-count, token) for token, count in counts.items() if count >= RAREST)
    if not frequent:
        raise DataError("the training texts hold no token twice, so there is no vocabulary; give more texts.")
    vocabulary = (PADDING, UNKNOWN, *(token for _, token in frequent[:MOST_TOKENS]))
    notes: tuple[str, ...] = ()
    if cut:
        notes += (
            f"{cut:,} of {len(train):,} training texts have more than {LONGEST} tokens, the longest {length:,}; the"
            f" model reads the first {LONGEST} of each text",
        )
    if len(frequent) > MOST_TOKENS:
        notes += (
            f"the training texts hold {len(frequent):,} different tokens at least twice; the {MOST_TOKENS:,} most"
            " frequent of them are the vocabulary, and all others are one unknown token",
        )
    return TextEncoding(vocabulary, min(length, LONGEST), column), notes


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text.lower())
