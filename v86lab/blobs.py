"""Blobs over HTTP: GET, HEAD and OPTIONS of ``…/<digest>``, with ranges by RFC 9110.

`BlobServer` stands before a Tornado application and answers what is addressed to a blob; everything else goes on to
the application. It is no `RequestHandler`: a disk makes thousands of small requests, and a handler with its transforms
costs more than the bytes. So it is mounted on the server::

    HTTPServer(BlobServer(store, name_of, application))

where ``name_of(path)`` gives what follows ``blob/`` in a path that is a blob's, else None. Whoever owns the secret in
the path checks it there.

The rules it keeps:

* `byterange.decide` alone says what is answered. A range that can be satisfied gets 206, always.
* A blob is verified before its first byte is sent: hashed once per process, on another thread.
* At most `PIECE` bytes of an answer are in memory. The next piece is read when the last one has left, from a file that
  is open for this answer only, so that nothing stays open (Windows could not remove it) or outlives its connection.
* Content is never encoded: a range of a compressed representation is of no use to a disk. There is no Content-Encoding
  (RFC 9110 §8.4.1 wants "identity" left out), and ``no-transform`` keeps proxies from adding one.
* ``Cache-Control: private``: blobs never change (``immutable``), but the path holds a secret and the bytes are one
  user's. The browser's cache is the one of use; a shared cache in a JupyterHub's proxy has no business with them.
* Every origin may read (``Access-Control-Allow-Origin: *``): who knows the path may have the bytes, and no cookie or
  password adds to that. v86 in a page of another origin needs it, on errors as well, and it sends
  ``X-Accept-Encoding``, which makes browsers ask first.
* A blob has no Last-Modified: putting it again changes its file's time, not the bytes. The ETag is the digest.
"""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Generator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeAlias, cast

from tornado import gen
from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError
from tornado.log import app_log

from .byterange import (
    Multipart,
    NotModified,
    Partial,
    PreconditionFailed,
    Span,
    Unsatisfiable,
    Whole,
    decide,
)
from .errors import MalformedDigest, StoreError, UnknownDigest
from .store import Store

PIECE = 128 << 10
"""Bytes of an answer that are read and sent at a time: few enough to stay in the processor's cache meanwhile."""

TURN = 1 << 20
"""Bytes after which others are served first, however fast the client takes them."""

Steps: TypeAlias = Generator[Any, Any, None]

_ALWAYS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, ETag\r\n"
    b"Cross-Origin-Resource-Policy: cross-origin\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
)
_CACHED = "private, max-age=31536000, immutable, no-transform"
_METHODS = "GET, HEAD, OPTIONS"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": _METHODS,
    "Access-Control-Allow-Headers": "If-Match, If-None-Match, If-Range, Range, X-Accept-Encoding",
    "Access-Control-Max-Age": "86400",
}


class BlobServer(HTTPServerConnectionDelegate):
    """Answer requests for blobs, pass on all others.

    Parameters
    ----------
    store : Store
        Where blobs are.
    name_of : callable
        Given the path of a request, what should be a digest; None when the path is not one of a blob.
    application : tornado.httputil.HTTPServerConnectionDelegate
        Who answers everything else: a `tornado.web.Application`, most often.

    Examples
    --------
    >>> from tornado.web import Application
    >>> def name_of(path):
    ...     return path.removeprefix("/blob/") if path.startswith("/blob/") else None
    >>> server = BlobServer(Store(), name_of, Application())

    `server` is then what `tornado.httpserver.HTTPServer` is given.
    """

    def __init__(
        self, store: Store, name_of: Callable[[str], str | None], application: HTTPServerConnectionDelegate
    ) -> None:
        self.store = store
        self.name_of = name_of
        self.application = application

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return _Exchange(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)


