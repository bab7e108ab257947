"""A small U-Net for segmentation."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

_GROUPS = 8


class UNet(nn.Module):
    """Logits for each pixel, from features at ``depth + 1`` resolutions.

    Each of the ``depth`` steps down halves height and width, rounded up; each step up enlarges by nearest neighbours to
    the size it came from, so images of any size will do. A block is two 3x3 convolutions, each with group norm and
    ReLU: group norm does not mix the images of a batch, which is small for images. Enlarging by neighbours in place of
    transposed convolutions avoids checkerboards.

    Args:
        channels: of the image.
        num_classes: C.
        width: channels at full resolution; twice as many at each step down.
        depth: number of steps down, at least 1.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, arXiv
    1505.04597; group norm: Wu and He, 2018, arXiv 1803.08494.
    """

    def __init__(self, channels: int, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(width, num_classes, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, h, w) for images (N, channels, h, w)."""
        features: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2, ceil_mode=True) if features else x)
            features.append(x)
        for block, beside in zip(reversed(self.up), features[-2::-1], strict=True):
            x = block(torch.cat([beside, F.interpolate(x, beside.shape[2:])], 1))
        logits: Tensor = self.head(x)
        return logits


def _block(channels_in: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (channels_in, channels):
        layers += [
            nn.Conv2d(size, channels, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(_GROUPS, channels), channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
