"""How long a call may go on: a point in time, or a budget of several kinds, made once and passed down.

Nested waits share one budget. What a `Budget` counts as time is decided by the machine: on a seeded one ``timeout`` is
guest time, which no load of the host can use up.
"""

from __future__ import annotations

import math
import operator
import reprlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ImageError

_FOREVER = 1e6  # s; a host's timers count milliseconds in 31 bits


def checked_timeout(seconds: float | None) -> float | None:
    """A timeout that a caller gave, as it can be sent to an engine: None for one that nobody lives to see.

    Raises
    ------
    ImageError
        It is no number of seconds.

    Examples
    --------
    >>> checked_timeout(5), checked_timeout(float("inf")), checked_timeout(None)
    (5.0, None, None)
    """
    given = _seconds("timeout", seconds, allow_zero=True)
    return given if given is not None and given <= _FOREVER else None


class Deadline:
    """A budget of wall time that starts when it is made.

    Parameters
    ----------
    seconds : float or None
        None never ends.

    Examples
    --------
    >>> Deadline(None).remaining is None
    True
    >>> Deadline(0).passed
    True
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float | None:
        """Seconds left, never below zero; None without an end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.remaining == 0.0


class Budget:
    """What a call may use up: time, instructions, wall time; the first that is used up ends it.

    Parameters
    ----------
    timeout : float, optional
        Seconds: of guest time on a seeded machine, else of wall time.
    instructions : int, optional
        Of the guest.
    wall_timeout : float, optional
        Seconds of wall time.
    seeded : bool
        Whether guest time is what `timeout` counts.
    name : str
        What the caller calls `timeout`.

    Raises
    ------
    ImageError
        A budget of no use: zero (except of `timeout`), less, or no number.

    Examples
    --------
    >>> budget = Budget(5, instructions=1000, seeded=True)
    >>> budget.left()
    {'timeout': 5.0, 'instructions': 1000, 'wall_timeout': None}
    >>> budget.within("timeout")
    'within 5 s of guest time'
    """

    def __init__(
        self,
        timeout: float | None = None,
        instructions: int | None = None,
        wall_timeout: float | None = None,
        *,
        seeded: bool = False,
        name: str = "timeout",
    ) -> None:
        # Guest time costs nothing while the guest sleeps: a seeded machine's timeout may be a year.
        self.timeout = _seconds(name, timeout, allow_zero=name == "timeout") if seeded else checked_timeout(timeout)
        self.instructions = _checked_instructions(instructions)
        self.wall_timeout = _seconds("wall_timeout", wall_timeout)
        if self.wall_timeout is not None and self.wall_timeout > _FOREVER:
            self.wall_timeout = None
        self._seeded = seeded
        self._measure: Callable[[], Mapping[str, Any]] | None = None
        self._before: Mapping[str, Any] = {}
        self._walls: dict[str, Deadline] = {}

    def begin(self, measure: Callable[[], Mapping[str, Any]]) -> None:
        """From here on `left` gives what is left; before, it gives the whole.

        Parameters
        ----------
        measure : callable
            Gives the machine's ``seconds`` and ``instructions``; called only where a budget counts these.
        """
        if self.instructions is not None or (self._seeded and self.timeout is not None):
            self._measure, self._before = measure, measure()
        self._walls = {"wall_timeout": Deadline(self.wall_timeout)}
        if not self._seeded:
            self._walls["timeout"] = Deadline(self.timeout)

    def left(self) -> dict[str, Any]:
        """What is left of each, never below zero, by the names that requests have for them."""
        left: dict[str, Any] = {
            "timeout": self.timeout, "instructions": self.instructions, "wall_timeout": self.wall_timeout
        }  # fmt: skip
        left |= {name: deadline.remaining for name, deadline in self._walls.items()}
        if self._measure is not None:
            now = self._measure()
            for name, counted in (("timeout", "seconds"), ("instructions", "instructions")):
                if left[name] is not None and name not in self._walls:
                    left[name] = max(type(left[name])(0), left[name] - (now[counted] - self._before[counted]))
        return left

    def used_up(self) -> str | None:
        """The name of one that is used up, if any is."""
        return next((name for name, left in self.left().items() if left is not None and left <= 0), None)

    def patience(self) -> float | None:
        """Seconds of wall time that a request with what is left may take; None: for ever."""
        walls = [self.wall_timeout, None if self._seeded else self.timeout]
        if self._walls:
            walls = [deadline.remaining for deadline in self._walls.values()]
        return min((wall for wall in walls if wall is not None), default=None)

    def within(self, which: str) -> str:
        """The budget of this name in words."""
        if which == "instructions":
            return f"within {self.instructions} instructions"
        if which == "wall_timeout":
            return f"within {_text(self.wall_timeout)} s of wall time"
        return f"within {_text(self.timeout)} s" + (" of guest time" if self._seeded else "")


def _text(seconds: float | None) -> str:
    return "any number of" if seconds is None else f"{seconds:.15g}"


def _seconds(name: str, seconds: float | None, allow_zero: bool = False) -> float | None:
    if seconds is None:
        return None
    try:
        number = float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else math.nan
    except OverflowError:  # an int beyond all floats
        number = math.inf if seconds > 0 else -math.inf
    if math.isnan(number) or number < 0 or (number == 0 and not allow_zero):
        expected = "seconds from 0 on, or None" if allow_zero else "seconds, more than 0, or None"
        raise ImageError(f"{name}= cannot be used", expected=expected, seen=reprlib.repr(seconds))
    return None if math.isinf(number) else number


def _checked_instructions(count: int | None) -> int | None:
    if count is None:
        return None
    try:
        number = 0 if isinstance(count, bool) else operator.index(count)
    except TypeError:
        number = 0
    if number <= 0:
        raise ImageError(
            "this budget of instructions cannot be used",
            expected="a whole number, more than 0, or None",
            seen=reprlib.repr(count),
        )
    return number