class _Exchange(HTTPMessageDelegate):
    """One request and its answer, or its way to the application."""

    def __init__(self, server: BlobServer, server_connection: object, connection: HTTPConnection) -> None:
        self._server = server
        self._server_connection = server_connection
        self._connection = cast(HTTP1Connection, connection)
        self._other: HTTPMessageDelegate | None = None

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        name = self._server.name_of(start_line.path.partition("?")[0])
        if name is None:
            self._other = self._server.application.start_request(self._server_connection, self._connection)
            return self._other.headers_received(start_line, headers)
        self._name = name
        self._method = start_line.method
        self._version = start_line.version
        self._headers = headers
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._other.data_received(chunk) if self._other else None

    def finish(self) -> None:
        if self._other:
            self._other.finish()
        else:
            self._run()

    def on_connection_close(self) -> None:
        if self._other:
            self._other.on_connection_close()

    @gen.coroutine  # unlike a task it runs at once, and most often to its end: a quarter of a small request's time
    def _run(self) -> Steps:
        try:
            yield from self._answer()
            self._connection.finish()
        except StreamClosedError:
            pass  # the client went away
        except Exception:
            # Part of an answer may be out: only a connection that ends early says that the rest is missing.
            app_log.exception("a blob could not be sent")
            self._connection.close()

    def _answer(self) -> Steps:
        if self._method == "OPTIONS":
            return (yield from self._refuse(204, _PREFLIGHT))
        if self._method not in ("GET", "HEAD"):
            return (yield from self._refuse(405, {"Allow": _METHODS}))
        store = self._server.store
        try:
            file = store.open_verified(self._name)
            if file is None:
                file = yield asyncio.get_running_loop().run_in_executor(None, store.open, self._name)
        except (UnknownDigest, MalformedDigest):
            return (yield from self._refuse(404, {}))
        except StoreError as error:
            app_log.error("%s", error)
            return (yield from self._refuse(500, {}))
        with file:
            return (yield from self._answer_from(file))

    def _answer_from(self, file: io.FileIO) -> Steps:
        size = file.seek(0, os.SEEK_END)
        etag = f'"{self._name}"'
        field = self._headers.get
        decision = decide(
            self._method,
            size,
            etag,
            range=field("Range"),
            if_range=field("If-Range"),
            if_match=field("If-Match"),
            if_none_match=field("If-None-Match"),
        )
        fields = {
            "Content-Type": "application/octet-stream",
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": _CACHED,
        }
        match decision:
            case Partial(span):
                fields["Content-Range"] = span.content_range(size)
                yield from self._send(206, fields, file, [(b"", span)], b"")
            case Multipart(spans):
                boundary = secrets.token_hex(16)
                fields["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
                parts = [(_part_head(boundary, span, size), span) for span in spans]
                yield from self._send(206, fields, file, parts, f"\r\n--{boundary}--\r\n".encode())
            case Whole():
                yield from self._send(200, fields, file, [(b"", Span(0, size))], b"")
            case NotModified():
                del fields["Content-Type"]
                yield from self._write(self._head(304, fields))
            case Unsatisfiable():
                yield from self._refuse(416, {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
            case PreconditionFailed():
                yield from self._refuse(412, {})

    def _send(
        self, status: int, fields: dict[str, str], file: io.FileIO, parts: list[tuple[bytes, Span]], tail: bytes
    ) -> Steps:
        """Send parts of a file, each after some bytes of its own, and a tail."""
        length = sum(len(before) + len(span) for before, span in parts) + len(tail)
        pending = self._head(status, {**fields, "Content-Length": str(length)})
        if self._method == "HEAD":
            return (yield from self._write(pending))
        buffer = memoryview(bytearray(len(pending) + min(length, PIECE)))
        sent = 0
        for before, span in parts:
            pending += before
            file.seek(span.start)
            left = len(span)
            while left:
                taken = min(left, len(buffer) - len(pending))
                end = len(pending) + taken
                buffer[: len(pending)] = pending
                _fill(buffer[len(pending) : end], file)
                pending = b""
                left -= taken
                yield self._connection.write(cast(bytes, buffer[:end]))
                sent += taken
                if left and sent >= TURN:
                    sent = 0
                    yield gen.moment
        return (yield from self._write(pending + tail))

    def _refuse(self, status: int, fields: dict[str, str]) -> Steps:
        """Answer without a blob; nobody may keep such an answer, since the blob may come."""
        length = {} if status == 204 else {"Content-Length": "0"}
        yield from self._write(self._head(status, {**fields, **length, "Cache-Control": "no-store"}))

    def _head(self, status: int, fields: dict[str, str]) -> bytes:
        wish = self._headers.get("Connection", "").lower()
        if wish == ("close" if self._version == "HTTP/1.1" else "keep-alive"):
            fields["Connection"] = wish  # RFC 9112 §9.3: what is not the version's default is said
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        return b"HTTP/1.1 %d %s\r\nDate: %s\r\n%s%s\r\n" % (
            status,
            HTTPStatus(status).phrase.encode(),
            _date(int(time.time())),
            _ALWAYS,
            lines.encode("latin-1"),
        )

    def _write(self, data: bytes) -> Steps:
        if data:
            yield self._connection.write(data)


def _part_head(boundary: str, span: Span, size: int) -> bytes:
    """What comes before a part of a multipart answer (RFC 9110 §14.6)."""
    lines = (
        "",
        f"--{boundary}",
        "Content-Type: application/octet-stream",
        f"Content-Range: {span.content_range(size)}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def _fill(buffer: memoryview, file: io.FileIO) -> None:
    while buffer:
        count = file.readinto(buffer)
        if not count:
            raise EOFError(f"{file.name} has become shorter")
        buffer = buffer[count:]


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
