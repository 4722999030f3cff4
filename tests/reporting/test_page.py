"""The page by itself: nothing from outside runs or loads, and everybody can read it."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from page_reader import EVIL, Reader

import skdp
from skdp.reporting.charts import guess


@pytest.fixture(scope="module")
def html(classifier, table):
    X, y = (part[1200:] for part in table)
    return skdp.report(classifier, X, y, title=EVIL).html


def test_nothing_is_loaded_and_nothing_runs(html):
    page = Reader(html)
    assert not page.all("script", "link", "img", "iframe", "object", "embed", "form", "base")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on") or name == "src"]
    assert [a["href"].partition(";")[0] for a in page.all("a")] == ["data:application/json"]
    assert not re.findall(r"https?:|url\(|@import", html)
    assert any("default-src 'none'" in (attrs.get("content") or "") for attrs in page.all("meta"))


def test_names_from_the_table_are_text(html):
    assert html.count("<script") == 0 and html.count("&lt;script&gt;") >= 4
    text = Reader(html).text
    assert EVIL in text and 'in"come & more' in text


def test_structure_for_readers_who_do_not_see_it(html):
    page = Reader(html)
    assert page.tags[0][1] == {"lang": "en"}
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert len(page.all("caption")) == len(page.all("table")) >= 4
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    charts = page.all("svg")
    assert len(charts) == 3 and all(svg["role"] == "img" and len(svg["aria-label"]) > 40 for svg in charts)
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_the_embedded_statement_is_the_statement(html, classifier):
    import base64

    from skdp.accounting import PrivacyStatement

    (link,) = Reader(html).all("a")
    text = base64.b64decode(link["href"].partition("base64,")[2]).decode()
    assert PrivacyStatement.from_json(text) == classifier.privacy_


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast(scheme):
    style = files("skdp.reporting").joinpath("style.css").read_text()
    block = re.findall(r":root \{(.*?)\}", style, re.S)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
    assert len(colours) == 10
    for ink in ("ink", "soft", "mark", "good", "bad"):
        for ground in ("page", "panel", "bad-panel"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["other"], colours["page"]) >= 3


def test_a_guess_is_rounded_up():
    assert "50.1 %" in guess("t", 0.50001) and "100 %" in guess("t", 0.99999)
