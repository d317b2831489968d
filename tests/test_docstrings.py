"""Every example in a docstring runs, and gives what it says. Those that start a machine share the session's Store."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import v86lab

FLAGS = doctest.ELLIPSIS


def modules() -> list[str]:
    return [v86lab.__name__, *(found.name for found in pkgutil.walk_packages(v86lab.__path__, "v86lab."))]


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in modules():
        if not name.endswith("__main__"):
            yield from (test for test in finder.find(importlib.import_module(name)) if test.examples)


def boots(test: doctest.DocTest) -> bool:
    """Whether an example calls something named Machine."""
    calls = [
        node.func for one in test.examples for node in ast.walk(ast.parse(one.source)) if isinstance(node, ast.Call)
    ]
    return any(isinstance(call, ast.Attribute) and call.attr == "Machine" for call in calls)


CASES = [
    pytest.param(test, id=test.name, marks=[pytest.mark.boot] if boots(test) else [])
    for test in sorted(examples(), key=lambda test: test.name)
]


@pytest.mark.parametrize("test", CASES)
def test_the_examples_of_a_docstring_give_what_they_say(
    test: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=said.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_the_examples_are_found() -> None:
    names = {test.name for test in examples()}
    assert {"v86lab", "v86lab.protocol.encode", "v86lab.errors.V86LabError", "v86lab.store.Store"} <= names
