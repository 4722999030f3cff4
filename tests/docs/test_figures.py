"""The directive that quotes benchmark files finds what it is told to find, and says so when there is no file."""

from __future__ import annotations

import io
import json

import pytest

pytest.importorskip("sphinx")
import figures
from sphinx.application import Sphinx

PAGE = """# Page

```{result-table} made.json
:rows: steps.*.contestants
:columns: $0 = net, $1 = who, ratio = ratio
:where: $1 = ours
```

```{result-table} made.json
:facts: steps.mlp.batch = batch
```

```{result-table} made.json
:rows: misses
:empty: None misses.
```

```{result-table} other.json
:rows: anything
```

:::{computed-table}
header = ["a"]
rows = [[6 * 7]]
:::
"""
MADE = {
    "steps": {
        "mlp": {"batch": 1024, "contestants": {"ours": {"ratio": 1.25}, "theirs": {"ratio": 9.9}}},
        "cnn": {"batch": 512, "contestants": {"ours": {"ratio": 1.125}, "theirs": {"ratio": 8.8}}},
    },
    "misses": [],
}


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "results")
    source = tmp_path / "source"
    (tmp_path / "results").mkdir()
    source.mkdir()
    (source / "conf.py").write_text("extensions = ['myst_parser', 'figures']\nmyst_enable_extensions = ['colon_fence']")

    def built(page: str) -> str:
        built.warnings = io.StringIO()
        (source / "index.md").write_text(page)
        folders = [str(path) for path in (source, source, tmp_path / "out", tmp_path / "trees")]
        Sphinx(*folders, "text", status=None, warning=built.warnings).build(force_all=True)
        return " ".join((tmp_path / "out" / "index.txt").read_text().split())

    (tmp_path / "results" / "made.json").write_text(json.dumps(MADE))
    return built


def test_figures_are_quoted_and_absent_files_are_named(build):
    text = build(PAGE)
    assert not build.warnings.getvalue()
    assert "1.25" in text and "1.12" in text and "9.9" not in text
    assert "1024" in text
    assert "None misses." in text
    assert "benchmarks/results/other.json is not there" in text
    assert "42" in text


def test_a_path_that_leads_nowhere_is_an_error(build):
    build("# Page\n\n```{result-table} made.json\n:rows: nowhere\n:columns: a = b\n```\n")
    assert "made.json holds no record at rows='nowhere'" in build.warnings.getvalue()


def test_keys_may_hold_dots():
    assert figures._follow({"versions": {"scikit-learn": {"a.b": 3}}}, "versions.scikit-learn.a.b") == 3
    assert figures._follow({"a": 1}, "b.c") is None
