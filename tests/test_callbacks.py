"""The checkpoint callback's own parameters and files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skdp import DPClassifier
from skdp.callbacks import FitCheckpoint
from skdp.neural_network import checkpoint


def model(callback, **options):
    given = {"classes": [0, 1], "feature_bounds": (-1, 1), "epsilon": 8.0, "max_epochs": 6, "batch_size": 400}
    return DPClassifier("linear", **{**given, "callbacks": [callback], **options})


@pytest.mark.parametrize("every", [0, -1, 2.5, "often"])
def test_every_is_checked(tmp_path, blobs, every):
    with pytest.raises(ValueError, match=r"FitCheckpoint\(every="):
        model(FitCheckpoint(tmp_path / "fit.ckpt", every=every)).fit(*blobs)


def test_a_missing_folder_is_named(tmp_path, blobs):
    with pytest.raises(ValueError, match="folder does not exist"):
        model(FitCheckpoint(tmp_path / "nowhere" / "fit.ckpt")).fit(*blobs)


def test_it_is_written_at_step_boundaries(tmp_path, blobs, monkeypatch):
    steps = []

    def spy(path, facts, rest, write=checkpoint.write_file):
        training = pickle.loads(rest)["training"]
        steps.append((training and training["state"]["step"], facts["returned"]))
        write(path, facts, rest)

    monkeypatch.setattr("skdp.neural_network.checkpoint.write_file", spy)
    model(FitCheckpoint(str(tmp_path / "fit.ckpt"), every=4)).fit(*blobs)
    assert steps == [(None, False), (0, False), (4, False), (6, False), (6, True)]


def test_a_failed_write_leaves_the_old_file(tmp_path, blobs, monkeypatch):
    path = tmp_path / "fit.ckpt"
    model(FitCheckpoint(path)).fit(*blobs)
    before = path.read_bytes()

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        model(FitCheckpoint(path)).fit(*blobs)
    assert path.read_bytes() == before


def test_it_clones_and_changes_nothing(tmp_path, blobs):
    seeded = {"insecure_noise_seed": 0, "random_state": 0}
    with_file = model(clone(FitCheckpoint(tmp_path / "fit.ckpt", every=2)), **seeded).fit(*blobs)
    plain = model(FitCheckpoint(tmp_path / "other.ckpt"), **seeded).set_params(callbacks=None).fit(*blobs)
    np.testing.assert_array_equal(with_file.predict_proba(blobs[0]), plain.predict_proba(blobs[0]))
