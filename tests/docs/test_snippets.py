"""Every piece of Python in the README and the documentation runs, page by page, in order."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from snippets import blocks, run, run_page

import skdp.datasets

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [path for kind in ("*.md", "*.rst") for path in (ROOT / "docs").rglob(kind) if "_build" not in path.parts]
)
WITH_PYTHON = [path for path in PAGES if "generated" not in path.parts and blocks(path)]


ON_ADULT = [path for path in WITH_PYTHON if "load_adult" in path.read_text(encoding="utf-8")]


def name(path: Path) -> str:
    """Of a page, from the root."""
    return str(path.relative_to(ROOT))


@pytest.fixture
def small_adult(monkeypatch):
    """The same table with fewer rows: what a page shows is its code, and time goes with the rows."""
    whole = skdp.datasets.load_adult()
    parts = {f: getattr(whole, f)[:1500] for f in ("X_train", "y_train", "X_test", "y_test")}
    monkeypatch.setattr(skdp.datasets, "load_adult", lambda: dataclasses.replace(whole, **parts))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.usefixtures("small_adult")
@pytest.mark.parametrize("path", WITH_PYTHON, ids=name)
def test_python_in_page_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", ON_ADULT, ids=name)
def test_python_in_page_runs_on_the_whole_table(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run_page(path)
    assert len(names["adult"].X_train) == 32_561
    found = [float(line) for line in capsys.readouterr().out.splitlines() if re.fullmatch(r"0\.\d+", line)]
    assert found and min(found) > 0.8  # the prior is at .764


def test_blocks_are_found_in_both_formats(tmp_path):
    markdown, structured = tmp_path / "a.md", tmp_path / "a.rst"
    markdown.write_text("```python\nx = 1\n```\n\n:::{computed-table}\nheader = []\n:::\n\n```console\nno\n```\n")
    structured.write_text("Text.\n\n.. code-block:: python\n\n   x = 1\n\nMore::\n\n   no\n\n>>> 1 + 1\n2\n")
    assert [code.strip() for _, code in blocks(markdown)] == ["x = 1", "header = []"]
    assert [code.strip() for _, code in blocks(structured)] == ["x = 1", ">>> 1 + 1\n2"]


def test_a_wrong_snippet_fails(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("```python\n>>> 1 + 1\n3\n```\n\n```python\nassert False\n```\n")
    for line, code in blocks(page):
        with pytest.raises(AssertionError):
            run(code, {}, page, line)


def test_readme_has_the_promised_order():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[:3] == [
        "Install and run",
        "Fit, pipeline, grid search, privacy statement",
        "When (not) to use it",
    ]
    intro = text.split("## ")[0].strip().split("\n\n")[1:]
    assert len(intro) == 1 and len(intro[0].splitlines()) == 2
    for command in (
        "pip install -c constraints.txt . && skdp baseline adult --epsilon 1",
        "pip install -c constraints.txt tox && tox",
    ):
        assert command in text
