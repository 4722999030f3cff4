"""`skdp.report`: what it says of every kind of subject, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from page_reader import EVIL, Reader
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skdp
from skdp.accounting import PrivacyStatement, compose
from skdp.model_selection import DPSearchCV
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPStandardScaler


def told(made) -> str:
    return Reader(made.html).text


# ------------------------------------------------------------------ models
def test_classifier_figures_are_those_of_scikit_learn(classifier, table):
    from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

    from skdp.metrics import expected_calibration_error

    X, y = (part[1200:] for part in table)
    made = skdp.report(classifier, X, y)
    found = made.to_dict()["utility"]["metrics"]
    proba = classifier.predict_proba(X)
    assert found["Accuracy"] == pytest.approx(accuracy_score(y, classifier.predict(X)))
    assert found["ROC AUC"] == pytest.approx(roc_auc_score(y == "yes", proba[:, 1]))
    assert found["Log loss"] == pytest.approx(log_loss(y, proba, labels=classifier.classes_))
    assert found["Brier score"] == pytest.approx(brier_score_loss(y == "yes", proba[:, 1]))
    assert found["ECE"] == pytest.approx(expected_calibration_error(y, proba, labels=classifier.classes_))
    bins = made.utility.reliability
    assert sum(b.rows for b in bins) == 300
    assert sum(b.rows * b.observed for b in bins) == pytest.approx(np.sum(y == "yes"))
    assert sum(b.rows * b.predicted for b in bins) == pytest.approx(proba[:, 1].sum())


def test_exact_figures_are_not_covered_unless_the_rows_are_public(classifier, table):
    X, y = (part[1200:] for part in table)
    private, public = skdp.report(classifier, X, y), skdp.report(classifier, X, y, test_rows="public")
    assert "Not covered: computed exactly, without noise, on 300 test rows" in told(private)
    assert "the exact figures on 300 test rows in this report" in told(private)
    assert "declared public" in told(public) and "exact figures on 300" not in told(public)
    assert public.covered and not private.covered and "does not cover" in repr(private)
    assert public.to_dict()["utility"]["test_rows"] == "public" != private.to_dict()["utility"]["test_rows"]


def test_the_statement_is_whole_and_in_words(classifier):
    made = skdp.report(classifier)
    text, statement = told(made), classifier.privacy_
    for line in (*statement.assumptions, *statement.public, *statement.warnings):
        assert " ".join(line.split()) in text
    assert "epsilon = 1 and delta = 1e-5 per row" in text
    assert "at most 73.2 % of cases" in text
    assert "skdp verify statement.json" in text and "torch" in text
    assert made.utility is None and "How good the model is" not in text


def test_columns_and_their_bounds_are_named(classifier):
    columns = skdp.report(classifier).columns
    assert [(c.name, c.content, c.origin) for c in columns[:3]] == [
        (name, "-1 to 1", "public") for name in classifier.feature_names_in_
    ]
    assert columns[3].content == f"classes {EVIL}, yes"


def test_regressor_and_intervals(regressor, table):
    X = table[0][1200:]
    y, guess = 3 * X["age"].to_numpy(), regressor.predict(X)
    made = skdp.report(regressor, X, y, intervals=(guess - 0.5, guess + 0.5))
    pairs = skdp.report(regressor, X, y, intervals=np.column_stack([guess - 0.5, guess + 0.5]))
    assert pairs.to_dict()["utility"] == made.to_dict()["utility"]
    found = made.to_dict()["utility"]["metrics"]
    assert found["R²"] == pytest.approx(regressor.score(X, y))
    assert found["Mean absolute error"] == pytest.approx(np.abs(y - guess).mean())
    assert found["Interval coverage"] == pytest.approx((np.abs(y - guess) <= 0.5).mean())
    assert found["Mean interval width"] == pytest.approx(1.0)
    assert "Reliability" not in told(made)
    with pytest.raises(ValueError, match="one low and one high"):
        skdp.report(regressor, X, y, intervals=(guess[:3], guess[:3]))


def test_three_classes(three):
    X, y = three
    made = skdp.report(skdp.DPClassifier("linear", classes=["a", "b", "c"], feature_bounds=(-1, 1)).fit(X, y), X, y)
    assert all(value is not None for value in made.to_dict()["utility"]["metrics"].values())
    assert made.utility.about == "probability of the predicted class"
    some = y != "c"
    few = skdp.report(made_of := skdp.DPClassifier("linear", classes=["a", "b", "c"], feature_bounds=(-1, 1),
                                                   max_epochs=1).fit(X, y), X[some], y[some])  # fmt: skip
    assert few.to_dict()["utility"]["metrics"]["ROC AUC"] is None and "not defined" in told(few)
    with pytest.raises(ValueError, match="1 label"):
        skdp.report(made_of, X, np.where(y == "c", "d", y))


# ------------------------------------------------------------------ pipelines
@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning")
def test_private_pipeline_shows_every_step(quick, table):
    X, y = table
    own = clone(quick).set_params(feature_bounds="private")
    look = FunctionTransformer()
    pipe = make_private_pipeline(DPStandardScaler(), look, own, epsilon=1.0).fit(X[:1200], y[:1200])
    made = skdp.report(pipe, X[1200:], y[1200:])
    assert not made.alarms
    labels = [line.label for line in made.budget]
    assert any(label.startswith("dpstandardscaler: ") for label in labels) and "dpclassifier: gradient" in labels
    assert sum(line.length for line in made.budget) == pytest.approx(1.0)
    paid = sum(line.length for line in made.budget if line.label.startswith("dpclassifier"))
    assert paid == pytest.approx(pipe.shares_["dpclassifier"], rel=0.05)
    assert [step.verdict for step in made.steps] == ["charged", "public", "charged"]


def test_steps_that_the_user_vouched_for_are_named_as_such(quick, table):
    X, y = table
    pipe = make_private_pipeline(StandardScaler(), clone(quick), public_steps=("standardscaler",))
    made = skdp.report(pipe.fit(X[:1200], y[:1200]))
    assert made.steps[0].verdict == "declared" and not made.covered
    assert "that step 'standardscaler' learns nothing from private rows" in told(made)


def test_a_step_that_did_not_pay_is_said_loudly(quick, table):
    X, y = table
    made = skdp.report(make_pipeline(StandardScaler(), clone(quick)).fit(X[:1200], y[:1200]))
    text = told(made)
    assert text.index("No promise about the whole") < text.index("epsilon = 1")
    assert "Step “standardscaler” (StandardScaler) learns from private rows without paying" in text
    assert not made.to_dict()["covers_everything"] and "does not cover" in repr(made)


@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning")
def test_a_private_step_that_was_copied_is_named(quick, table):
    X, y = table
    both = ColumnTransformer([("scale", DPStandardScaler(), [0, 1])], remainder="passthrough")
    made = skdp.report(make_pipeline(both, clone(quick)).fit(X[:1200], y[:1200]))
    assert "columntransformer__scale" in made.alarms[0] and "leave out what it spent" in made.alarms[0]
    with pytest.raises(NotFittedError):
        skdp.report(make_pipeline(StandardScaler(), clone(quick)))


def test_an_ordinary_pipeline_of_public_steps_is_covered(quick, table):
    X, y = table
    made = skdp.report(make_pipeline(FunctionTransformer(), clone(quick)).fit(X[:1200], y[:1200]))
    assert not made.alarms and made.statement.epsilon <= 1


# ------------------------------------------------------------------ searches
def test_grid_search_costs_all_its_fits(quick, table):
    X, y = table
    search = GridSearchCV(clone(quick), {"lr": [0.1, 1.0]}, cv=KFold(3), refit=True).fit(X[:1200], y[:1200])
    made = skdp.report(search, X[1200:], y[1200:])
    folds = [clone(quick).fit(X[:800], y[:800]).privacy_ for _ in range(6)]
    refit = search.best_estimator_.privacy_
    together = compose([refit, *folds], delta=refit.delta)
    assert made.statement.epsilon == pytest.approx(together.epsilon, rel=1e-6)
    text = told(made)
    assert "2 candidates on 3 splits and a final fit" in text and "exact scores" in text
    assert "No promise about the whole" in text


@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning")
@pytest.mark.parametrize("grid", [{"epsilon": [0.5, 2.0]}, {"feature_bounds": ["private"]}])
def test_candidates_that_cost_different_amounts(grid, quick, table):
    X, y = table
    search = GridSearchCV(clone(quick), grid, cv=KFold(2)).fit(X[:1200], y[:1200])
    fits = [clone(quick).set_params(**params).fit(X[:600], y[:600]).privacy_
            for params in search.cv_results_["params"] for _ in range(2)]  # fmt: skip
    known = compose([search.best_estimator_.privacy_, *fits], delta=search.best_estimator_.privacy_.delta).epsilon
    assert skdp.report(search).statement.epsilon == pytest.approx(known, rel=1e-6)


def test_a_search_whose_folds_follow_labels_has_no_known_cost(quick, table):
    X, y = table
    search = GridSearchCV(clone(quick), {"lr": [1.0]}, cv=2).fit(X[:1200], y[:1200])
    made = skdp.report(search)
    assert "not known here" in made.alarms[0] and "KFold" in made.alarms[0] and "PrivacyLedger" in made.alarms[0]
    assert made.statement.epsilon == search.best_estimator_.privacy_.epsilon


def test_splits_of_ones_own_have_no_known_cost(regressor, table):
    X = table[0][:400]
    own = [(np.arange(200), np.arange(200, 400)), (np.arange(200, 400), np.arange(200))]
    for cv, known in ((own, False), (2, True)):
        search = GridSearchCV(clone(regressor), {"lr": [1.0]}, cv=cv).fit(X, 3 * X["age"])
        made = skdp.report(search)
        assert (made.statement.epsilon > search.best_estimator_.privacy_.epsilon) == known
        assert ("not known here" in made.alarms[0]) != known


def test_a_scaler_inside_a_search_is_seen(quick, table):
    X, y = table
    pipe = make_pipeline(StandardScaler(), clone(quick))
    search = GridSearchCV(pipe, {"dpclassifier__lr": [1.0]}, cv=KFold(2)).fit(X[:1200], y[:1200])
    assert "standardscaler" in skdp.report(search).alarms[-1]


def test_private_search_is_covered_and_so_is_its_score(quick, table):
    X, y = table
    search = DPSearchCV(clone(quick), {"lr": [1.0]}, mean_trials=2, epsilon=2.0, trials="geometric")
    made = skdp.report(search.fit(X[:1200], y[:1200]), X[1200:], y[1200:])
    assert not made.alarms and made.charged_score == search.best_score_
    assert "Covered by the statement" in told(made)
    assert made.columns == skdp.report(search.best_estimator_).columns


# ------------------------------------------------------------------ statements, files, ledgers
def test_saved_statement(statement, tmp_path):
    statement.save(tmp_path / "statement.json")
    assert skdp.report(tmp_path / "statement.json").statement == statement
    assert skdp.report(str(tmp_path / "statement.json")).budget == skdp.report(statement).budget


def test_shares_of_a_statement(statement):
    first, second = skdp.report(statement).budget
    assert (first.label, second.label) == ("means", "gradient")
    signals = 1 / 20**2, 100 * 0.1**2 * (np.e - 1) / 4**2
    assert first.length == pytest.approx(signals[0] / sum(signals))
    assert second.figure == f"{100 * signals[1] / sum(signals):.1f} %"


def test_ledger(statement):
    class Ledger:
        @property
        def statement(self):
            return statement

        def table(self):
            rows = [("DPClassifier", 0.5, 0.5), (EVIL, 0.25, 0.6), ("free", float("inf"), float("inf"))]
            return pd.DataFrame(
                {"what": what, "when": pd.Timestamp("2026-01-31 10:00"), "n": 5000, "key": None, "queries": "q",
                 "epsilon": alone, "epsilon so far": so_far, "state": "charged"} for what, alone, so_far in rows
            )  # fmt: skip

    made = skdp.report(Ledger())
    assert [line.length for line in made.budget] == [1.0, 0.5, 1.0]
    assert "epsilon so far" in told(made) and "2026-01-31 10:00" in told(made)
    assert made.to_dict()["ledger"][2]["epsilon"] == "inf"
    with pytest.raises(ValueError, match="predicts nothing"):
        skdp.report(Ledger(), np.zeros((2, 1)), [0, 1])


def test_not_private_is_said_first(classifier, table):
    X, y = table
    with pytest.warns(skdp.exceptions.NotPrivateWarning):
        bare = clone(classifier).set_params(epsilon=float("inf")).fit(X[:300], y[:300])
    text = told(skdp.report(bare))
    assert "NOT PRIVATE" in text and "nothing limits what an attacker" in text and "100 %" in text
    seeded = clone(classifier).set_params(insecure_noise_seed=0).fit(X[:300], y[:300])
    assert "for tests only" in told(skdp.report(seeded))


def test_another_statement_can_be_shown(classifier, statement):
    assert skdp.report(classifier, statement=statement).statement is statement


# ------------------------------------------------------------------ forms
def test_json_is_complete_and_its_statement_verifies(classifier, table, tmp_path):
    X, y = (part[1200:] for part in table)
    skdp.report(classifier, X, y, path=tmp_path / "r.json")
    plain = json.loads((tmp_path / "r.json").read_text())
    assert PrivacyStatement.from_dict(plain["statement"]) == classifier.privacy_
    assert plain["schema"] == "skdp.Report" and plain["attack_accuracy"] == pytest.approx(0.7311, abs=1e-3)
    assert {"budget", "columns", "versions", "utility", "created", "steps"} <= set(plain)


def test_html_is_saved_and_shown_in_a_frame(statement, tmp_path):
    made = skdp.report(statement, path=tmp_path / "r.html", title="A <b>title</b>")
    assert (tmp_path / "r.html").read_text() == made.html
    assert "<h1>A &lt;b&gt;title&lt;/b&gt;</h1>" in made.html
    (frame,) = Reader(made._repr_html_()).all("iframe")
    assert frame["srcdoc"] == made.html and frame["title"] == "A <b>title</b>"


# ------------------------------------------------------------------ what makes no sense
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": "report.pdf"}, r"must end in \.html or \.json"),
        ({"test_rows": "private"}, "test_rows='private' must be"),
        ({"X_test": [[0.0]]}, "belong together"),
        ({"intervals": ([0], [1])}, "are about test rows"),
    ],
)
def test_bad_arguments(arguments, words, statement):
    with pytest.raises(ValueError, match=words):
        skdp.report(statement, **arguments)


def test_things_without_a_statement(table):
    X, y = table
    with pytest.raises(TypeError, match="LogisticRegression, which states no privacy"):
        skdp.report(LogisticRegression())
    with pytest.raises(TypeError, match="no step of this Pipeline is private"):
        skdp.report(make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:20], y[:20]))
    with pytest.raises(ValueError, match="refit=True"):
        skdp.report(GridSearchCV(skdp.DPClassifier(), {}))


def test_empty_test_rows(classifier, table):
    with pytest.raises(ValueError, match="no rows"):
        skdp.report(classifier, table[0][:0], [])
