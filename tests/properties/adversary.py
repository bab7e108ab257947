"""An attacker of certificates: its own reading of a formula, its own logits, autograd, and climbing from many starts.

Nothing here comes from the code under test: the text of a formula is read by Python's `ast`, evaluated with torch in
float64 on the logits of all classes, and differentiated by autograd.
"""

from __future__ import annotations

import ast
import math
import operator
import random
from collections.abc import Callable

import torch
from torch import Tensor

PROTECTION = 1e-7
BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def _tensor(x: Tensor | float) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "sign": torch.sign,
    "sigmoid": torch.sigmoid,
    "pow": torch.pow,
    "min": torch.minimum,
    "max": torch.maximum,
    "plog": lambda a: torch.log(a.abs() + PROTECTION),
    "psqrt": lambda a: torch.sqrt(a.abs() + PROTECTION),
}


def evaluate(node: ast.AST, names: dict[str, Tensor]) -> Tensor:
    """A formula's value."""
    if isinstance(node, ast.Constant):
        return _tensor(node.value)
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.UnaryOp):
        return -evaluate(node.operand, names)
    if isinstance(node, ast.BinOp):
        return BINARY[type(node.op)](evaluate(node.left, names), evaluate(node.right, names))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return FUNCTIONS[node.func.id](*(evaluate(arg, names) for arg in node.args))


