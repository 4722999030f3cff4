"""`skdp schema` writes no value of a file, and `skdp predict` reads files in pieces."""

from __future__ import annotations

import io
import json

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from skdp import DPClassifier
from skdp.cli import main, table_files
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import Column, DPTableVectorizer, Schema


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(18, 90, 500), "sex": rng.choice(["Female", "Male"], 500)})
    return table.assign(label=np.where(table["age"] > 50, "old", "young"))


@pytest.fixture(scope="module")
def model(frame):
    knowledge = {"age": (0, 120), "sex": ["Female", "Male"]}
    net = DPClassifier("linear", classes=["old", "young"], on_invalid="null", max_epochs=3)
    return make_private_pipeline(DPTableVectorizer(knowledge), net).fit(frame[["age", "sex"]], frame["label"])


# ------------------------------------------------------------------ schema
def test_template_holds_names_and_no_value(frame, capsys):
    frame.to_csv("t.csv", index=False)
    assert main(["schema", "t.csv"]) == 0
    out, err = capsys.readouterr()
    plain = json.loads(out)
    assert [column["name"] for column in plain["columns"]] == ["age", "sex", "label"]
    assert all(column["kind"] is column["low"] is column["categories"] is None for column in plain["columns"])
    assert "PUBLIC" in plain["about"] and "no value" in err
    others = frame.assign(age=-1, sex="zzz", label="qqq")
    others.to_csv("t.csv", index=False)
    main(["schema", "t.csv"])
    assert capsys.readouterr().out == out


def test_template_is_a_schema_that_says_nothing_yet(frame):
    from skdp.cli.column_facts import facts_of_file

    frame.to_csv("t.csv", index=False)
    assert main(["schema", "t.csv", "--out", "s.json"]) == 0
    assert all(facts.kind is facts.knowledge is None for facts in facts_of_file("s.json").values())


def test_a_schema_of_the_library_is_one(tmp_path):
    from skdp.cli.column_facts import facts_of_file

    schema = Schema([Column("age", low=0, high=120), Column("sex", categories=("F", "M"), missing=True)])
    (tmp_path / "s.json").write_text(schema.to_json())
    assert [facts.knowledge for facts in facts_of_file("s.json").values()] == list(schema)


def test_a_filled_in_file_is_not_overwritten(frame, capsys):
    frame.to_csv("t.csv", index=False)
    open("s.json", "w").close()
    assert main(["schema", "t.csv", "--out", "s.json"]) == 2
    assert "is there already" in capsys.readouterr().err and open("s.json").read() == ""


def test_schema_of_nothing(capsys):
    assert main(["schema", "none.csv"]) == 2
    assert "'none.csv' is not a file" in capsys.readouterr().err


# ------------------------------------------------------------------ predict
@pytest.mark.parametrize("ending", ["joblib", "skops"])
def test_predictions_are_the_models(ending, model, frame, capsys, monkeypatch):
    from skdp.cli.model_files import save_model

    if ending == "skops":
        pytest.importorskip("skops")
    monkeypatch.setattr(table_files, "ROWS", 100)
    save_model(model, f"m.{ending}")
    frame[["sex", "label", "age"]].to_csv("new.csv", index=False)  # another order, and one column more
    assert main(["predict", f"m.{ending}", "new.csv", "--out", "p.csv"]) == 0
    assert ("runs the code" in capsys.readouterr().err) == (ending == "joblib")
    found = pd.read_csv("p.csv")
    assert list(found) == ["prediction", "probability of old", "probability of young"]
    assert found["prediction"].tolist() == model.predict(frame[["age", "sex"]]).tolist()
    assert np.allclose(found["probability of young"], model.predict_proba(frame[["age", "sex"]])[:, 1], atol=1e-5)
    main(["predict", f"m.{ending}", "new.csv"])
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(capsys.readouterr().out)), found)


@pytest.mark.parametrize("out", [[], ["--out", "p.csv"]])
def test_cells_that_are_taken_as_missing_are_counted_and_not_shown(out, model, frame, capsys, monkeypatch):
    from skdp.cli.model_files import save_model

    monkeypatch.setattr(table_files, "ROWS", 7)  # counts run over pieces
    save_model(model, "m.joblib")
    cells = ["12 years", "1,5", None, "NA", "", "40", "4e1", "secret", *["30"] * 20]
    pd.DataFrame({"age": cells, "sex": "odd"}).to_csv("new.csv", index=False)
    assert main(["predict", "m.joblib", "new.csv", *out]) == 0
    err = capsys.readouterr().err
    assert "column 'age': 3 cells were taken as missing; the model expects numbers" in err
    assert "'sex'" not in err and "secret" not in err
    frame.to_csv("new.csv", index=False)
    main(["predict", "m.joblib", "new.csv", *out])
    assert "taken as missing" not in capsys.readouterr().err


def test_a_model_of_numbers(frame):
    joblib.dump(LinearRegression().fit(frame[["age"]], frame["age"] * 2), "m.joblib")
    frame.to_csv("new.csv", index=False)
    assert main(["predict", "m.joblib", "new.csv", "--out", "p.csv"]) == 0
    assert np.allclose(pd.read_csv("p.csv")["prediction"], frame["age"] * 2)


def test_what_predict_refuses(model, frame, capsys):
    from skdp.cli.model_files import save_model

    def error(*arguments):
        assert main(["predict", *arguments]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    save_model(model, "m.joblib")
    frame.rename(columns={"age": "Age "}).to_csv("new.csv", index=False)
    assert "no column 'age'; did you mean 'Age'" in error("m.joblib", "new.csv")
    assert "is not a file" in error("none.joblib", "new.csv")
    assert "must end in" in error("m.txt", "new.csv")
    assert "cannot be written" in error("m.joblib", "new.csv", "--out", "nowhere/p.csv")
    with open("bad.joblib", "wb") as file:
        file.write(b"no model")
    assert "cannot read a model" in error("bad.joblib", "new.csv")
    joblib.dump({"a": 1}, "dict.joblib")
    assert "predicts nothing" in error("dict.joblib", "new.csv")
    joblib.dump(LinearRegression().fit(np.zeros((3, 1)), [0, 1, 2]), "bare.joblib")
    assert "columns without names" in error("bare.joblib", "new.csv")


def test_an_interrupted_run_leaves_no_file(model, frame, monkeypatch):
    from skdp.cli.model_files import save_model

    save_model(model, "m.joblib")
    frame.to_csv("new.csv", index=False)
    calls = []

    def pieces(*arguments):
        calls.append(1)
        yield frame[["age", "sex"]].astype({"sex": "category"})
        raise KeyboardInterrupt

    monkeypatch.setattr(table_files.TableFile, "pieces", pieces)
    assert main(["predict", "m.joblib", "new.csv", "--out", "p.csv"]) == 130
    assert calls and not list(__import__("pathlib").Path().glob("p.csv*"))
