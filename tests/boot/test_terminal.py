"""``v86lab run IMAGE`` on a real terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

if sys.platform == "win32":
    pytest.skip("a pseudo-terminal as POSIX has it", allow_module_level=True)

import pty
import termios

pytestmark = pytest.mark.boot

PATIENCE = 120.0  # s


class Terminal:
    """The user's side of a terminal in which ``v86lab run linux`` runs."""

    def __init__(self) -> None:
        self._user, self._tty = pty.openpty()
        self._before = self.settings()
        self._unread = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "v86lab", "run", "linux"], stdin=self._tty, stdout=self._tty, stderr=self._tty
        )

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._tty)

    def type(self, keys: bytes) -> None:
        os.write(self._user, keys)

    def until(self, text: bytes) -> bytes:
        """What is shown up to and with this text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._unread:
            ended = self.process.poll() is not None
            if select.select([self._user], [], [], 0.2)[0]:
                self._unread += os.read(self._user, 4096)
            else:
                assert not ended and time.monotonic() < deadline, self._unread
        end = self._unread.index(text) + len(text)
        shown, self._unread = self._unread[:end], self._unread[end:]
        return shown

    def prompt(self) -> bytes:
        return self.until(b"# ")

    def ended(self) -> int:
        """The exit status, once the terminal is found as it was."""
        status = self.process.wait(PATIENCE)
        assert self.settings() == self._before
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._user)
        os.close(self._tty)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_it_shows_the_prompt_takes_lines_and_ctrl_right_bracket_leaves(terminal: Terminal) -> None:
    shown = terminal.prompt()
    assert b"Ctrl-] leaves" in shown
    assert shown.endswith(b"You are root.\r\n/ # ")
    assert terminal.settings() != terminal._before
    terminal.type(b"echo $((6 * 7))\r")
    assert terminal.prompt() == b"echo $((6 * 7))\r\n42\r\n/ # "
    terminal.type(b"unfinished\x1d")
    terminal.until(b"v86lab: left")
    assert terminal.ended() == 0


def test_ctrl_c_and_ctrl_z_go_to_the_guest(terminal: Terminal) -> None:
    terminal.prompt()
    terminal.type(b"sh -c 'echo ready; sleep 600'\r")
    terminal.until(b"\nready\r\n")  # only now is there something to interrupt
    terminal.type(b"\x03")
    assert terminal.prompt() == b"^C\r\n/ # "
    terminal.type(b"sh -c 'echo ready; cat'\r")
    terminal.until(b"\nready\r\n")
    terminal.type(b"\x1a")
    assert b"Stopped" in terminal.until(b"# ")
    terminal.type(b"\x1d")
    assert terminal.ended() == 0


def test_it_ends_when_the_guest_powers_off(terminal: Terminal) -> None:
    terminal.prompt()
    terminal.type(b"poweroff\r")
    terminal.until(b"Power down")
    terminal.until(b"v86lab: off")
    assert terminal.ended() == 0


def test_being_terminated_puts_the_terminal_back(terminal: Terminal) -> None:
    terminal.prompt()
    terminal.process.terminate()
    assert terminal.ended() == 143


def test_an_engine_that_dies_is_reported_and_puts_the_terminal_back(terminal: Terminal) -> None:
    terminal.prompt()
    (engine,) = psutil.Process(terminal.process.pid).children()
    engine.kill()
    terminal.until(b"v86lab: the engine's process ended")
    assert terminal.ended() == 1
