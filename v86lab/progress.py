"""Saying what takes long: a bar in a terminal, one plain line elsewhere (a notebook, a file).

Nothing is printed for what is over within a second. Output goes to standard error: nbval compares standard output.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

from tqdm import tqdm

_QUIET = 1.0  # s


class Progress:
    """Shows that `what` is going on until the block ends.

    Parameters
    ----------
    what : str
    total : int, optional
        Bytes to come, if known.

    Examples
    --------
    >>> with Progress("copying", total=2) as progress:
    ...     progress.advance(2)
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._bar: tqdm[Any] | None = None
        self._timer = threading.Timer(_QUIET, self._show)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> Progress:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.close()

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        with self._lock:
            self._done += count
            if self._bar is not None:
                self._bar.update(count)

    def _show(self) -> None:
        with self._lock:
            if self._over:
                return
            if not sys.stderr.isatty():
                print(f"v86lab: {self._what} ...", file=sys.stderr, flush=True)
                return
            self._bar = tqdm(
                desc=self._what, total=self._total, initial=self._done, unit="B", unit_scale=True, file=sys.stderr
            )
