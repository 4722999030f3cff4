"""Nets for tokens against loops."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from skdp import DPClassifier
from skdp.contract import Public
from skdp.nets import TextBag, resolve_module
from skdp.preprocessing import HashingTokenizer
from skdp.training import PerExample

PUBLIC = Public(n=100, input_shape=(6,), n_outputs=2, task="multiclass")
TOKENS = torch.tensor([[3, 5, 3, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0] * 6, [6, 0, 6, 0, 6, 0]])
SPECS = [TextBag(8), TextBag(8, embedding=3), TextBag(8, embedding=3, hidden_units=4)]


def test_presence_is_a_loop_over_tokens():
    rows = TextBag(8).build(PUBLIC).features(TOKENS).double()
    for row, tokens in zip(rows, TOKENS.tolist(), strict=True):
        held = {t for t in tokens if t}
        expected = [0.5] + [len(held) ** -0.5 if t in held else 0.0 for t in range(1, 8)]
        np.testing.assert_allclose(row, expected, atol=5e-4)


def test_mean_of_embeddings_is_a_loop_over_tokens():
    torch.manual_seed(0)
    net = TextBag(8, embedding=3).build(PUBLIC)
    table = net[0].weight
    for row, tokens in zip(net[0](TOKENS), TOKENS.tolist(), strict=True):
        named = [table[t] for t in tokens if t]
        torch.testing.assert_close(row, sum(named, torch.zeros(3)) / max(1, len(named)))
    torch.testing.assert_close(net[0](TOKENS[1:2]), net[0](TOKENS)[1:2])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_of_records_are_those_of_autograd(spec):
    torch.manual_seed(0)
    net = spec.build(PUBLIC)
    assert (net(TOKENS) == 0).all()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    y = torch.tensor([0, 1, 1, 0])

    def losses(x, y):
        return torch.nn.functional.cross_entropy(net(x), y, reduction="none")

    with PerExample(net) as per_example:
        squared = sum(per_example.backward(losses(TOKENS, y)).squared_norms())
    for i in range(4):
        gradients = torch.autograd.grad(losses(TOKENS[i : i + 1], y[i : i + 1]).sum(), list(net.parameters()))
        assert float(squared[i]) == pytest.approx(float(sum(g.square().sum() for g in gradients)), rel=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TextBag(1), r"TextBag\(vocabulary=1\) must be a whole number of at least 2"),
        (TextBag(8, embedding=0), r"TextBag\(embedding=0\) must be a whole number of at least 1"),
        (TextBag(8, hidden_units=3), r"TextBag\(hidden_units=3\) needs trained embeddings"),
    ],
)
def test_what_makes_no_sense_is_named(spec, message):
    with pytest.raises(ValueError, match=message):
        spec.build(PUBLIC)
    with pytest.raises(ValueError, match=r"TextBag needs rows of tokens.*shape \(2, 3\)"):
        TextBag(8).build(Public(n=9, input_shape=(2, 3), n_outputs=2, task="multiclass"))


def test_reviews_from_strings_to_labels():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    filler = [" ".join(rng.choice(["film", "plot", "actor", "scene", "and"], 5)) for _ in y]
    texts = [f"{words}, {'good' if label else 'BAD'}." for words, label in zip(filler, y, strict=True)]
    tokens = HashingTokenizer(n_buckets=500, max_tokens=8).fit_transform(texts)
    model = DPClassifier(module=TextBag(500), classes=[0, 1], epsilon=4, random_state=0).fit(tokens, y)
    assert model.score(tokens, y) > 0.95
    assert model.module_.head.linear.in_features == 500 and model.feature_bounds_ is None
    assert isinstance(resolve_module("text"), TextBag) and TextBag().vocabulary == HashingTokenizer().n_buckets
    with pytest.raises(ValueError, match=r"tokens that are not whole numbers from 0 to 499"):
        model.predict(tokens + 500)


# ------------------------------------------------------------------ texts and tokens where they do not belong
def test_raw_texts_are_refused_with_the_tokenizer_as_remedy():
    texts = ["a good film", "a bad film"] * 50
    for X in (texts, np.array(texts), np.array(texts, object), pd.Series(texts), pd.DataFrame({"text": texts})):
        with pytest.raises(ValueError, match="texts with skdp.preprocessing.HashingTokenizer.*module='text'"):
            DPClassifier("text", classes=[0, 1]).fit(X, [0, 1] * 50)


HASHED = HashingTokenizer(max_tokens=32).fit_transform([" ".join(map(str, range(i, i + 20))) for i in range(400)])


@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning", "ignore::skdp.exceptions.WeakSignalWarning")
def test_tokens_in_the_default_net_are_warned_about_and_named_nets_are_not():
    y = np.arange(400) % 2
    with pytest.warns(UserWarning, match="integers in 32 columns.*pass module='text'"):
        DPClassifier(classes=[0, 1], max_epochs=1).fit(HASHED, y)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="X declares integers")
        for X, options in (
            (HASHED, {"module": "text"}),
            (HASHED, {"module": "linear"}),
            (HASHED, {"feature_bounds": (0, 16384)}),
            (HASHED.astype(float), {}),
            (HASHED[:, :8], {}),
            (HASHED.tolist(), {}),
        ):
            DPClassifier(**options, classes=[0, 1], max_epochs=1).fit(X, y)
