"""The network of a learned loss, which maps a target and a prediction to a number."""

from __future__ import annotations

import itertools
from typing import Literal, TypedDict, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.losses.arguments import check_choice, check_number, whole_number

Activation = Literal["smooth_leaky_relu", "relu"]
Output = Literal["smooth_leaky_relu", "identity", "softplus"]


class NetworkArguments(TypedDict, total=False):
    """Constructor arguments of losses with a network; see `LossNetwork`."""

    hidden: int
    layers: int
    activation: Activation
    output: Output
    beta: float
    gamma: float
    bias: bool


_EXACT = 60.0  # beyond this softplus(x) is x to rounding, even in float64


def smooth_leaky_relu(x: Tensor, beta: float = 10.0, gamma: float = 0.01) -> Tensor:
    """Apply the smooth leaky ReLU ``(1 - gamma) log(1 + e^(beta x)) / beta + gamma x``.

    Its slope is ``gamma + (1 - gamma) sigmoid(beta x)``, and it exceeds the leaky ReLU by at most
    ``(1 - gamma) log(2) / beta``.

    Args:
        x: a tensor of any shape.
        beta: smoothness, > 0.
        gamma: slope at minus infinity.

    Returns:
        A tensor of the shape of ``x``.

    Source: Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, method section.
    """
    return (1 - gamma) * F.softplus(x, beta, _EXACT) + gamma * x


class LossNetwork(nn.Module):
    """The elementwise network ``l_phi(y, p)``: 2 inputs, ``layers`` hidden layers of ``hidden`` units, 1 output.

    Args:
        hidden: units per hidden layer.
        layers: number of hidden layers.
        activation: activation of the hidden layers, ``"smooth_leaky_relu"`` or ``"relu"``.
        output: activation of the output, ``"smooth_leaky_relu"``, ``"identity"`` or ``"softplus"``.
        beta: smoothness of the smooth leaky ReLU, > 0.
        gamma: its slope at minus infinity, in [0, 1].
        bias: whether layers have biases, which start at 0.
        silent: initialise the last layer to 0 and shift the output so that the initial network is 0 everywhere.
        seed: seed of the Kaiming normal initial weights.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        hidden: int = 40,
        layers: int = 2,
        *,
        activation: Activation = "smooth_leaky_relu",
        output: Output = "smooth_leaky_relu",
        beta: float = 10.0,
        gamma: float = 0.01,
        bias: bool = False,
        silent: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("activation", activation, get_args(Activation))
        check_choice("output", output, get_args(Output))
        check_number("beta", beta, low=1e-3, high=1e3)
        check_number("gamma", gamma, low=0.0, high=1.0)
        hidden, layers = whole_number("hidden", hidden, low=1), whole_number("layers", layers, low=1)
        if not isinstance(bias, bool):
            raise ValueError(f"bias must be true or false, not {bias!r}")
        self.activation, self.output, self.beta, self.gamma = activation, output, float(beta), float(gamma)
        self.settings = {
            "hidden": hidden,
            "layers": layers,
            "activation": activation,
            "output": output,
            "beta": self.beta,
            "gamma": self.gamma,
            "bias": bias,
        }
        widths = [2, *[hidden] * layers, 1]
        # nn.Linear draws from the caller's global generator. nn.utils.skip_init does not, but it imports sympy.
        with torch.random.fork_rng(devices=[]):
            linear = (nn.Linear(*pair, bias=bias, device="cpu") for pair in itertools.pairwise(widths))
            self.layers = nn.ModuleList(linear)
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            if bias:
                nn.init.zeros_(layer.bias)
        self.silent = silent
        if silent:
            nn.init.zeros_(self.layers[-1].get_parameter("weight"))

    def forward(self, y: float | Tensor, p: Tensor) -> Tensor:
        """Evaluate ``l_phi(y, p)``.

        Args:
            y: the target: one number, or a tensor that broadcasts to the shape of ``p``.
            p: the prediction, a tensor of any shape.

        Returns:
            A tensor of the shape and dtype of ``p``, computed in the dtype of the weights.
        """
        y = y.expand_as(p) if isinstance(y, Tensor) else torch.full_like(p, y)
        first, *rest = self.layers
        x = first(torch.stack((y, p), -1).to(first.get_parameter("weight").dtype))
        for layer in rest:
            x = layer(self._hidden(x))
        value = self._output(x.squeeze(-1))
        if self.silent:
            value = value - self._output(torch.zeros_like(value[..., :1]))
        return value.to(p.dtype)

    def _hidden(self, x: Tensor) -> Tensor:
        return x.relu() if self.activation == "relu" else smooth_leaky_relu(x, self.beta, self.gamma)

    def _output(self, x: Tensor) -> Tensor:
        if self.output == "identity":
            return x
        return F.softplus(x) if self.output == "softplus" else smooth_leaky_relu(x, self.beta, self.gamma)
