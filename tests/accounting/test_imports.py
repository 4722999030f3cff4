"""The files of the accounting import each other downwards only."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import skdp.accounting

FOLDER = Path(skdp.accounting.__file__).parent


def imported(file):
    """Names of the sibling files that a file imports when it runs, wherever the import stands."""
    tree = ast.parse(file.read_text())
    for_types = [node for node in tree.body if isinstance(node, ast.If)]  # if TYPE_CHECKING
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            if node.module == "skdp.accounting":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("skdp.accounting."):
                yield node.module.rpartition(".")[2]


def test_no_two_files_import_each_other():
    files = [file for file in FOLDER.glob("*.py") if file.stem != "__init__"]
    assert list(TopologicalSorter({file.stem: set(imported(file)) for file in files}).static_order())
