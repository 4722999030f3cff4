"""What the statement of a fit tells an auditor: the net, bounds, what was released, and whether all of it ran."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skorch.callbacks import Callback
from torch import nn

from skdp import DPClassifier, DPRegressor
from skdp.accounting import PrivacyStatement, verify
from skdp.exceptions import InterruptedFitWarning
from skdp.mechanisms import NeuralDP
from skdp.nets import MLP, Net
from skdp.neural_network.bounds_text import bounds_in_words

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(2000, 3))
Y = (X[:, 0] > 0).astype(int)
QUICK = {"max_epochs": 1, "batch_size": 500, "classes": [0, 1]}


@pytest.mark.parametrize(
    ("bounds", "names", "words"),
    [
        ([(0, 1)], None, "(0, 1)"),
        ([(0, 1)] * 300, None, "(0, 1) for all 300 columns"),
        ([(0, 1), (2, 3.5)], None, "(0, 1) for column 0, (2, 3.5) for column 1"),
        ([(0, 1)] * 4 + [(-2, 2)] * 2, list("abcdef"), "(0, 1) for 4 columns, (-2, 2) for 'e' and 'f'"),
    ],
)
def test_bounds_in_words(bounds, names, words):
    assert bounds_in_words(np.array(bounds), names) == words


def test_many_different_bounds_stay_short():
    words = bounds_in_words(np.array([(0, i + 1) for i in range(500)]))
    assert len(words) < 400 and words.endswith("others for 488 more columns")


@pytest.mark.parametrize(
    ("module", "net"),
    [
        (None, "TabularNet"),
        ("linear", "Linear, 4 trained parameters"),
        (MLP((500,)), "MLP, 2,501 trained parameters"),
        (Net(nn.Linear, in_features=3, out_features=1), "Linear, 4 trained parameters"),
        (nn.Sequential(nn.Linear(3, 2).requires_grad_(False), nn.Linear(2, 1)), "Sequential, 3 trained parameters"),
    ],
)
def test_the_net_is_named(module, net):
    statement = DPClassifier(module, feature_bounds=(-1, 1), **QUICK).fit(X, Y).privacy_
    assert statement.net.startswith(net) and statement.net in statement.text
    assert PrivacyStatement.from_json(statement.to_json()) == statement and verify(statement)


def test_public_bounds_are_shown_as_they_were_given():
    table = pd.DataFrame(X, columns=["age", "is_new", "score"]).assign(is_new=Y)
    bounds = [(-5, 5), (0, 1), (-1, 1)]
    statement = DPClassifier("linear", feature_bounds=bounds, **QUICK).fit(table, Y).privacy_
    assert "feature bounds: (-5, 5) for 'age', (-1, 1) for 'score', (0, 1) for 'is_new'" in statement.public
    assert statement.released == ()
    y = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(0, 2), max_epochs=1).fit(X, Y).privacy_
    assert "bounds of y: (0, 2)" in y.public and "feature bounds: (-1, 1) for all 3 columns" in y.public


def test_released_bounds_are_shown_as_released():
    rows = np.tile(np.column_stack([X[:, :2], Y]), (8, 1))  # so many that nothing is blurred
    model = DPClassifier("linear", epsilon=8.0, **QUICK).fit(rows, np.tile(Y, 8))
    (line,) = model.privacy_.released
    assert line == "feature bounds: (-1, 1) for column 0 and column 1, (0, 1) for column 2"
    assert line in " ".join(model.privacy_.text.split()) and not any("bounds" in fact for fact in model.privacy_.public)


class Stop(Callback):
    """The user's Ctrl-C after some steps."""

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == 2:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivacyLeakWarning")
def test_a_partial_model_is_named_though_every_query_was_answered():
    model = DPClassifier(mechanism=NeuralDP(), feature_bounds=(-1, 1), callbacks=[Stop()], **QUICK)
    with pytest.warns(InterruptedFitWarning, match="after 2 of 4 steps; the model is partial, but every query"):
        statement = model.fit(X, Y).privacy_
    assert statement.status == "complete" and statement.planned_event is None
    assert "interrupted after 2 of 4 steps; the model is partial" in " ".join(statement.text.split())
    whole = model.set_params(callbacks=None).fit(X, Y).privacy_
    assert "partial" not in whole.text and (whole.epsilon, whole.event) == (statement.epsilon, statement.event)


def test_a_partial_model_of_interrupted_queries_says_so_too():
    model = DPClassifier("linear", feature_bounds=(-1, 1), callbacks=[Stop()], **QUICK)
    with pytest.warns(InterruptedFitWarning, match="after 2 of 4 steps; the model is partial and its statement names"):
        statement = model.fit(X, Y).privacy_
    assert statement.status == "interrupted" and statement.steps == 2 and "the model is partial" in statement.text
