"""Per-record gradient norms and weighted gradient sums from one backward pass.

The pass asks for gradients with respect to layer *outputs* only, so no ordinary weight gradient is computed. What a
layer was given and what its output's gradient is suffice for both the norms and the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.utils.parametrize import is_parametrized

from skdp.exceptions import UnsupportedModuleError
from skdp.training.captured import Captured, exact_float32
from skdp.training.fallback import per_record_forward
from skdp.training.rules import Rule, find_rule
from skdp.training.rules.gradients import Gradient, Outer, merge
from skdp.training.rules.rule import Gradients
from skdp.training.supported import check_mode, check_supported, trainable_parameters

__all__ = ["Captured", "Layer", "PerExample", "Site"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One module whose parameters are served together.

    Parameters
    ----------
    name : str
        Qualified name of the module.
    module : torch.nn.Module
    rule : Rule or None
        None: the module is run record by record with a copy of its parameters each.
    index : dict of str to int
        The module's trainable parameters by own name, as positions in parameter order.
    """

    name: str
    module: nn.Module
    rule: Rule | None
    index: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Site:
    """One call of a layer: what it was given, and how its gradients follow from its output's gradient."""

    layer: Layer
    gradients: Gradients
    index: Mapping[str, int]
    inputs: Tensor
    version: int
    squares: Tensor | None = None


