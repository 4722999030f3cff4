"""Modules that the tests of the per-example engine go through, and the slow truth to compare with."""

from __future__ import annotations

import torch
from torch import nn


def per_record(output):
    """One loss per record from whatever the module returns; not symmetric in its elements."""
    output = output[0] if isinstance(output, tuple) else output
    flat = output.flatten(1)
    weights = torch.linspace(0.5, 1.5, flat.shape[1], dtype=torch.float32, device=flat.device)
    return (flat.float().sin() * weights).sum(1)


def one_by_one(module, x, loss=per_record):
    """Gradients of each record by ordinary autograd: dict of float32 (batch, *shape)."""
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    rows = []
    for i in range(len(x)):
        losses = loss(module(x[i : i + 1]))
        grads = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
        rows.append([torch.zeros_like(p) if g is None else g for p, g in zip(parameters.values(), grads, strict=True)])
    return {
        name: torch.stack([row[j].float() for row in rows])
        if rows
        else torch.zeros(0, *parameter.shape, dtype=torch.float32)
        for j, (name, parameter) in enumerate(parameters.items())
    }


def floats(*shape):
    return lambda batch: torch.randn(batch, *shape)


def integers(high, *shape):
    return lambda batch: torch.randint(high, (batch, *shape))


class Reused(nn.Module):
    """One module called twice, once more inside."""

    def __init__(self, inner, outer=None):
        super().__init__()
        self.inner, self.outer = inner, outer or nn.Identity()

    def forward(self, x):
        return self.outer(self.inner(torch.tanh(self.inner(x))))


class Tied(nn.Module):
    """Input and output embedding share their table, as in language models."""

    def __init__(self, bias=False):
        super().__init__()
        self.embed, self.mix, self.out = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 11, bias=bias)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(torch.tanh(self.mix(self.embed(x))))


class TiedLinears(nn.Module):
    """Two linear layers with one weight and a bias each."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Frozen(nn.Module):
    """Some parameters frozen, one module never called."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.idle = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(2, 2)
        self.a.weight.requires_grad_(False)
        self.b.bias.requires_grad_(False)
        self.c.requires_grad_(False)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Positions(nn.Module):
    """Token and position embeddings; positions are shared by all records."""

    def __init__(self):
        super().__init__()
        self.token, self.place, self.out = nn.Embedding(9, 4), nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.token(x) + self.place(torch.arange(x.shape[1])[None]))


class Own(nn.Module):
    """Parameters of its own and a child: served by the fallback."""

    def __init__(self):
        super().__init__()
        self.scale, self.child = nn.Parameter(torch.randn(5)), nn.Linear(5, 4)
        self.idle = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.child(torch.tanh(x * self.scale)) + self.scale.sum()


class Branching(Own):
    """Data-dependent control flow, which cannot be vectorised."""

    def forward(self, x):
        return super().forward(x) if float(x.detach().sum()) > 0 else super().forward(-2 * x)


class Attention(nn.Module):
    """Self and cross attention with masks."""

    def __init__(self, need_weights=False, **options):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True, **options)
        self.sizes = self.attend.kdim, self.attend.vdim
        self.need_weights = need_weights

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[:, -1] = x[:, 0, 0] > 0
        k, v = (x[..., :s] for s in self.sizes)
        more = {"attn_mask": mask, "key_padding_mask": padding, "need_weights": self.need_weights}
        return self.attend(x if self.sizes == (8, 8) else x[..., :8], k, v, **more)[0]


