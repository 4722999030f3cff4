"""NeuralDP: a layer's activations of every row are released with noise, and the rest of the net trains on those."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skdp.contract import (
    FEATURE_ROW,
    Activations,
    Answers,
    Charge,
    Gaussian,
    Labels,
    Model,
    Poisson,
    Public,
    Query,
    Response,
    Touch,
    Update,
)
from skdp.mechanisms.base import Mechanism, TrainingPlan, steps_per_epoch
from skdp.training.split import SplitNet

__all__ = ["NeuralDP"]

_PIECE = 8192  # released rows of one pass, so that a full batch fits into memory


class NeuralDP(Mechanism):
    r"""Training on activations that were released with noise, once or once per epoch.

    A frozen front part of the net maps each row to :math:`k` numbers; these are brought under an L2 norm :math:`C`,
    get noise :math:`N(0, z^2 C^2)` each, and are released. The rest of the net trains on the release like any net: no
    gradient is clipped, and no further step costs anything. Predictions clip the same way, add no noise, and make up
    for what the noise flattened (`SplitNet.follow_noise`). With ``module=None`` the net is linear.

    Parameters
    ----------
    layer : str or None, default=None
        Qualified name of the submodule whose output is released (``"features"``, ``"0.conv"``). What runs up to there
        must not train. None releases the input.
    release : {"once", "per-pass"}, default="once"
        One release for the whole fit, or a fresh one for every pass over the data, whose cost grows with the number
        of passes.
    label_epsilon : float or None, default=None
        None takes the **labels as public**: they are used as they are, and the guarantee is about X alone. A number
        releases each class once by randomised response with odds ``exp(label_epsilon)``, whose cost is part of
        `epsilon`; the noise on the activations gets what is left. Classification only.
    max_activation_norm : float or "auto", default="auto"
        Clip norm :math:`C`; ``"auto"`` is :math:`\sqrt{k/3}`, which suits numbers spread over [-1, 1]. Noise and signal
        both grow with it, so only clipping too much or too little matters.

    Notes
    -----
    *Formal guarantee.* With clipped activations :math:`a_i` of norm at most :math:`C`, and zeros for the null row, a
    release is a Gaussian mechanism of L2 sensitivity :math:`C` under zero-out, and :math:`2C` under replace-one,
    because every row moves its own part of the answer only. :math:`T` releases at multiplier :math:`z` cost one
    Gaussian of multiplier :math:`z/\sqrt T`. Training is a function of the release, of labels, and of what is public:
    the front is frozen, and in training the net is run on made-up zeros with the released numbers in the place of the
    layer's output. Labels are covered only with `label_epsilon`: k-ary randomised response, a uniform label for the
    null row, composed with the Gaussian by the accountant. All rows answer, so that their number is public:
    ``"add-remove"`` is refused.

    In what the estimator sets, `batch_size`, `max_epochs`, `lr` and `optimizer` are those of ordinary training on the
    release, at no cost (with ``release="per-pass"`` the number of epochs is the number of releases). `max_grad_norm`
    clips nothing, and `clipping` is refused unless it is ``"flat"``, the default. A `sample_weight` of 0 makes a null
    row; other weights reach nothing. `class_weight` weighs losses by the released or public label.

    References
    ----------
    Knolle et al., *NeuralDP: Differentially private neural networks by design*, arXiv:2107.14582, 2021. Warner,
    *Randomized response*, JASA 1965. Patrini et al., *Making deep neural networks robust to label noise: a loss
    correction approach*, CVPR 2017.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.mechanisms import NeuralDP, TrainingPlan
    >>> public = Public(n=1000, input_shape=(4,), n_outputs=1, task="binary")
    >>> plan = NeuralDP(label_epsilon=1.0).plan(public, TrainingPlan(0.1, 50, 1.0), scale=4.0)
    >>> [(touch.name, touch.count) for touch in plan.charge.touches]
    [('activations', 1), ('labels', 1)]
    """

    default_module = "linear"  # the features of the default net for tables are too many, and made for clean columns
    weighs_rows = False

    def __init__(
        self,
        layer: str | None = None,
        *,
        release: str = "once",
        label_epsilon: float | None = None,
        max_activation_norm: float | str = "auto",
    ):
        self.layer = layer
        self.release = release
        self.label_epsilon = label_epsilon
        self.max_activation_norm = max_activation_norm

    @property
    def labels_are_public(self) -> bool:
        """Whether training uses the labels as they are."""
        return self.label_epsilon is None

    def plan(self, public: Public, training: TrainingPlan, scale: float | None) -> NeuralDPPlan:
        """Price list of a release, or one per pass, and of the labels where they are protected."""
        self._check(public, training)
        passes = steps_per_pass = None
        if self.release == "per-pass":
            steps_per_pass = steps_per_epoch(training.sampling_rate)
            passes = max(1, math.ceil(training.steps / steps_per_pass))
        noise = None if scale is None else Gaussian((scale,))
        touches = (Touch("activations", Poisson(), noise, passes or 1),)
        if not self.labels_are_public:
            classes = max(2, public.n_outputs)
            response = None if scale is None else Response.at(self.label_epsilon, classes)
            touches += (Touch("labels", Poisson(), response, 1),)
        return NeuralDPPlan(
            Charge(touches, public.adjacency, FEATURE_ROW if self.labels_are_public else public.unit),
            training.steps,
            n=public.n,
            batch=max(1, min(public.n, round(training.sampling_rate * public.n))),
            classes=0 if public.task == "regression" else max(2, public.n_outputs),
            steps_per_pass=steps_per_pass,
        )

    def prepare(self, module: nn.Module, public: Public) -> SplitNet:
        """The net split at the layer, with the clipping in between."""
        return SplitNet(module, self.layer, public.input_shape, self.max_activation_norm, public.vocabulary)

    def describe(self, clipping: str) -> str:
        """The mechanism with what is released, and how often."""
        what = "inputs" if self.layer is None else f"activations of {self.layer!r}"
        return f"NeuralDP, {what} released {'once' if self.release == 'once' else 'once per pass'}"

    def taken_as_public(self) -> tuple[str, ...]:
        """The labels, unless they are protected."""
        if not self.labels_are_public:
            return ()
        return (
            "the labels y: they were used exactly as they are, so only what the other columns hold is protected, and "
            "whoever sees the result may learn anybody's label",
        )

    def weakness(self, public: Public, scale: float | None) -> str:
        """Inputs so many that noise hides all of them, where the input is what is released."""
        width = math.prod(public.input_shape)
        if scale is None or self.layer is not None or public.n >= (scale * width) ** 2:
            return ""
        return (
            f"mechanism=NeuralDP releases {width} numbers per row, and noise of multiplier {scale:.3g} hides what "
            f"{public.n} rows have in common in them: the model will probably be no better than the prior, or worse. "
            "Put a public nn.Sequential(RandomProjection(...), ...) of few numbers before, or use mechanism='dp-sgd'"
        )

    def _check(self, public: Public, training: TrainingPlan) -> None:
        if self.layer is not None and not (isinstance(self.layer, str) and self.layer):
            raise ValueError(f"NeuralDP(layer={self.layer!r}) must be the name of a submodule, or None for the input")
        if self.release not in ("once", "per-pass"):
            raise ValueError(f"NeuralDP(release={self.release!r}) must be 'once' or 'per-pass'")
        norm = self.max_activation_norm
        if norm != "auto" and not (_is_number(norm) and 0 < norm < math.inf):
            raise ValueError(f"NeuralDP(max_activation_norm={norm!r}) must be 'auto' or a positive finite number")
        odds = self.label_epsilon
        if odds is not None and not (_is_number(odds) and 0 < odds <= 30):
            raise ValueError(
                f"NeuralDP(label_epsilon={odds!r}) must be None, which takes the labels as public, or lie in (0, 30]"
            )
        if odds is not None and public.task == "regression":
            raise ValueError(
                f"NeuralDP(label_epsilon={odds!r}) answers with classes, and a regression has none: cut y into classes "
                "with public limits for DPClassifier, or use mechanism='dp-sgd', which protects y; label_epsilon=None "
                "takes y as public"
            )
        if training.clipping != "flat":
            raise ValueError(
                f"clipping={training.clipping!r} is about gradients, of which NeuralDP clips none; leave it at 'flat', "
                "and see NeuralDP(max_activation_norm=...)"
            )
        if public.adjacency == "add-remove":
            raise ValueError(
                "adjacency='add-remove' protects the number of rows, and NeuralDP releases one answer for each of "
                "them; use adjacency='zero-out' or 'replace-one', or mechanism='dp-sgd'"
            )


@dataclass(frozen=True)
class NeuralDPPlan:
    """Releases in `begin` (and at the start of each further pass); steps are ordinary ones on what was released."""

    charge: Charge
    steps: int
    n: int
    batch: int
    classes: int
    steps_per_pass: int | None

    def begin(self, model: Model, state: dict) -> Generator[Query, Answers, None]:
        """Ask for the labels, where they are protected, and for the first activations."""
        touch, net = self.charge.touches[0], model.module
        net.bound.fill_(net.max_norm if touch.noise else math.inf)  # whatever an earlier fit left there
        state["released"] = 0
        for labels in self.charge.touches[1:]:
            (state["labels"],) = yield Query(labels, (Labels(self.classes),))
        yield from self._release(model, state)
        net.follow_noise(state["activations"], touch.noise.combined * float(net.bound) if touch.noise else 0.0)

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """One minibatch of ordinary training; in a new pass on activations with fresh noise."""
        if self.steps_per_pass and state["step"] and state["step"] % self.steps_per_pass == 0:
            yield from self._release(model, state)
        rows = None
        if self.batch < self.n:
            rows = torch.from_numpy(state["rng"].choice(self.n, self.batch, replace=False)).to(model.device)
        seed = int(state["rng"].integers(2**63))
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)  # what dropout draws
            return Update(self._gradient(model, state, rows))

    def rehearse(self, model: Model, state: dict) -> None:
        """A step on what was released, to be timed; changes nothing."""
        with torch.random.fork_rng(devices=[]):
            self._gradient(model, state, torch.arange(min(self.batch, _PIECE), device=model.device))

    def _release(self, model: Model, state: dict) -> Generator[Query, Answers, None]:
        """Fresh activations; where a fit that was resumed has spent them all, the last ones stay."""
        touch = self.charge.touches[0]
        gone = max(state["released"], state.get("spent", {}).get(touch.name, 0))
        if gone < touch.count:
            (state["activations"],) = yield Query(touch, (Activations(float(model.module.bound)),))
            state["released"] = gone + 1

    def _gradient(self, model: Model, state: dict, rows: Tensor | None) -> list[Tensor]:
        """Of the mean loss over released rows (all of them when None)."""
        parameters = list(model.parameters.values())
        gradients = [torch.zeros_like(p) for p in parameters]
        for activations, targets in self._pieces(model, state, rows):
            losses = self._losses(model, model.module.rest(activations), targets)
            total = losses.sum() / (self.n if rows is None else len(rows))
            parts = torch.autograd.grad(total, parameters, allow_unused=True)
            for gradient, part in zip(gradients, parts, strict=True):
                if part is not None:
                    gradient += part
        return gradients

    def _pieces(self, model: Model, state: dict, rows: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        both = state["activations"], model.targets if model.targets is not None else state["labels"]
        if rows is None:
            yield from zip(*(part.split(_PIECE) for part in both), strict=True)
            return
        for piece in rows.split(_PIECE):
            yield both[0].index_select(0, piece), both[1].index_select(0, piece)

    def _losses(self, model: Model, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each record; with noisy labels the likelihood of what the channel makes of the net's probabilities.

        There, class weights move log-odds, as a prior does: weighing losses by noisy labels would weigh other records.
        """
        noise = self.charge.touches[-1].noise
        if not isinstance(noise, Response):
            losses = model.loss(outputs, targets)
            return losses if model.class_weights is None else losses * model.class_weights[targets]
        logits = outputs.float().reshape(len(outputs), -1)
        if logits.shape[1] == 1:
            logits = functional.pad(logits, (1, 0))
        if model.class_weights is not None:
            logits = logits - torch.where(model.class_weights > 0, model.class_weights, 1.0).log()
        kept = functional.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0] + math.log1p(-noise.noise_parameter)
        return -torch.logaddexp(kept, kept.new_tensor(math.log(noise.noise_parameter / noise.classes)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
