"""The largest eigenvalue of a Hessian: ours, PyHessian, curvlinops and hessian-eigenthings, to one accuracy.

Each arm starts from a model and a batch and ends with the eigenvalue, on one thread. The tolerances of these libraries
mean different things: a residual (ours, and SciPy's Lanczos with curvlinops), the last change of the eigenvalue (the
power iteration of PyHessian), or a number of steps that does not depend on convergence (hessian-eigenthings). Each arm
is therefore given the loosest setting with which it comes within 1e-4 of the eigenvalue in float64 by SciPy. This
favours those that cannot tell when they are done.

Arms are shuffled in every round. A ratio is the median over the rounds of an arm's time over ours in the same round, in
two columns: with the default allocator, and with one that keeps its heap. Peak memory is what an arm adds in a process
of its own.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/dynamics.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from unittest import mock

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import timing
from lossmith import dynamics

OURS: Final = "lossmith"
SAMPLES: Final = 64
ACCURACY: Final = 1e-4
"""Relative error of the eigenvalue."""
MOST: Final = 1000  # products

Batch = tuple[Tensor, Tensor]


class Transformer(nn.Module):
    """Two layers of attention over the grey levels of 4 x 4 patches as tokens.

    Its operations can be differentiated twice; those of `nn.TransformerEncoder` cannot on the CPU.
    """

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(17, width), nn.Parameter(0.1 * torch.randn(16, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8) of whole numbers below 17."""
        z = self.tokens(F.avg_pool2d(x, 2).flatten(1).long()) + self.places
        for layer in self.layers:
            z = layer(z)
        return self.head(self.norm(z).mean(1))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """Attention and a multi-layer perceptron, each after a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, z: Tensor) -> Tensor:
        """The same shape, (N, L, width)."""
        q, k, v = self.inward(self.norms[0](z)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, 3)
        z = z + self.outward((weights @ v).transpose(1, 2).flatten(2))
        return z + self.perceptron(self.norms[1](z))  # type: ignore[no-any-return]


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


MODELS: Final[dict[str, Callable[[], nn.Module]]] = {"MLP": _mlp, "CNN, batch norm": _cnn, "transformer": Transformer}


CASES: Final = tuple((name, steps) for name in MODELS for steps in (0, 100))
"""Models, and the steps of Adam that they were trained for."""


def trained(name: str, steps: int) -> tuple[nn.Module, Batch]:
    """A model after some steps of Adam, in evaluation mode, and the batch that it is looked at on."""
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None], torch.tensor(digits.target)
    torch.manual_seed(0)
    model = MODELS[name]()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(steps):
        rows = torch.arange(32) + 32 * (step % 40)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval(), (x[:SAMPLES], y[:SAMPLES])


def ours(model: nn.Module, batch: Batch, tol: float) -> float:
    hessian = dynamics.Hessian(model, F.cross_entropy, batch)
    return float(dynamics.eigenvalues(hessian, tol=tol, most=MOST).values[0])


def pyhessian(model: nn.Module, batch: Batch, tol: float) -> float:
    from pyhessian import hessian

    torch.manual_seed(0)
    found = hessian(model, nn.CrossEntropyLoss(), batch, cuda=False).eigenvalues(MOST, tol)[0][0]
    for value in model.parameters():
        value.grad = None  # it holds a graph that holds the parameter
    return float(found)


def curvlinops(model: nn.Module, batch: Batch, tol: float) -> float:
    import numpy as np
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    parameters = list(model.parameters())
    found = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, [batch], check_deterministic=False)
    operator, start = found.to_scipy(), np.random.default_rng(0).normal(size=found.shape[0]).astype(np.float32)
    return float(eigsh(operator, k=1, which="LA", tol=tol, v0=start, maxiter=MOST, return_eigenvectors=False)[0])


def eigenthings(model: nn.Module, batch: Batch, steps: float) -> float:
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    operator = HessianOperator(model, [batch], supervised_loss(F.cross_entropy))
    return float(lanczos(operator, k=1, max_iter=int(steps), which="LA", seed=0).eigenvalues[0])


TOLERANCES: Final = tuple(10.0**-k for k in range(1, 7))
ARMS: Final[dict[str, tuple[Callable[[nn.Module, Batch, float], float], Sequence[float]]]] = {
    OURS: (ours, TOLERANCES),
    "PyHessian": (pyhessian, TOLERANCES),
    "curvlinops": (curvlinops, TOLERANCES),
    "hessian-eigenthings": (eigenthings, range(2, 41)),
}


PRODUCTS: Final[dict[str, Callable[[int], Any]]] = {
    OURS: lambda derivatives: derivatives - 1,
    "PyHessian": lambda derivatives: derivatives,
    "curvlinops": lambda derivatives: "",  # it differentiates by other functions
    "hessian-eigenthings": lambda derivatives: derivatives // 2,
}
"""Products with the Hessian, from the number of calls of `torch.autograd.grad`."""


def case_of(name: str, steps: int) -> dict[str, Any]:
    """Parameters, the eigenvalue, and the loosest setting and the error of each arm that is installed.

    The setting is the tightest where none is accurate enough.
    """
    torch.set_num_threads(1)
    model, batch = trained(name, steps)
    true, settings, errors, derivatives = reference(model, batch), {}, {}, {}
    for arm, (run, choices) in ARMS.items():
        for setting in choices:
            with mock.patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as counted:
                try:
                    errors[arm], settings[arm] = run(model, batch, setting) / true - 1, float(setting)
                except ImportError:
                    break
            derivatives[arm] = counted.call_count
            if abs(errors[arm]) < ACCURACY:
                break
    size = sum(value.numel() for value in model.parameters())
    return {"size": size, "value": true, "settings": settings, "errors": errors, "derivatives": derivatives}


def reference(model: nn.Module, batch: Batch) -> float:
    """The largest eigenvalue in float64, by SciPy from forward over reverse mode."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator, eigsh

    model = copy.deepcopy(model).double()
    inputs, targets = batch[0].double(), batch[1]
    named = {name: value.detach() for name, value in model.named_parameters()}
    sizes = [value.numel() for value in named.values()]

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model, parameters, (inputs,)), targets)

    def product(vector: Any) -> Any:
        parts = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).split(sizes)
        tangents = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        bent = torch.func.jvp(torch.func.grad(loss), (named,), (tangents,))[1]
        return torch.cat([bent[name].reshape(-1) for name in named]).numpy()

    operator = LinearOperator((sum(sizes), sum(sizes)), matvec=product, dtype=np.float64)
    return float(eigsh(operator, k=1, which="LA", tol=1e-7, return_eigenvectors=False)[0])


