"""A point in time, made once and passed down, so that nested waits share one budget."""

from __future__ import annotations

import time


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
