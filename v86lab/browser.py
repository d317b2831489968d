"""An engine in a page: a Web Worker that dials the Hub, and again whenever its socket was lost.

Rules:

- nothing that was asked or answered is lost with a socket (`v86lab.line`);
- a socket that stays away for `_AWAY` seconds fails what is under way with `EngineError`, which names the last
  checkpoint that the page said it keeps; when the engine comes back after that (a laptop was opened), it goes on;
- while somebody waits for an answer a silent socket is pinged, otherwise never: traffic keeps idle servers alive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .channel import Channel, Pending
from .errors import EngineError
from .hub import Hub
from .line import END, PING, Line
from .protocol import Checkpoint, Hello, Message, Request

_AWAY = 10.0  # s
_QUIET = 5.0  # s of silence after which a socket is pinged
_DEAD = 20.0  # s of silence after which it counts as gone
_ACKNOWLEDGE_AFTER = 1.0  # s
_LAST_WORDS = 0.5  # s


class BrowserEngine:
    """An engine that a page is to run.

    Parameters
    ----------
    hub : Hub
        Where it dials.
    notice : callable
        Hears every message that is not an answer, on the Hub's thread.
    ended : callable
        Told on the Hub's thread when the engine was away for too long.
    returned : callable
        Told on the Hub's thread when it came back after that.

    Attributes
    ----------
    key : str
        What a page needs to dial (`v86lab.protocol.Offer`).
    checkpoint : Checkpoint or None
        The last one that the page said it keeps.
    """

    kind = "browser"
    pid = None

    def __init__(
        self,
        hub: Hub,
        notice: Callable[[Message], None],
        ended: Callable[[EngineError], None],
        returned: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._notice = notice
        self._ended = ended
        self._returned = returned
        self._line = Line()
        self._channel = Channel(self._line.send, self._heard)
        self._greeted = threading.Event()
        self._cancel_loss: Callable[[], None] | None = None
        self._acknowledging = False
        self._last_heard = 0.0
        self._pinged = 0.0
        self.checkpoint: Checkpoint | None = None
        self.lost = False
        self._released = False
        self.key, _ = hub.expect_engine(self, redial=True)

    def wait_for_hello(self, seconds: float) -> bool:
        """Whether a page said within so many seconds that it runs the engine."""
        return self._greeted.wait(seconds)

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        """Send a request; see `Channel.request`."""
        return self._channel.request(kind, **fields)

    def poke(self) -> None:
        """Somebody waits: see whether a silent socket is alive."""
        now = time.monotonic()
        silent = now - self._last_heard
        if not self._line.up or silent < _QUIET:
            return
        if silent > _DEAD and self._pinged > self._last_heard:
            self._hub.call_soon(self._hang_up)
        elif now - self._pinged > _QUIET:
            self._pinged = now
            self._line.say(PING)

    def release(self) -> None:
        """Let the worker end, without waiting for it; nothing is heard of it any more."""
        self._released = True
        self._channel.lose(EngineError("the machine was closed"))
        self._line.say(END)
        self._hub.forget_engine(self.key)
        self._hub.call_soon(self._forget_loss)

    def close(self) -> None:
        """As `release`: a page ends its worker by itself. May be called again, and on any thread."""
        self.release()

    # -- on the Hub's thread -----------------------------------------------------------------------------------------

    def connected(self, send: Callable[[list[bytes | str]], None]) -> None:
        if self._released:  # while it dialled
            send([END])
            return
        self._forget_loss()
        self._last_heard = time.monotonic()
        self._line.opened(lambda data: send([data]))
        if self.lost:
            self.lost = False
            self._channel.regain()
            self._returned()

    def received(self, data: bytes | str) -> None:
        if self._released:
            return
        self._last_heard = time.monotonic()
        try:
            frame = self._line.receive(data)
            if frame is not None:
                self._channel.receive(frame)
        except EngineError as error:
            self._lose(error)
            return
        if frame is not None and not self._acknowledging:
            self._acknowledging = True
            self._hub.call_later(_ACKNOWLEDGE_AFTER, self._acknowledge)

    def disconnected(self) -> None:
        self._line.closed()
        self._forget_loss()
        if not self._released:
            self._cancel_loss = self._hub.call_later(_AWAY, self.give_up)

    def abandoned(self) -> None:
        """The page says that it runs the engine no more: there is nothing to wait for once the socket is closed."""
        self._hub.call_later(_LAST_WORDS, lambda: None if self._line.up else self.give_up())

    def give_up(self) -> None:
        """The engine is gone, or away for too long."""
        kept = self.checkpoint
        when = "" if kept is None else time.strftime("%H:%M:%S", time.localtime(kept.at))
        self._lose(
            EngineError(
                "the page that runs this machine is gone, or cannot reach this Python",
                seen=f"no connection to it for up to {_AWAY:.0f} s",
                hint=(
                    f"its last checkpoint is of {when} ({kept.instructions} instructions), kept in that browser: "
                    if kept
                    else ""
                )
                + "open the notebook there again to go on; vm.reset() boots the machine afresh",
            )
        )

    def _lose(self, error: EngineError) -> None:
        self._forget_loss()
        if not self.lost and not self._released:
            self.lost = True
            self._ended(error)  # first: who waits for an answer looks at the session when it is told
            self._channel.lose(error)

    def _forget_loss(self) -> None:
        if self._cancel_loss is not None:
            self._cancel_loss()
            self._cancel_loss = None

    def _hang_up(self) -> None:
        self._hub.hang_up(self.key)

    def _acknowledge(self) -> None:
        self._acknowledging = False
        self._line.acknowledge()

    def _heard(self, message: Message) -> None:
        if isinstance(message, Hello):
            self._greeted.set()
            return
        if isinstance(message, Checkpoint):
            self.checkpoint = message
        self._notice(message)
