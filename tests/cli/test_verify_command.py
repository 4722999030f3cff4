"""`skdp verify`: its verdict, its words and its exit codes."""

from __future__ import annotations

import dataclasses

import pytest

from skdp.accounting import PrivacyStatement
from skdp.cli import main
from skdp.contract import Charge, Gaussian, Poisson, Touch


@pytest.fixture
def statement():
    charge = Charge((Touch("gradient", Poisson(1.0), Gaussian((20.0,)), 10),))
    return PrivacyStatement.from_charge(charge, 1e-5, mechanism="dp-sgd", n=1000)


def test_a_true_statement_holds(statement, tmp_path, capsys):
    statement.save(tmp_path / "true.json")
    assert main(["verify", str(tmp_path / "true.json")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("HOLDS") and err == ""


def test_an_understated_epsilon_does_not_hold(statement, tmp_path, capsys):
    dataclasses.replace(statement, epsilon=statement.epsilon / 2).save(tmp_path / "false.json")
    assert main(["verify", str(tmp_path / "false.json")]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("DOES NOT HOLD") and err == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"epsilon": 1}', "\x00\xff"])
def test_a_file_that_holds_no_statement(text, tmp_path, capsys):
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    assert main(["verify", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("skdp: error: cannot read a privacy statement") and "bad.json" in err


@pytest.mark.parametrize(("path", "words"), [("missing.json", "No such file"), (".", "directory")])
def test_a_path_that_is_no_file(path, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", path]) == 2
    assert words in capsys.readouterr().err


def test_noise_from_a_fixed_seed_exits_with_1_and_says_why(statement, tmp_path, capsys):
    dataclasses.replace(statement, reproducible_noise=True).save(tmp_path / "seeded.json")
    assert main(["verify", str(tmp_path / "seeded.json")]) == 1
    assert "NOT PRIVATE, for tests only" in capsys.readouterr().out


def test_limits_of_the_check_are_printed(statement, tmp_path, capsys):
    statement.save(tmp_path / "true.json")
    main(["verify", str(tmp_path / "true.json")])
    assert "a recalculation, not a signature" in capsys.readouterr().out
