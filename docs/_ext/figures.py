"""Directives for figures that nobody typed: computed while building, or read from the benchmarks' JSON files.

``computed-table`` runs Python that sets `header` and `rows`, and shows the code and the table. The blocks of a page
share one namespace. ``result-table`` shows records of a file in ``benchmarks/results``; without the file it says
that nothing was measured in this checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
NOT_MEASURED = "Not measured in this checkout: benchmarks/results/{} is not there. Make it with tox -e bench."


class ComputedTable(Directive):
    """Run the content, then show it with the table of `rows` under `header`."""

    has_content = True
    option_spec = {"caption": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        environment.note_dependency(__file__)
        namespace = environment.temp_data.setdefault("computed_names", {"__name__": "computed"})
        code = "\n".join(self.content)
        exec(compile(code, f"{environment.docname}, computed-table", "exec"), namespace)
        block = nodes.literal_block(code, code, language="python")
        return [block, _table(namespace["header"], namespace["rows"], self.options.get("caption"))]


class ResultTable(Directive):
    """Show records of ``benchmarks/results/<argument>``.

    ``:rows:`` is a dotted path to a list of records or to a mapping of names to records; a step ``*`` visits every
    key of a mapping. ``:columns:`` lists ``key = Heading`` with dotted keys, separated by commas; ``$0``, ``$1`` are
    the keys that were visited on the way, the name of a record the last. ``:where:`` keeps records whose ``key =
    value``; ``:empty:`` says what to write where none is left. Without ``:columns:`` all plain entries of the records
    are shown. ``:facts:`` lists single values by their paths instead.
    """

    required_arguments = 1
    option_spec = dict.fromkeys(
        ("rows", "columns", "where", "caption", "digits", "empty", "facts"), directives.unchanged
    )

    def run(self) -> list[nodes.Node]:
        path = RESULTS / self.arguments[0]
        self.state.document.settings.env.note_dependency(str(path))
        if not path.exists():
            text = NOT_MEASURED.format(path.name)
            return [nodes.note("", nodes.paragraph(text, text))]
        found = json.loads(path.read_text(encoding="utf-8"))
        digits, caption = int(self.options.get("digits", 3)), self.options.get("caption")
        if "facts" in self.options:
            facts = [(heading, _follow(found, key)) for key, heading in map(_column, self.options["facts"].split(","))]
            return [_table(["what", "value"], [[name, _shown(value, digits)] for name, value in facts], caption)]
        steps = list(filter(None, self.options.get("rows", "").split(".")))
        records = [r for r in _records(found, steps) if _wanted(r, self.options.get("where"))]
        if not records:
            text = self.options.get("empty")
            if text is None:
                raise self.error(f"{path.name} holds no record at rows={self.options.get('rows')!r}")
            return [nodes.paragraph(text, text)]
        names = self.options.get("columns", ",".join(_plain_keys(records)))
        keys, header = zip(*map(_column, names.split(",")), strict=True)
        rows = [[_shown(_follow(record, key), digits) for key in keys] for record in records]
        return [_table(header, rows, caption)]


def _follow(value: Any, path: str) -> Any:
    """The value at a dotted path, None where it is missing; a key may itself hold dots."""
    if isinstance(value, dict) and path in value:
        return value[path]
    key, _, rest = path.partition(".")
    inner = value.get(key) if isinstance(value, dict) else None
    return _follow(inner, rest) if rest else inner


def _records(value: Any, steps: list[str], keys: tuple[str, ...] = ()) -> Iterator[dict]:
    """Records at the end of `steps`, each with the keys that led to it."""
    if not steps:
        named = value.items() if isinstance(value, dict) else enumerate(value or ())
        for name, record in named:
            visited = {f"${i}": key for i, key in enumerate((*keys, name))}
            yield visited | (record if isinstance(record, dict) else {"value": record})
    elif steps[0] == "*":
        for name, inner in value.items():
            yield from _records(inner, steps[1:], (*keys, name))
    else:
        yield from _records((value or {}).get(steps[0]), steps[1:], keys)


def _plain_keys(records: list[dict]) -> list[str]:
    """Keys whose values fit into a cell, in order of appearance; names of a mapping's records come first."""
    keys = dict.fromkeys(k for record in records for k, v in record.items() if not isinstance(v, (dict, list)))
    return [key for key in keys if key != "$0" or not isinstance(records[0]["$0"], int)]


def _wanted(record: dict, where: str | None) -> bool:
    """Whether a record has the value that ``:where:`` asks for."""
    if not where:
        return True
    key, _, value = (part.strip() for part in where.partition("="))
    return str(_follow(record, key)) == value


def _column(text: str) -> tuple[str, str]:
    """``key = Heading`` as a pair."""
    key, _, heading = (part.strip() for part in text.partition("="))
    return key, heading or key


def _shown(value: Any, digits: int) -> str:
    """A value as people read it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return ", ".join(_shown(v, digits) for v in value) if isinstance(value, list) else str(value)


def _table(header: Any, rows: Any, caption: str | None) -> nodes.table:
    """A table of text."""
    cells = [list(header), *([_shown(cell, 3) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    group = nodes.tgroup("", *[nodes.colspec(colwidth=max(width, 3)) for width in widths], cols=len(widths))
    group += nodes.thead("", _row(cells[0]))
    group += nodes.tbody("", *map(_row, cells[1:]))
    title = [nodes.title(caption, caption)] if caption else []
    return nodes.table("", *title, group)


def _row(cells: list[str]) -> nodes.row:
    """One row."""
    return nodes.row("", *[nodes.entry("", nodes.paragraph(cell, cell)) for cell in cells])


def setup(app: Any) -> dict[str, Any]:
    """Register both directives."""
    app.add_directive("computed-table", ComputedTable)
    app.add_directive("result-table", ResultTable)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