class Attacker:
    """The loss of a formula with class 0 as the target.

    Args:
        text: the formula.
        num_classes: C.
        hints: probabilities near which something narrow may be.
        seed: of its random numbers.
    """

    def __init__(self, text: str, num_classes: int, hints: tuple[float, ...] = (), seed: int = 0) -> None:
        self.tree = ast.parse(text, mode="eval").body
        self.C, self.hints = num_classes, hints
        self.generator = torch.Generator().manual_seed(seed)

    def of_logits(self, z: Tensor) -> Tensor:
        """The loss (N,) for logits (N, C)."""
        return self.terms(z.log_softmax(1)).sum(1)

    def terms(self, log_p: Tensor) -> Tensor:
        """What each class adds to the loss (N, C) for the logarithms of the probabilities (N, C)."""
        p, c, n = log_p.exp(), -log_p, _tensor(float(self.C))
        first = evaluate(self.tree, {"p": p[:, :1], "c": c[:, :1], "y": _tensor(1.0), "n": n})
        rest = evaluate(self.tree, {"p": p[:, 1:], "c": c[:, 1:], "y": _tensor(0.0), "n": n})
        return torch.cat([first.expand(len(p), 1), rest.expand(len(p), self.C - 1)], 1)

    def gradient(self, z: Tensor) -> Tensor:
        """The gradient (N, C) on the logits."""
        z = z.detach().requires_grad_()
        value = self.of_logits(z)
        if not value.requires_grad:
            return torch.zeros_like(z)
        return torch.autograd.grad(value.sum(), z)[0]

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=self.generator)

    def line(self, count: int = 801, ends: float = 25.0) -> Tensor:
        """log(p/(1-p)) all over the line, and dense near the hints."""
        grid = [torch.linspace(-ends, ends, count, dtype=torch.float64)]
        for hint in self.hints:
            for width in (1e-2, 1e-3, 1e-4):
                p = (hint + width * torch.linspace(-1, 1, 41, dtype=torch.float64)).clamp(1e-9, 1 - 1e-9)
                grid.append(p.logit())
        return torch.cat(grid).sort().values

    def even(self, logit: Tensor) -> Tensor:
        """Logits where the target has a probability and the others share evenly."""
        z = torch.zeros(len(logit), self.C, dtype=torch.float64)
        z[:, 0] = logit + math.log(self.C - 1)
        return z

    def starts(self, count: int = 48) -> Tensor:
        """Logits all over: even lines, one other that takes all, a few that share, random ones."""
        line = self.line(121 if self.C < 500 else 61)
        even = self.even(line)
        corner = even.roll(1, 1)
        several = torch.zeros(count, self.C, dtype=torch.float64)
        for row in several:
            some = int(torch.randint(1, self.C + 1, (), generator=self.generator))
            row[:some] += 4 * self.random(1)
            row[0] += 4 * self.random(1)[0]
            row[1] += 4 * self.random(1)[0]
        scale = torch.linspace(0.3, 6, count, dtype=torch.float64)[:, None]
        return torch.cat([even, corner, several, scale * self.random(count, self.C)])

    def climb(self, score: Callable[[Tensor], Tensor], rounds: int = 14) -> float:
        """The largest score that random steps reach from the best starts."""
        z = self.starts()
        most = score(z).nan_to_num(-math.inf, math.inf)
        most, at = most.topk(min(6, len(most)))
        z, step = z[at], 1.0
        for _ in range(rounds):
            directions = self.random(len(z), 10, self.C)
            directions[:, ::2, 2:] = 0.0  # the first two classes alone
            directions[:, 1::4] = directions[:, 1::4].clone()
            directions[:, 1::4, 1:] = 0.0
            tried = (z[:, None] + step * directions).flatten(0, 1)
            found = score(tried).nan_to_num(-math.inf, math.inf).view(len(z), -1)
            best, which = found.max(1)
            better = best > most
            z = torch.where(better[:, None], tried.view(len(z), -1, self.C)[torch.arange(len(z)), which], z)
            most = torch.where(better, best, most)
            step *= 0.6
        return float(most.max())

    def largest(self, sign: float = 1.0) -> float:
        with torch.no_grad():
            return self.climb(lambda z: sign * self.of_logits(z))

    def steepest(self) -> float:
        return self.climb(lambda z: self.gradient(z).norm(dim=1))

    def strictness(self, logit: Tensor) -> Tensor:
        """Minus the slope in the target's logit over 1 - p."""
        return -self.gradient(self.even(logit))[:, 0] / torch.sigmoid(-logit)

    def dent(self, *, in_logits: bool) -> float:
        """By how much the loss in the middle lies above the mean of two ends, relative to its terms; > 0 refutes."""
        with torch.no_grad():
            low, high = self._segments()
            mean = (low + high).div(2).log_softmax(1) if in_logits else (low.softmax(1) + high.softmax(1)).div(2).log()
            a, b, between = (self.terms(each) for each in (low.log_softmax(1), high.log_softmax(1), mean))
            size = 1e-300 + sum(each.abs().sum(1) for each in (a, b, between))
            dent = (between.sum(1) - (a.sum(1) + b.sum(1)) / 2) / size
            return float(dent[dent.isfinite()].max()) if dent.isfinite().any() else -math.inf

    def _segments(self) -> tuple[Tensor, Tensor]:
        line = self.line(401 if self.C < 500 else 101, 12.0)
        pairs = [(line[:-2], line[2:]), (line[:-20], line[20:])]
        even = [torch.cat([self.even(pair[side]) for pair in pairs]) for side in (0, 1)]
        corner = [each.roll(1, 1) for each in even]
        starts = 3 * self.random(200, self.C) * torch.rand(200, 1, dtype=torch.float64, generator=self.generator)
        near = starts.clone()
        near[:, :2] += 0.5 * self.random(200, 2)
        swapped = starts.clone()
        swapped[:, [0, 1]] = starts[:, [1, 0]]
        others = starts.clone()
        if self.C > 2:
            others[:, [1, 2]] = starts[:, [2, 1]]
        low = torch.cat([even[0], corner[0], starts, starts, starts, starts])
        return low, torch.cat([even[1], corner[1], near, swapped, others, starts.flip(0)])

    def spread_of_sums(self) -> float:
        """How much the sum over all targets varies, relative to its size."""
        with torch.no_grad():
            z = torch.cat([self.even(self.line(201, 8.0)), 2 * self.random(20, self.C)])
            log_p = z.log_softmax(1)
            n = _tensor(float(self.C))
            forms = {"p": log_p.exp(), "c": -log_p, "n": n}
            yes, no = (evaluate(self.tree, forms | {"y": _tensor(y)}).expand_as(z) for y in (1.0, 0.0))
            total = (yes + (self.C - 1) * no).sum(1)
            total = total[total.isfinite()]
            scale = float((yes.abs() + (self.C - 1) * no.abs()).sum(1).nan_to_num(0.0, 0.0).max())
            return float(total.max() - total.min()) / max(scale, 1e-300) if len(total) else math.nan


