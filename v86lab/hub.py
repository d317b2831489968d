"""The only server: one Tornado application on its own thread, on loopback, with a secret in the path.

It serves the Store's blobs (`v86lab.blobs`) and the WebSocket control channel that engines dial. Rules:

- whoever does not know the token gets the same 404 for every path, and nothing is logged: paths hold the token;
- nothing here runs user code: what arrives goes to the listener that the engine's owner registered, on this thread;
- one Hub serves a process; a forked child makes its own, because threads do not survive a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

from .blobs import BlobServer
from .errors import EngineError
from .protocol import CHUNK
from .store import Store

_TOKEN_BYTES = 32  # 256 bits
_MOST_FRAME = CHUNK + (16 << 20)  # a chunk and the largest header that the protocol allows


class Listener(Protocol):
    """What hears an engine's socket; called on the Hub's thread, must not block."""

    def connected(self, send: Callable[[list[bytes]], None]) -> None:
        """The engine is there; `send` may be called on any thread."""

    def received(self, frame: bytes) -> None:
        """A frame arrived."""

    def disconnected(self) -> None:
        """The socket closed."""


class Hub:
    """A running Hub.

    Parameters
    ----------
    store : Store
        Whose blobs it serves.
    port : int, optional
        0 lets the system choose.

    Examples
    --------
    >>> import tempfile, urllib.request
    >>> with tempfile.TemporaryDirectory() as home:
    ...     store = Store(home, shared=[])
    ...     hub = Hub(store)
    ...     digest = store.put(b"boot me")
    ...     answer = urllib.request.urlopen(hub.url + "blob/" + digest).read()
    ...     hub.close()
    >>> answer
    b'boot me'
    """

    def __init__(self, store: Store, port: int = 0) -> None:
        self.store = store
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._listeners: dict[str, Listener] = {}
        try:
            sockets = tornado.netutil.bind_sockets(port, "127.0.0.1")
        except OSError as error:
            raise EngineError(
                f"the Hub cannot listen on 127.0.0.1:{port}", seen=str(error), hint="choose another port, or 0 for any"
            ) from error
        self.port: int = sockets[0].getsockname()[1]
        self._loop = asyncio.new_event_loop()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(sockets, started), name="v86lab hub", daemon=True)
        self._thread.start()
        started.result()

    @property
    def url(self) -> str:
        """Where it is, ending in "/"; holds the token."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    def __repr__(self) -> str:
        return f"<Hub on 127.0.0.1:{self.port}>"

    def expect_engine(self, listener: Listener) -> tuple[str, str]:
        """Make an address for one engine to dial, once.

        Returns
        -------
        key, address : str
            The key for `forget_engine`, and a ``ws://`` URL.
        """
        key = secrets.token_urlsafe(16)
        self._listeners[key] = listener
        return key, f"ws{self.url[4:]}engine/{key}"

    def forget_engine(self, key: str) -> None:
        """The address of `expect_engine` is no longer valid."""
        self._listeners.pop(key, None)

    def close(self) -> None:
        """Stop serving and end the thread."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self, sockets: list[Any], started: Future[None]) -> None:
        asyncio.set_event_loop(self._loop)
        application = tornado.web.Application(
            [(r"/([^/]+)/engine/([^/]+)", _EngineSocket, {"hub": self})],
            log_function=lambda _: None,
        )
        server = tornado.httpserver.HTTPServer(BlobServer(self.store, self._blob_name, application))
        server.add_sockets(sockets)
        self._loop.call_soon(started.set_result, None)
        try:
            self._loop.run_forever()
        finally:
            server.stop()
            self._loop.run_until_complete(server.close_all_connections())
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def _blob_name(self, path: str) -> str | None:
        token, _, rest = path.removeprefix("/").partition("/")
        return rest.removeprefix("blob/") if rest.startswith("blob/") and self._knows(token) else None

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


class _EngineSocket(tornado.websocket.WebSocketHandler):
    """The Hub's end of an engine's socket."""

    def initialize(self, hub: Hub) -> None:
        self._hub = hub
        self._listener: Listener | None = None
        self.settings["websocket_max_message_size"] = _MOST_FRAME

    def prepare(self) -> None:
        token, key = self.path_args
        listener = self._hub._listeners.get(key) if self._hub._knows(token) else None
        if listener is None:
            raise tornado.web.HTTPError(404)
        if (
            "Origin" in self.request.headers
        ):  # a Node engine sends none; a page, of whatever origin, has no business here
            raise tornado.web.HTTPError(403)
        self._key, self._listener = key, listener

    def open(self, *args: str, **kwargs: str) -> None:  # noqa: ARG002
        if self._hub._listeners.pop(self._key, None) is None:  # an address is good for one engine
            self._listener = None
            self.close()
            return
        self.set_nodelay(True)
        loop = asyncio.get_running_loop()

        def write(frames: list[bytes]) -> None:
            for frame in frames:
                with contextlib.suppress(tornado.websocket.WebSocketClosedError):  # `disconnected` tells the sender
                    self.write_message(frame, binary=True)

        def send(frames: list[bytes]) -> None:
            with contextlib.suppress(RuntimeError):  # the Hub was closed
                loop.call_soon_threadsafe(write, frames)

        if self._listener:
            self._listener.connected(send)

    def on_message(self, message: str | bytes) -> None:
        if self._listener and isinstance(message, bytes):
            self._listener.received(message)

    def on_close(self) -> None:
        if self._listener:
            self._listener.disconnected()


_shared: Hub | None = None
_owner = 0
_lock = threading.Lock()


def shared_hub() -> Hub:
    """The Hub of this process, started when first asked for.

    Examples
    --------
    >>> shared_hub() is shared_hub()
    True
    """
    global _shared, _owner
    with _lock:
        if _shared is None or _owner != os.getpid():
            _shared, _owner = Hub(Store()), os.getpid()
            atexit.register(_shared.close)
        return _shared
