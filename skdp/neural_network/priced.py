"""What a fit costs and knows, from public facts alone."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np

from skdp.accounting import resolve_delta
from skdp.contract import Charge, Public
from skdp.neural_network.parameters import check_parameters
from skdp.neural_network.programme import draw_up
from skdp.neural_network.reading import vocabulary_of

__all__ = ["Priced"]


class Priced:
    """The part of an estimator that names prices; the rest reads problems and knows which estimates are missing."""

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What a fit would cost at a noise multiplier, from public facts alone.

        Parameters
        ----------
        public : Public
        scale : float or None
            Noise multiplier of a training step, in the place of what `epsilon` or `noise_multiplier` ask for; None is
            no noise. What else follows from the budget (steps, bands of `DPFTRL`) is as in a fit: calibrating this
            charge to `epsilon` gives the price list of the fit.

        Returns
        -------
        Charge
            Which costs less the larger the scale.
        """
        priced = copy.copy(self).set_params(epsilon=math.inf, noise_multiplier=None) if scale is None else self
        missing = self._missing(public, vocabulary_of(self.module, public.input_shape) is not None)
        return draw_up(priced, public, resolve_delta(self.delta, public.n), missing, scale=scale).charge

    def facts_of(self, X: Any, y: Any) -> Public:
        """The public facts of a data set that the price of a fit follows from; nothing is spent.

        Parameters
        ----------
        X, y
            As for `fit`.

        Returns
        -------
        Public

        Raises
        ------
        ValueError
            For rows that `fit` would refuse.
        """
        return copy.copy(self)._problem(X, y, None).public

    def planned_charge(self, public: Public) -> Charge:
        """What a fit with these parameters will reserve, its noise calibrated, from public facts alone.

        Parameters
        ----------
        public : Public
            As `public_facts` gives it for a table.

        Returns
        -------
        Charge
        """
        work = copy.copy(self)
        check_parameters(work)
        missing = self._missing(public, vocabulary_of(self.module, public.input_shape) is not None)
        return draw_up(work, public, resolve_delta(self.delta, public.n), missing).charge

    def public_facts(self, n: int, n_features: int) -> Public:
        """Public facts of a table of numbers, as a fit on it would find them; of a regression with one target.

        Parameters
        ----------
        n, n_features : int

        Returns
        -------
        Public

        Raises
        ------
        ValueError
            The classes of a classifier are not among its parameters.
        """
        labels = getattr(self, "classes", (0.0, 0.0))
        if labels is None:
            raise ValueError("classes=None: pass the public list of labels, which a fit would read from y")
        blank = copy.copy(self)._problem(np.zeros((len(labels), n_features)), np.asarray(labels), None)
        return blank.public if self.adjacency == "add-remove" else replace(blank.public, n=int(n))
