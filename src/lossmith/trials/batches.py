"""The order in which a training meets its examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from lossmith.data import Splits
from lossmith.trials.trial import Plain, Trial

_CLEAN_STREAM = 4_000_037  # added to a trial's seed for the order of its clean examples


def batches(size: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of row numbers: a fresh permutation per epoch, whose incomplete last batch is dropped.

    Args:
        size: number of training examples n.
        batch_size: examples per batch B; n if that is less.
        seed: of the permutations.

    Yields:
        Row numbers, int64 (B,).
    """
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, size)
    while True:
        order = torch.randperm(size, generator=generator)
        yield from order[: size - size % batch_size].split(batch_size)


def trial_batches(trial: Trial, size: int, clean: int) -> Iterator[Tensor]:
    """The rows of the training part that each step of a trial is taken on.

    Noisy examples come in the order of `batches`, whatever is done with the clean ones; where a batch holds clean
    examples, they stand in for its first ones. They come one permutation after another, none left out.

    Args:
        trial: what is trained.
        size: number of training examples, clean ones included.
        clean: number of clean ones, which stand first.

    Yields:
        Row numbers, int64 (B,).

    Raises:
        ValueError: if the trial trains on clean examples and there are none.
    """
    how = trial.stepper if isinstance(trial.stepper, Plain) else Plain()
    noisy = (clean + rows for rows in batches(size - clean, trial.ours.batch_size, trial.seed))
    if how.clean == "unused":
        yield from noisy
    if not clean:
        raise ValueError(f"clean={how.clean!r} needs a clean set: name one in the data of the trial")
    stream = _one_by_one(clean, trial.seed + _CLEAN_STREAM)
    begin = round(trial.steps * (1 - how.clean_share)) if how.clean == "last" else 0
    for step, rows in enumerate(noisy):
        share = 1.0 if how.clean == "last" else how.clean_share
        count = round(share * len(rows)) if step >= begin else 0
        yield torch.cat([torch.tensor(list(itertools.islice(stream, count)), dtype=torch.int64), rows[count:]])


class StackBatches:
    """The batches of trials that are trained side by side, as row numbers.

    Args:
        trials: one per slice.
        splits: what they are trained on.
        row_multiple: what the number of rows is padded to a multiple of.
        device: where the row numbers are needed.
    """

    def __init__(self, trials: Sequence[Trial], splits: Splits, row_multiple: int, device: str) -> None:
        self.keys = [(trial.seed, trial.stepper) for trial in trials]  # what decides the order of examples
        self.orders = {
            key: trial_batches(trial, len(splits.train), splits.clean)
            for key, trial in zip(self.keys, trials, strict=True)
        }
        self.row_multiple, self.device = row_multiple, device

    def draw(self) -> tuple[Tensor, int]:
        """The row numbers (M, B') of the next batches, padded, and the size B of a batch."""
        drawn = {key: next(rows) for key, rows in self.orders.items()}
        rows = torch.stack([drawn[key] for key in self.keys], 1)
        return pad_rows(rows, self.row_multiple).T.contiguous().to(self.device), len(rows)


def _one_by_one(size: int, seed: int) -> Iterator[int]:
    for rows in batches(size, size, seed):
        yield from rows.tolist()


def gathered(parts: Iterable[Tensor], most: int) -> Iterator[Tensor]:
    """Concatenate consecutive parts (M, n, ...) along their rows while they hold at most ``most`` values together."""
    held: list[Tensor] = []
    for part in parts:
        if held and sum(each.numel() for each in held) + part.numel() > most:
            yield torch.cat(held, 1)
            held = []
        held.append(part)
    if held:
        yield torch.cat(held, 1)


def pad_rows(values: Tensor, multiple: int) -> Tensor:
    """Repeat the last row until the number of rows is a multiple of ``multiple``."""
    missing = -len(values) % multiple
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])]) if missing else values
