"""`skdp baseline`: what is printed and saved, and what happens when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from sklearn.linear_model import LogisticRegression

from skdp.accounting import PrivacyStatement, compose
from skdp.accounting.statement_text import round_up
from skdp.cli import main
from skdp.cli.models import Contender, contenders


def error_of(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err


# ------------------------------------------------------------------ results
def test_table_notes_and_statement(toy, capsys):
    assert main(["baseline", "toy"]) == 0
    out, err = capsys.readouterr()
    title, head, rule, ordinary, private = (line for line in out.splitlines()[:6] if line)
    assert title == "toy: 300 training rows, 100 test rows"
    assert head.split() == "model accuracy ROC AUC log loss ECE seconds epsilon delta".split()
    assert ordinary.startswith("logistic regression (not private)") and ordinary.split()[-2:] == ["inf", "-"]
    assert private.startswith("private model ") and private.split()[-1] == "1e-5"
    assert len({len(line) for line in (head, rule, ordinary, private)}) == 1
    for words in (
        "exactly",
        "100 rows of the public test split",
        "seeded by the operating system",
        "Privacy statement",
    ):
        assert words in out
    assert err.splitlines() == ["[1/2] logistic regression", "[2/2] private model"]
    assert "\x1b" not in out + err


def test_options_reach_the_models_and_budgets_are_not_spent_twice(toy, capsys):
    arguments = "--epsilon 2 --epsilon .5 --epsilon 2.0 --delta 1e-6 --mechanism m --device cpu --seed 7".split()
    assert main(["baseline", "toy", *arguments]) == 0
    assert toy.epsilons == [2.0, 0.5]
    assert (toy.delta, toy.mechanism, toy.device, toy.seed, toy.classes) == (
        1e-6,
        "m",
        "cpu",
        7,
        ("no", "yes"),
    )
    assert "all 2 private models together" in capsys.readouterr().out


def test_defaults(toy):
    main(["baseline", "toy"])
    assert toy.epsilons == [1.0] and toy.delta == "auto" and toy.mechanism == "dp-sgd"
    assert toy.device == "auto" and toy.seed is None


def test_metrics_are_those_of_the_test_split(toy, tmp_path):
    from sklearn.metrics import log_loss, roc_auc_score

    from skdp.cli.baseline import LOADERS
    from skdp.preprocessing import SchemaEncoder

    main(["baseline", "toy", "--json", str(tmp_path / "r.json")])
    data, schema = LOADERS["toy"]()
    Z = SchemaEncoder(schema).fit_transform(data.X_test)
    proba = toy.models[0].estimator.predict_proba(Z)
    row = json.loads((tmp_path / "r.json").read_text())["models"][0]
    assert row["accuracy"] == pytest.approx((toy.models[0].estimator.predict(Z) == data.y_test).mean())
    assert row["roc_auc"] == pytest.approx(roc_auc_score(data.y_test == "yes", proba[:, 1]))
    assert row["log_loss"] == pytest.approx(log_loss(data.y_test, proba))


def test_json_on_standard_output_is_all_there_is(toy, capsys):
    assert main(["baseline", "toy", "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    ordinary, private = document["models"]
    assert ordinary["epsilon"] == "inf" and ordinary["delta"] is None and ordinary["private"] is False
    assert private["private"] is True and private["delta"] == 1e-5
    assert document["data"] == {"name": "toy", "n_train": 300, "n_test": 100}
    assert PrivacyStatement.from_dict(document["statement"]).epsilon == pytest.approx(private["epsilon"])


def test_statement_of_all_private_models_is_saved(toy, tmp_path, capsys):
    path = tmp_path / "statement.json"
    assert main(["baseline", "toy", "--epsilon", "1", "--epsilon", "2", "--statement", str(path)]) == 0
    assert f"skdp verify {path}" in " ".join(capsys.readouterr().out.split())
    parts = [model.estimator.privacy_ for model in toy.models if model.private]
    assert len(parts) == 2 and PrivacyStatement.load(path) == compose(parts)
    assert PrivacyStatement.load(path).epsilon > max(part.epsilon for part in parts)


def test_training_without_noise_is_called_not_private(toy, capsys):
    assert main(["baseline", "toy", "--epsilon", "inf", "--epsilon", "1"]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("private model")]
    assert "(not private)" in rows[0] and "(not private)" not in rows[1]
    assert "NOT PRIVATE" not in out.split("Privacy statement")[1], "the statement is about the private model"
    toy.models = None
    assert main(["baseline", "toy", "--epsilon", "inf"]) == 0
    assert "NOT PRIVATE" in capsys.readouterr().out


def test_narrow_terminals_get_blocks_and_no_overlong_line(toy, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["baseline", "toy"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 40
    assert "  accuracy 0." in out and "  epsilon  inf" in out


def test_the_real_models_are_two_ordinary_and_two_private_ones():
    options = {
        "delta": "auto",
        "mechanism": "dp-sgd",
        "device": "cpu",
        "seed": 3,
        "classes": ("a", "b"),
        "bounds": (-1, 1),
    }
    models = contenders([0.5, float("inf")], **options, progress=lambda share: None)
    assert [(m.name, m.private) for m in models] == [
        ("majority class", False),
        ("logistic regression", False),
        ("private linear model", True),
        ("private default net", True),
        ("linear model", False),
        ("default net", False),
    ]
    assert [m.estimator.epsilon for m in models[2:]] == [0.5, 0.5, float("inf"), float("inf")]
    assert all(m.estimator.random_state == 3 and m.estimator.insecure_noise_seed is None for m in models[2:])


# ------------------------------------------------------------------ requests that make no sense
@pytest.mark.parametrize("name", ["iris", "/tmp/no/table.csv"])
def test_what_is_neither_a_file_nor_bundled(name, capsys):
    assert main(["baseline", name]) == 2
    err = error_of(capsys)
    assert repr(name) in err and "adult" in err and "skdp schema table.csv" in err and "--target" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilon", "0"], "'0' must be a positive number"),
        (["--epsilon", "-1"], "'-1' must be a positive number"),
        (["--epsilon", "nan"], "'nan' must be a positive number"),
        (["--epsilon", "one"], "'one' must be a positive number"),
        (["--delta", "1"], "'1' must be 'auto' or lie strictly between 0 and 1"),
        (["--seed", "-1"], "'-1' must be a whole number"),
        (["--seed", "1.5"], "'1.5' must be a whole number"),
        (["--frobnicate"], "unrecognized arguments"),
    ],
)
def test_bad_options(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(["baseline", "adult", *arguments])
    assert end.value.code == 2 and words in error_of(capsys)


@pytest.mark.parametrize("option", ["--json", "--statement"])
@pytest.mark.parametrize("path", ["nowhere/result.json", "."])
def test_unwritable_paths_are_refused_before_training(option, path, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", "toy", option, path]) == 2
    err = error_of(capsys)
    assert option in err and repr(path) in err and toy.models is None


class Broken(LogisticRegression):
    def fit(self, X, y):
        raise ValueError("device='cuda:9' is not there; use device='cpu'")


def test_an_estimators_refusal_is_shown_without_a_traceback(toy, capsys):
    toy.models = [Contender("broken", Broken(), private=True)]
    assert main(["baseline", "toy"]) == 2
    assert error_of(capsys).splitlines()[-1] == "skdp: error: device='cuda:9' is not there; use device='cpu'"


class Warns(LogisticRegression):
    def fit(self, X, y):
        import warnings

        for _ in range(2):
            warnings.warn("mind the gap", UserWarning, stacklevel=1)
        return super().fit(X, y)


def test_warnings_are_single_lines(toy, capsys):
    import warnings

    main(["baseline", "toy"])
    toy.models[0] = Contender("warns", Warns(), private=False)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        assert main(["baseline", "toy"]) == 0
        assert warnings.showwarning is before
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] warns",
        "warning: mind the gap",
        "[2/2] private model",
    ]


# ------------------------------------------------------------------ interrupts, pipes, threads
class Interrupted(LogisticRegression):
    def fit(self, X, y):
        os.kill(os.getpid(), signal.SIGINT)
        return super().fit(X, y)


class Swallows(Interrupted):
    """Answers Ctrl-C with a usable model, as the private estimators do."""

    def fit(self, X, y):
        try:
            super().fit(X, y)
        except KeyboardInterrupt:
            LogisticRegression.fit(self, X, y)
        return self


@pytest.mark.parametrize("kind", [Interrupted, Swallows])
def test_interrupt(kind, toy, capsys, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    toy.models = [Contender("slow", kind(), private=False)]
    path = tmp_path / "statement.json"
    assert main(["baseline", "toy", "--statement", str(path)]) == 130
    assert error_of(capsys).splitlines()[-1] == "skdp: interrupted; no result was printed or saved"
    assert not path.exists() and signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread(toy):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["baseline", "toy"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_reader_that_went_away():
    script = (
        "import sys, time\n"
        "from skdp.cli import baseline, main\n"
        "def run(arguments):\n"
        "    for _ in range(10000): print('x' * 100)\n"
        "    return True\n"
        "baseline.run = run\n"
        "sys.exit(main(['baseline', 'adult']))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(60) == 141 and "Traceback" not in errors and "BrokenPipe" not in errors


@pytest.mark.parametrize("no_colour", [False, True])
def test_bar_on_a_terminal(no_colour, toy, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    assert main(["baseline", "toy"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out and "private model" in err and "[1/2]" not in err
    assert ("\x1b[38;5" in err or "\x1b[3" in err) is not no_colour


def test_dumb_terminals_get_plain_lines(toy, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    main(["baseline", "toy"])
    assert capsys.readouterr().err.startswith("[1/2]")


def test_version_and_help(capsys):
    for option, words in (("--version", "skdp"), ("--help", "verify")):
        with pytest.raises(SystemExit) as end:
            main([option])
        assert end.value.code == 0 and words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["baseline", "--help"])
    assert "initial weights only" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2


@pytest.mark.slow
def test_adult_end_to_end(tmp_path, capsys):
    path = tmp_path / "statement.json"
    assert main(["baseline", "adult", "--epsilon", "1", "--json", "--statement", str(path)]) == 0
    document = json.loads(capsys.readouterr().out)
    majority, logistic, linear, net = document["models"]
    assert majority["roc_auc"] == 0.5 and 0.89 < logistic["roc_auc"] < 0.92
    assert linear["roc_auc"] > 0.89 and net["roc_auc"] > 0.90
    assert linear["epsilon"] <= 1 and net["epsilon"] <= 1
    assert main(["verify", str(path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--delta", "0.5"], "delta=0.5 must be below 1 / n"),
        (["--device", "cuda:99"], "device='cuda:99'"),
        (["--device", "abacus"], "device='abacus' must be"),
        (["--mechanism", "foo"], "foo"),
        (["--epsilon", "1e-300"], "epsilon=1e-300"),
    ],
)
def test_everything_is_checked_before_the_first_fit(arguments, words, toy, monkeypatch, capsys):
    monkeypatch.setattr("skdp.cli.baseline.contenders", contenders)
    monkeypatch.setattr(LogisticRegression, "fit", lambda *rows: pytest.fail("trained"))
    monkeypatch.setattr("sklearn.dummy.DummyClassifier.fit", lambda *rows: pytest.fail("trained"))
    assert main(["baseline", "toy", *arguments]) == 2
    err = error_of(capsys)
    assert words in err and err.startswith("skdp: error:") and "[1/" not in err


def test_several_private_models_are_stated_together(toy, capsys):
    assert main(["baseline", "toy", "--epsilon", "1", "--epsilon", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    statement = compose([model.estimator.privacy_ for model in toy.models if model.private])
    assert f"Two private models, epsilon = {round_up(statement.epsilon)} together (" in out
    assert main(["baseline", "toy", "--epsilon", "inf"]) == 0


def test_numbers_out_of_range_end_without_a_traceback(toy, monkeypatch, capsys):
    for error in (MemoryError("4 TiB"), OverflowError("too large")):
        monkeypatch.setattr("skdp.accounting.compose", lambda *parts, error=error: (_ for _ in ()).throw(error))
        assert main(["baseline", "toy", "--epsilon", "1", "--epsilon", "2"]) == 2
        assert "out of the accountants' range" in error_of(capsys)
