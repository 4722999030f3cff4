"""Features of every row, released once with noise, for whatever is to be trained on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skdp.accounting import FitBook, PrivacyStatement, check_epsilon, resolve_delta
from skdp.accounting.budget import at_budget, budget_warnings
from skdp.accounting.checks import is_real
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.contract import ADJACENCIES, FEATURE_ROW, Charge, Gaussian, Poisson, Public, Touch
from skdp.contract.shown import shown
from skdp.contract.whole_numbers import is_whole
from skdp.nets import RandomProjection
from skdp.neural_network.bounds_text import bounds_in_words
from skdp.neural_network.parameters import bounds_array
from skdp.neural_network.problem import COLUMNS
from skdp.neural_network.reading import invalid_features, raise_invalid, read_features
from skdp.neural_network.scaling import as_inputs, scale_inputs
from skdp.releases.null_rows import OWN_WEIGHTS, VALID_WEIGHTS, null_rows
from skdp.training import SecretRandomness, SplitNet, clip_rows, noisy_activations
from skdp.user_line import warn_all

__all__ = ["DPFeatureRelease"]

_REMEDY = "; pass on_invalid='null' to leave such rows out, or encode missing values before"


class DPFeatureRelease(LedgerAware, TransformerMixin, BaseEstimator):
    r"""Release clipped features of every row with noise; models trained on the release cost nothing more.

    `fit_transform` **releases**: it maps each row to :math:`k` numbers by a public map, brings them under an L2 norm
    :math:`C`, and adds :math:`N(0, z^2 C^2)` to each. In a `Pipeline` that is what the training rows go through.

    `transform` **adds no noise and is not private**: it is for rows at prediction time. ``fit(X).transform(X)`` hands
    the rows of X over as they are, and spends nothing because it protects nothing. `fit` alone releases nothing.

    Parameters
    ----------
    projection : int, torch.nn.Module or None, default=None
        Public map to features: a random projection to so many numbers, a module with public weights, or none. Noise
        hides more the more numbers there are, so few is good.
    max_norm : float or "auto", default="auto"
        Clip norm :math:`C`; ``"auto"`` is :math:`\sqrt{k/3}`, which suits numbers spread over [-1, 1].
    feature_bounds : (low, high), array-like of shape (n_features, 2), dict or None, default=None
        Public range of each column, which is mapped to [-1, 1]; None uses values as they are.
        A dict has a public (low, high) for the name of every column.
    epsilon : float or None, default=1.0
        Budget of one `fit_transform`; None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one"}, default="zero-out"
        One row nulled, or replaced. The number of rows is visible, so ``"add-remove"`` is refused.
    noise_multiplier : float, optional
        Standard deviation of the noise over the clip norm; instead of `epsilon`.
    stretch : bool, default=True
        Noise flattens what a model learns; `transform` after a release stretches features by as much as the release
        gives reason to, so that predictions are not flat (see `skdp.training.SplitNet.follow_noise`). Free of cost.
    on_invalid : {"raise", "null"}, default="raise"
        Rows with missing or infinite values: an error, or rows that are released as noise around zero.
    random_state : int, RandomState or None, default=None
        Seeds the random projection, which is public; never the noise.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    privacy_ : PrivacyStatement
        Of the last `fit_transform`.
    max_norm_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* What `fit_transform` returns is (epsilon, delta)-differentially private for `adjacency`: every
    row moves its own entry by at most :math:`C` (zero-out) or :math:`2C` (replace-one), a Gaussian mechanism. Whatever
    is trained on it is post-processing **of X**. The labels that a later step uses are not released here and not
    covered: they are public as far as that step uses them. Two calls are two releases, whose costs add up
    (`skdp.accounting.compose`).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdp.preprocessing import DPFeatureRelease
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(5000, 4))
    >>> y = X[:, 0] > 0
    >>> model = make_pipeline(DPFeatureRelease(epsilon=3.0, feature_bounds=(-1, 1)), LogisticRegression()).fit(X, y)
    >>> model.score(X, y) > 0.8, model[0].privacy_.epsilon <= 3.0
    (True, True)
    """

    releases_rows = True

    def __init__(
        self,
        projection: Any = None,
        *,
        max_norm: float | str = "auto",
        feature_bounds: Any = None,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        noise_multiplier: float | None = None,
        stretch: bool = True,
        on_invalid: str = "raise",
        random_state: Any = None,
        insecure_noise_seed: int | None = None,
    ):
        self.projection = projection
        self.max_norm = max_norm
        self.feature_bounds = feature_bounds
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.noise_multiplier = noise_multiplier
        self.stretch = stretch
        self.on_invalid = on_invalid
        self.random_state = random_state
        self.insecure_noise_seed = insecure_noise_seed

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPFeatureRelease:
        """Set up the public map for columns like those of X; releases and spends nothing.

        Parameters
        ----------
        X : array-like, table or tensor of shape (n, n_features) or (n, ...)
        y, sample_weight : array-like, optional
            Not used, for nothing is released.

        Returns
        -------
        DPFeatureRelease
            Itself.
        """
        inputs, _ = self._set_up(X)
        null_rows(sample_weight, len(inputs))
        self.__dict__.pop("_statement", None)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Release features of the rows of X with noise.

        Parameters
        ----------
        X : array-like, table or tensor of shape (n, n_features) or (n, ...)
        y : None
            Ignored, and not protected.
        sample_weight : array-like of shape (n,), optional
            A weight of 0 makes a row the null row, which is released as noise around zero; any other weight is 1.

        Returns
        -------
        ndarray of shape (n, k)

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        NotPrivateWarning
            With ``epsilon=inf``.
        """
        inputs, null = self._set_up(X)
        null = null | null_rows(sample_weight, len(inputs))
        told, rests = ([], []) if sample_weight is None else ([VALID_WEIGHTS], [OWN_WEIGHTS])
        if isinstance(self.projection, nn.Module):
            rests.append("the weights of projection= were made from public data")
        charge, delta, certificate = self._priced(Public(len(inputs), self._shape, 0, "regression", self.adjacency))
        (touch,) = charge.touches
        notes = budget_warnings(self, delta, len(inputs), "release")
        warn_all(notes)

        def statement(executed: Mapping[str, int] | None) -> PrivacyStatement:
            return PrivacyStatement.from_charge(
                charge,
                delta,
                executed=executed,
                mechanism=f"DPFeatureRelease, {self._front.width} features of each row released once",
                n=len(inputs),
                target_epsilon=self.epsilon,
                certificate=certificate,
                public=[*self._taken_as_public(), *told],
                assumptions=rests,
                warnings=[message for _, message in notes],
                reproducible_noise=self.insecure_noise_seed is not None,
            )

        book = FitBook(type(self).__name__, len(inputs), statement(None))
        randomness = SecretRandomness(torch.device("cpu"), self.insecure_noise_seed)
        reservation = book.reserve(charge)
        book.spend(reservation, touch)
        std = touch.noise.combined * self.max_norm_ if touch.noise else 0.0
        if not std:
            self._front.bound.fill_(math.inf)
        clipped = clip_rows(self._mapped(inputs), self._front.bound)
        clipped = clipped.masked_fill(torch.from_numpy(null)[:, None], 0.0)
        released = noisy_activations(clipped, std, randomness)
        if self.stretch:
            self._front.follow_noise(released, std, rescale=False)
        self._statement = statement(book.settle(reservation)).to_dict()
        return released.double().numpy()

    def transform(self, X: Any) -> np.ndarray:
        """Features **without noise**, of rows at prediction time. What comes out of training rows is not private.

        Parameters
        ----------
        X : array-like, table or tensor of shape (n, n_features) or (n, ...)

        Returns
        -------
        ndarray of shape (n, k)
        """
        check_is_fitted(self, "_front")
        inputs, _ = self._read(X, reset=False)
        with torch.no_grad():
            return copy.deepcopy(self._front)(as_inputs(inputs)).flatten(1).double().numpy()

    @property
    def privacy_(self) -> PrivacyStatement:
        """What the last `fit_transform` cost; `fit` alone releases nothing."""
        check_is_fitted(
            self,
            "_statement",
            msg="%(name)s has released nothing: fit_transform does, and fit followed by transform protects nobody",
        )
        return PrivacyStatement.from_dict(self._statement)

    def privacy_charge(self, public: Public, scale: float) -> Charge:
        """What a release costs at a noise multiplier.

        Parameters
        ----------
        public : Public
        scale : float
            Noise multiplier.

        Returns
        -------
        Charge
        """
        touch = Touch("features", Poisson(), None if scale is None else Gaussian((scale,)), 1)
        return Charge((touch,), public.adjacency, FEATURE_ROW)

    def planned_charge(self, public: Public) -> Charge:
        """What a release with these parameters will reserve, from public facts alone.

        Parameters
        ----------
        public : Public

        Returns
        -------
        Charge
        """
        return self._priced(public)[0]

    def public_facts(self, n: int, n_features: int) -> Public:
        """Public facts of a table of `n` rows."""
        return Public(n, (n_features,), 0, "regression", self.adjacency)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features: those of the columns where there is no projection.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns, where X had none.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "_front")
        seen = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            if seen is not None and list(input_features) != list(seen):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(input_features) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), got "
                    f"{len(input_features)}"
                )
        if self.projection is None and self._front.width == self.n_features_in_:
            names = seen if input_features is None else input_features
            names = [f"x{i}" for i in range(self.n_features_in_)] if names is None else names
        else:
            names = [f"{type(self).__name__.lower()}{i}" for i in range(self._front.width)]
        return np.asarray(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_front")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    # ------------------------------------------------------------------ parts
    def _set_up(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Check the parameters, then read the rows and build the map."""
        if self.adjacency not in ADJACENCIES:
            raise ValueError(f"adjacency={self.adjacency!r} must be 'zero-out' or 'replace-one'")
        if self.adjacency == "add-remove":
            raise ValueError(
                "adjacency='add-remove' protects the number of rows, and a release has one answer for each of them; "
                "use adjacency='zero-out' or 'replace-one'"
            )
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError(
                f"epsilon={self.epsilon!r} and noise_multiplier={self.noise_multiplier!r}: set exactly one of them, "
                "the other to None"
            )
        if self.epsilon is not None:
            check_epsilon(self.epsilon)
        for name in ("noise_multiplier", "max_norm"):
            value = getattr(self, name)
            unset = value is None or (isinstance(value, str) and value == "auto")
            if not unset and not (is_real(value) and 0 < value < math.inf):
                raise ValueError(f"{name}={value!r} must be positive and finite")
        if self.on_invalid not in ("raise", "null"):
            raise ValueError(f"on_invalid={self.on_invalid!r} must be one of 'raise', 'null'")
        inputs, null = self._read(X, reset=True)
        resolve_delta(self.delta, len(inputs))
        front = self._build_front(inputs.shape[1:])
        self._front, self.max_norm_ = front, float(front.bound)
        return inputs, null

    def _build_front(self, shape: tuple[int, ...]) -> SplitNet:
        projection = self.projection
        if is_whole(projection):
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            projection = RandomProjection(math.prod(shape), int(projection), seed)
        if projection is None:
            return SplitNet(nn.Identity(), None, shape, self.max_norm)
        if not isinstance(projection, nn.Module):
            raise ValueError(
                f"projection={shown(self.projection)} must be None, a whole number of features, or a torch.nn.Module "
                "with public weights"
            )
        frozen = copy.deepcopy(projection).requires_grad_(False).eval()
        return SplitNet(nn.Sequential(frozen), "0", shape, self.max_norm)

    def _read(self, X: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """Features within their bounds as float64, and which rows are null (they hold zeros)."""
        inputs = read_features(self, X, reset=reset).astype(np.float64)
        if not reset and inputs.shape[1:] != self._shape:
            raise ValueError(f"X has rows of shape {inputs.shape[1:]}, but fit saw rows of shape {self._shape}")
        invalid = invalid_features(inputs)
        null = invalid.reshape(len(inputs), -1).any(axis=1)
        if self.on_invalid == "raise" or not reset:
            raise_invalid(self, inputs, invalid, _REMEDY if reset else "; fill or encode such values before")
        if reset:
            self._shape = inputs.shape[1:]
            bounds, columns = self.feature_bounds, inputs.shape[-1] if inputs.ndim == 2 else 1
            names = getattr(self, "feature_names_in_", None)
            self._bounds = None if bounds is None else bounds_array("feature_bounds", bounds, columns, names)
        inputs = np.where(null.reshape(-1, *[1] * (inputs.ndim - 1)), 0.0, inputs)
        return scale_inputs(inputs, self._bounds), null

    def _mapped(self, inputs: np.ndarray) -> torch.Tensor:
        front = copy.deepcopy(self._front)  # thrown away: a user's forward may leave rows on it
        return torch.cat([front.activations(piece) for piece in as_inputs(inputs).split(8192)])

    def _priced(self, public: Public) -> tuple[Charge, float, Any]:
        """The price list at the calibrated noise, delta, and the certificate."""
        delta = resolve_delta(self.delta, public.n)
        scale, certificate = at_budget(self, lambda scale: self.privacy_charge(public, scale), delta)
        return self.privacy_charge(public, scale), delta, certificate

    def _taken_as_public(self) -> list[str]:
        facts = [COLUMNS, "labels, where a later step trains on the release: they are not part of it"]
        if self.on_invalid == "raise":
            facts.append("that no value is missing or infinite (an error would have told)")
        if self._bounds is None:
            return facts
        return [*facts, f"feature bounds: {bounds_in_words(self._bounds, getattr(self, 'feature_names_in_', None))}"]
