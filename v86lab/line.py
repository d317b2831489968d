"""Frames over a socket that may be replaced: each arrives exactly once and in order. No I/O happens here.

An engine in a browser outlives its socket: a proxy restarts, a laptop is closed. Rules, the same at both ends
(``js/src/core/line.js`` is the other):

- frames travel as binary messages and are counted, from 0, over the whole life of the engine;
- ``{"received": n}``, a text message, says that the sender has taken n frames. It is the first message on every
  socket, and nothing else is sent before the other end's has come: then all that it has not taken is sent again;
- a frame is kept until it is acknowledged: after `_FRAMES` frames or `_BYTES` bytes at the latest, or when a timer
  calls `acknowledge`;
- ``{"ping": true}`` is answered at once, ``{"end": true}`` is Python's last word: the machine was closed.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable

from .errors import EngineError

PING = '{"ping": true}'
END = '{"end": true}'
_FRAMES = 64
_BYTES = 1 << 20


class Line:
    """One end.

    Examples
    --------
    >>> here, there, wire = Line(), Line(), []
    >>> here.send([b"kept until there is a socket"])
    >>> here.opened(wire.append)
    >>> there.opened(lambda data: here.receive(data))
    >>> wire
    ['{"received": 0}', b'kept until there is a socket']
    >>> there.receive(wire[1])
    b'kept until there is a socket'
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # frames are sent on any thread, received on the Hub's
        self._transmit: Callable[[bytes | str], None] | None = None
        self._greeted = False
        self._kept: deque[bytes] = deque()
        self._first = 0  # how many frames went before those that are kept
        self._taken = 0
        self._told = 0
        self._untold_bytes = 0

    def opened(self, transmit: Callable[[bytes | str], None]) -> None:
        """A new socket is up; `transmit` sends on it, in order, and does not block."""
        with self._lock:
            self._transmit, self._greeted = transmit, False
            self._tell()

    def closed(self) -> None:
        """The socket is gone; what is sent from now on is kept."""
        with self._lock:
            self._transmit = None

    @property
    def up(self) -> bool:
        """Whether there is a socket."""
        return self._transmit is not None

    def send(self, frames: list[bytes]) -> None:
        """Send frames, now or when there is a socket."""
        with self._lock:
            self._kept.extend(frames)
            if self._transmit is not None and self._greeted:
                for frame in frames:
                    self._transmit(frame)

    def say(self, text: str) -> None:
        """Send `PING` or `END`, if there is a socket."""
        with self._lock:
            if self._transmit is not None:
                self._transmit(text)

    def receive(self, data: bytes | str) -> bytes | None:
        """Take a message from the socket; give the frame that it is, or None for one of the line's own.

        Raises
        ------
        EngineError
            The other end is not the one that this line began with, or breaks the rules.
        """
        with self._lock:
            if isinstance(data, str):
                self._heard(data)
                return None
            self._taken += 1
            self._untold_bytes += len(data)
            if self._taken - self._told >= _FRAMES or self._untold_bytes >= _BYTES:
                self._tell()
            return data

    def acknowledge(self) -> None:
        """Say what was received, if that was not said yet."""
        with self._lock:
            if self._taken > self._told:
                self._tell()

    def _tell(self) -> None:
        if self._transmit is not None:
            self._told, self._untold_bytes = self._taken, 0
            self._transmit(f'{{"received": {self._taken}}}')

    def _heard(self, text: str) -> None:
        try:
            control = json.loads(text)
            if control.get("ping"):
                self._tell()
                return
            taken = control["received"]
            if type(taken) is not int or not self._first <= taken <= self._first + len(self._kept):
                raise ValueError(f"frames {self._first} to {self._first + len(self._kept)} are there")
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            raise EngineError(
                "a message does not follow the protocol",
                expected="a control message as v86lab.line describes",
                seen=f"{text[:200]!r} ({error!s:.200})",
                hint="this is another engine than the one that the line began with",
            ) from error
        while self._first < taken:
            self._kept.popleft()
            self._first += 1
        if not self._greeted and self._transmit is not None:
            self._greeted = True
            for frame in self._kept:
                self._transmit(frame)
