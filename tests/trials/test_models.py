from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from lossmith.comparison.plan import Options, make_plan
from lossmith.data import DataSpec
from lossmith.trials.models import MODELS, build_model, canonical_model
from lossmith.trials.options import Request
from lossmith.trials.request import draft
from lossmith.trials.training import load_splits
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import UserCodeError

DIGITS = load_splits(DataSpec("digits"), "digits")
IRIS = load_splits(DataSpec("iris"), "iris")


@pytest.mark.parametrize(
    "name", ["linear", "mlp", "mlp:depth=3,width=5", "cnn:width=4", "myrtle:width=4", "resnet18:width=4"]
)
def test_models_read_images_and_the_seed_is_all_that_decides_their_weights(name: str) -> None:
    state = torch.get_rng_state()
    a, b, other = (build_model(canonical_model(name, Sources()), DIGITS, 10, Sources(), seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    x = DIGITS.train.inputs[:4]
    assert a(x).shape == (4, 10)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), other(x))


@pytest.mark.parametrize("size", [(1, 2, 2), (1, 4, 4), (3, 7, 5), (1, 28, 28)])
def test_convolutions_read_images_of_any_size(size: tuple[int, int, int]) -> None:
    for name in ("cnn", "myrtle", "resnet18"):
        assert MODELS[name](size, 3, width=2)(torch.randn(2, *size)).shape == (2, 3)


def test_myrtle_at_the_size_of_its_authors() -> None:
    """Four convolutions and one linear layer; 32 pixels a side are halved five times, to one."""
    torch.manual_seed(0)
    model, width = MODELS["myrtle"]((3, 32, 32), 10, width=64), 64
    sizes = [value.numel() for value in model.parameters()]
    convolution = 9 * width * width
    assert sizes == [27 * width, width, *[convolution, width] * 3, 10 * width, 10]
    x = torch.randn(2, 3, 32, 32)
    convolutions = [module for module in model if isinstance(module, torch.nn.Conv2d)]
    z = x
    for module, halvings in zip(convolutions, (0, 1, 1, 3), strict=True):
        z = torch.relu(module(z))
        for _ in range(halvings):
            z = torch.nn.functional.avg_pool2d(z, 2)
    assert z.shape == (2, width, 1, 1)
    torch.testing.assert_close(model(x), model[-1](z.flatten(1)))
    for module in convolutions:
        assert not module.bias.any()  # type: ignore[union-attr]
        fan_in = module.weight[0].numel()
        assert float(module.weight.detach().var()) == pytest.approx(2 / fan_in, rel=0.1)


def test_text_bag_averages_embeddings_and_ignores_padding() -> None:
    model = MODELS["text_bag"](10, 2, width=4)
    assert torch.allclose(model(torch.tensor([[3, 5, 0, 0]])), model(torch.tensor([[5, 3]])))


def test_texts_are_canonical() -> None:
    assert canonical_model("mlp:depth=1,width=64", Sources()) == "mlp:width=64"
    assert canonical_model("mlp:width=128", Sources()) == "mlp"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mpl", "mlp"),
        ("mlp:widht=3", "width"),
        ("mlp:width=0", "width"),
        ("mlp:width=2.5", "width"),
        ("nowhere.py:make", "nowhere.py"),
        ("net.py", "file.py:function"),
        ("mlp:", "argument=value"),
        ("m/x.txt:build", "from a file is written path/to/file.py:function"),
        ("mlpp", r"did you mean 'mlp'\?$"),
        ("quux", "choose one of linear, .*path/to/file.py:factory$"),
    ],
)
def test_bad_models_are_refused_in_a_sentence(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        canonical_model(text, Sources())


def test_a_model_must_fit_the_data() -> None:
    with pytest.raises(UserCodeError, match="cnn reads images"):
        draft(Request(data="iris", model="cnn", steps=20, device="cpu"), Sources())  # before anything is trained
    for name, task in (("cnn", IRIS), ("myrtle", IRIS), ("resnet18", IRIS), ("text_bag", DIGITS)):
        with pytest.raises(UserCodeError, match=name):
            build_model(name, task, 2, Sources(), 0)


def test_a_users_factory_is_named_by_the_content_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def make(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    sources = Sources()
    text = canonical_model(f"{file}:make", sources)
    name, _, digest = text.partition("#")
    assert name == "net.py:make"  # for people
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(digest)  # for identity
    assert len(digest) >= 12
    elsewhere = tmp_path / "elsewhere" / "net.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(file.read_text())
    assert canonical_model(f"{elsewhere}:make", Sources()) == text
    assert build_model(text, DIGITS, 10, sources, 0)(DIGITS.train.inputs[:2]).shape == (2, 10)
    with pytest.raises(UserCodeError, match="not known here"):
        build_model(text, DIGITS, 10, Sources(), 0)
    with pytest.raises(UserCodeError, match="no function 'mak'"):
        canonical_model(f"{file}:mak", Sources())
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(UserCodeError, match="has changed"):
        build_model(text, DIGITS, 10, sources, 0)
    file.write_text("raise OSError('no luck')\n")
    with pytest.raises(UserCodeError, match="no luck"):
        canonical_model(f"{file}:make", Sources())


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        ("self.layer(x)[:, 0]", ["net.py:make, line 6", "(2,)", "(2, {outputs})"]),
        ("torch.cat([self.layer(x)] * 2, 1)", ["net.py:make, line 6", "(2, {twice})", "(2, {outputs})"]),
        ("self.layer(x)[:-1]", ["net.py:make, line 6", "(1, {outputs})", "(2, {outputs})"]),
        ("(self.layer(x), 1)", ["net.py:make, line 6", "tuple", "tensor"]),
        ("self.layer(x) * float('nan')", ["net.py:make, line 6", "first outputs", "not finite"]),
        ("self.layer(x) / 0", ["net.py:make, line 6", "first outputs", "not finite"]),
    ],
)
@pytest.mark.parametrize(("data", "outputs"), [("iris", 3), ("diabetes", 1)])
def test_outputs_that_do_not_fit_the_task_are_named_with_their_shapes(
    tmp_path: Path, forward: str, words: list[str], data: str, outputs: int
) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, size, outputs):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(size, outputs)\n"
        "    def forward(self, x):\n"
        f"        return {forward}\n"
        "def make(input_shape, outputs):\n"
        "    return Net(input_shape[0], outputs)\n"
    )
    with pytest.raises(UserCodeError) as caught:
        make_plan(Options(data=data, model=f"{file}:make", losses=(), steps=60, lrs=3, device="cpu"), Sources())
    for word in words:
        assert word.format(outputs=outputs, twice=2 * outputs) in str(caught.value)
    assert "learning rate" not in str(caught.value)


