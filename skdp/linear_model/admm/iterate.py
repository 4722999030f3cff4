"""The arithmetic of one site's part in ADMM: public numbers only, the same on both sides of a connection."""

from __future__ import annotations

import numpy as np

from skdp.linear_model.admm.terms import Terms

__all__ = ["Iterate"]


class Iterate:
    r"""A site's model and multipliers, as everybody who sees its messages can compute them.

    With :math:`\tilde w` the site's noisy model, :math:`w` the common one, :math:`\gamma` the multipliers and
    :math:`\tilde g` the noisy gradient of the site's part of the mean loss at :math:`\tilde w^{k-1}`, round k is

    .. math:: \tilde w^k = \frac{\tilde w^{k-1}/\eta_k + \rho w^{k-1} + \gamma^{k-1} - \tilde g^k}{\rho + 1/\eta_k}
              + m (w^{k-1} - w^{k-2}), \qquad \gamma^k = \gamma^{k-1} - \rho (\tilde w^k - w^k).

    Parameters
    ----------
    terms : Terms
    model, multipliers, common, drift : ndarray of shape (outputs, columns), optional
        The site's model and multipliers, the common model that it heard of last, and how far that had moved; zeros
        before the first round.
    round : int
        The last one that the site took part in.

    Notes
    -----
    The noise of the paper, on :math:`\tilde w^k`, is that of the gradient divided by
    :math:`\rho + 1/\eta_k`: here it is added to the sum of gradients, once, and all the rest is post-processing.

    References
    ----------
    Huang, Hu, Guo, Chan-Tin and Gong, *DP-ADMM: ADMM-Based Distributed Learning With Differential Privacy*, IEEE
    Transactions on Information Forensics and Security 15, 2020.
    """

    def __init__(
        self,
        terms: Terms,
        model: np.ndarray | None = None,
        multipliers: np.ndarray | None = None,
        common: np.ndarray | None = None,
        drift: np.ndarray | None = None,
        round: int = 0,
    ):
        zeros = np.zeros(terms.shape) if model is None else model
        self._terms = terms
        self.model = zeros
        self._multipliers = zeros if multipliers is None else multipliers
        self._common = zeros if common is None else common
        self._drift = zeros if drift is None else drift
        self.round = round

    @property
    def proposal(self) -> np.ndarray:
        """What enters the common mean: the model less the multipliers over rho."""
        return self.model - self._multipliers / self._terms.rho

    def heard(self, common: np.ndarray) -> Iterate:
        """With the common model after the last round that the site took part in, or before its first."""
        if not self.round:
            return Iterate(self._terms, common, self._multipliers, common, self._drift)
        multipliers = self._multipliers - self._terms.rho * (self.model - common)
        return Iterate(self._terms, self.model, multipliers, common, common - self._common, self.round)

    def model_after(self, gradient: np.ndarray, round: int) -> np.ndarray:
        """The model after a round in which the gradient of the mean loss was that."""
        inverse, rho = self._terms.inverse_step(round), self._terms.rho
        pulled = self.model * inverse + rho * self._common + self._multipliers - gradient
        return pulled / (inverse + rho) + self._terms.momentum * self._drift

    def gradient_to(self, model: np.ndarray, round: int) -> np.ndarray:
        """The gradient that leads to a model: `model_after` the other way round."""
        inverse, rho = self._terms.inverse_step(round), self._terms.rho
        plain = model - self._terms.momentum * self._drift
        return self.model * inverse + rho * self._common + self._multipliers - (inverse + rho) * plain

    def moved(self, model: np.ndarray, round: int) -> Iterate:
        """At a model, after a round."""
        return Iterate(self._terms, model, self._multipliers, self._common, self._drift, round)

    def to_dict(self) -> dict:
        """In plain JSON types."""
        return {
            "round": self.round,
            **{name: getattr(self, attribute).tolist() for name, attribute in _ARRAYS.items()},
        }

    @classmethod
    def from_dict(cls, terms: Terms, plain: dict) -> Iterate:
        """From what `to_dict` gave."""
        arrays = [np.array(plain[name], dtype=float).reshape(terms.shape) for name in _ARRAYS]
        return cls(terms, *arrays, round=int(plain["round"]))


_ARRAYS = {"model": "model", "multipliers": "_multipliers", "common": "_common", "drift": "_drift"}
