"""Module specifications: plain tunable parameters that become a torch net once the shapes are public."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from skdp.contract import Public
from skdp.contract.shown import shown
from skdp.contract.whole_numbers import is_whole
from skdp.nets.frozen import zero_linear
from skdp.nets.image_shape import is_image
from skdp.nets.step_length import count_variables
from skdp.nets.wavelets import SMALLEST

__all__ = ["MLP", "Linear", "Net", "resolve_module"]

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
_MOST = {"tanh": 1.0}  # what a unit gives at most


class Linear(BaseEstimator):
    """A linear model on the inputs as they are: logistic, softmax or least-squares regression.

    Parameters
    ----------
    bias : bool, default=True

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.nets import Linear
    >>> Linear().build(Public(n=100, input_shape=(4,), n_outputs=3, task="multiclass"))[1].out_features
    3
    """

    def __init__(self, bias: bool = True):
        self.bias = bias

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """The net, with zero weights."""
        return nn.Sequential(nn.Flatten(), zero_linear(math.prod(public.input_shape), public.n_outputs, self.bias))

    def row_norm(self, public: Public) -> float:
        """Norm that what the last layer is given has at most, its bias included.

        Where inputs lie in [-1, 1], and of about eight indicators of a category one is 1.
        """
        return math.sqrt(count_variables(public) + self.bias)

    usual_norm = row_norm


class MLP(BaseEstimator):
    """A multi-layer perceptron with a zero-initialised last layer.

    Parameters
    ----------
    hidden_units : tuple of int, default=(64,)
        Width of each hidden layer.
    activation : {"tanh", "relu", "gelu", "silu"}, default="tanh"
        Bounded activations keep per-record gradients small, which suits clipping.
    dropout : float, default=0.0
        Probability to drop a hidden unit in training.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.nets import MLP
    >>> net = MLP(hidden_units=(8,)).build(Public(n=100, input_shape=(4,), n_outputs=1, task="binary"))
    >>> [tuple(p.shape) for p in net.parameters()]
    [(8, 4), (8,), (1, 8), (1,)]
    """

    def __init__(self, hidden_units: tuple[int, ...] = (64,), activation: str = "tanh", dropout: float = 0.0):
        self.hidden_units = hidden_units
        self.activation = activation
        self.dropout = dropout

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """The net, freshly initialised from torch's generator."""
        if self.activation not in _ACTIVATIONS:
            names = ", ".join(_ACTIVATIONS)
            raise ValueError(f"MLP(activation={self.activation!r}) must be one of {names}")
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(public.input_shape)
        for unit in self._widths():
            layers += [nn.Linear(width, unit), _ACTIVATIONS[self.activation]()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width = unit
        return nn.Sequential(*layers, zero_linear(width, public.n_outputs))

    def row_norm(self, public: Public) -> float:
        """Norm that what the last layer is given has at most, its bias included; infinite where nothing bounds it.

        Without hidden layers as for `Linear`. Dropout stretches what it keeps.
        """
        units = self._widths()
        if not units:
            return self.usual_norm(public)
        return math.hypot(math.sqrt(units[-1]) * _MOST.get(self.activation, math.inf) / (1 - self.dropout), 1.0)

    def usual_norm(self, public: Public) -> float:
        """Norm that it has about at most while hidden units lie in [-1, 1], as they do at the start."""
        units = self._widths()
        return math.sqrt((units[-1] if units else count_variables(public)) + 1)

    def _widths(self) -> tuple[int, ...]:
        units = tuple(self.hidden_units) if np.iterable(self.hidden_units) else (self.hidden_units,)
        if not all(map(is_whole, units)):
            raise ValueError(f"MLP(hidden_units={self.hidden_units!r}) must be positive whole numbers")
        return units


class Net(BaseEstimator):
    """Any ``torch.nn.Module`` class with its keyword arguments.

    Parameters
    ----------
    module : type
        A subclass of ``torch.nn.Module``. Where its constructor takes ``n_features``, ``input_shape`` or
        ``n_outputs`` and they are not given here, they are filled in from the data's public shape.
    **kwargs
        Arguments of the constructor; each can be tuned as ``module__<name>``.

    Notes
    -----
    For two classes the net may give one logit or two; for K classes K logits; for a regression one output per
    target, on the scale [-1, 1] to which targets are mapped.

    Examples
    --------
    >>> from torch import nn
    >>> from skdp.nets import Net
    >>> Net(nn.Linear, in_features=4, out_features=2).get_params()["out_features"]
    2
    """

    def __init__(self, module: type[nn.Module], **kwargs: Any):
        self.module = module
        self._kwargs = kwargs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The class and its keyword arguments by name."""
        return {"module": self.module, **self._kwargs}

    def set_params(self, **params: Any) -> Net:
        """Set the class or any keyword argument."""
        self.module = params.pop("module", self.module)
        self._kwargs = {**self._kwargs, **params}
        return self

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """The net, freshly initialised from torch's generator."""
        known = inspect.signature(self.module).parameters
        shapes = {
            "n_features": math.prod(public.input_shape),
            "input_shape": public.input_shape,
            "n_outputs": public.n_outputs,
        }
        filled = {name: value for name, value in shapes.items() if name in known} | self._kwargs
        try:
            return self.module(**filled)
        except TypeError as error:
            raise ValueError(
                f"module {self.module.__name__} could not be built: {error}; pass its arguments with "
                f"Net({self.module.__name__}, ...)"
            ) from error


class Prebuilt(BaseEstimator):
    """A module instance given by the user; every fit starts from a copy of its weights."""

    def __init__(self, module: nn.Module):
        self.module = module

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """A copy of the instance."""
        import copy

        return copy.deepcopy(self.module)


def resolve_module(module: Any, input_shape: tuple[int, ...] = ()) -> Any:
    """The specification that ``module=`` stands for, where records have a public shape.

    Parameters
    ----------
    module : None, str, torch.nn.Module class or instance, or specification
    input_shape : tuple of int
        Decides what None stands for: a net for images or for tables.

    Returns
    -------
    object
        With a method ``build(public, signal)``.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> from skdp.nets import resolve_module
    >>> resolve_module(None, (1, 28, 28)), resolve_module(None, (8,)), resolve_module("cnn")
    (ScatterLinear(), TabularNet(), TanhCNN())
    """
    from skdp.nets.convolutional import TanhCNN
    from skdp.nets.scatter import ScatterLinear
    from skdp.nets.tabular import TabularNet
    from skdp.nets.text import TextBag

    names = {"linear": Linear, "mlp": MLP, "scatter": ScatterLinear, "cnn": TanhCNN, "text": TextBag}
    if module is None:
        return ScatterLinear() if is_image(input_shape, SMALLEST) else TabularNet()
    if isinstance(module, str) and module in names:
        return names[module]()
    if isinstance(module, nn.Module):
        return Prebuilt(module)
    if isinstance(module, type) and issubclass(module, nn.Module):
        return Net(module)
    if isinstance(module, BaseEstimator) and hasattr(module, "build"):
        return module
    raise ValueError(
        f"module={shown(module)} must be None, {', '.join(map(repr, names))}, a torch.nn.Module class or instance, or "
        "a specification such as MLP(hidden_units=(64,)) or Net(MyModule, width=8)"
    )
