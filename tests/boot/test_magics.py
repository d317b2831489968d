"""%%guest on a real guest, in a real IPython."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from shells import shell_with_extension

import v86lab as lab

pytestmark = pytest.mark.boot


@pytest.fixture
def shell(vm: lab.Machine, tmp_path: Path) -> Any:
    made = shell_with_extension(tmp_path)
    made.user_ns["vm"] = vm
    return made


def test_a_cell_is_a_script_and_its_output_goes_where_it_belongs(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = shell.run_cell("%%guest vm --out r\nfor i in 1 2 3; do\n  echo $i\ndone\necho oh >&2\nexit 3")
    assert done.success and done.result is None
    assert capsys.readouterr() == ("1\n2\n3\n", "oh\n")
    r = shell.user_ns["r"]
    assert (r.stdout, r.stderr, r.returncode) == ("1\n2\n3\n", "oh\n", 3)


def test_check_raises_what_vm_run_raises(shell: Any) -> None:
    done = shell.run_cell("%%guest --check --out r\nexit 3")
    assert isinstance(done.error_in_exec, lab.errors.GuestCommandError)
    assert done.error_in_exec.returncode == 3
    assert "r" not in shell.user_ns


def test_input_comes_from_a_variable_and_a_line_is_enough(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["numbers"] = "3\n1\n2\n"
    shell.run_cell("%guest --input numbers sort | tr '\\n' '-'")
    assert capsys.readouterr().out == "1-2-3-"


def test_a_timeout_ends_the_script(shell: Any) -> None:
    done = shell.run_cell("%%guest --timeout 0.5\necho begun\nsleep 600")
    assert isinstance(done.error_in_exec, lab.errors.GuestTimeout)
    assert done.error_in_exec.stdout == "begun\n"


def test_ctrl_c_interrupts_the_script_in_the_guest(
    shell: Any, vm: lab.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CtrlC:
        """Standard output at which somebody presses Ctrl-C when the first line is shown."""

        def write(self, text: str) -> None:
            if "begun" in text:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        def flush(self) -> None:
            pass

    monkeypatch.setattr("sys.stdout", CtrlC())
    with pytest.raises(KeyboardInterrupt):
        shell.run_cell_magic("guest", "vm", "echo begun; exec sleep 6543")
    assert "sleep 6543" not in str(vm.run("ps").stdout)
