"""`skdp baseline FILE`: what is read, how it is split, what is said of it, and what is refused."""

from __future__ import annotations

import json
import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skdp import DPClassifier
from skdp.accounting import PrivacyStatement, compose
from skdp.accounting.statement_text import round_up
from skdp.cli import baseline, main, own_tables, table_files
from skdp.cli.errors import UsageError
from skdp.cli.models import Contender, table_contenders
from skdp.cli.own_tables import is_test_row
from skdp.cli.table_files import TableFile
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPTableVectorizer


@pytest.fixture
def frame():
    """600 rows of four kinds, with missing cells."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 600).astype(float),
            "sex": rng.choice(["F", "M"], 600),
            "joined": pd.date_range("2020-01-01", periods=600).strftime("%Y-%m-%d"),
            "vip": rng.choice(["true", "false"], 600),
        }
    )
    table["bought"] = np.where(table["age"] > 50, "yes", "no")
    table.loc[3, "age"], table.loc[4, "sex"], table.loc[7, "bought"] = np.nan, None, None
    return table


@pytest.fixture
def csv(frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    frame.to_csv("t.csv", index=False)
    return "t.csv"


@pytest.fixture
def quick(monkeypatch):
    """The private models are small and trained for a moment; tells what they were made with."""
    seen = types.SimpleNamespace()

    def few(epsilons, *, classes, knowledge, **options):
        vars(seen).update(options, epsilons=epsilons, classes=classes, knowledge=knowledge)
        net = DPClassifier("linear", classes=list(classes), on_invalid="null", max_epochs=3)
        seen.models = [
            Contender(
                name, make_private_pipeline(DPTableVectorizer(dict(knowledge)), clone(net), epsilon=e), private=True
            )
            for e in epsilons
            for name in ("private linear model", "private default net")
        ]
        return seen.models

    monkeypatch.setattr(baseline, "table_contenders", few)
    return seen


def schema_file(**columns):
    entries = [{"name": name, **facts} for name, facts in columns.items()]
    with open("schema.json", "w", encoding="utf-8") as file:
        json.dump({"skdp_schema": 1, "columns": entries}, file)
    return "schema.json"


def refusal(capsys, *arguments):
    assert main(["baseline", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err.splitlines()[-1]


# ------------------------------------------------------------------ what comes out
def test_everything_from_one_command(csv, quick, capsys):
    outputs = "--report r.html --save m.joblib --statement s.json --json j.json".split()
    assert main(["baseline", csv, "--target", "bought", "--epsilon", "1", *outputs]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("t.csv: 480 training rows, 120 test rows")
    assert "NOT COVERED by the statement" in out and "not private" not in out and "public test split" not in out
    assert "600 rows of 4 columns" in err and "MB in memory" in err
    stated = PrivacyStatement.load("s.json")
    together = compose([model.estimator.privacy_ for model in quick.models])
    assert stated.epsilon == together.epsilon > quick.models[0].estimator.privacy_.epsilon
    for words in (
        "kinds of columns 'age', 'sex', 'joined', 'vip' (read off the values)",
        "classes of 'bought' (read off",
    ):
        assert any(words in line for line in stated.public) and words in err
    page = open("r.html", encoding="utf-8").read()
    assert "read from the rows, not protected" in page and "which classes occur in the rows" in page
    assert "t.csv, private default net" in page and "Not covered: computed exactly" in page
    assert f"epsilon = {round_up(together.epsilon)}" in page
    plain = json.loads(open("j.json").read())
    assert plain["metrics_on"].endswith("not covered") and len(plain["models"]) == 2
    assert main(["verify", "s.json"]) == 0


def test_public_knowledge_reaches_the_models_and_nothing_is_looked_up(csv, quick, capsys):
    path = schema_file(
        age={"kind": "numeric", "low": 0, "high": 120, "missing": True},
        joined={"kind": "date"},
        vip={"kind": "boolean"},
        bought={"categories": ["no", "yes"]},
    )
    assert main(["baseline", csv, "--target", "bought", "--schema", path]) == 0
    assert quick.classes == ("no", "yes") and list(quick.knowledge) == ["age"]
    first = quick.models[0].estimator[0]
    # sex is not in the schema, so it is not used
    assert first.kinds_ == {"age": "numeric", "joined": "date", "vip": "boolean"}
    assert first.columns_["age"] == (0.0, 120.0)
    assert "read off" not in capsys.readouterr().err


def test_options_reach_the_models(csv, quick):
    arguments = "--epsilon 2 --epsilon .5 --delta 1e-6 --mechanism m --device cpu --seed 7 --drop vip".split()
    assert main(["baseline", csv, "--target", "bought", "--classes", "yes, no", "--reference", *arguments]) == 0
    assert (quick.epsilons, quick.delta, quick.mechanism, quick.device, quick.seed) == ([2.0, 0.5], 1e-6, "m", "cpu", 7)
    assert quick.reference is True and quick.classes == ("no", "yes")
    assert "vip" not in quick.models[0].estimator[0].kinds_


def test_the_real_models_are_private_pipelines_and_ordinary_ones_only_if_asked_for():
    options = {"delta": "auto", "mechanism": "dp-sgd", "device": "cpu", "seed": 3, "knowledge": {}}
    options |= {"classes": ["a", "b"], "progress": lambda share: None}
    models = table_contenders([0.5, float("inf")], reference=False, **options)
    assert [(m.name, m.private) for m in models] == [
        ("private linear model", True), ("private default net", True), ("linear model", False), ("default net", False)
    ]  # fmt: skip
    assert [m.estimator.epsilon for m in models] == [0.5, 0.5, float("inf"), float("inf")]
    assert all(m.estimator[-1].on_invalid == "null" and m.estimator[-1].random_state == 3 for m in models)
    named = [m.name for m in table_contenders([1.0], reference=True, **options)]
    assert named[:2] == ["majority class", "logistic regression"]


def test_reference_stays_on_the_terminal(csv, quick, monkeypatch, capsys):
    small = baseline.table_contenders

    def both(epsilons, **options):
        return table_contenders([], **options) + small(epsilons, **options)

    monkeypatch.setattr(baseline, "table_contenders", both)
    arguments = ["--target", "bought", "--reference", "--json", "j.json", "--report", "r.html", "--classes", "no,yes"]
    assert main(["baseline", csv, *arguments]) == 0
    out = capsys.readouterr().out
    assert "logistic regression (not private)" in out and "majority class (not private)" in out
    for path in ("j.json", "r.html"):
        text = open(path, encoding="utf-8").read()
        assert "logistic" not in text and "majority" not in text


def test_the_default_net_is_handed_on_however_it_did(csv, quick):
    main(["baseline", csv, "--target", "bought", "--save", "m.joblib", "--classes", "no,yes"])
    import joblib

    saved = joblib.load("m.joblib")
    assert saved.privacy_ == quick.models[1].estimator.privacy_ and saved[-1].callbacks is None


# ------------------------------------------------------------------ the split
def test_split_follows_from_positions_alone():
    found = is_test_row(np.arange(100_000))
    assert abs(found.mean() - 0.2) < 1e-4
    for period in (2, 5, 7, 10, 365):  # no rhythm of the file is hit
        shares = [found[start::period].mean() for start in range(period)]
        assert max(shares) < 0.23 and min(shares) > 0.17
    assert (is_test_row(np.arange(500, 900)) == found[500:900]).all()


def test_pieces_make_no_difference(csv, monkeypatch):
    options = {"target": "bought", "schema": None, "drop": [], "keep": [], "delimiter": None, "classes": None}
    arguments = types.SimpleNamespace(name=csv, **options)
    whole = own_tables.load(arguments)
    monkeypatch.setattr(table_files, "ROWS", 7)
    parts = own_tables.load(arguments)
    for name in ("X_train", "X_test"):
        one, other = getattr(whole, name), getattr(parts, name)
        pd.testing.assert_frame_equal(
            one.astype({"sex": object, "vip": object}), other.astype({"sex": object, "vip": object})
        )
    assert whole.y_train.tolist() == parts.y_train.tolist() and "" in set(whole.y_train) | set(whole.y_test)


# ------------------------------------------------------------------ reading
@pytest.mark.parametrize("cell", ["nonsense", "True", "1e999", "", "0x10", "99999999999999999999999"])
def test_one_cell_changes_no_other(cell, csv, frame):
    kinds = {"age": "numeric", "sex": "categorical", "joined": "date", "vip": "boolean"}
    before = pd.concat(TableFile(csv).pieces(kinds))
    for name in kinds:
        changed = frame.astype(object)
        changed.loc[10, name] = cell
        changed.to_csv("changed.csv", index=False)
        after = pd.concat(TableFile("changed.csv").pieces(kinds))
        rest = np.arange(600) != 10
        for other in kinds:
            assert before[other][rest].astype(object).equals(after[other][rest].astype(object))


def test_a_row_with_too_many_cells_changes_no_other():
    with open("k.csv", "w") as file:
        file.write("a,b\n1,2\n3,4,5\n6\n7,8\n")
    (piece,) = TableFile("k.csv").pieces({"a": "numeric", "b": "numeric"})
    assert piece["a"].tolist() == [1, 3, 6, 7] and piece["b"].fillna(-1).tolist() == [2, 4, -1, 8]


def test_kinds_of_cells():
    with open("k.csv", "w", encoding="utf-8-sig") as file:
        file.write("n,c,d,b\n 1 , x ,2020-02-29,TRUE\nx,NA,29.2.2020,maybe\n,n/a,,0\n")
    kinds = {"n": "numeric", "c": "categorical", "d": "date", "b": "boolean"}
    (piece,) = TableFile("k.csv").pieces(kinds, {"c": ("NA", "x")})
    assert piece["n"].fillna(-1).tolist() == [1, -1, -1]
    assert piece["c"].tolist() == ["x", "NA", "n/a"]
    assert piece["d"].notna().tolist() == [True, False, False]
    assert piece["b"].fillna(False).tolist() == [True, False, False] and piece["b"].isna().tolist() == [
        False,
        True,
        False,
    ]
    (bare,) = TableFile("k.csv").pieces({"c": "categorical"})
    assert bare["c"].isna().tolist() == [False, True, False]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_parquet(frame, quick, capsys):
    pytest.importorskip("pyarrow")
    frame.assign(vip=frame["vip"] == "true", joined=pd.to_datetime(frame["joined"])).to_parquet("t.parquet")
    assert main(["baseline", "t.parquet", "--target", "bought", "--classes", "no,yes"]) == 0
    assert quick.models[0].estimator[0].kinds_ == {
        "age": "numeric", "sex": "categorical", "joined": "date", "vip": "boolean"
    }  # fmt: skip
    assert "read off" not in capsys.readouterr().err
    assert "no column 'buoght'; did you mean 'bought'?" in refusal(capsys, "t.parquet", "--target", "buoght")
    assert "--delimiter is for text files" in refusal(capsys, "t.parquet", "--target", "x", "--delimiter", ";")
    with open("odd.parquet", "wb") as file:
        file.write(b"no parquet")
    assert "is not a table" in refusal(capsys, "odd.parquet", "--target", "x")


def test_parquet_without_a_reader(monkeypatch, capsys):
    import sys

    open("t.parquet", "wb").close()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in refusal(capsys, "t.parquet", "--target", "x")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_compressed_files(ending, frame, capsys):
    frame.to_csv("t.csv", index=False)
    frame.to_csv(f"t.csv.{ending}", index=False)
    frame.to_csv(f"t.tsv.{ending}", index=False, sep="\t")
    kinds = {"age": "numeric", "sex": "categorical", "joined": "date", "vip": "boolean"}
    plain = pd.concat(TableFile("t.csv").pieces(kinds))
    for name in (f"t.csv.{ending}", f"t.tsv.{ending}"):
        pd.testing.assert_frame_equal(pd.concat(TableFile(name).pieces(kinds)), plain)
    whole = open(f"t.csv.{ending}", "rb").read()
    for damaged in (whole[: len(whole) // 2], b"no archive"):
        with open(f"bad.csv.{ending}", "wb") as file:
            file.write(damaged)
        with pytest.raises(UsageError, match="damaged|cannot be read"):
            list(TableFile(f"bad.csv.{ending}").pieces(kinds))


def test_public_bounds_of_dates_are_numbers_of_days(csv, quick, capsys):
    path = schema_file(joined={"kind": "date", "low": "2020-01-01", "high": "2022-01-01"}, age={"kind": "numeric"})
    assert main(["baseline", csv, "--target", "bought", "--schema", path, "--classes", "no,yes"]) == 0
    first = quick.models[0].estimator[0]
    days = [(pd.Timestamp(day) - pd.Timestamp("2000-01-01")).days for day in ("2020-01-01", "2022-01-01")]
    assert first.kinds_["joined"] == "date" and first.columns_["joined"] == tuple(map(float, days))
    row = pd.DataFrame({"joined": pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"]), "age": [1.0, 2.0, 3.0]})
    assert first.transform(row)["joined"].tolist() == pytest.approx([-1, 2 * 366 / 731 - 1, 1], abs=1e-6)


def test_text_that_is_named_like_dates_is_named(csv, quick, frame, capsys):
    frame.assign(joined=frame["joined"].where(frame.index != 5, "long ago")).to_csv("t.csv", index=False)
    common = [csv, "--target", "bought", "--classes", "no,yes"]
    assert main(["baseline", *common]) == 0
    err = capsys.readouterr().err
    assert "columns 'joined' are named like dates, and are used as categories" in err and "long ago" not in err
    for stated in ({"kind": "date"}, {"categories": ["2020-01-01"]}):
        main(["baseline", *common, "--schema", schema_file(joined=stated, age={"kind": "numeric"})])
        assert "named like dates" not in capsys.readouterr().err
    main(["baseline", *common, "--schema", schema_file(joined={"kind": "categorical"})])
    assert "named like dates" in capsys.readouterr().err


def test_identifiers_are_guessed_by_name_and_the_schema_overrules(csv, quick, frame, capsys):
    frame.assign(customer_id=range(600)).to_csv("t.csv", index=False)
    common = [csv, "--target", "bought", "--classes", "no,yes"]
    main(["baseline", *common])
    err = capsys.readouterr().err
    assert err.count("named like identifiers") == 1 and "columns 'customer_id' are left out" in err
    assert "customer_id" not in quick.models[0].estimator[0].kinds_
    main(["baseline", *common, "--keep", "customer_id"])
    assert "named like identifiers" not in capsys.readouterr().err
    assert "customer_id" in quick.models[0].estimator[0].kinds_
    main(["baseline", *common, "--drop", "customer_id"])
    assert "named like identifiers" not in capsys.readouterr().err
    main(["baseline", *common, "--schema", schema_file(customer_id={}, age={"kind": "numeric"})])
    assert "named like identifiers" in capsys.readouterr().err  # listed without a kind: used, and doubted
    assert "customer_id" in quick.models[0].estimator[0].kinds_
    for kind, used in (("identifier", False), ("numeric", True)):
        path = schema_file(customer_id={"kind": kind}, age={"kind": "numeric"})
        main(["baseline", *common, "--schema", path])
        assert "named like identifiers" not in capsys.readouterr().err
        assert ("customer_id" in quick.models[0].estimator[0].kinds_) == used
    main(["schema", csv])
    plain = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in plain["columns"] if c["kind"] == "identifier"] == ["customer_id"]


def test_numbers_that_are_trained_as_classes_are_named(csv, quick, frame, capsys):
    said = "which are trained as 4 classes, one for each value. This command makes no regression: predict numbers in "
    frame.assign(bought=(frame["age"] // 25).fillna(0)).to_csv(csv, index=False)
    assert main(["baseline", csv, "--target", "bought"]) == 0
    assert said in capsys.readouterr().err
    assert main(["baseline", csv, "--target", "bought", "--classes", ",".join(quick.classes)]) == 0
    assert "no regression" not in capsys.readouterr().err
    frame.assign(bought=(frame["age"] > 50).astype(int)).to_csv(csv, index=False)
    assert main(["baseline", csv, "--target", "bought"]) == 0
    assert "no regression" not in capsys.readouterr().err


def test_a_target_named_like_an_identifier_is_no_feature_and_not_warned_of(csv, quick, frame, capsys):
    frame.rename(columns={"bought": "phone"})[["phone", "age"]].to_csv("t.csv", index=False)
    assert main(["baseline", csv, "--target", "phone"]) == 0
    assert "named like identifiers" not in capsys.readouterr().err
    frame.assign(nr=1)[["bought", "nr"]].to_csv("t.csv", index=False)
    words = refusal(capsys, csv, "--target", "bought")
    assert "no column is left" in words and "columns 'nr' are named like identifiers, --keep COLUMN uses one" in words


def test_the_total_is_said_before_the_first_fit(csv, quick, capsys):
    assert main(["baseline", csv, "--target", "bought", "--statement", "s.json"]) == 0
    lines = capsys.readouterr().err.splitlines()
    said = next(i for i, line in enumerate(lines) if "private models will spend" in line)
    assert said < next(i for i, line in enumerate(lines) if line.startswith("[1/2]"))
    stated = PrivacyStatement.load("s.json")
    total = f"epsilon = {round_up(stated.epsilon)} together (1, 1 alone)"
    assert lines[said].startswith(f"Two private models will spend {total} at ")
    assert f"delta = {round_up(stated.delta)}; --only" in lines[said]


@pytest.mark.parametrize("only, names", [("linear", ["private linear model"]), ("net", ["private default net"])])
def test_one_model_costs_what_epsilon_says(only, names, csv, monkeypatch, capsys):
    made = []

    def seen(epsilons, **options):
        made[:] = table_contenders(epsilons, **options)
        for model in made:
            model.estimator[-1].set_params(module="linear", max_epochs=2)
        return made

    monkeypatch.setattr(baseline, "table_contenders", seen)
    arguments = [
        "--target",
        "bought",
        "--only",
        only,
        "--save",
        "m.joblib",
        "--report",
        "r.html",
        "--statement",
        "s.json",
    ]
    assert main(["baseline", csv, *arguments]) == 0
    out, err = capsys.readouterr()
    assert [model.name for model in made] == names and "will spend" not in err
    stated, own = PrivacyStatement.load("s.json"), made[0].estimator.privacy_
    assert replace(stated, public=own.public) == own and own.epsilon <= 1
    assert "epsilon = 1 and" in out and "accounted for together" not in out
    kind = names[0].removeprefix("private ")
    assert f"{kind.capitalize()} saved" in out and f"Report about the {kind} saved" in out


def test_tabs_and_delimiters(frame, quick):
    frame.to_csv("t.tsv", sep="\t", index=False)
    frame.to_csv("t.txt", sep=";", index=False)
    common = ["--target", "bought", "--classes", "no,yes"]
    assert main(["baseline", "t.tsv", *common]) == 0
    assert main(["baseline", "t.txt", *common, "--delimiter", ";"]) == 0


# ------------------------------------------------------------------ requests that make no sense
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--target COLUMN is missing; the columns are: age, sex, joined, vip, bought"),
        (["--target", "Bougth"], "no column 'Bougth'; did you mean 'bought'? It has: age"),
        (["--target", "bought", "--drop", "sx"], "--drop: the file has no column 'sx'; did you mean 'sex'?"),
        (
            ["--target", "bought", "--drop", "age", "--drop", "sex", "--drop", "vip", "--drop", "joined"],
            "no column is left",
        ),
        (["--target", "bought", "--classes", "yes"], "must name two classes or more"),
        (["--target", "bought", "--classes", "a,b"], "none of the test rows has one of the classes a, b"),
        (["--target", "joined"], "more than 100 different values"),
        (["--target", "bought", "--delimiter", ";;"], "must be one character"),
        (["--target", "bought", "--schema", "none.json"], "cannot be read"),
        (["--target", "bought", "--save", "m.txt"], "must end in .joblib or .skops"),
        (["--target", "bought", "--report", "r.pdf"], "must end in .html or .json"),
        (["--target", "bought", "--report", "nowhere/r.html"], "cannot be written"),
        (["--target", "bought", "--epsilon", "1", "--mechanism", "nonsense"], "nonsense"),
    ],
)
def test_bad_requests(arguments, words, csv, capsys):
    assert words in refusal(capsys, csv, *arguments)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names no columns"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "is not a table"),
        (b"a;b;c\n1;2;3\n", "try --delimiter ';'"),
        (b"a,a\n1,2\n", "has two columns 'a'"),
        (b"a,,b\n1,2,3\n", "a column without a name"),
        (b"a,b\n", "too few"),
        (b"a,b\n1,2\n\xe4,3\n", "save it as UTF-8"),
        (b"a,b\n" + b"1,x\n" * 50, "has 1 class,"),
        (b"a,b\n" + b"1,\n" * 50, "has 0 classes,"),
    ],
)
def test_files_that_are_no_tables(content, words, capsys):
    with open("odd.csv", "wb") as file:
        file.write(content)
    assert words in refusal(capsys, "odd.csv", "--target", "b")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"age": {"kind": "number"}}, "kind 'number' must be one of"),
        ({"age": {"hgih": 3}}, "unknown 'hgih'; did you mean 'high'?"),
        ({"age": {"low": 0}}, "needs public bounds"),
        ({"age": {"kind": "categorical", "low": 0, "high": 1}}, "is called categorical"),
        ({"vip": {"kind": "boolean", "categories": ["a"]}}, "are not for kind 'boolean'"),
        ({"vip": {"kind": "identifier", "low": 0}}, "are not for kind 'identifier'"),
        ({"joined": {"kind": "date", "categories": ["a"]}}, "categories are not for kind 'date'"),
        ({"joined": {"kind": "date", "low": "2020-01-01"}}, "give both low and high"),
        ({"joined": {"kind": "date", "low": "1.1.2020", "high": "2021-01-01"}}, "must be a date such as"),
        ({"joined": {"kind": "date", "low": "2021-01-01", "high": "2020-01-01"}}, "must be below"),
        ({"agee": {"kind": "numeric"}}, "no column 'agee'; did you mean 'age'?"),
        ({"age": {"kind": "numeric"}, "bought": {"kind": "numeric"}}, "is numeric by the schema"),
    ],
)
def test_bad_schemas(columns, words, csv, capsys):
    assert words in refusal(capsys, csv, "--target", "bought", "--schema", schema_file(**columns))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"skdp_schema": 1, "columns": []}', '{"skdp_schema": 1, "columns": [3]}']
)
def test_files_that_are_no_schemas(text, csv, capsys):
    with open("s.json", "w") as file:
        file.write(text)
    assert "--schema 's.json'" in refusal(capsys, csv, "--target", "bought", "--schema", "s.json")


@pytest.mark.parametrize(
    "option", ["--target x", "--schema s", "--drop d", "--keep k", "--delimiter ;", "--classes a,b", "--reference"]
)
def test_options_for_files_are_refused_for_bundled_data(option, capsys):
    assert "is for files" in refusal(capsys, "adult", *option.split())
