from __future__ import annotations

import pytest
import torch

from lossmith.data import DataSpec
from lossmith.trials.models import MODELS, ModelError, build_model, can_be_stacked
from lossmith.trials.training import load_splits
from lossmith.trials.trial import Sources


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 13, 17), (4, 45, 7), (2, 3, 5)])
@pytest.mark.parametrize("depth", [1, 3])
def test_images_of_any_size_get_logits_for_each_pixel(size: tuple[int, int, int], depth: int) -> None:
    model = MODELS["unet"](size, 5, width=4, depth=depth)
    assert model(torch.randn(2, *size)).shape == (2, 5, *size[1:])


def test_images_of_a_batch_do_not_mix() -> None:
    """Group norm looks at one image at a time."""
    torch.manual_seed(0)
    model, x = MODELS["unet"]((3, 16, 16), 4, width=8).double().train(), torch.randn(3, 3, 16, 16).double()
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_every_pixel_sees_far_and_itself() -> None:
    model, x = MODELS["unet"]((1, 32, 32), 2, width=4), torch.randn(1, 1, 32, 32, requires_grad=True)
    (seen,) = torch.autograd.grad(model(x)[0, 0, 16, 16], x)
    assert seen[0, 0, 16, 16] != 0
    assert seen[0, 0, 4, 4] != 0


def test_any_width_has_its_groups() -> None:
    for width in (1, 3, 12):
        assert MODELS["unet"]((3, 16, 16), 2, width=width)(torch.randn(1, 3, 16, 16)).isfinite().all()
    assert not can_be_stacked("unet", outputs=3)


def test_digits_have_no_masks() -> None:
    with pytest.raises(ModelError, match="use cnn or mlp"):
        build_model("unet", load_splits(DataSpec("digits"), "digits"), 10, Sources(), 0)
