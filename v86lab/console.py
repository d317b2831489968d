"""The serial console: what the guest shows on ttyS0, and typing into it.

Waiting happens in the engine: `Console.expect` is one request. Patterns that the engine cannot match exactly are
matched here, while the engine holds the guest at each block of output (`v86lab.patterns` says which).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from . import patterns
from .deadline import Budget
from .errors import EngineError, GuestTimeout, ImageError
from .patterns import Found, Patterns, Source
from .protocol import Consume, Expect, Send
from .searcher import Searcher
from .session import Cancellation, Session


@dataclass(frozen=True)
class Match:
    """What `Console.expect` found.

    Attributes
    ----------
    index : int
        Which of the patterns matched; 0 for a single one.
    before : str
        What the console showed before the match and nobody had matched yet.
    text : str
        The match itself.
    match : re.Match
        The same from Python's `re`: groups and all.
    """

    index: int
    before: str
    text: str
    match: re.Match[str] | re.Match[bytes]


class Console:
    """The guest's first serial port.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.console.sendline("echo $((6 * 7))")
    ...     vm.console.expect("\\n42\\r").index
    0
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._searcher = Searcher()

    @property
    def transcript(self) -> str:
        """Everything the console has shown, the last MiB of it."""
        return self._session.transcript.text

    def send(self, data: str | bytes) -> None:
        """Type `data` as it is; str is sent as UTF-8."""
        self._session.call(Send, payload=data.encode() if isinstance(data, str) else bytes(data))

    def sendline(self, line: str | bytes = "") -> None:
        """Type a line and the return key."""
        self.send(line + "\n" if isinstance(line, str) else line + b"\n")

    def sendcontrol(self, key: str) -> None:
        """Type a control character: ``sendcontrol("c")`` is Ctrl-C."""
        if len(key) != 1 or not "@" <= key.upper() <= "_":
            raise ImageError("not a control character", expected="a letter, or one of @ [ \\ ] ^ _", seen=repr(key))
        self.send(bytes([ord(key.upper()) - 64]))

    def expect(
        self,
        pattern: Source | Sequence[Source],
        timeout: float | None = 30.0,
        *,
        instructions: int | None = None,
        wall_timeout: float | None = None,
    ) -> Match:
        """Wait until the console shows one of the patterns.

        The match that begins earliest wins, then the first in the list. Everything up to its end counts as seen: the
        next `expect` looks at what comes after it.

        Parameters
        ----------
        pattern : str, bytes, compiled regex, or a list of these
            str and bytes are literal.
        timeout : float or None
            Seconds, of guest time on a machine with a seed; None waits for ever.
        instructions : int, optional
            How many the guest may retire meanwhile.
        wall_timeout : float, optional
            Seconds of the host's time, whatever the guest's is.

        Raises
        ------
        GuestTimeout
            Nothing matched in time; `budget` names what was used up.
        GuestFault, GuestOff
            The guest can no longer show anything.
        """
        wanted, budget = patterns.compile(pattern), self._session.budget(timeout, instructions, wall_timeout)
        with self._session.lock:
            before = self._session.statistics()["seconds"]
            try:
                found = self._search_here(wanted, budget) if wanted.held else self._search_there(wanted, budget)
            except GuestTimeout as error:
                spent = self._session.statistics()["seconds"] - before
                late = GuestTimeout(
                    f"the console did not show {wanted} {budget.within(error.budget)}",
                    seen=f"{spent:.1f} s of guest time pass, machine {self._session.status!r}",
                    tail=self._session.tail(),
                    hint=error.hint,
                )
                late.budget = error.budget
                raise late from None
        return Match(
            found.index, found.before.decode(errors="replace"), found.matched.decode(errors="replace"), found.match
        )

    def close(self) -> None:
        """End the helper process that matches difficult patterns, if there is one."""
        self._searcher.close()

    def _search_there(self, wanted: Patterns, budget: Budget) -> Found:
        reply = self._session.drive(Expect, budget, patterns=wanted.wire(), seen=None)
        value = reply.value
        cut = int(value["dropped"]) > 0
        return self._searcher.confirm(
            wanted, int(value["index"]), reply.payload, int(value["start"]), int(value["end"]), cut
        )

    def _search_here(self, wanted: Patterns, budget: Budget) -> Found:
        budget.begin(self._session.statistics)
        seen, consumed = 0, 0
        try:
            while True:
                reply = self._session.drive(Expect, budget, patterns=[], seen=seen)
                found = self._searcher.search(wanted, reply.payload, int(reply.value["dropped"]) > 0)
                if found is not None:
                    consumed = found.end
                    return found
                seen = int(reply.value["received"])
        finally:
            self._let_go(consumed)

    def _let_go(self, consumed: int) -> None:
        """The engine may be holding the guest for us; whoever cancels the wait must not keep us from letting it go."""
        if self._session.engine is not None:
            with Cancellation(), contextlib.suppress(EngineError):
                self._session.call(Consume, count=consumed)
