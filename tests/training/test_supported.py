"""What is refused, by layer name and with a remedy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.per_example import PerExample
from skdp.training.supported import trainable_parameters


class Inside(nn.Module):
    """A record mixer hidden in a module with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.scale, self.norm = nn.Parameter(torch.ones(1)), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(x) * self.scale


REFUSED = {
    "batch norm 1d": (lambda: nn.BatchNorm1d(4), r"GroupNorm"),
    "batch norm 2d": (lambda: nn.BatchNorm2d(4, affine=False), r"GroupNorm"),
    "batch norm 3d": (lambda: nn.BatchNorm3d(4), r"GroupNorm"),
    "sync batch norm": (lambda: nn.SyncBatchNorm(4), r"GroupNorm"),
    "batch norm in eval that trains": (lambda: nn.BatchNorm1d(4).eval(), r"trainable.*requires_grad_\(False\)"),
    "batch norm without statistics": (
        lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False).eval(),
        r"others of its batch",
    ),
    "batch norm inside": (Inside, r"layer '0.norm'"),
    "instance norm statistics": (lambda: nn.InstanceNorm1d(4, track_running_stats=True), r"track_running_stats=False"),
    "lazy": (lambda: nn.LazyLinear(3), r"run the module once"),
    "attention": (lambda: nn.MultiheadAttention(4, 2), r"batch_first=True"),
    "transformer layer": (lambda: nn.TransformerEncoderLayer(4, 2, 4), r"layer '0.self_attn'.*batch_first=True"),
    "lstm": (lambda: nn.LSTM(4, 3), r"batch_first=True"),
    "embedding max_norm": (lambda: nn.Embedding(5, 3, max_norm=1.0), r"max_norm=None"),
    "embedding frequency": (lambda: nn.Embedding(5, 3, scale_grad_by_freq=True), r"scale_grad_by_freq=False"),
    "bag max": (lambda: nn.EmbeddingBag(5, 3, mode="max"), r"mode='sum'"),
    "bag max_norm": (lambda: nn.EmbeddingBag(5, 3, max_norm=1.0), r"max_norm=None"),
    "data parallel": (lambda: nn.DataParallel(nn.Linear(4, 4)), r"pass the module that it wraps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_name_and_remedy(name):
    factory, remedy = REFUSED[name]
    with pytest.raises(UnsupportedModuleError, match=remedy) as error:
        PerExample(nn.Sequential(factory(), nn.Linear(4, 2)))
    assert "layer '0" in str(error.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_in_a_hook_is_refused():
    with pytest.raises(UnsupportedModuleError, match=r"torch.nn.utils.parametrizations"):
        PerExample(nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 2))))


def test_a_frozen_batch_norm_is_an_ordinary_layer_until_it_trains():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).requires_grad_(False), nn.Linear(4, 1))
    net[1].eval()
    per_example = PerExample(net)
    with per_example:
        assert per_example.backward(net(torch.randn(3, 4))[:, 0]).squared_norms()[0].shape == (3,)
    net.train()
    with pytest.raises(UnsupportedModuleError, match=r"'1'.*training mode.*\.eval\(\)"), per_example:
        pass
    assert not net._forward_pre_hooks


def test_packed_sequences_are_refused():
    class Packing(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 2, batch_first=True)

        def forward(self, x):
            return self.lstm(nn.utils.rnn.pack_padded_sequence(x, [4, 2], batch_first=True))

    module = Packing()
    with PerExample(module), pytest.raises(UnsupportedModuleError, match="packing"):
        module(torch.randn(2, 4, 3))


@pytest.mark.parametrize(
    "layer, shape", [(nn.MultiheadAttention(4, 2, batch_first=True), (3, 4)), (nn.LSTM(4, 2, batch_first=True), (3, 4))]
)
def test_sequence_layers_need_a_batch_dimension(layer, shape):
    x = torch.randn(shape)
    with PerExample(layer), pytest.raises(UnsupportedModuleError, match="batch, positions, features"):
        layer(x, x, x) if isinstance(layer, nn.MultiheadAttention) else layer(x)


def test_sampling_positions_without_a_batch_dimension_is_an_error():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.place, self.out = nn.Embedding(7, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.out(x + self.place(torch.arange(x.shape[1])))

    module = Positions()
    with PerExample(module) as per_example, pytest.raises(UnsupportedModuleError, match=r"'place'.*expand"):
        per_example.backward(module(torch.randn(3, 7, 4)).sum((1, 2)))


def test_parameters_that_train_come_once_and_in_order():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 3))
    net[3].weight = net[2].weight
    net[0].bias.requires_grad_(False)
    assert list(trainable_parameters(net)) == ["0.weight", "2.weight", "2.bias", "3.bias"]
    assert PerExample(net).parameters.keys() == trainable_parameters(net).keys()
