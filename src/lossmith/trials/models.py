"""The models a trial can train, by name, and factories from a user's own file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from lossmith.catalog import nearest
from lossmith.data import Encoding, Splits
from lossmith.losses.text import LossText, parse_loss
from lossmith.trials.seeding import seeded
from lossmith.trials.trial import Sources
from lossmith.trials.unet import UNet
from lossmith.trials.user_code import UserCodeError, canonical_function, load_function

Factory = Callable[..., nn.Module]


class ModelError(UserCodeError):
    """A model that cannot be had; the message is one sentence that names it and the mend."""


def linear(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Softmax regression on the flattened input."""
    return nn.Sequential(nn.Flatten(), nn.Linear(_size(input_shape), num_classes))


def mlp(input_shape: tuple[int, ...], num_classes: int, *, width: int = 128, depth: int = 1) -> nn.Module:
    """``depth`` hidden ReLU layers of ``width`` units on the flattened input."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = _size(input_shape)
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, num_classes))


def cnn(input_shape: tuple[int, ...], num_classes: int, *, width: int = 16) -> nn.Module:
    """Two 3x3 convolutions with ReLU and 2x2 max-pooling, then a hidden layer of 4 ``width`` units."""
    channels, height, side = _image(input_shape, "cnn")
    size = 2 * width * max(1, height // 4) * max(1, side // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=height < 4),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=height < 4),
        nn.Flatten(),
        nn.Linear(size, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, num_classes),
    )


def myrtle(input_shape: tuple[int, ...], num_classes: int, *, width: int = 16) -> nn.Module:
    """Myrtle5: four 3x3 convolutions of ``width`` channels with ReLU, average pooling between them, a linear layer.

    The channels are ``width`` throughout. 2x2 average pooling follows the second and the third convolution, and the
    mean over all pixels the fourth. Weights start as N(0, 2 / fan_in), biases as 0.

    Source: Shankar, Fang, Guo, Fridovich-Keil, Schmidt, Ragan-Kelley, Recht, "Neural Kernels Without Tangents", 2020,
    arXiv 2003.02237, as the Myrtle notebook of neural-tangents describes it; there the size is 32 x 32.
    """
    channels, height, side = _image(input_shape, "myrtle")
    small = min(height, side) < 4  # there would be no pixel left

    def convolution(channels_in: int) -> list[nn.Module]:
        return [nn.Conv2d(channels_in, width, 3, padding=1), nn.ReLU()]

    layers = [*convolution(channels), *convolution(width), nn.AvgPool2d(2, ceil_mode=small), *convolution(width)]
    layers += [nn.AvgPool2d(2, ceil_mode=small), *convolution(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(width, num_classes))
    for name, value in model.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(value, nonlinearity="relu")
        else:
            nn.init.zeros_(value)
    return model


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Body plus shortcut, then ReLU."""
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(input_shape: tuple[int, ...], num_classes: int, *, width: int = 64) -> nn.Module:
    """ResNet-18 with the CIFAR stem: one 3x3 convolution in place of the 7x7 and its pooling."""
    channels, _, _ = _image(input_shape, "resnet18")
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    size = width
    for stage in range(4):
        out = width * 2**stage
        layers += [_Block(size, out, 1 if stage == 0 else 2), _Block(out, out, 1)]
        size = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(size, num_classes))


class _TextBag(nn.Module):
    """The mean of the tokens' embeddings, then a linear layer."""

    def __init__(self, vocabulary_size: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, width, mode="mean", padding_idx=0)
        self.head = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, C) for token numbers (N, L), 0 being padding."""
        logits: Tensor = self.head(self.embedding(tokens))
        return logits


def text_bag(vocabulary_size: int, num_classes: int, *, width: int = 64) -> nn.Module:
    """Mean of the tokens' embeddings of ``width`` numbers, then a linear layer."""
    return _TextBag(vocabulary_size, num_classes, width)


def unet(input_shape: tuple[int, ...], num_classes: int, *, width: int = 16, depth: int = 3) -> nn.Module:
    """A class for each pixel: a U-Net with ``width`` channels at full resolution and ``depth`` halvings."""
    return UNet(_image(input_shape, "unet")[0], num_classes, width, depth)


