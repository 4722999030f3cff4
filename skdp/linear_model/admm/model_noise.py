"""How much noise the common model carries at most, from the terms and the sites' noise multipliers alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from skdp.linear_model.admm.coordinator import Consensus
from skdp.linear_model.admm.iterate import Iterate
from skdp.linear_model.admm.terms import Terms

__all__ = ["model_noise"]


def model_noise(terms: Terms, multipliers: Iterable[float | None]) -> np.ndarray:
    """Upper bound on the standard deviation of the privacy noise in the common model.

    A weight that no row holds back is a linear function of all noise. The mean of the sites follows the arithmetic of
    one site, so that this function is found by playing all rounds on a unit of noise in each of them. Rows only damp
    it; see `skdp.linear_model.coefficient_noise`.

    Parameters
    ----------
    terms : Terms
    multipliers : iterable of float or None
        Noise multiplier of each site, of which all reply in all rounds; None is no noise.

    Returns
    -------
    ndarray of shape (outputs, columns)
        On scaled columns, the intercept last.
    """
    loudness = math.sqrt(math.fsum(z * z for z in multipliers if z))
    if not loudness:
        return np.zeros(terms.shape)
    # One row for the noise of each round; a column that is penalised and one that is not.
    played = replace(
        terms, columns=("penalised",), outputs=terms.rounds, alpha=terms.alpha * (1 - terms.l1), l1=0.0,
        fit_intercept=True,
    )  # fmt: skip
    consensus, mean = Consensus(played), Iterate(played)
    for k in range(1, terms.rounds + 1):
        mean = mean.heard(consensus.model)
        impulse = np.zeros(played.shape)
        impulse[k - 1] = 1.0
        mean = mean.moved(mean.model_after(impulse, k), k)
        consensus.step(terms.sites * mean.proposal, 0.0, terms.sites)
    # Of the mean over sites of what each adds to the gradient of the mean loss.
    std = loudness * terms.clip / (terms.rows * terms.sampling_rate * terms.sites)
    penalised, free = std * np.linalg.norm(consensus.result, axis=0)
    noise = np.full(terms.shape, penalised)
    if terms.fit_intercept:
        noise[:, -1] = free
    return noise
