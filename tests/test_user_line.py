"""Warnings of fits and releases name the line that the user wrote, whatever stands in between."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from skdp import DPClassifier, DPRegressor
from skdp.exceptions import InterruptedFitWarning, NotPrivateWarning, PrivacyLeakWarning
from skdp.preprocessing import DPFeatureRelease
from skdp.user_line import warn_user

X = np.random.default_rng(0).uniform(-1, 1, size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


def model(kind=DPClassifier, **options):
    given = {"feature_bounds": (-1, 1), "epsilon": np.inf, "max_epochs": 1, "insecure_noise_seed": 0}
    return kind("linear", **given, **options)


def interrupt(net, **kwargs):
    raise KeyboardInterrupt


def stopped():
    """A classifier that the user stops in its first step."""
    from skorch.callbacks import Callback

    return model(callbacks=[type("Stop", (Callback,), {"on_grad_computed": lambda self, net, **_: interrupt(net)})()])


FITS = {
    "classifier": lambda: model().fit(X, Y),
    "column": lambda: model(classes=[0, 1]).fit(X, Y[:, None]),
    "regressor": lambda: model(DPRegressor, y_bounds=(0, 1)).fit(X, Y),
    "pipeline": lambda: make_pipeline(DPFeatureRelease(epsilon=np.inf), model()).fit(X, Y),
    "release": lambda: DPFeatureRelease(epsilon=np.inf).fit_transform(X),
    "search": lambda: GridSearchCV(model(classes=[0, 1]), {"lr": [0.1]}, cv=KFold(2)).fit(X, Y),
    "progress bars": lambda: model().set_callbacks(ProgressBar()).fit(X, Y),
    "interrupted": lambda: stopped().fit(X, Y),
}


@pytest.mark.parametrize("name", FITS)
def test_every_warning_is_on_the_line_of_the_user(name):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        FITS[name]()
    line = inspect.getsourcelines(FITS[name])[1]
    kinds = {warning.category for warning in found}
    assert NotPrivateWarning in kinds
    assert {"classifier": PrivacyLeakWarning, "interrupted": InterruptedFitWarning}.get(
        name, NotPrivateWarning
    ) in kinds
    assert {(warning.filename, warning.lineno) for warning in found} == {(__file__, line)}


def test_frames_of_libraries_are_skipped_however_many():
    namespace = {"__name__": "sklearn.made_up", "warn_user": warn_user}
    exec("def deep(depth):\n    return deep(depth - 1) if depth else warn_user('far')", namespace)  # noqa: S102
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        namespace["deep"](5)
        here = inspect.currentframe().f_lineno - 1
    assert [(warning.filename, warning.lineno) for warning in found] == [(__file__, here)]


def searched():
    with parallel_config("threading"):
        GridSearchCV(model(classes=[0, 1]), {"lr": [0.1, 0.2]}, cv=KFold(2), n_jobs=2, refit=False).fit(X, Y)


def test_threads_of_joblib_name_the_line_that_waits_for_them():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        searched()
    line = inspect.getsourcelines(searched)[1] + 2
    assert NotPrivateWarning in {warning.category for warning in found}
    assert {(warning.filename, warning.lineno) for warning in found} == {(__file__, line)}


SCRIPT = """
import numpy as np
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, KFold
from skdp.linear_model import DPLinearClassifier

if __name__ == "__main__":
    X = np.random.default_rng(0).uniform(-1, 1, size=(60, 2))
    model = DPLinearClassifier(epsilon=np.inf, classes=[0, 1], feature_bounds=(-1, 1), max_iter=1)
    with parallel_config({backend!r}):
        GridSearchCV(model, {{"alpha": [0.1]}}, cv=KFold(2), n_jobs=2, refit=False).fit(X, X[:, 0] > 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend, place", [("loky", "<worker process "), ("multiprocessing", "{script}:11")])
def test_processes_name_the_line_or_say_that_they_are_workers(tmp_path, backend, place):
    script = tmp_path / "searching.py"
    script.write_text(SCRIPT.format(backend=backend))
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stderr
    lines = [line for line in said.splitlines() if "NotPrivateWarning" in line]
    assert lines and all(line.startswith(place.format(script=script)) for line in lines)
