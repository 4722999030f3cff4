"""Sites that are processes of a group: the numbers of the other engines, and what happens when one dies."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from processes import play
from scipy.stats import ks_2samp, norm
from site_processes import ROUNDS, coefficients, model, table

from skdp.accounting import PrivacyStatement, verify
from skdp.exceptions import NotPrivateWarning
from skdp.linear_model import DPADMMClassifier

SCRIPT = Path(__file__).with_name("site_processes.py")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return play(2, "quick", tmp_path_factory.mktemp("sites"), script=SCRIPT)


def here(**changed):
    return DPADMMClassifier(
        **{"classes": [0, 1], "rounds": ROUNDS, "n_agents": 2, "insecure_noise_seed": 7, "feature_bounds": (-1, 1)}
        | changed
    )


def test_all_engines_give_the_same_numbers(pair):
    X, y = table()
    with pytest.warns(NotPrivateWarning):
        alone = coefficients(here(epsilon=math.inf).fit(X, y))
    for found in pair["silent"]:
        np.testing.assert_allclose(found, alone, rtol=1e-9)
    noisy = here().fit(X, y)
    for found, stated, names in pair["seeded"]:
        np.testing.assert_allclose(found, coefficients(noisy), rtol=1e-9)
        assert PrivacyStatement.from_dict(stated).epsilon == noisy.privacy_.epsilon and names == ["0", "1"]
    assert (pair["seeded"][0][0] == pair["seeded"][1][0]).all(), "the same bits at both sites"


def test_budgets_of_sites_and_persons(pair):
    for by_site, joint in pair["budgets"]:
        assert {name: round(epsilon, 2) for name, epsilon in by_site.items()} == {"north": 0.5, "south": 2.0}
        joint = PrivacyStatement.from_dict(joint)
        assert joint.unit == "person" and 2.0 < joint.epsilon < 2.5


def test_every_site_tells_its_own_ledger(pair):
    assert pair["ledgers"] == (1, 1)


def test_only_noisy_models_cross(pair):
    """Sums of four coefficients and one squared distance between models; rows would be 300 by 3."""
    assert pair["crossing"][0] == [(5,)] * ROUNDS


EXPECTED = {
    "names": "the names of columns differs",
    "number": "the number of columns differs",
    "classes": "differs between the ranks",
    "no classes": "classes=None",
    "clip": "max_grad_norm differs",
    "kind": "the kind of problem differs",
    "twice": "names that differ",
    "groups": "leave groups and n_agents out",
}


@pytest.mark.parametrize("what", EXPECTED)
def test_unequal_schemas_are_named_on_all_sites(pair, what):
    for found in pair["schemas"]:
        assert found[what] is not None and EXPECTED[what] in found[what][1], found[what]


@pytest.mark.parametrize("what", ["NaN", "a secret"])
def test_what_is_wrong_with_rows_is_told_at_their_own_site(pair, what):
    kind, told = pair["schemas"][1][what]
    assert kind == "ValueError"
    kind, others = pair["schemas"][0][what]
    assert kind == "RankFailureError" and "rank 1 failed: ValueError, see its own output" in others
    assert "John" not in others and "NaN" not in others and "rows" not in others.replace("Nothing", "")


def test_nothing_that_sites_send_is_code(pair):
    assert pair["pickles"] == (0, 0)


def test_a_site_with_three_rows_of_one_class(pair):
    for score, rows in pair["odd_sites"]:
        assert score > 0.8 and rows == [3, 597]


def test_outside_of_a_group_there_is_an_error():
    with pytest.raises(ValueError, match="torchrun"):
        model().fit(*table())
    with pytest.raises(ValueError, match="store='x' is for engine='torch.distributed'"):
        here(store="x").fit(*table())


@pytest.mark.slow
def test_the_engines_have_one_distribution_of_results(tmp_path):
    """Spread of two samples of 60 fits in four coefficients; false alarm 1e-4, and noise scaled by 2/3 is seen."""
    X, y = table()
    found = play(2, "secret", tmp_path, script=SCRIPT)["secret"][0][:, 0]
    alone = np.array([coefficients(here(insecure_noise_seed=None, rounds=5).fit(X, y))[0] for _ in range(60)])
    assert len(np.unique(found)) == found.size
    ratio = (found.var(axis=0, ddof=1) / alone.var(axis=0, ddof=1)).prod() ** 0.25  # of independent coefficients
    width = math.sqrt(2 * 2 / (4 * 59)) * norm.isf(0.5e-4)
    assert abs(math.log(ratio)) < width < abs(math.log(ratio * (2 / 3) ** 2))
    for j in range(4):
        assert ks_2samp(found[:, j], alone[:, j]).pvalue > 0.25e-4


PHASES = [
    "before spending", "while computing", "before storing", "before sending", "while adding up", "after adding up",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_dead_site_ends_the_others_and_all_go_on_from_their_stores(phase, tmp_path):
    found = play(2, "stopped", tmp_path, survivors=[0], script=SCRIPT, PHASE=phase, TIMEOUT=20)
    message, spent, stated = found["stopped"][0]
    assert "rank 1 ended, or did not answer" in message and "the same stores to go on" in message
    assert 0.9 < spent <= 1.0 and PrivacyStatement.from_dict(stated).epsilon == spent
    found = play(2, "stopped", tmp_path, script=SCRIPT, PHASE="again")
    (one, stated), (other, _) = found["stopped"]
    assert (one == other).all() and np.isfinite(one).all()
    stated = PrivacyStatement.from_dict(stated)
    assert stated.epsilon <= 1.0 and stated.steps == ROUNDS and verify(stated).holds
    rounds = [round for round, _ in replies(tmp_path)]
    assert sorted(rounds) == list(range(1, ROUNDS + 1)), "no round was answered twice with other noise"


def replies(folder):
    found = []
    with open(folder / "replies", "rb") as file:
        while True:
            try:
                found.append(pickle.load(file))
            except EOFError:
                return found