def test_a_factory_that_returns_no_module_is_named(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("def make(input_shape, outputs):\n    return lambda x: x\n")
    sources = Sources()
    text = canonical_model(f"{file}:make", sources)
    with pytest.raises(UserCodeError, match=r"net\.py:make is a function"):
        build_model(text, IRIS, 3, sources, 0)


BEGIN = "import os, sys\nimport torch\nfrom torch import nn\n"
NET = """class Net(nn.Module):
    def __init__(self, size, outputs):
        super().__init__()
        self.layer = nn.Linear(size, outputs)
    def forward(self, x):
        return {forward}
def make(input_shape, outputs):
    return Net(input_shape[0], outputs)
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NET.format(forward="self.layer(x).softmax(1)"), ["net.py:make, line 8", "softmax", "logits"]),
        (NET.format(forward="self.layer(x).undefined"), ["net.py:make, line 9", "AttributeError", "undefined"]),
        (NET.format(forward="(self.layer(x), 0) if self.training else self.layer(x)"), ["line 8", "tuple"]),
        (NET.format(forward="self.layer(x).detach()"), ["line 8", "do not depend on its parameters"]),
        (NET.format(forward="sys.exit(3)"), ["line 9", "SystemExit: 3", "leave out"]),
        (NET.format(forward="[os.chdir('/'), self.layer(x)][1]"), ["line 9", "working directory"]),
        (
            "def aside():\n    os.chdir('/')\n" + NET.format(forward="[os.chdir('/'), self.layer(x)][1]"),
            ["line 11", "working directory"],
        ),
        (
            "from os import chdir\nif False:\n    chdir('/')\n" + NET.format(forward="[chdir('/'), self.layer(x)][1]"),
            ["line 12", "working directory"],
        ),
        (
            "def make(input_shape, outputs):\n    return nn.Linear(4, outputs).requires_grad_(False)\n",
            ["line 4", "all its parameters are frozen"],
        ),
        (
            "def make(input_shape, outputs):\n    return nn.Linear(64, outputs)\n",
            ["line 4", "cannot be multiplied", "(2, 4)", "from input_shape"],
        ),
        (NET.format(forward="self.layer(x[:, :2])"), ["line 9", "cannot be multiplied", "(2, 4)"]),
        ("make = nn.Linear(4, 3)\n", ["net.py:make", "a module itself", "name a function"]),
        (NET.format(forward="self.layer(x).sigmoid()"), ["line 8", "sigmoid", "logits"]),
        (NET.format(forward="self.layer(x).sigmoid().view(-1, 3)"), ["line 8", "sigmoid", "logits"]),
        ("def make(input_shape):\n    return nn.Linear(4, 3)\n", ["line 4", "make((4,), 3)", "too many"]),
        ("def make(input_shape, outputs):\n    return nn.Flatten()\n", ["line 4", "no parameters"]),
        ("def make(input_shape, outputs):\n    return lambda x: x\n", ["line 4", "function", "torch.nn.Module"]),
        ("def make(input_shape, outputs):\n    exit()\n", ["line 5", "SystemExit"]),
        ("def make(input_shape, outputs):\n    raise KeyError('x')\n", ["line 5", "KeyError: 'x'"]),
        ("os.chdir('/')\ndef make(input_shape, outputs): ...\n", ["net.py", "line 4", "working directory"]),
        ("1 / 0\n", ["net.py", "line 4", "ZeroDivisionError"]),
        ("def make(:\n", ["net.py", "line 4", "SyntaxError"]),
    ],
    ids=lambda each: each[-1] if isinstance(each, list) else "",
)
def test_a_fault_of_a_model_is_told_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: list[str]
) -> None:
    """Before any training, in one sentence; the hash of the file is for identity, not for people."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(BEGIN + code)
    with pytest.raises(UserCodeError) as caught:
        draft(Request(data="iris", model="net.py:make", steps=20, device="cpu"), Sources())
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "#" not in said
    assert "\n" not in said
    assert Path.cwd() == tmp_path


def test_a_sound_model_passes_with_the_callers_random_numbers_untouched(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make(input_shape, outputs):\n"
        "    return nn.Sequential(nn.BatchNorm1d(input_shape[0]), nn.Dropout(), nn.Linear(input_shape[0], outputs))\n"
    )
    state = torch.get_rng_state()
    drafted = draft(Request(data="iris", model=f"{tmp_path}/net.py:make", steps=20, device="cpu"), Sources())
    assert drafted.trial.trainer.title == "net.py:make"
    assert torch.equal(torch.get_rng_state(), state)