MODELS: Final[dict[str, Factory]] = {f.__name__: f for f in (linear, mlp, cnn, myrtle, resnet18, text_bag, unet)}
_DENSE: Final = {"unet"}
"""Models with an output for each pixel."""


def can_be_stacked(text: str, outputs: int) -> bool:
    """Whether models of this text are trained many at a time, each with the bits it would have alone.

    Their operations must batch over stacked weights. Products round by where a matrix lies in memory if its rows do not
    fill whole vectors, so that hidden layers must be of a width that 8 divides, and the last one wider than 1.
    """
    if text.partition(":")[0] not in {"linear", "mlp"} or outputs == 1:
        return False
    width = dict(parse_loss(text).arguments).get("width", 8.0)
    return isinstance(width, float) and width % 8 == 0


def canonical_model(text: str, sources: Sources) -> str:
    """The text a trial carries: known names with sorted arguments; ``file.py:factory#hash`` for a user's file.

    Args:
        text: for example ``"mlp:width=64"`` or ``"nets/small.py:make"``.
        sources: where the path behind a hash is noted; the file's folder is no part of the text.

    Returns:
        The canonical text.

    Raises:
        UserCodeError: if there is no such model, argument, file or factory.
    """
    if ".py" in text or any(mark in text.partition(":")[0] for mark in "./\\"):
        return canonical_function(text, "model", sources)
    parsed = _parse(text)
    return str(parsed)


def build_model(text: str, data: Splits | Encoding, outputs: int, sources: Sources, seed: int) -> nn.Module:
    """Build a model with weights drawn from a seed; the global generators are left as they were.

    Args:
        text: canonical text of the model.
        data: what it is for.
        outputs: width of the last layer.
        sources: where to find a model's file.
        seed: of the weights.

    Returns:
        The model, on the CPU.

    Raises:
        UserCodeError: if the model does not fit the data or its file is gone.
    """
    with seeded(seed):
        if "#" in text:
            return _user_model(text, data.input_shape, outputs, sources)
        parsed = _parse(text)
        arguments: dict[str, Any] = dict(parsed.arguments)
        if parsed.name == "text_bag":
            if data.vocabulary is None:
                raise ModelError(f"model text_bag reads text, and the data are {data.kind}: use mlp, cnn or linear")
            return text_bag(len(data.vocabulary), outputs, **arguments)
        if data.kind == "text":
            raise ModelError(f"the data are text, which model {parsed.name} cannot read: use text_bag")
        if isinstance(data, Splits) and (data.ignore is not None) != (parsed.name in _DENSE):
            raise ModelError(
                f"{data.name} holds masks, and model {parsed.name} has no output for each pixel: use unet"
                if data.ignore is not None
                else f"model unet has an output for each pixel, and {data.name} holds no masks: use cnn or mlp"
            )
        return MODELS[parsed.name](data.input_shape, outputs, **arguments)


def _parse(text: str) -> LossText:
    parsed = parse_loss(text)
    if parsed.name not in MODELS:
        raise ModelError(f"unknown model {parsed.name!r}: {nearest(parsed.name, [*MODELS, 'path/to/file.py:factory'])}")
    known = inspect.signature(MODELS[parsed.name]).parameters
    choices = [name for name, p in known.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    arguments = []
    for name, value in parsed.arguments:
        if name not in choices:
            raise ModelError(f"model {parsed.name} has no argument {name!r}: {nearest(name, choices)}")
        if not isinstance(value, float) or value != int(value) or value < 1:
            raise ModelError(f"{name} of model {parsed.name} must be a whole number of at least 1")
        if int(value) != known[name].default:
            arguments.append((name, int(value)))
    return LossText(parsed.name, None, tuple(arguments))


def _user_model(text: str, input_shape: tuple[int, ...], outputs: int, sources: Sources) -> nn.Module:
    """What a user's factory returns; `try_model` tells whether it will do."""
    name, factory = text.partition("#")[0], load_function(text, "model", sources)
    model = factory(input_shape, outputs)
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name} is a {type(model).__name__}: return a torch.nn.Module")
    return model


def _size(input_shape: tuple[int, ...]) -> int:
    return int(torch.Size(input_shape).numel())


def _image(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise ModelError(f"model {model} reads images, and the inputs have shape {input_shape}: use mlp or linear")
    return input_shape[0], input_shape[1], input_shape[2]
