"""What a person sees of long work; the second of silence is patched, never waited for."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from v86lab import progress
from v86lab.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def timers_ran() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def test_without_a_terminal_long_work_says_one_plain_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    with Progress("booting 'linux' once", total=10) as shown:
        timers_ran()
        shown.advance(5)
        shown.advance(5)
    assert capsys.readouterr() == ("", "v86lab: booting 'linux' once ...\n")


def test_short_work_says_nothing_and_leaves_no_timer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_QUIET", 3600.0)
    with Progress("copying") as shown:
        shown.advance(1)
    timers_ran()  # would wait an hour for one that was not cancelled
    assert capsys.readouterr() == ("", "")


def test_the_quiet_time_is_a_second() -> None:
    assert progress._QUIET == 1.0


def test_on_a_terminal_a_bar_shows_what_is_done_and_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("copying", total=3000) as shown:
        timers_ran()
        shown.advance(1000)
        shown.advance(2000)
    assert "copying: 100%" in screen.getvalue()
    assert "3.00k/3.00k" in screen.getvalue()
    assert screen.getvalue().endswith("\n")


def test_a_timer_that_fires_when_the_work_is_done_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    late = []

    class LateTimer(threading.Timer):
        def cancel(self) -> None:
            late.append(self.function)
            super().cancel()

    monkeypatch.setattr(threading, "Timer", LateTimer)
    with Progress("copying"):
        pass
    timers_ran()
    late[0]()
    assert capsys.readouterr() == ("", "")


def test_an_error_passes_through_and_still_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUIET", 3600.0)
    with pytest.raises(ValueError, match="broken"), Progress("copying"):
        raise ValueError("broken")
    timers_ran()
