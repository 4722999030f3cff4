"""The Python in a page of the documentation: found, and run. Used by the tests."""

from __future__ import annotations

import doctest
import re
import sys
import types
from pathlib import Path

__all__ = ["blocks", "run", "run_page"]

FENCE = re.compile(r"^(```|:::)\s*(?:python|\{computed-table\})[^\n]*\n(.*?)^\1\s*$", re.M | re.S)
DIRECTIVE = re.compile(r"^( *)\.\. (?:code-block:: python|computed-table::)[^\n]*\n((?:[ \t]*\n|\1 +[^\n]*\n)+)", re.M)
LOOSE = re.compile(r"(?:^ *(?:>>>|\.\.\.)[^\n]*\n(?:^ *[^\s>][^\n]*\n)*)+", re.M)
PROMPT = re.compile(r"^ *>>> ", re.M)


def blocks(path: Path) -> list[tuple[int, str]]:
    """(line, code) of each block of Python in a page, in order."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        found = [(m.start(2), m.group(2)) for m in FENCE.finditer(text)]
    else:
        found = [(m.start(2), m.group(2)) for m in DIRECTIVE.finditer(text)]
        inside = [(start, start + len(code)) for start, code in found]
        loose = [m for m in LOOSE.finditer(text) if not any(a <= m.start() < b for a, b in inside)]
        found += [(m.start(), m.group()) for m in loose]
    lines = ((text.count("\n", 0, start) + 1, _dedent(code)) for start, code in sorted(found))
    return [(line, code) for line, code in lines if code.strip()]


def _dedent(code: str) -> str:
    """Without the common margin and without directive options; line numbers stay."""
    lines = code.split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    lines = [line[margin:] for line in lines]
    return "\n".join("" if re.match(r":[a-z]+:", line) else line for line in lines)


def run(code: str, namespace: dict, path: Path, line: int) -> None:
    """Execute a block; one with prompts is checked as a doctest."""
    if not PROMPT.search(code):
        # Blank lines in front make tracebacks name the page's own lines.
        exec(compile("\n" * (line - 1) + code, str(path), "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(code + "\n", namespace, path.name, str(path), line - 1)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(test, out=report.append, clear_globs=False).failed
    namespace.update(test.globs)
    if failed:
        raise AssertionError("".join(report))


def run_page(path: Path) -> dict:
    """Names that a page's blocks define, run in order; its classes can be pickled."""
    page = types.ModuleType("page")
    sys.modules["page"] = page
    for line, code in blocks(path):
        run(code, page.__dict__, path, line)
    return page.__dict__
