"""Matching that cannot hang the notebook: patterns that Python has to match, under a time limit.

Theory of operation. CPython's `re` holds the GIL while it backtracks and cannot be interrupted from a thread, so a
pattern like ``(a+)+$`` and some output of the guest would take the kernel down. Such patterns run in a helper process
(`v86lab.spans` run as a script), started when the first one is needed, which ends itself at the limit and is replaced
when the next search comes. Found spans are then redone here, at the place where they are known to match, so that the
caller gets a real `re.Match`; that costs no more than what the helper has just shown it to cost. Rules:

* Only the last `window` bytes are searched.
* Whatever interrupts a search (Ctrl-C too) ends the helper: an answer can never be taken for that of another request.
* The helper gets patterns and bytes on its standard input, nothing else, and dies with this process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import RLock
from types import TracebackType

from v86lab import spans
from v86lab.errors import EngineError, ImageError, V86LabError
from v86lab.patterns import CHEAP, Found, Pattern, Patterns


class Searcher:
    """Searches the output of one console. A context manager; any thread may use it, one search runs at a time.

    Parameters
    ----------
    limit : float
        Seconds that one search may take, on the wall clock.
    window : int
        How many of the last unconsumed bytes are searched.

    Examples
    --------
    >>> import re
    >>> from v86lab import patterns
    >>> with Searcher() as searcher:
    ...     found = searcher.search(patterns.compile(re.compile(r"(\\w)\\1$")), "déjà vu: ee".encode())
    >>> found.start, found.end, found.match
    (11, 13, <re.Match object; span=(9, 11), match='ee'>)
    """

    def __init__(self, limit: float = 2.0, window: int = 65536) -> None:
        self.limit = limit
        self.window = window
        self._lock = RLock()  # the finalizer of a forgotten machine may run in the midst of a search
        self._helper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def search(self, patterns: Patterns, output: bytes, cut: bool = False) -> Found | None:
        """The first match in what is unconsumed, by the rules of `v86lab.patterns`.

        Parameters
        ----------
        output : bytes
            All that is unconsumed; positions in the result count from its start.
        cut : bool
            Whether output before it was cut off.

        Raises
        ------
        ImageError
            The patterns need more time than `limit`.
        EngineError
            The helper process cannot run.
        """
        at = _cut_at(output, self.window)
        window = output[at:]
        cut = cut or at > 0
        answer = self._ask(patterns.items, window, int(cut), None)
        if answer is None:
            return None
        index, start, end = answer
        found = patterns.confirm(index, window, start, end, cut)
        return Found(index, at + start, at + end, output[: at + start], found.matched, found.match)

    def confirm(self, patterns: Patterns, index: int, window: bytes, start: int, end: int, cut: bool = False) -> Found:
        """`Patterns.confirm` for a pattern that may need long: the helper tries first.

        Raises
        ------
        ImageError
            re needs more time than `limit` for what the engine has matched.
        EngineError
            The match is not confirmed, or the helper process cannot run.
        """
        if 0 <= index < len(patterns.items) and patterns.items[index].steps(end - start) > CHEAP:
            self._ask([patterns.items[index]], window, 0, start)
        return patterns.confirm(index, window, start, end, cut)

    def close(self) -> None:
        """End the helper process, if there is one. The next search starts another."""
        with self._lock:
            self._end()

    def _ask(self, items: Sequence[Pattern], data: bytes, first: int, at: int | None) -> list[int] | None:
        request = {
            "patterns": spans.describe([item.regex for item in items]),
            "size": len(data),
            "first": first,
            "at": at,
            "limit": self.limit,
        }
        with self._lock:
            try:
                answer = self._exchange(json.dumps(request).encode() + b"\n" + data)
            except BaseException:
                self._end()
                raise
            if not answer:
                raise self._ended(self._end(), items, len(data))
        found: list[int] | None = json.loads(answer)
        return found

    def _exchange(self, request: bytes) -> bytes:
        """Send one request; the answer is empty when the helper has ended."""
        if self._helper is None or self._helper.poll() is not None:
            self._end()
            self._helper = _start()
        helper = self._helper
        assert helper.stdin and helper.stdout
        try:
            helper.stdin.write(request)
            helper.stdin.flush()
        except OSError:  # ended while it was being written to; Windows says EINVAL where others say EPIPE
            return b""
        return helper.stdout.readline()

    def _ended(self, status: int | None, items: Sequence[Pattern], size: int) -> V86LabError:
        if status == 1:
            return ImageError(
                f"the pattern {Patterns(tuple(items))} took more than {self.limit:g} s on {size} bytes of output",
                expected="a pattern that does not backtrack for ever",
                seen="alternatives that multiply, as in (a+)+",
                hint="leave out nested repeats, or wait for a literal and take its surroundings apart afterwards",
            )
        return EngineError(
            "the process that matches patterns has ended", seen=f"exit status {status}", hint="try again"
        )

    def _end(self) -> int | None:
        helper, self._helper = self._helper, None
        if helper is None:
            return None
        assert helper.stdin and helper.stdout
        helper.stdout.close()
        with suppress(OSError):  # flushing what it did not live to read
            helper.stdin.close()
        try:
            return helper.wait(0.5)
        except subprocess.TimeoutExpired:
            helper.kill()
            return helper.wait()


def _start() -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise EngineError("cannot start the process that matches patterns", expected="sys.executable", seen="nothing")
    helper = subprocess.Popen(
        [sys.executable, "-IS", spans.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # no console window under a GUI's Python on Windows
    )
    assert helper.stdout
    helper.stdout.readline()  # "ready": from here on the limit counts
    return helper


def _cut_at(output: bytes, window: int) -> int:
    """Where to cut so that about `window` bytes are left and the second begins a character, as matcher.js does."""
    at = max(0, len(output) - window)
    if at:
        for _ in range(3):
            if at + 1 < len(output) and output[at + 1] & 0xC0 == 0x80:
                at += 1
    return at
