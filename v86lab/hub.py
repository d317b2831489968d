"""The only server: one Tornado application on its own thread, on loopback, with a secret in the path.

It serves the Store's blobs (`v86lab.blobs`) and the WebSockets that engines and pages dial. Rules:

- whoever does not know a secret gets the same 404 for every path, and nothing is logged: paths hold secrets;
- processes of ours are told the token. A page is told a ticket (`Hub.make_ticket`), good once and for a minute, which
  it exchanges for a session secret; that opens WebSockets to pages of the origin which exchanged it, and to no other.
  An answer may be lost on the way: until its secret is used a ticket may be exchanged again, for another secret;
- nothing here runs user code: what arrives goes to the listener that was registered for it, on this thread;
- one Hub serves a process; a forked child makes its own, because threads do not survive a fork.

======================================  ======================================================================
``GET /<id>``                           the Hub's `id`, which is no secret: a page learns that it found the Hub
``POST /<id>/session``                  a ticket for a session secret
``GET /<secret>/blob/<digest>``         bytes of the Store
``/<secret>/engine/<key>``              WebSocket of an engine (`Hub.expect_engine`)
``/<secret>/view/<machine>``            WebSocket of a page that shows a machine (`Hub.show`)
======================================  ======================================================================
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket
from tornado.log import app_log

from .blobs import BlobServer
from .errors import EngineError
from .protocol import CHUNK
from .store import Store

_TOKEN_BYTES = 32  # 256 bits
_TICKET_LIFE = 60.0  # s
_GIVEN_UP = 4000  # WebSocket close code: do not dial again
_MOST_FRAME = CHUNK + (16 << 20)  # a chunk and the largest header that the protocol allows


class Listener(Protocol):
    """What hears a socket; called on the Hub's thread, must not block."""

    def connected(self, send: Callable[[list[bytes | str]], None]) -> None:
        """Someone dialled; `send` may be called on any thread."""

    def received(self, data: bytes | str) -> None:
        """A message arrived."""

    def disconnected(self) -> None:
        """The socket closed, by whichever end."""


@dataclass
class _Address:
    """Where sockets dial: once, again after a loss (the new one takes the place of the old), or many at a time."""

    listener: Callable[[], Listener]
    dials: Literal["once", "again", "many"]
    sockets: set[_Socket] = field(default_factory=set)

    def hang_up(self, code: int | None = None) -> None:
        """Close what is connected there. On the Hub's thread."""
        for socket in list(self.sockets):
            socket.close(code)


@dataclass
class _Ticket:
    until: float
    used: Callable[[], object]
    origin: str | None = None  # of the page that exchanged it
    secret: bytes = b""  # digest of what that page was given


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
        self.id = secrets.token_urlsafe(12)
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tickets: dict[str, _Ticket] = {}
        self._origins: dict[bytes, str] = {}  # of the pages that hold the secret with this digest
        self._unused: dict[bytes, str] = {}  # the ticket of a secret that nobody has used yet
        self._engines: dict[str, _Address] = {}
        self._machines: dict[str, _Address] = {}
        try:
            sockets = tornado.netutil.bind_sockets(port, "127.0.0.1")
        except OSError as error:
            raise EngineError(
                f"the Hub cannot listen on 127.0.0.1:{port}", seen=str(error), hint="choose another port, or 0 for any"
            ) from error
        self.port: int = sockets[0].getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(thread_name_prefix="v86lab hub")
        self._loop.set_default_executor(self._executor)
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

    def expect_engine(self, listener: Listener, redial: bool = False) -> tuple[str, str]:
        """Make an address for one engine to dial: once, or with `redial` again whenever its socket was lost.

        Returns
        -------
        key, address : str
            The key for `forget_engine`, and a ``ws://`` URL.
        """
        key = secrets.token_urlsafe(16)
        self._engines[key] = _Address(lambda: listener, "again" if redial else "once")
        return key, f"ws{self.url[4:]}engine/{key}"

    def forget_engine(self, key: str) -> None:
        """The address of `expect_engine` is no longer valid; whoever is connected there is told not to dial again."""
        address = self._engines.pop(key, None)
        if address is not None:
            self.call_soon(partial(address.hang_up, _GIVEN_UP))

    def hang_up(self, key: str) -> None:
        """Close an engine's socket, so that it dials again. To be called on the Hub's thread."""
        address = self._engines.get(key)
        if address is not None:
            address.hang_up()

    def show(self, machine: str, listener: Callable[[], Listener]) -> None:
        """Let pages dial for the machine of this name; `listener` makes one for each socket."""
        self._machines[machine] = _Address(listener, "many")

    def hide(self, machine: str) -> None:
        """Undo `show`; pages that are connected are told not to dial again."""
        address = self._machines.pop(machine, None)
        if address is not None:
            self.call_soon(partial(address.hang_up, _GIVEN_UP))

    def make_ticket(self, used: Callable[[], object] = lambda: None) -> str:
        """A ticket for one page, to be exchanged within a minute; `used` is called when it is, on the Hub's thread.

        Examples
        --------
        >>> hub = shared_hub()
        >>> hub.make_ticket() != hub.make_ticket()
        True
        """
        now, ticket = time.monotonic(), secrets.token_urlsafe(_TOKEN_BYTES)
        for old in [old for old, one in list(self._tickets.items()) if one.until < now]:
            self._tickets.pop(old, None)
        self._tickets[ticket] = _Ticket(now + _TICKET_LIFE, used)
        return ticket

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call on the Hub's thread."""
        with contextlib.suppress(RuntimeError):  # the Hub was closed
            self._loop.call_soon_threadsafe(callback)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Call on the Hub's thread after a while; gives what cancels it. To be called there as well."""
        return self._loop.call_later(seconds, callback).cancel

    def close(self) -> None:
        """Stop serving and end the thread."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self, sockets: list[Any], started: Future[None]) -> None:
        asyncio.set_event_loop(self._loop)
        application = tornado.web.Application(
            [
                (r"/([^/]+)", _Identity, {"hub": self}),
                (r"/([^/]+)/session", _SessionMaker, {"hub": self}),
                (r"/([^/]+)/engine/([^/]+)", _Socket, {"hub": self, "addresses": self._engines}),
                (r"/([^/]+)/view/([^/]+)", _Socket, {"hub": self, "addresses": self._machines}),
            ],
            default_handler_class=_Nothing,
            log_function=lambda _: None,
            websocket_max_message_size=_MOST_FRAME,
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
            self._executor.shutdown()  # not the loop's own way, which starts a thread: at exit there are no new ones
            self._loop.close()

    def _blob_name(self, path: str) -> str | None:
        token, _, rest = path.removeprefix("/").partition("/")
        return rest.removeprefix("blob/") if rest.startswith("blob/") and self._knows(token) else None

    def _knows(self, secret: str) -> bool:
        digest = _digest(secret)
        if digest in self._unused:
            self._tickets.pop(self._unused.pop(digest), None)
        return self._is_token(secret) or digest in self._origins

    def _is_token(self, secret: str) -> bool:
        return hmac.compare_digest(secret.encode(), self._token.encode())

    def _may_dial(self, secret: str, origin: str | None) -> bool:
        """A process of ours has the token and sends no Origin, a page is bound to the one that exchanged its ticket."""
        return self._is_token(secret) if origin is None else self._origins.get(_digest(secret)) == origin

    def _exchange(self, ticket: str, origin: str) -> str | None:
        one = self._tickets.get(ticket)
        if one is None or one.until < time.monotonic() or one.origin not in (None, origin):
            return None
        if one.origin is None:
            one.used()
        self._unused.pop(one.secret, None)
        self._origins.pop(one.secret, None)
        secret = secrets.token_urlsafe(_TOKEN_BYTES)
        one.origin, one.secret = origin, _digest(secret)
        self._origins[one.secret], self._unused[one.secret] = origin, ticket
        return secret


def _digest(secret: str) -> bytes:
    """Secrets are looked up by digest: how long that takes tells nothing about them."""
    return hashlib.sha256(secret.encode()).digest()


class _Handler(tornado.web.RequestHandler):
    """Any page may read the answers: one that was refused a socket asks why, and a 404 is ours, not a proxy's."""

    def set_default_headers(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")

    def log_exception(self, kind: Any, error: BaseException | None, trace: Any) -> None:  # noqa: ARG002
        """As Tornado does, but without the request: its path holds a secret."""
        if not isinstance(error, tornado.web.HTTPError):
            app_log.error("a defect of v86lab's Hub", exc_info=error)


class _Nothing(_Handler):
    """All other paths."""

    def prepare(self) -> None:
        raise tornado.web.HTTPError(404)


class _Public(_Handler):
    """What a page may ask without a secret, knowing the Hub's id."""

    def initialize(self, hub: Hub) -> None:
        self._hub = hub

    def prepare(self) -> None:
        if self.path_args[0] != self._hub.id:
            raise tornado.web.HTTPError(404)
        self.set_header("Cache-Control", "no-store")


class _Identity(_Public):
    def get(self, _: str) -> None:
        self.finish({"hub": self._hub.id})


class _SessionMaker(_Public):
    def check_xsrf_cookie(self) -> None:
        """There are no cookies."""

    def post(self, _: str) -> None:
        secret = self._hub._exchange(self.request.body.decode(errors="replace"), self.request.headers.get("Origin", ""))
        if secret is None:
            self.set_status(403)
            self.finish({"error": "ticket"})
        else:
            self.finish({"secret": secret})


class _Socket(_Handler, tornado.websocket.WebSocketHandler):
    """The Hub's end of a socket: hands on to the listener of whatever was dialled."""

    _listener: Listener | None = None

    def initialize(self, hub: Hub, addresses: dict[str, _Address]) -> None:
        self._hub, self._addresses = hub, addresses

    def prepare(self) -> None:
        secret, name = self.path_args
        if not self._hub._knows(secret) or name not in self._addresses:
            raise tornado.web.HTTPError(404)
        if not self._hub._may_dial(secret, self.request.headers.get("Origin")):
            raise tornado.web.HTTPError(403)

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002
        """`prepare` did; behind a proxy Tornado's own rule, Origin like Host, does not hold."""
        return True

    def open(self, *args: str, **kwargs: str) -> None:  # noqa: ARG002
        address = self._addresses.get(args[1])
        if address is None:  # someone else was faster
            self.close(_GIVEN_UP)
            return
        if address.dials == "once":
            del self._addresses[args[1]]
        elif address.dials == "again":
            for dead in list(address.sockets):  # the engine knows that before we do
                dead.on_close()
                dead.close()
        address.sockets.add(self)
        self._address, self._listener = address, address.listener()
        self.set_nodelay(True)

        def write(messages: list[bytes | str]) -> None:
            for message in messages:
                with contextlib.suppress(tornado.websocket.WebSocketClosedError):  # `disconnected` tells the sender
                    self.write_message(message, binary=isinstance(message, bytes))

        self._listener.connected(lambda messages: self._hub.call_soon(lambda: write(messages)))

    def on_message(self, message: str | bytes) -> None:
        if self._listener:
            self._listener.received(message)

    def on_close(self) -> None:
        if self._listener:
            self._address.sockets.discard(self)
            self._listener.disconnected()
            self._listener = None


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