# --- formulas to be attacked ------------------------------------------------------------------------------------------


def random_formula(rng: random.Random) -> str:
    """A random formula of a few operators."""

    def part(depth: int) -> str:
        if depth == 0 or rng.random() < 0.15:
            return rng.choice(["p", "p", "c", "(1 - p)", f"{rng.choice([0.3, 0.5, 2.0, 3.0, 1.7])}", "n", "p"])
        op = rng.choice(["+", "-", "*", "*", "/", "f", "f", "pow", "min", "max"])
        if op == "f":
            name = rng.choice(["exp", "log1p", "sqrt", "square", "sin", "cos", "tanh", "abs", "sigmoid", "expm1"])
            return f"{name}({part(depth - 1)})"
        if op == "pow":
            return f"pow({rng.choice(['p', '(1 - p)'])}, {rng.choice([0.5, 1.5, 2.0, 3.0])})"
        if op in {"min", "max"}:
            return f"{op}({part(depth - 1)}, {part(depth - 1)})"
        return f"({part(depth - 1)} {op} {part(depth - 1)})"

    shape = rng.choice(["y*({a})", "y*({a}) + (1 - y)*({b})", "y*c + 0.3*({a})", "({a}) - y*({b})", "y*c*({a})"])
    return shape.format(a=part(rng.choice([1, 2, 2, 3])), b=part(rng.choice([1, 2, 2])))


def constructed_formula(rng: random.Random) -> tuple[str, tuple[float, ...]]:
    """A formula built to be misjudged, and where its narrow places are."""
    m = round(rng.choice([0.05, 0.2, 0.37, 0.5, 0.731, 0.9]) + rng.uniform(-0.02, 0.02), 4)
    w, a, k = rng.choice([1e2, 1e3, 1e4, 1e6]), rng.choice([0.01, 0.2, -0.2, 1.0]), rng.choice([2, 3, 4, 10, 100])
    e = rng.choice([0.5, 1, 2, 3])
    bump = f"exp(-{w}*square(p - {m}))"
    kinds = [
        (f"y*c + {a}*y*{bump}", (m,)),
        (f"y*(1 - p) + {a}*y*{bump}", (m,)),
        (f"y*c + {a}*(1 - y)*{bump}", (m, 1 - m)),
        (f"square(p - y) + {a}*{bump}", (m, 1 - m)),
        (f"y*c + {a}*y*tanh({w}*(p - {m}))", (m,)),
        (f"n*y*(1 - p) + {a}*(1 - y)*p", ()),
        (f"y*((n - {k})*c + 1 - p)", ()),
        (f"(y*c + {a}*(n - {k})*(1 - y)*p)/n", ()),
        (f"y*c*(n - {k})*(n - 2)", ()),
        (f"y*pow(p, {e})*pow(1 - p, {k % 7 + 0.5})", ()),
        (f"y*sin({k}*p) + (1 - y)*p", ()),
        (f"y*c*exp(-c/{k})", ()),
        (f"y*min(c, {k}) + (1 - y)*max(p, {m})", (m, 1 - m)),
        (f"y*max(c, {k}*(1 - p))", ()),
        (f"y*tanh({k}*c)", ()),
        (f"(1 - y)*sqrt(p) - {e}*y*log(p)", ()),
        (f"y*c - (1 - y)*log(1 - p)*{e}", ()),
        (f"y*c + (1 - y)*pow(p, {e})/(1 - p)", ()),
        (f"y/(p + {abs(a)})", ()),
        (f"y*c + {a}*y/square(p - {m})", (m,)),
        (f"y*c + {a}*y*sign(p - {m})", (m,)),
        (f"y*(1 - p) + {a}*(1 - y)*abs(p - {m})", (m, 1 - m)),
        (f"y*log1p({k}*c)", ()),
        (f"y*(c + {a}*square(c))", ()),
        (f"(y - {a}/n)*c", ()),
        (f"({1 - abs(a)}*y + {abs(a)}/n)*c", ()),
    ]
    return rng.choice(kinds)
