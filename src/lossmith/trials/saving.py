"""Trained weights as a file, with the words that bring them back."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from lossmith.data import Splits
from lossmith.tasks import Task
from lossmith.trials.trial import Sources, Trial


def save_model(model: nn.Module, trial: Trial, splits: Splits, task: Task, sources: Sources, folder: Path) -> str:
    """Write ``model.safetensors`` and ``trial.json`` into a folder.

    Args:
        model: the trained model, on the CPU.
        trial: what trained it.
        splits: what it was trained on.
        task: what scores it.
        sources: where a user's model file lies.
        folder: made if absent.

    Returns:
        Python that reloads the model as ``model``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.safetensors"
    partial = file.with_name("model.part")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    partial.replace(file)
    described = {
        "trial": json.loads(trial.json),
        "class_names": splits.class_names,
        "vocabulary": splits.vocabulary,
        "target_mean": splits.target_mean,
        "target_std": splits.target_std,
    }
    (folder / "trial.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    return (
        "from safetensors.torch import load_file\n"
        f"{_construction(trial, splits, task.outputs, sources)}\n"
        f'model.load_state_dict(load_file("{file}"))'
        + (
            ""
            if splits.target_std is None
            else f"  # target = {splits.target_mean:.6g} + {splits.target_std:.6g} * output"
        )
    )


def _construction(trial: Trial, splits: Splits, outputs: int, sources: Sources) -> str:
    name, _, arguments = trial.ours.model.partition(":")
    if name == "sha256":
        digest, _, factory = trial.ours.model.rpartition(":")
        path = Path(sources.code[digest])
        return (
            f"from {path.stem} import {factory}  # in {path.parent}\n"
            f"model = {factory}({tuple(splits.input_shape)}, {outputs})"
        )
    first = len(splits.vocabulary) if splits.vocabulary is not None else tuple(torch.Size(splits.input_shape))
    rest = "".join(f", {argument}" for argument in arguments.split(",") if argument)
    return f"from lossmith.trials.models import {name}\nmodel = {name}({first}, {outputs}{rest})"
