"""Links between pages lead somewhere, and files that pages name exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE_FENCE = re.compile(r"^```.*?^```", re.M | re.S)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_to_files(path):
    text = CODE_FENCE.sub("", path.read_text(encoding="utf-8"))
    targets = [target for target in LINK.findall(text) if "://" not in target]
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert not missing


def test_the_readme_works_without_the_repository():
    """Package indexes show it by itself: every link is absolute, and those to the documentation have a page here."""
    targets = LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    home = project["urls"]["Documentation"] + "/en/latest/"
    own = [target.removeprefix(home) for target in targets if target.startswith(home)]
    assert len(own) >= 10 and all("://" in target for target in targets)
    sources = [[(ROOT / "docs" / page).with_suffix(ending) for ending in (".md", ".rst")] for page in own]
    assert not [page for page, found in zip(own, sources, strict=True) if not any(map(Path.exists, found))]


def test_tests_named_by_the_promises_exist():
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) >= 10
    assert not [name for name in named if not (ROOT / name).exists()]


def test_each_promise_is_covered():
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (?=\d)", text, flags=re.M)[1:]
    assert [int(section.split(".")[0]) for section in sections] == list(range(1, 11))
    assert all("`tests/" in section for section in sections)


def test_no_page_speaks_of_a_workplace():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        places = re.findall(r"(?<![\w/.:<*)\]}-])/(?!path/)[a-z]{3,}\b[\w./-]*", text)
        outside = [
            up for up in re.findall(r"(?:\.\./)+[\w./-]*", text) if ROOT not in (path.parent / up).resolve().parents
        ]
        assert not places and not outside, path
