"""The four nets whose private and plain steps are timed, with made-up data of fixed shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    rows: int
    goal: float

    def net(self) -> nn.Module:
        torch.manual_seed(0)
        return {"mlp": mlp, "logistic": logistic, "cnn": cnn, "transformer": TextClassifier}[self.name]()

    def data(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        if self.name == "transformer":
            return torch.randint(1, 4000, (self.rows, 64)), torch.randint(0, 2, (self.rows,))
        shape = (1, 28, 28) if self.name == "cnn" else (100,)
        classes = 10 if self.name == "cnn" else 2
        return torch.randn(self.rows, *shape), torch.randint(0, classes, (self.rows,))


CASES = (
    Case("mlp", 1024, 50_000, 1.15),
    Case("logistic", 4096, 50_000, 1.3),
    Case("cnn", 512, 10_000, 1.2),
    Case("transformer", 256, 10_000, 1.5),
)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))


def logistic() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 2))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.Tanh(), nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2), nn.Tanh(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 10),
    )  # fmt: skip


class Block(nn.Module):
    """One pre-norm transformer layer out of layers that every peer can handle."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.before(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.between(x))))


class TextClassifier(nn.Module):
    """About 711 thousand parameters: 4,000 words, width 128, one layer, mean pooling."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(4000, 128)
        self.blocks = nn.ModuleList([Block(128, 4)])
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))
