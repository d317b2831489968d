"""The user's terminal as the guest's first serial port.

Rules:

- every key goes to the guest, Ctrl-C and Ctrl-Z included; only Ctrl-] is ours, and leaves;
- however it ends, short of SIGKILL, the terminal is put back as it was;
- where standard input is no terminal, its bytes are typed as they are, and after its end the console is still shown.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from v86lab.deadline import Deadline
from v86lab.errors import GuestError, GuestTimeout
from v86lab.hub import shared_hub
from v86lab.image import Image
from v86lab.protocol import Consume, Expect, Send
from v86lab.session import Session
from v86lab.transcript import Transcript

ESCAPE = b"\x1d"
"""Ctrl-], as in telnet and virsh."""

_TICK = 0.1  # s between looks at what else may have ended
_ENDED = ("off", "faulted", "closed")


def attach(image: Image, timeout: float | None) -> int:
    """Boot an image and be its console, until it powers off, Ctrl-] is typed or the time is over.

    Parameters
    ----------
    image : Image
    timeout : float or None
        Seconds.

    Returns
    -------
    int
        The exit status, 0.

    Raises
    ------
    GuestFault, EngineError
        It ended that way.
    GuestTimeout
        It still ran.
    """
    deadline = Deadline(timeout)
    session = Session(image, shared_hub())
    try:
        session.start()
        if not sys.stdin.isatty():
            left = _converse(session, deadline, interactive=False)
        else:
            print(f"v86lab: {image.name}; Ctrl-] leaves", file=sys.stderr, flush=True)
            with _ending_signals_raise(), _raw_terminal():
                left = _converse(session, deadline, interactive=True)
            print("\nv86lab: left" if left else f"\nv86lab: {session.status}", file=sys.stderr, flush=True)
        if session.status == "faulted":
            session.call(Send, payload=b"")  # raises what the fault was
        if not left and session.status not in _ENDED:
            raise GuestTimeout(f"the guest did not power off within {timeout} s", tail=session.tail())
        return 0
    finally:
        session.close()


def _converse(session: Session, deadline: Deadline, interactive: bool) -> bool:
    """Pass bytes both ways until one side ends; whether it was the user."""
    keys: queue.Queue[bytes | None] = queue.Queue(maxsize=16)
    threading.Thread(target=_read_input, args=(keys, interactive), name="v86lab keys", daemon=True).start()
    with _showing(session) as failed, _interrupt_is_a_key(keys) if interactive else contextlib.nullcontext():
        while session.status not in _ENDED and not deadline.passed:
            if failed:
                raise failed[0]
            try:
                data = keys.get(timeout=_TICK)
            except queue.Empty:
                continue
            if data is None:
                if interactive:  # the terminal is gone
                    return True
                continue
            typed, left, _ = data.partition(ESCAPE) if interactive else (data, b"", b"")
            with contextlib.suppress(GuestError):  # it ended meanwhile: the status says how
                session.call(Send, payload=typed)
            if left:
                return True
    return False


@contextlib.contextmanager
def _showing(session: Session) -> Iterator[list[OSError]]:
    """Copy the console to standard output while the block runs; gives what went wrong with that."""
    failed: list[OSError] = []
    stop = threading.Event()
    earlier, position = _shown_earlier(session)

    def copy() -> None:
        data, at = earlier, position
        try:
            while True:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                last = stop.is_set()
                data, at = session.transcript.since(at, 0 if last else _TICK)
                if last and not data:
                    return
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=copy, name="v86lab console", daemon=True)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join()


def _shown_earlier(session: Session) -> tuple[bytes, int]:
    """What the console showed until now, also before the state that the guest started from was saved."""
    transcript: Transcript = session.transcript
    try:
        reply = session.call(Expect, patterns=[], timeout=None, seen=-1)  # answered at once; holds the guest
        _, position = transcript.since(0)
        session.call(Consume, count=0)
    except GuestError:  # it has ended already
        return transcript.since(0)
    return reply.payload, position


def _read_input(keys: queue.Queue[bytes | None], interactive: bool) -> None:
    """On a thread of its own, because no platform can wait for keys and for everything else at once."""
    if sys.platform == "win32" and interactive:
        import msvcrt

        while True:
            keys.put(windows_key(msvcrt.getwch))
    try:
        while data := os.read(sys.stdin.fileno(), 4096):
            keys.put(data)
    except OSError:
        pass  # a terminal that was hung up
    keys.put(None)


_WINDOWS_KEYS = {
    "H": b"\x1b[A",
    "P": b"\x1b[B",
    "M": b"\x1b[C",
    "K": b"\x1b[D",
    "G": b"\x1b[H",
    "O": b"\x1b[F",
    "I": b"\x1b[5~",
    "Q": b"\x1b[6~",
    "R": b"\x1b[2~",
    "S": b"\x1b[3~",
}


def windows_key(getwch: Callable[[], str]) -> bytes:
    """One key of a Windows console as the bytes that a VT100 sends for it.

    Examples
    --------
    >>> windows_key(iter("\\xe0H").__next__)
    b'\\x1b[A'
    """
    char = getwch()
    if char in ("\x00", "\xe0"):  # a key without a character; its code follows
        return _WINDOWS_KEYS.get(getwch(), b"")
    if "\ud800" <= char <= "\udbff":
        char = (char + getwch()).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return b"\x7f" if char == "\b" else char.encode(errors="replace")


@contextlib.contextmanager
def _interrupt_is_a_key(keys: queue.Queue[bytes | None]) -> Iterator[None]:
    """Windows makes a signal of Ctrl-C even while keys are read one by one."""

    def typed(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(queue.Full):
            keys.put_nowait(b"\x03")

    before = signal.signal(signal.SIGINT, typed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """Have what would kill us unwind the stack instead: the terminal is put back on the way."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.signal(getattr(signal, name), leave) for name in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if sys.platform == "win32":

    @contextlib.contextmanager
    def _raw_terminal() -> Iterator[None]:
        """Have the console act on the guest's escape sequences; keys are read raw anyway."""
        import ctypes

        process_output, act_on_sequences = 0x1, 0x4
        kernel = ctypes.windll.kernel32
        output, mode = kernel.GetStdHandle(-11), ctypes.c_uint32()
        known = kernel.GetConsoleMode(output, ctypes.byref(mode))
        if known:
            kernel.SetConsoleMode(output, mode.value | process_output | act_on_sequences)
        try:
            yield
        finally:
            if known:
                kernel.SetConsoleMode(output, mode.value)

else:

    @contextlib.contextmanager
    def _raw_terminal() -> Iterator[None]:
        """Have every key come as it is, at once and without an echo."""
        import termios
        import tty

        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        try:
            tty.setraw(keyboard, termios.TCSANOW)
            yield
        finally:
            termios.tcsetattr(keyboard, termios.TCSANOW, before)
