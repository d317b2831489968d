"""%%guest: which machine, which script, which options. Real IPython and real machines, none of which starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from shells import shell_with_extension

import v86lab as lab
from v86lab.magics import _split

Shell = Any


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return shell_with_extension(tmp_path)


@pytest.fixture
def make() -> Iterator[Callable[[], lab.Machine]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(lab.Machine())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[lab.Machine, str, dict[str, Any]]]:
    """What was given to `Machine.run`, which answers without a guest; tests/boot has the guest."""
    calls: list[tuple[lab.Machine, str, dict[str, Any]]] = []

    def run(machine: lab.Machine, command: str, **options: Any) -> lab.CommandResult:
        calls.append((machine, command, options))
        return lab.CommandResult(command, 0, "", "")

    monkeypatch.setattr(lab.Machine, "run", run)
    return calls


PLAIN = {"timeout": None, "check": False, "input": None, "stream": True}


def test_the_only_machine_runs_the_cell_as_it_is_written(shell: Shell, make: Any, ran: list[Any]) -> None:
    shell.user_ns |= {"vm": make(), "x": "of Python's", "_": make(), "_3": make()}
    shell.user_ns["alias"] = shell.user_ns["vm"]
    script = "echo $x {x} \"$HOME\" 'a  b' \\\n# ü\n"
    shell.run_cell_magic("guest", "", script)
    assert ran == [(shell.user_ns["vm"], script, PLAIN)]


def test_a_closed_machine_does_not_count(shell: Shell, make: Any, ran: list[Any]) -> None:
    shell.user_ns |= {"old": make(), "vm": make()}
    shell.user_ns["old"].close()
    shell.run_line_magic("guest", "true")
    assert ran[0][0] is shell.user_ns["vm"]


def test_a_machine_is_named_by_an_expression_and_by_a_variable_in_one_line(
    shell: Shell, make: Any, ran: list[Any]
) -> None:
    shell.user_ns |= {"vm": make(), "other": make(), "x": "of Python's"}
    shell.user_ns["rack"] = [shell.user_ns["vm"], shell.user_ns["other"]]
    shell.run_cell_magic("guest", "rack[1]", "true")
    shell.run_cell_magic("guest", "--check vm", "true")
    shell.run_line_magic("guest", "other echo  $x '{x}'")
    assert [(machine is shell.user_ns["other"], script) for machine, script, _ in ran] == [
        (True, "true"),
        (False, "true"),
        (True, "echo  $x '{x}'"),
    ]


def test_options_reach_the_command_and_its_result_a_variable(shell: Shell, make: Any, ran: list[Any]) -> None:
    shell.user_ns |= {"vm": make(), "data": b"\0\1"}
    result = shell.run_cell_magic("guest", "vm --out r --check --timeout 2.5 --input data", "cat")
    assert result is None
    assert ran[0][2] == {"timeout": 2.5, "check": True, "input": b"\0\1", "stream": True}
    assert shell.user_ns["r"] == lab.CommandResult("cat", 0, "", "")


@pytest.mark.parametrize(
    ("line", "options", "command"),
    [
        ("ls -l --color  'a b'", "", "ls -l --color  'a b'"),
        ("--out r ls", "--out r", "ls"),
        ("--out=r --check  vm ls --check", "--out=r --check vm", "ls --check"),
        ("vm", " vm", ""),
        ("--timeout 3 vm=1 env", "--timeout 3", "vm=1 env"),
        ("--checks ls", "--checks ls", "--checks ls"),
        ("", "", ""),
    ],
)
def test_a_line_is_options_machine_and_command(make: Any, line: str, options: str, command: str) -> None:
    assert _split(line, {"vm": make(), "ls": 1}) == (options, command)


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        ("nowhere", "true", r"nowhere is no machine \(name 'nowhere' is not defined\). There are: vm, other"),
        ("x", "true", "x is no machine, but int. There are: vm, other"),
        ("", "true", "which machine.*there are: vm, other"),
        ("vm", " \n", "there is nothing to run"),
        ("vm --input x", "true", "expects a variable with str or bytes; x is int"),
        ("vm --input nowhere", "true", "nowhere is NoneType"),
        ("vm --timeout soon", "true", "argument --timeout: invalid float value"),
        ("vm --colour", "true", "unrecognized arguments: --colour"),
        ("vm and more", "true", "unrecognized arguments: and more"),
    ],
)
def test_what_cannot_be_run_is_said(shell: Shell, make: Any, ran: list[Any], line: str, cell: str, said: str) -> None:
    shell.user_ns |= {"vm": make(), "other": make(), "x": 1}
    with pytest.raises(UsageError, match=said):
        shell.run_cell_magic("guest", line, cell)
    assert ran == []


def test_without_a_machine_it_says_how_to_make_one(shell: Shell) -> None:
    with pytest.raises(UsageError, match=r"there are: none; vm = v86lab.Machine\(\) makes one"):
        shell.run_line_magic("guest", "ls")


def test_its_help_names_the_options(shell: Shell) -> None:
    said = shell.find_line_magic("guest").__doc__
    assert all(option in said for option in ("--out", "--check", "--timeout", "--input", "machine"))


def test_ipython_is_imported_only_by_notebooks() -> None:
    script = "import sys, v86lab, v86lab.magics; sys.exit('IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