class PerExample:
    """Per-record gradients of a module, captured while the context is entered.

    Parameters
    ----------
    module : torch.nn.Module
        Its records lie along the first dimension of every tensor.

    Attributes
    ----------
    parameters : dict of str to torch.nn.Parameter
        The trainable parameters in ``named_parameters()`` order; a tied one appears once, under its first name.
    groups : tuple of tuple of str
        Parameter names by layer, for per-layer clipping.
    input_squares : float32 tensor of shape (batch,) or None
        `row_squares` of the module's next input, where the caller knows them already (they do not change between
        steps); spares a pass over the input where its first reader is a linear layer. Not used where the input was
        changed in place. None computes them.

    Raises
    ------
    UnsupportedModuleError
        If a layer mixes records or keeps statistics of them; the message names the layer and the remedy.
    ValueError
        If nothing is trainable.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(3, 1)
    >>> per_example = PerExample(net)
    >>> with per_example:
    ...     captured = per_example.backward(net(torch.zeros(4, 3)).square().sum(1))
    >>> captured.squared_norms()[0].shape
    torch.Size([4])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = trainable_parameters(module)
        if not self.parameters:
            raise ValueError("the module has no trainable parameters: requires_grad is False for all of them")
        self._frozen_norms = check_supported(module)
        self._shapes = [p.shape for p in self.parameters.values()]
        self._position = {id(p): i for i, p in enumerate(self.parameters.values())}
        self._layers = list(self._find_layers(module, "", set()))
        self.groups = self._group()
        self._handles: list[Any] = []
        self._sites: list[Site] = []
        self._edges: list[Any] = []
        self._batch: int | None = None
        self._input: Tensor | None = None
        self._input_version = 0
        self.input_squares: Tensor | None = None
        self._recording = False

    # ------------------------------------------------------------------ which modules are layers
    def _find_layers(self, module: nn.Module, name: str, seen: set[int]) -> Iterator[Layer]:
        if id(module) in seen:
            return
        seen.add(id(module))
        rule = find_rule(module)
        own = module._parameters.items()
        if rule is not None:
            named = module.named_parameters(remove_duplicate=False) if rule.forward else own
        elif is_parametrized(module) or any(p is not None and p.requires_grad for _, p in own):
            named = module.named_parameters(remove_duplicate=False)
        else:
            for child_name, child in module.named_children():
                yield from self._find_layers(child, f"{name}.{child_name}".strip("."), seen)
            return
        index = {n: self._position[id(p)] for n, p in named if p is not None and p.requires_grad}
        if index:
            yield Layer(name, module, rule, index)

    def _group(self) -> tuple[tuple[str, ...], ...]:
        names = list(self.parameters)
        self._group_of = [-1] * len(names)
        groups: list[list[str]] = []
        for layer in self._layers:
            fresh = sorted({i for i in layer.index.values() if self._group_of[i] < 0})
            if fresh:
                for i in fresh:
                    self._group_of[i] = len(groups)
                groups.append([names[i] for i in fresh])
        return tuple(map(tuple, groups))

    # ------------------------------------------------------------------ hooks
    def __enter__(self) -> PerExample:
        if self._recording:
            raise RuntimeError("this PerExample is already entered; one forward and backward pass at a time")
        check_mode(self._frozen_norms)
        self._recording = True
        try:
            hook = self.module.register_forward_pre_hook(self._note_batch, with_kwargs=True)
            self._handles.append(hook)
            for layer in self._layers:
                self._handles.append(self._install(layer))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget()
        self._recording = False

    def _forget(self) -> None:
        self._sites, self._edges, self._input = [], [], None

    def _install(self, layer: Layer) -> Any:
        if layer.rule is None:
            return _Swapped(layer.module, per_record_forward(self, layer))
        if layer.rule.forward is not None:
            return _Swapped(layer.module, self._tapped_forward(layer))
        return layer.module.register_forward_hook(self._hook(layer), with_kwargs=True, prepend=True)

    def _note_batch(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.dim():
                self._batch, self._input, self._input_version = len(value), value, value._version
                return

    def _hook(self, layer: Layer) -> Callable[..., Tensor | None]:
        """Forward hook of a layer with a rule."""
        gradients, index = layer.rule.gradients, layer.index

        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor | None:
            if not self._recording or not output.requires_grad:
                return None
            inputs = args[0] if args else kwargs["input"]
            spread = None
            if self._batch is not None and inputs.shape[0] == 1 != self._batch:
                # Something that all records share, as positions 0..T-1: each record gets its own view of it.
                inputs = inputs.expand(self._batch, *inputs.shape[1:])
                spread = output = output.expand(self._batch, *output.shape[1:])
            self.note(layer, gradients, index, inputs, output)
            return spread

        return hook

    def _tapped_forward(self, layer: Layer) -> Callable[..., Any]:
        """A rule's own forward pass, to stand in for the layer's."""

        def tap(gradients: Gradients, index: Mapping[str, int], inputs: Tensor, output: Tensor) -> None:
            if index and self._recording and output.requires_grad:
                self.note(layer, gradients, index, inputs, output)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return layer.rule.forward(layer.module, layer.index, tap, *args, **kwargs)

        return forward

    def note(
        self, layer: Layer, gradients: Gradients, index: Mapping[str, int], inputs: Tensor, output: Tensor
    ) -> None:
        """Remember one tensor whose gradient the backward pass shall give."""
        untouched = inputs is self._input and inputs._version == self._input_version
        squares = self.input_squares if untouched else None
        self._sites.append(Site(layer, gradients, index, inputs.detach(), inputs._version, squares))
        self._edges.append(get_gradient_edge(output))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No captures inside: for modules that are served as a whole."""
        before, self._recording = self._recording, False
        try:
            yield
        finally:
            self._recording = before

    # ------------------------------------------------------------------ the pass
    def backward(self, losses: Tensor) -> Captured:
        """One backward pass from per-record losses to the outputs of all layers.

        Parameters
        ----------
        losses : tensor of shape (batch,)
            Further dimensions are summed over. The loss of each record must come from that record alone.

        Returns
        -------
        Captured

        Raises
        ------
        ValueError
            If `losses` is a scalar.
        UnsupportedModuleError
            If a layer saw another number of records, or its input was changed in place afterwards.
        """
        gradients: list[Gradient] = []
        pairs = self.differentiate(losses)
        with exact_float32(losses.device):
            for site, grad in pairs:
                gradients += site.gradients(site.layer.module, site.index, site.inputs, grad)
                if site.squares is not None and isinstance(gradients[-1], Outer):
                    gradients[-1].right_squares = site.squares
            gradients = merge(gradients, self._shapes)
        return Captured(gradients, self._group_of, len(self.groups), len(losses), losses.device)

    def differentiate(self, losses: Tensor) -> list[tuple[Site, Tensor]]:
        """Every call of a layer with the gradient of its output; `backward` without the rules."""
        if losses.dim() == 0:
            raise ValueError('the loss is a single number; per-record losses are needed: use reduction="none"')
        sites, edges = self._sites, self._edges
        self._forget()
        if not edges or not losses.requires_grad:
            return []
        self._recording = False  # a checkpointed segment calls its layers again
        try:
            grads = torch.autograd.grad(losses, edges, torch.ones_like(losses), allow_unused=True)
        finally:
            self._recording = True
        batch = len(losses)
        for site, grad in zip(sites, grads, strict=True):
            if grad is not None and (len(grad) != batch or site.inputs._version != site.version):
                raise _misfit(site, batch)
        return [(site, grad) for site, grad in zip(sites, grads, strict=True) if grad is not None]


class _Swapped:
    """Another forward method on one module instance until removed."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module = module
        self._before = vars(module).get("forward")
        module.forward = forward

    def remove(self) -> None:
        if self._before is None:
            del self._module.forward
        else:
            self._module.forward = self._before


def _misfit(site: Site, batch: int) -> UnsupportedModuleError:
    """Captured numbers that are not one row per record, or not those that the layer saw."""
    name = f"{site.layer.name!r} ({type(site.layer.module).__name__})"
    if site.inputs._version != site.version:
        return UnsupportedModuleError(
            f"the input of layer {name} was changed in place after the layer had read it; use the operation that "
            f"returns a new tensor"
        )
    return UnsupportedModuleError(
        f"layer {name} got {len(site.inputs)} rows for a batch of {batch} records; keep the records along the first "
        f"dimension of every layer's input (for position indices: torch.arange(T).expand(len(x), T))"
    )