def measure(cases: Sequence[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """The times of each arm, by case."""
    torch.set_num_threads(1)
    table = {}
    for (name, steps), case in zip(CASES, cases, strict=True):
        model, batch = trained(name, steps)
        arms = {arm: partial(ARMS[arm][0], model, batch, setting) for arm, setting in case["settings"].items()}
        table[f"{name}, {steps}"] = timing.interleaved(arms, rounds)
    return table


def peak(case: int, arm: str, setting: float) -> float:
    """Mebibytes of one arm in this process."""
    torch.set_num_threads(1)
    model, batch = trained(*CASES[case])
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    ARMS[arm][0](small, batch, setting)  # loads libraries
    return timing.peak_mebibytes(lambda: ARMS[arm][0](model, batch, setting))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds per case; each runs every arm once")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        case, arm, setting = arguments.peak
        print(peak(int(case), arm, float(setting)))
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.cases, arguments.rounds)))
        return
    cases = [case_of(*case) for case in CASES]
    _print_tables(cases, timing.tables("--cases", json.dumps(cases)))


def _print_tables(cases: Sequence[dict[str, Any]], tables: Mapping[str, Any]) -> None:
    print(f"largest eigenvalue of the Hessian within {ACCURACY:g}, float32, {SAMPLES} samples, one thread;")
    print(f"torch {torch.__version__}, {platform.machine()}; times those of {OURS}\n")
    for i, ((name, steps), case) in enumerate(zip(CASES, cases, strict=True)):
        print(f"{name}, {steps} steps of Adam: {case['size']:,} parameters, eigenvalue {case['value']:.4g}")
        head = f"{'':22}{'setting':>9}{'error':>9}{'products':>10}{'ms':>9}"
        print(head + "".join(f"{column:>20}" for column in tables) + f"{'peak MiB':>10}")
        for arm, setting in case["settings"].items():
            of_arm = [table[f"{name}, {steps}"][arm] for table in tables.values()]
            ratios = "".join(f"{figures['ratio']:>19.2f}x" for figures in of_arm)
            held = float(timing.in_fresh_process({}, "--peak", str(i), arm, str(setting)))
            products = PRODUCTS[arm](case["derivatives"][arm])
            print(
                f"{arm:22}{setting:>9g}{case['errors'][arm]:>9.0e}{products:>10}"
                f"{1e3 * of_arm[0]['seconds']:>9.1f}{ratios}{held:>10.1f}",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
