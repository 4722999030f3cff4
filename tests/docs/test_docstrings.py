"""Docstrings of everything public parse, agree with the signatures, and show a class at work."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

validate = pytest.importorskip("numpydoc.validate").validate

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "skdp",
    "skdp.accounting",
    "skdp.audit",
    "skdp.calibration",
    "skdp.callbacks",
    "skdp.cli",
    "skdp.contract",
    "skdp.datasets",
    "skdp.exceptions",
    "skdp.distributed",
    "skdp.linear_model",
    "skdp.linear_model.admm",
    "skdp.mechanisms",
    "skdp.metrics",
    "skdp.model_selection",
    "skdp.nets",
    "skdp.neural_network",
    "skdp.optimizers",
    "skdp.planning",
    "skdp.preprocessing",
    "skdp.releases",
    "skdp.reporting",
    "skdp.training",
)
# What numpydoc asks for and this project does not, with the reason.
IGNORED = {
    "ES01": "a summary that says everything needs no extension",
    "EX01": "examples are asked of classes below, and functions appear in them",
    "PR07": "a parameter whose name and type say everything needs no prose",
    "PR08": "a description may begin with a name in lower case, such as skorch",
    "RT03": "type and summary say what comes back",
    "SA01": "most things stand alone",
    "SS05": "summaries are noun phrases as often as commands",
    "YD01": "generators of queries are described by what they return",
}
# What is asked of docstrings with sections, and not of a single sentence about a small method.
ONLY_WITH_SECTIONS = {"PR01", "RT01"}
SECTION = re.compile(r"^\s*-{4,}$", re.M)


def public_objects() -> dict[str, object]:
    """Everything in the `__all__` of the public modules, by its first public name."""
    found: dict[str, object] = {}
    for module in map(import_module, MODULES):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            own = getattr(thing, "__module__", "").startswith("skdp")
            if own and (inspect.isclass(thing) or inspect.isfunction(thing)) and thing not in found.values():
                found[f"{module.__name__}.{name}"] = thing
    return found


def public_methods(path: str, kind: type) -> dict[str, object]:
    """Public methods that a class defines by itself."""
    return {
        f"{path}.{name}": member
        for name, member in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, (property, classmethod)))
    }


OBJECTS = public_objects()
CLASSES = {path: thing for path, thing in OBJECTS.items() if inspect.isclass(thing)}


def complaints(path: str) -> list[tuple[str, str, str]]:
    """(name, code, text) of what numpydoc finds in an object and its methods."""
    members = {path: OBJECTS[path], **(public_methods(path, CLASSES[path]) if path in CLASSES else {})}
    return [
        (name, code, text)
        for name, member in members.items()
        for code, text in validate(name)["errors"]
        if code not in ONLY_WITH_SECTIONS or _is_sectioned(inspect.getdoc(member) or "")
    ]


def _is_sectioned(doc: str) -> bool:
    """Whether a docstring has sections, of a thing that users make or call themselves."""
    return bool(SECTION.search(doc)) and "Made by `" not in doc


@pytest.mark.parametrize("path", OBJECTS)
def test_docstring_follows_numpydoc(path):
    found = [f"{name}: {code} {text}" for name, code, text in complaints(path) if code not in IGNORED]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", CLASSES)
def test_public_class_has_a_runnable_example(path):
    kind = CLASSES[path]
    if issubclass(kind, (Exception, Warning)) or getattr(kind, "_is_protocol", False) or inspect.isabstract(kind):
        pytest.skip("nothing to construct")
    assert ">>> " in (inspect.getdoc(kind) or "").partition("Examples\n")[2]


@pytest.mark.parametrize("path", CLASSES)
def test_constructor_parameters_are_documented(path):
    kind = CLASSES[path]
    made_elsewhere = "Made by `" in (inspect.getdoc(kind) or "")
    if issubclass(kind, (Exception, Warning)) or getattr(kind, "_is_protocol", False) or made_elsewhere:
        pytest.skip("no public constructor of its own")
    text = (inspect.getdoc(kind) or "").partition("Parameters\n")[2].partition("\n\n")[0]
    heads = [line.split(" : ")[0] for line in text.splitlines() if line and not line.startswith(" ")]
    named = {name.strip(" *") for head in heads for name in head.split(",")}
    wanted = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and not name.startswith("_")
    ]
    assert not [name for name in wanted if name not in named]


def test_everything_public_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    listed = {line.strip().rpartition(".")[2] for line in text.splitlines()}
    assert not sorted({path.rpartition(".")[2] for path in OBJECTS} - listed)


def test_every_ignored_rule_is_needed():
    seen = {code for path in OBJECTS for _, code, _ in complaints(path)}
    assert not sorted(set(IGNORED) - seen)
