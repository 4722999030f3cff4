"""Nets for texts that are rows of integer tokens, such as `skdp.preprocessing.HashingTokenizer` makes."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skdp.contract import Public
from skdp.nets.frozen import FrozenFeatures, full_batch_steps, zero_linear
from skdp.nets.pace import INTERCEPT
from skdp.nets.step_length import StepLength

__all__ = ["TextBag"]


class TextBag(BaseEstimator):
    """A bag of tokens: a linear model on which tokens a text holds, or trained embeddings and their mean.

    Parameters
    ----------
    vocabulary : int, default=16384
        Number of tokens, 0 to ``vocabulary - 1``; 0 is padding. Public.
    embedding : int or None, default=None
        Width of embeddings that are trained. None is one column for each token, with a row of norm one for each text:
        at small budgets that was far better, because embeddings have to be found in the noise first.
    hidden_units : int, default=0
        Width of a tanh layer between embeddings and outputs; 0 for none.

    Notes
    -----
    A text without tokens is a row of zeros and gets the base rates.

    Examples
    --------
    >>> import torch
    >>> from skdp.contract import Public
    >>> from skdp.nets import TextBag
    >>> public = Public(n=25000, input_shape=(200,), n_outputs=1, task="binary")
    >>> tokens = torch.tensor([[5, 9, 5, 0], [7, 0, 0, 0]])
    >>> TextBag(vocabulary=10).build(public).features(tokens).tolist()
    [[0, 0, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]]
    """

    def __init__(self, vocabulary: int = 16384, embedding: int | None = None, hidden_units: int = 0):
        self.vocabulary = vocabulary
        self.embedding = embedding
        self.hidden_units = hidden_units

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """The net, with a zero last layer.

        Parameters
        ----------
        public : Public
        signal : float, default=inf
            Not used.

        Raises
        ------
        ValueError
            For impossible sizes, or records that are no rows of tokens.
        """
        for name, least in (("vocabulary", 2), ("embedding", 1), ("hidden_units", 0)):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool) and value >= least
            if not whole and not (name == "embedding" and value is None):
                raise ValueError(f"TextBag({name}={value!r}) must be a whole number of at least {least}")
        if self.embedding is None and self.hidden_units:
            raise ValueError(
                f"TextBag(hidden_units={self.hidden_units!r}) needs embeddings that are trained; set embedding"
            )
        if len(public.input_shape) != 1:
            raise ValueError(
                f"TextBag needs rows of tokens, records of shape (length,); these have shape {public.input_shape}"
            )
        if self.embedding is None:
            return FrozenFeatures(Presence(self.vocabulary), PresenceHead(self.vocabulary, public.n_outputs))
        bag = nn.EmbeddingBag(self.vocabulary, self.embedding, mode="mean", padding_idx=0)
        width = self.hidden_units or self.embedding
        hidden = [nn.Linear(self.embedding, width), nn.Tanh()] if self.hidden_units else []
        return nn.Sequential(bag, *hidden, zero_linear(width, public.n_outputs))

    def step_length(self, public: Public, signal: float) -> StepLength | None:
        """Clip norm, steps and learning rate from public quantities; None where embeddings are trained."""
        return full_batch_steps(public, signal, clip=0.4, noise=1.4) if self.embedding is None else None


class Presence(nn.Module):
    """Which tokens a text holds, a byte for each: float32 columns of 25,000 texts would take 1.6 GB."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, tokens: Tensor) -> Tensor:
        """0 or 1, of shape (batch, vocabulary)."""
        held = torch.zeros(len(tokens), self.vocabulary, dtype=torch.uint8, device=tokens.device)
        held.scatter_(1, tokens, 1)
        held[:, 0] = 0  # padding
        return held


class PresenceHead(nn.Module):
    """A linear layer on rows of norm one; the column of the padding carries the intercept."""

    def __init__(self, vocabulary: int, outputs: int):
        super().__init__()
        self.linear = zero_linear(vocabulary, outputs, bias=False)

    def forward(self, held: Tensor) -> Tensor:
        """Outputs of shape (batch, n_outputs)."""
        rows = held.to(self.linear.weight.dtype)
        rows = rows / rows.sum(1, keepdim=True).clamp_min(1).sqrt()
        rows[:, 0] = INTERCEPT
        return self.linear(rows)
