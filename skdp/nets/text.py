"""Nets for texts that are rows of integer tokens, such as `skdp.preprocessing.HashingTokenizer` makes."""

from __future__ import annotations

import math

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skdp.contract import Public
from skdp.contract.whole_numbers import is_whole
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
    A text without tokens gets the base rates.

    Examples
    --------
    >>> import torch
    >>> from skdp.contract import Public
    >>> from skdp.nets import TextBag
    >>> public = Public(n=25000, input_shape=(200,), n_outputs=1, task="binary")
    >>> tokens = torch.tensor([[3, 5, 3, 0], [1, 0, 0, 0]])
    >>> TextBag(vocabulary=6).build(public).features(tokens)
    tensor([[0.5000, 0.0000, 0.0000, 0.7070, 0.0000, 0.7070],
            [0.5000, 1.0000, 0.0000, 0.0000, 0.0000, 0.0000]], dtype=torch.float16)
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

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            For impossible sizes, or records that are no rows of tokens.
        """
        for name, least in (("vocabulary", 2), ("embedding", 1), ("hidden_units", 0)):
            value = getattr(self, name)
            if not is_whole(value, least) and not (name == "embedding" and value is None):
                raise ValueError(f"TextBag({name}={value!r}) must be a whole number of at least {least}")
        if self.embedding is None and self.hidden_units:
            raise ValueError(
                f"TextBag(hidden_units={self.hidden_units!r}) needs trained embeddings; set embedding, too"
            )
        if len(public.input_shape) != 1:
            raise ValueError(
                f"TextBag needs rows of tokens, records of shape (length,); these have shape {public.input_shape}"
            )
        if self.embedding is None:
            return FrozenFeatures(Presence(self.vocabulary), Widened(self.vocabulary, public.n_outputs))
        bag = nn.EmbeddingBag(self.vocabulary, self.embedding, mode="mean", padding_idx=0)
        width = self.hidden_units or self.embedding
        hidden = [nn.Linear(self.embedding, width), nn.Tanh()] if self.hidden_units else []
        return nn.Sequential(bag, *hidden, zero_linear(width, public.n_outputs))

    def row_norm(self, public: Public) -> float:
        """Norm that what the last layer is given has at most: of a mean of embeddings none is known."""
        return math.hypot(1.0, INTERCEPT) if self.embedding is None else math.inf

    usual_norm = row_norm

    def step_length(self, public: Public, signal: float) -> StepLength | None:
        """Clip norm, steps and learning rate from public quantities; None where embeddings are trained."""
        if self.embedding is not None:
            return None
        return full_batch_steps(public, signal, clip=0.4, noise=1.4, momentum=0.9, least=60)


class Presence(nn.Module):
    """Which tokens a text holds, as a row of norm one; the column of the padding holds a constant instead.

    Half precision, for float32 columns of 25,000 texts would take 1.6 GB. What is clipped is the gradient of the very
    numbers that are stored.
    """

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, tokens: Tensor) -> Tensor:
        """Rows of shape (batch, vocabulary)."""
        held = torch.zeros(len(tokens), self.vocabulary, dtype=torch.float16, device=tokens.device)
        held.scatter_(1, tokens, 1.0)
        held[:, 0] = 0.0
        held /= held.sum(1, keepdim=True, dtype=torch.float32).clamp_min(1.0).sqrt()
        held[:, 0] = INTERCEPT
        return held


class Widened(nn.Module):
    """A linear layer without bias, at zero, on inputs of half precision."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = zero_linear(width, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (batch, n_outputs)."""
        return self.linear(x.to(self.linear.weight.dtype))