class Crossed(nn.Module):
    """Attention with different queries, keys and values, after self attention by the same module."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        first = self.attend(x, x, x, need_weights=False)[0]
        return self.attend(first, x, x[:, :, :].flip(1), need_weights=True)[0]


class Bags(nn.Module):
    """An embedding bag over runs of different length, and one with weights."""

    def __init__(self, mode="sum", last=False, padding_idx=None):
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 4, mode=mode, include_last_offset=last, padding_idx=padding_idx)

    def forward(self, x):
        lengths = x[:, 0] % 4
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        weights = ((x[inside] + 1.0) / 3).to(self.bag.weight.dtype) if self.bag.mode == "sum" else None
        return self.bag(x[inside], offsets if self.bag.include_last_offset else offsets[:-1], weights)


def encoder(dropout=0.0, **options):
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


CASES = {
    "linear": (lambda: nn.Linear(5, 3), floats(5)),
    "linear no bias": (lambda: nn.Linear(5, 1, bias=False), floats(5)),
    "linear gram": (lambda: nn.Linear(24, 40), floats(3, 24)),
    "linear written": (lambda: nn.Linear(3, 4), floats(30, 3)),
    "linear one position": (lambda: nn.Linear(3, 4), floats(1, 3)),
    "linear 4-D": (lambda: nn.Linear(24, 20, bias=False), floats(2, 3, 24)),
    "mlp in place": (lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 2)), floats(5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=2, padding=1, groups=2), floats(4, 12)),
    "conv1d gram": (lambda: nn.Conv1d(24, 30, 3, groups=2), floats(24, 5)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), floats(4, 7, 6)),
    "conv2d gram": (lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1), floats(16, 4, 5)),
    "conv2d same": (lambda: nn.Conv2d(4, 2, 3, padding="same", dilation=2, bias=False), floats(4, 6, 5)),
    "conv2d reflect": (lambda: nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"), floats(4, 6, 5)),
    "conv2d replicate": (lambda: nn.Conv2d(4, 4, 3, padding="same", padding_mode="replicate"), floats(4, 6, 5)),
    "conv2d circular": (lambda: nn.Conv2d(4, 4, 3, padding=2, padding_mode="circular", groups=4), floats(4, 6, 5)),
    "conv2d gaps": (lambda: nn.Conv2d(4, 3, 2, stride=3, padding="valid"), floats(4, 9, 10)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, padding=1, groups=2), floats(2, 4, 3, 5)),
    "embedding": (lambda: nn.Embedding(9, 4), integers(9, 6)),
    "embedding padding": (lambda: nn.Embedding(5, 4, padding_idx=2), integers(5, 3, 2)),
    "embedding one": (lambda: nn.Embedding(5, 3), integers(5)),
    "bag sum": (lambda: nn.EmbeddingBag(7, 4, mode="sum"), integers(7, 6)),
    "bag mean": (lambda: nn.EmbeddingBag(7, 4, mode="mean", padding_idx=1), integers(7, 6)),
    "bag runs": (lambda: Bags("sum"), integers(9, 5)),
    "bag runs mean": (lambda: Bags("mean", last=True, padding_idx=3), integers(9, 5)),
    "layer norm": (lambda: nn.LayerNorm(6), floats(3, 6)),
    "layer norm 2-D": (lambda: nn.LayerNorm((3, 6), bias=False), floats(3, 6)),
    "rms norm": (lambda: nn.RMSNorm(6), floats(2, 3, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), floats(6, 4)),
    "group norm flat": (lambda: nn.GroupNorm(3, 6), floats(6)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(4, affine=True), floats(4, 5)),
    "instance norm 2d": (lambda: nn.InstanceNorm2d(4, affine=True), floats(4, 5, 3)),
    "instance norm 3d": (lambda: nn.InstanceNorm3d(2, affine=True), floats(2, 3, 3, 2)),
    "attention": (Attention, floats(5, 8)),
    "attention weights": (lambda: Attention(need_weights=True, bias=False), floats(5, 8)),
    "attention sizes": (lambda: Attention(kdim=6, vdim=3), floats(5, 8)),
    "attention crossed": (Crossed, floats(4, 8)),
    "attention extended": (lambda: Attention(add_bias_kv=True, add_zero_attn=True), floats(4, 8)),
    "attention extended weights": (lambda: Attention(True, add_bias_kv=True), floats(4, 8)),
    "encoder": (encoder, floats(5, 8)),
    "rnn": (lambda: nn.RNN(4, 5, batch_first=True, nonlinearity="relu"), floats(6, 4)),
    "lstm": (lambda: nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), floats(6, 4)),
    "lstm projected": (lambda: nn.LSTM(4, 5, batch_first=True, proj_size=3, bias=False), floats(6, 4)),
    "gru": (lambda: nn.GRU(4, 5, 2, batch_first=True), floats(6, 4)),
    "prelu": (lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4)), floats(5)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(3, 2, 3), floats(3, 4, 4)),
    "own parameters": (lambda: nn.Sequential(nn.Linear(5, 5), Own()), floats(5)),
    "branching": (lambda: nn.Sequential(nn.Linear(5, 5), Branching()), floats(5)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)), floats(5)),
    "reused": (lambda: Reused(nn.Linear(5, 5)), floats(5)),
    "reused positions": (lambda: Reused(nn.Linear(5, 5), nn.Linear(5, 2)), floats(7, 5)),
    "reused conv": (lambda: Reused(nn.Conv2d(3, 3, 3, padding=1)), floats(3, 5, 5)),
    "reused norm": (lambda: Reused(nn.LayerNorm(5)), floats(7, 5)),
    "reused fallback": (lambda: Reused(nn.PReLU(5)), floats(5)),
    "tied": (Tied, integers(11, 4)),
    "tied bias": (lambda: Tied(bias=True), integers(11, 4)),
    "tied linears": (TiedLinears, floats(5)),
    "tied linears positions": (TiedLinears, floats(3, 5)),
    "frozen": (Frozen, floats(5)),
    "positions": (Positions, integers(9, 7)),
}
