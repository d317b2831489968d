"""Imports point down: DESIGN's layers, held by reading the sources.

`LAYERS` maps every module to its layer. A module imports from layers below its own and from neighbours in it, never in
a circle; type-only and late imports count like any other. A new module fails here until it is given its place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 600

LAYERS = [
    {
        "errors",
        "abi",
        "seed",
        "difference",
        "protocol",
        "line",
        "png",
        "byterange",
        "formats",
        "patterns",
        "spans",
        "deadline",
        "transcript",
        "visible",
    },  # pure
    {
        "atomic",
        "pins",
        "shelf",
        "store",
        "saved",
        "v86file",
        "firmware",
        "bundle",
        "tree9p",
        "image",
        "given",
        "board",
        "rootfs",
        "images",
        "progress",
        "download",
    },  # data
    {"channel", "blobs", "hub"},  # wire
    {"node", "engine", "browser"},  # engine
    {
        "views",
        "session",
        "command",
        "prompt",
        "searcher",
        "console",
        "screen",
        "keyboard",
        "files",
        "snapshot",
        "recording",
        "advance",
        "inspect",
    },  # control
    {"machine", "aio", "replay", "versions"},  # machine
    {"guestbuild"},  # build
    {"widget", "display", "picture", "magics"},  # front
    {"cli"},  # use
    {"__init__", "__main__"},  # the table of contents, and the door of `python -m`
]


def python_sources() -> dict[str, str]:
    """Text of each module by its dotted name below v86lab; firmware/src is a recipe, no part of the package."""
    package = ROOT / "v86lab"
    paths = [path.relative_to(package) for path in package.rglob("*.py")]
    return {
        ".".join(path.with_suffix("").parts): (package / path).read_text("utf-8")
        for path in paths
        if path.parts[:2] != ("firmware", "src")
    }


def noun(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str, text: str, known: set[str]) -> Iterator[str]:
    """Nouns of v86lab that a module imports; "__init__" for a name of the package itself."""
    package = ["v86lab", *module.split(".")][:-1]
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join(base + ([node.module] if node.module else []))
            names = [f"{source}.{alias.name}" for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "v86lab":
                yield noun(rest) if noun(rest) in known else "__init__"


def python_faults(sources: Mapping[str, str], layers: list[set[str]]) -> list[str]:
    level = {name: index for index, layer in enumerate(layers) for name in layer}
    known = {noun(module) for module in sources}
    faults = [f"{name} has no layer" for name in sorted(known - level.keys())]
    graph: dict[str, set[str]] = {name: set() for name in known}
    for module, text in sorted(sources.items()):
        for target in sorted(set(imports(module, text, known)) - {noun(module)}):
            if level.get(target, -1) > level.get(noun(module), len(layers)):
                faults.append(f"{module} imports {target}, which lies above it")
            graph[noun(module)].add(target)
        faults += [f"{module}: {fault}" for fault in size_and_name_faults(noun(module), text)]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append("a circle of imports: " + " -> ".join(error.args[1]))
    return faults


def size_and_name_faults(name: str, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > MOST_LINES:
        yield f"{lines} lines, more than {MOST_LINES}"
    if name.strip("_") in ("utils", "util", "helpers", "common", "misc"):
        yield "not a noun: a helper lives with its only user"


def javascript_sources() -> dict[PurePosixPath, str]:
    root = ROOT / "js" / "src"
    return {
        PurePosixPath(path.relative_to(root).as_posix()): path.read_text("utf-8")
        for path in root.rglob("*")
        if path.suffix in (".js", ".mjs", ".ts")
    }


# What each folder below js/src may import: other folders, and packages by the beginning of their names.
JAVASCRIPT_LAYERS = {
    "core": {"core"},
    "web": {"core", "web"},
    "hosts": {"core", "web", "hosts"},
    "view": {"core", "web", "view"},
}
JAVASCRIPT_PACKAGES = {"core": ("v86", "@noble/hashes/"), "web": ("fzstd",), "hosts": ("node:",), "view": ("@xterm/",)}

# Statements, dynamic imports, and the import(...) types of JSDoc, which are imports too.
JAVASCRIPT_IMPORT = re.compile(
    r"""(?:^\s*(?:import|export)\s+(?:[\w$*{},\s]+?\sfrom\s*)?|\bimport\s*\(\s*)["']([^"']+)["']""", re.MULTILINE
)


def javascript_faults(sources: Mapping[PurePosixPath, str]) -> list[str]:
    faults = []
    for path, text in sorted(sources.items()):
        part = path.parts[0]
        for target in JAVASCRIPT_IMPORT.findall(text):
            if target.startswith("."):
                steps: list[str] = []
                for step in (path.parent / target).parts:
                    steps = steps[:-1] if step == ".." else [*steps, step]
                allowed = (
                    bool(steps) and steps[0] in JAVASCRIPT_LAYERS.get(part, {}) and target.endswith((".js", ".css"))
                )
            else:
                allowed = target.startswith(JAVASCRIPT_PACKAGES.get(part, ()))
            if not allowed:
                faults.append(f"{path} imports {target}")
        faults += [f"{path}: {fault}" for fault in size_and_name_faults(path.stem, text)]
    return faults


def test_python_imports_point_down() -> None:
    sources = python_sources()
    assert "errors" in sources
    assert python_faults(sources, LAYERS) == []


def test_the_javascript_core_imports_only_itself_and_v86() -> None:
    sources = javascript_sources()
    assert any(path.parts[0] == "core" for path in sources)
    assert javascript_faults(sources) == []


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"low": "from v86lab.high import x"}, "low imports high, which lies above it"),
        ({"low": "from .high import x"}, "low imports high, which lies above it"),
        ({"low": "from . import high"}, "low imports high, which lies above it"),
        ({"low": "def f():\n    import v86lab.high"}, "low imports high, which lies above it"),
        ({"low.part": "from ..high import x"}, "low.part imports high, which lies above it"),
        ({"low": "from v86lab import __version__", "__init__": ""}, "low imports __init__, which lies above it"),
        ({"low": "from .peer import x", "peer": "from .low import y"}, "a circle of imports: "),
        ({"stray": ""}, "stray has no layer"),
        ({"low": "\n" * 601}, "low: 601 lines, more than 600"),
    ],
)
def test_a_python_module_out_of_place_is_named(sources: dict[str, str], fault: str) -> None:
    layers = [{"low", "peer"}, {"high"}, {"__init__"}]
    assert [found[: len(fault)] for found in python_faults({"high": "", **sources}, layers)] == [fault]


def test_neighbours_and_lower_layers_may_be_imported() -> None:
    sources = {"low": "", "peer": "from .low import x", "high": "import v86lab.low\nfrom . import peer"}
    assert python_faults(sources, [{"low", "peer"}, {"high"}]) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("core/a.js", 'import { x } from "../hosts/node.js";'),
        ("core/a.js", 'import fs from "node:fs";'),
        ("core/a.js", 'const fs = await import("node:fs");'),
        ("core/a.js", 'export * from "../../test/a.js";'),
        ("core/a.js", "/** @type {import('node:fs').Stats} */"),
        ("core/a.js", "import {\n    a,\n    b,\n} from 'other';"),
        ("core/a.js", 'import "./b";'),
        ("hosts/node.js", 'import { V86 } from "v86";'),
    ],
)
def test_a_javascript_import_out_of_place_is_named(path: str, line: str) -> None:
    target = line.split('"')[1] if '"' in line else line.split("'")[1]
    assert javascript_faults({PurePosixPath(path): line}) == [f"{path} imports {target}"]


def test_hosts_may_import_the_core_and_node() -> None:
    text = 'import a from "node:fs";\nimport { b } from "../core/b.js";\nimport "./c.js";'
    assert javascript_faults({PurePosixPath("hosts/node.js"): text}) == []
