"""A point in time, made once and passed down, so that nested waits share one budget."""

from __future__ import annotations

import math
import time

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
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds) or seconds < 0:
        raise ImageError("this timeout cannot be used", expected="seconds from 0 on, or None", seen=repr(seconds))
    return float(seconds) if seconds <= _FOREVER else None


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
