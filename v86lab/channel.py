"""Requests and their answers over one connection to an engine. No I/O happens here.

Rules: every request has an id of its own and ends exactly once, with a `Reply`, a `Failure`, or the loss of the
connection; notices go to one listener. Frames may be received on any thread, requests made on any other.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .errors import EngineError
from .protocol import Decoder, Failure, Message, Reply, Request, encode


class RequestFailed(Exception):
    """The engine answered a request with a `Failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Pending:
    """A request under way: its id, and the `Reply` to come."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.reply: Future[Reply] = Future()


class Channel:
    """One end of the control channel.

    Parameters
    ----------
    send : callable
        Takes the frames of one message, in order; called under a lock, so that messages are never interleaved.
    notice : callable
        Takes each message that is not an answer.

    Examples
    --------
    >>> from v86lab.protocol import Pause
    >>> wire = []
    >>> channel = Channel(wire.extend, print)
    >>> pending = channel.request(Pause)
    >>> channel.receive(encode(Reply(id=pending.id))[0])
    >>> pending.reply.result()
    Reply(id=1, value={})
    """

    def __init__(self, send: Callable[[list[bytes]], None], notice: Callable[[Message], None]) -> None:
        self._send = send
        self._notice = notice
        self._decoder = Decoder()
        self._ids = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._lock = threading.RLock()  # a collected machine may be released by whoever holds it
        self._lost: EngineError | None = None

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        """Send a request; `fields` are those of its dataclass, without the id.

        Raises
        ------
        ImageError
            The request cannot be put into a message.
        """
        pending = Pending(next(self._ids))
        frames = encode(kind(id=pending.id, **fields))
        with self._lock:
            if self._lost is None:
                self._pending[pending.id] = pending
                self._send(frames)
            else:
                pending.reply.set_exception(self._lost)
        return pending

    def receive(self, frame: bytes) -> None:
        """Take a frame from the engine."""
        message = self._decoder.push(frame)
        if isinstance(message, Reply | Failure):
            with self._lock:
                pending = self._pending.pop(message.id, None)
            if pending is None:
                return
            if isinstance(message, Reply):
                pending.reply.set_result(message)
            else:
                pending.reply.set_exception(RequestFailed(message))
        elif message is not None:
            self._notice(message)

    def regain(self) -> None:
        """The connection is there again: requests can be made. What had failed stays failed."""
        with self._lock:
            self._lost = None

    def lose(self, error: EngineError) -> None:
        """The connection is gone: everything under way, and everything after, fails with `error`."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = error
            orphans = list(self._pending.values())
            self._pending.clear()
        for pending in orphans:
            pending.reply.set_exception(error)
