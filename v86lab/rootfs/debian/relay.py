"""Debian mirrors as apt sees them during a build: on loopback, and what was fetched before comes from the Store.

apt's sources name this server, ``http://127.0.0.1:<port>/<token>/<number of the mirror>``, so that http, https, file
and copy mirrors are all the same to it, in whatever namespace it runs. The rules:

* what has a digest that is known beforehand is kept in the Store, found there by that digest and never fetched twice:
  a .deb by what the suite's Packages file says of it, an index by its name (``by-hash/SHA256/...``). No pin keeps it:
  the Store's `gc` removes it a day after it was last used;
* everything else, the suite's state above all, is fetched each time;
* nothing here is trusted: apt checks signatures and hashes of all that it gets;
* only files below the given mirrors are served, and the address has a secret that other users do not know.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from v86lab.download import Body, Refused, open_url
from v86lab.errors import ImageError, V86LabError
from v86lab.formats import GIB, quoted
from v86lab.store import Store

from .index import Offer, offers
from .mirror import ABSENT, ARCHITECTURE, Mirror

_PIECE = 1 << 18
_MOST = 8 * GIB
_BY_HASH = re.compile(r".*/by-hash/SHA256/([0-9a-f]{64})")
_INDEX = re.compile(rf"(.*/binary-({ARCHITECTURE}|all)/by-hash/SHA256/.*|(.*/)?Packages(\.(xz|gz|bz2))?)")


class Relay:
    """A server for apt, while its block lasts.

    Parameters
    ----------
    mirrors : sequence of Mirror
    store : Store
    advance : callable
        Called with the number of bytes that have come from a mirror, by other threads.

    Attributes
    ----------
    faults : list of str
        What went wrong with a mirror, in words.
    """

    def __init__(self, mirrors: Sequence[Mirror], store: Store, advance: Callable[[int], object]) -> None:
        self.faults: list[str] = []
        self._mirrors = tuple(mirrors)
        self._store = store
        self._advance = advance
        self._token = secrets.token_hex(16)
        self._indexes: dict[str, int] = {}  # digest of a Packages file, and its mirror
        self._known: dict[tuple[int, str], str] = {}
        self._read: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Relay:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="v86lab-debian-relay")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def lines(self) -> list[str]:
        """The lines of apt's sources that lead here."""
        port = self._server.server_address[1]
        return [
            mirror.line(f"http://127.0.0.1:{port}/{self._token}/{number}")
            for number, mirror in enumerate(self._mirrors)
        ]

    def offers(self) -> Iterator[Offer]:
        """What the Packages files that apt has fetched so far offer."""
        with self._lock:
            digests = list(self._indexes)
        for digest in digests:
            yield from offers(self._store.get(digest))

    def serve(self, handler: _Handler) -> None:
        """Answer one request."""
        match = re.fullmatch(r"/([0-9a-f]+)/([0-9]{1,3})/([\x21-\x7e]+)", handler.path)
        if match is None or not secrets.compare_digest(match[1], self._token) or int(match[2]) >= len(self._mirrors):
            handler.refuse(404)
            return
        number, path = int(match[2]), match[3]
        if ".." in unquote(path).split("/"):
            handler.refuse(404)
            return
        with contextlib.suppress(_Gone):
            digest = self._expected(number, path)
            if digest is not None and self._store.touch(digest):
                self._from_store(handler, digest)
            else:
                digest = self._from_mirror(handler, number, path, digest)
            if digest is not None and _INDEX.fullmatch(path):
                with self._lock:
                    self._indexes[digest] = number

    def _expected(self, number: int, path: str) -> str | None:
        """The digest that a file must have, if that is known."""
        match = _BY_HASH.fullmatch(path)
        if match is not None:
            return match[1]
        if not path.endswith(".deb"):
            return None
        with self._lock:
            for digest, its in self._indexes.items():
                if digest not in self._read:
                    self._read.add(digest)
                    for offer in offers(self._store.get(digest)):
                        if re.fullmatch(r"[0-9a-f]{64}", offer.sha256):
                            self._known[its, offer.filename.removeprefix("./")] = offer.sha256
            return self._known.get((number, unquote(path).removeprefix("./")))

    def _from_store(self, handler: _Handler, digest: str) -> None:
        with self._store.open(digest) as file:
            handler.begin(self._store.size(digest))
            while piece := file.read(_PIECE):
                handler.send(piece)

    def _from_mirror(self, handler: _Handler, number: int, path: str, digest: str | None) -> str | None:
        """Fetch a file, hand it on as it comes, and keep it if that is of use; its digest then."""
        mirror = self._mirrors[number]
        what = f"cannot fetch {quoted(mirror.address(path))}"
        begun = False
        try:
            source = _opened(mirror, path, what)
            if source is None:  # apt asks for files that a mirror need not have, such as translations
                handler.refuse(404)
                return None
            with contextlib.closing(source):
                handler.begin(source.length)
                begun = True
                passing = _Passing(source, handler, self._advance)
                if digest is not None or _INDEX.fullmatch(path):
                    return self._store.put(cast("BinaryIO", passing), digest)
                while passing.read(_PIECE):
                    pass
        except V86LabError as error:
            self.faults.append(str(error))
            if begun:
                handler.close_connection = True
            else:
                handler.refuse(502)
        return None


class _Source:
    """A file of a mirror, being read.

    Attributes
    ----------
    length : int, optional
        Bytes, if the mirror says.
    """

    def __init__(self, stream: io.BufferedReader, length: int | None) -> None:
        self._stream = stream
        self.length = length
        self.read1 = stream.read1
        self.close = stream.close


def _opened(mirror: Mirror, path: str, what: str) -> _Source | None:
    """A file of a mirror; None when it has none of that name."""
    if mirror.folder is not None:
        file = mirror.file(path)
        try:
            if file is None or not file.is_file():
                return None
            opened = file.open("rb")
        except OSError as error:
            raise ImageError(what, expected="a file that can be read", seen=error.strerror) from error
        return _Source(opened, os.fstat(opened.fileno()).st_size)
    url = mirror.address(path)
    try:
        response = open_url(what, url)
    except Refused as refused:
        if refused.status in ABSENT:
            return None
        raise
    etag = response.headers.get("ETag", "")
    length = response.length

    def again(offset: int) -> http.client.HTTPResponse:
        return open_url(what, url, {"Range": f"bytes={offset}-", "If-Range": etag})

    # a weak ETag, W/"...", may stay when bytes change
    body = Body(what, response, _MOST, again=again if etag.startswith('"') else None)
    return _Source(io.BufferedReader(body, _PIECE), length)


class _Passing:
    """A source whose bytes also go to apt as they are read."""

    def __init__(self, source: _Source, handler: _Handler, advance: Callable[[int], object]) -> None:
        self._source = source
        self._handler = handler
        self._advance = advance

    def read(self, size: int) -> bytes:
        piece = self._source.read1(size)
        self._advance(len(piece))
        self._handler.send(piece)
        return piece


class _Gone(Exception):
    """apt has hung up."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # one may hang at a mirror: nobody waits for it, its timeout ends it

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60.0  # seconds that a connection may be idle
    server: _Server

    def do_GET(self) -> None:
        try:
            self.server.relay.serve(self)
        except OSError:
            self.close_connection = True

    def begin(self, length: int | None) -> None:
        """Say that a file follows."""
        self.send_response(200)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send(self, piece: bytes) -> None:
        """Some of its bytes."""
        try:
            self.wfile.write(piece)
        except OSError:
            self.close_connection = True
            raise _Gone from None

    def refuse(self, status: int) -> None:
        """Say that there is no file."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass
