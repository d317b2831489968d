"""A bad network between a browser and a Jupyter server: cut, refused, slow, silent, or answered by a broken proxy.

A relay takes HTTP requests on a port of its own and hands them on, each on a connection that serves it alone, so that
what happens can be confined to some paths. It runs on a thread of its own; tests say what the weather is.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

_CHUNK = 1 << 16
_BAD_GATEWAY, _FORBIDDEN = (
    b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    for status in (b"502 Bad Gateway", b"403 Forbidden")
)


@dataclass(eq=False)
class _Connection:
    path: str
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    received: int = 0  # bytes that came for the browser

    def cut(self) -> None:
        for end in (self.near, self.far):
            end.transport.abort()


@dataclass
class Relay:
    """A relay to a port of this host, until its ``with`` block ends.

    Attributes
    ----------
    port : int
        Where it listens, on loopback.
    delay : float
        Seconds that everything takes longer, each way.
    paths : list of str
        All that was asked for, in order.
    """

    target: int
    port: int = 0
    delay: float = 0.0
    paths: list[str] = field(default_factory=list)
    _broken: re.Pattern[str] | None = None
    _no_sockets: re.Pattern[str] | None = None
    _silent: re.Pattern[str] | None = None
    _trap: tuple[re.Pattern[str], int, threading.Event] | None = None
    _connections: set[_Connection] = field(default_factory=set)

    def __enter__(self) -> Relay:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._on_loop(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._refuse())
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    # -- the weather ---------------------------------------------------------------------------------------------------

    def cut(self, only: str = "") -> None:
        """End every connection whose path matches, at once; new ones are taken."""
        self._call(lambda: self._cut(re.compile(only)))

    def cut_when(self, path: str, received: int) -> threading.Event:
        """Cut what the proxy carries once, when a connection whose path matches has brought so many bytes.

        The event tells that it happened. Jupyter's own connections stay: it would lose what is under way.
        """
        done = threading.Event()
        self._trap = re.compile(path), received, done
        return done

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Nobody listens, and what was connected is cut."""
        self._on_loop(self._refuse())
        self.cut()
        try:
            yield
        finally:
            self._on_loop(self._listen())

    @contextmanager
    def bad_gateway(self, only: str = "") -> Iterator[None]:
        """Requests are answered with 502, and what was connected is cut."""
        self._broken = re.compile(only)
        self.cut(only)
        try:
            yield
        finally:
            self._broken = None

    @contextmanager
    def no_sockets(self, only: str = "") -> Iterator[None]:
        """Requests for a WebSocket are answered with 403."""
        self._no_sockets = re.compile(only)
        try:
            yield
        finally:
            self._no_sockets = None

    @contextmanager
    def silent(self, only: str = "") -> Iterator[None]:
        """Connections stay, and nothing moves; in the end they are cut."""
        self._silent = re.compile(only)
        try:
            yield
        finally:
            self._silent = None
            self.cut(only)

    # -- on the relay's thread -----------------------------------------------------------------------------------------

    def _on_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _call(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        self._on_loop(call())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        self._server.close()

    def _cut(self, only: re.Pattern[str]) -> None:
        for connection in list(self._connections):
            if only.search(connection.path):
                connection.cut()

    async def _accept(self, from_near: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            head = await from_near.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            near.close()
            return
        path = head.split(b" ", 2)[1].decode()
        self.paths.append(path)
        upgrade = re.search(rb"(?im)^upgrade:", head)
        for answer, refused in ((_BAD_GATEWAY, self._broken), (_FORBIDDEN, self._no_sockets if upgrade else None)):
            if refused is not None and refused.search(path):
                near.write(answer)
                near.close()
                return
        from_far, far = await asyncio.open_connection("127.0.0.1", self.target)
        connection = _Connection(path, near, far)
        self._connections.add(connection)
        if not upgrade:
            head = re.sub(rb"(?im)^connection:[^\r]*", b"Connection: close", head)
        ways = (self._carry(connection, from_near, far, head), self._carry(connection, from_far, near, b""))
        await asyncio.gather(*ways, return_exceptions=True)
        connection.cut()
        self._connections.discard(connection)

    async def _carry(
        self, connection: _Connection, source: asyncio.StreamReader, target: asyncio.StreamWriter, first: bytes
    ) -> None:
        """Hand on what comes, in order and not before its time."""
        loop = asyncio.get_running_loop()
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        if first:
            way.put_nowait((loop.time() + self.delay, first))

        async def take() -> None:
            with suppress(ConnectionError):
                while data := await source.read(_CHUNK):
                    way.put_nowait((loop.time() + self.delay, data))
            way.put_nowait((loop.time() + self.delay, b""))

        taking = asyncio.create_task(take())
        try:
            while True:
                due, data = await way.get()
                await asyncio.sleep(due - loop.time())
                while self._silent is not None and self._silent.search(connection.path):
                    await asyncio.sleep(0.05)
                if not data:
                    break
                if target is connection.near:
                    self._bring(connection, len(data))
                target.write(data)
                await target.drain()
            if target.can_write_eof():
                target.write_eof()
        except ConnectionError:
            connection.cut()
        finally:
            taking.cancel()

    def _bring(self, connection: _Connection, size: int) -> None:
        connection.received += size
        if self._trap is not None and self._trap[0].search(connection.path) and connection.received >= self._trap[1]:
            done, self._trap = self._trap[2], None
            self._cut(re.compile("/proxy/"))
            done.set()
