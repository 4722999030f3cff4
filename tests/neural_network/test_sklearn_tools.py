"""The estimators inside scikit-learn's tools; every fit in them spends its own budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from linear_fits import classifier, regressor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate, learning_curve
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from skdp import DPClassifier
from skdp.mechanisms import DPSGD
from skdp.nets import MLP
from skdp.optimizers import SGD


@pytest.mark.parametrize("make", [classifier, regressor])
def test_clone_copies_parameters_only(make, blobs):
    model = make(mechanism=DPSGD(target_quantile=0.3), module=MLP((3,)), optimizer=SGD(0.5)).fit(*blobs)
    fresh = clone(model)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    assert fresh.get_params()["module__hidden_units"] == (3,)
    assert fresh.mechanism is not model.mechanism and repr(fresh) == repr(model)


def test_nested_parameters(blobs):
    model = classifier(module=MLP((3,)), optimizer=SGD())
    model.set_params(module__hidden_units=(5,), optimizer__momentum=0.1, epsilon=30.0).fit(*blobs)
    assert model.module_[1].out_features == 5


@pytest.mark.parametrize(
    ("name", "outer"), [("mechanism__rank", "mechanism='dp-sgd'"), ("module__hidden_units", "module='linear'"),
                        ("optimizer__momentum", "optimizer='auto'")],
)  # fmt: skip
def test_nested_parameters_of_a_string_are_explained(name, outer):
    with pytest.raises(ValueError, match=f"{name!r} cannot be set because {outer} has no parameters"):
        classifier().set_params(**{name: 4})


def test_typos_are_refused():
    with pytest.raises(TypeError, match="epsilom"):
        DPClassifier(epsilom=1.0)
    with pytest.raises(ValueError, match="Invalid parameter 'epsilom'"):
        DPClassifier().set_params(epsilom=1.0)


def test_pipeline(blobs):
    X, y = blobs
    pipeline = make_pipeline(FunctionTransformer(lambda X: X * 2), classifier(feature_bounds=(-2, 2)))
    assert pipeline.fit(X, y).score(X, y) > 0.85
    assert pipeline[-1].privacy_.epsilon <= 20


def test_column_transformer_with_public_categories():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.uniform(0, 100, 400), "town": rng.choice(["a", "b"], 400)})
    y = np.where((table.age > 50) ^ (table.town == "a"), "yes", "no")
    encoder = ColumnTransformer(
        [("town", OneHotEncoder(categories=[["a", "b"]], sparse_output=False), ["town"])], remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # fmt: skip
    model = classifier(module="mlp", classes=["no", "yes"], feature_bounds=[(0, 1), (0, 1), (0, 100)], max_epochs=60)
    pipeline = make_pipeline(encoder, model).fit(table, y)
    assert pipeline.score(table, y) > 0.8
    assert list(pipeline[-1].feature_names_in_) == ["town_a", "town_b", "age"]
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(encoder.transform(table)[["age", "town_a", "town_b"]])


def test_grid_search_in_two_processes(blobs):
    grid = [
        {"epsilon": [1.0, 30.0], "clipping": ["adaptive"]},
        {"module__hidden_units": [(2,), (4,)], "mechanism": [DPSGD()]},
    ]
    search = GridSearchCV(classifier(module=MLP((3,))), grid, cv=2, n_jobs=2, error_score="raise")
    search.fit(*blobs)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.8
    assert search.best_estimator_.privacy_.epsilon <= search.best_estimator_.epsilon
    assert search.predict_proba(blobs[0]).dtype == np.float64


def test_grid_search_over_a_regressor(slope):
    search = GridSearchCV(regressor(), {"epsilon": [0.05, 50.0]}, cv=2).fit(*slope)
    assert search.best_params_ == {"epsilon": 50.0}
    assert search.best_score_ > 0.7


def test_cross_validate_and_learning_curve(blobs):
    result = cross_validate(
        classifier(), *blobs, cv=3, scoring=["roc_auc", "neg_log_loss"], return_estimator=True, error_score="raise"
    )
    assert result["test_roc_auc"].min() > 0.9
    # Folds have their own number of rows, on which their statements rest.
    assert [e.privacy_.n for e in result["estimator"]] == [266, 267, 267]
    sizes, _, scores = learning_curve(classifier(), *blobs, train_sizes=[0.3, 1.0], cv=2, error_score="raise")
    assert scores.shape == (2, 2) and list(sizes) == [60, 200]


@pytest.mark.parametrize("method", ["sigmoid", "temperature"])
def test_calibration(blobs, method):
    calibrated = CalibratedClassifierCV(classifier(), method=method, cv=2).fit(*blobs)
    assert calibrated.score(*blobs) > 0.85
    assert len(calibrated.calibrated_classifiers_) == 2


def test_permutation_importance_finds_the_first_feature(blobs):
    model = classifier().fit(*blobs)
    importance = permutation_importance(model, *blobs, n_repeats=3, random_state=0).importances_mean
    assert importance.argmax() == 0


def test_voting_and_bagging(blobs):
    voting = VotingClassifier([("private", classifier()), ("plain", LogisticRegression())], voting="soft")
    assert voting.fit(*blobs).score(*blobs) > 0.85
    bagging = BaggingClassifier(classifier(), n_estimators=2, random_state=0).fit(*blobs)
    assert bagging.score(*blobs) > 0.8


def test_target_transformations(slope):
    X, y = slope
    model = TransformedTargetRegressor(regressor(y_bounds=(-8, 8)), func=lambda y: 2 * y, inverse_func=lambda y: y / 2)
    assert model.fit(X, y).score(X, y) > 0.7
    several = MultiOutputRegressor(regressor()).fit(X, np.column_stack([y, -y]))
    assert several.score(X, np.column_stack([y, -y])) > 0.7


def test_sample_weight_is_routed(blobs):
    X, y = blobs
    weights = (y == 0).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier(insecure_noise_seed=0).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y, sample_weight=weights)
        assert pipeline.predict_proba(X)[:, 1].mean() < 0.3
        scores = cross_validate(
            model.set_score_request(sample_weight=True), X, y, cv=2, params={"sample_weight": weights}
        )
        assert scores["test_score"].min() > 0.9


class Hear:
    """A scikit-learn callback that asks for everything and stops after an epoch."""

    def __init__(self, stop=None):
        self.stop = stop
        self.heard = []

    def setup(self, estimator, context):
        self.heard.append("setup")

    def teardown(self, estimator, context):
        self.heard.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        assert X is None and y is None and metadata is None and fitted_estimator is None

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        assert X is None and y is None and metadata is None and fitted_estimator is None
        self.heard.append(context.task_name)
        return context.task_name == self.stop


def test_scikit_learn_callbacks_hear_of_every_epoch_and_see_no_rows(blobs):
    hear = Hear()
    classifier(max_epochs=3).set_callbacks(hear).fit(*blobs)
    assert hear.heard == ["setup", "epoch 1", "epoch 2", "epoch 3", "fit", "teardown"]


def test_a_scikit_learn_callback_can_stop_the_fit(blobs):
    model = classifier(max_epochs=30).set_callbacks(Hear(stop="epoch 2")).fit(*blobs)
    assert model.n_iter_ == 2 and model.privacy_.status == "interrupted" and model.privacy_.steps == 2


def test_progress_bars(blobs, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    assert classifier(max_epochs=3).set_callbacks(ProgressBar()).fit(*blobs).n_iter_ == 3
    search = GridSearchCV(classifier(max_epochs=2), {"epsilon": [1.0, 2.0]}, cv=2)
    assert search.set_callbacks(ProgressBar()).fit(*blobs).best_params_
    assert "DPClassifier" in capsys.readouterr().out


def test_html_repr_and_tags(blobs):
    assert "DPClassifier" in classifier()._repr_html_()
    tags = sklearn.utils.get_tags(regressor())
    assert tags.target_tags.multi_output and tags.non_deterministic
    assert sklearn.base.is_classifier(classifier()) and sklearn.base.is_regressor(regressor())
