"""Fetch a file from the web into the Store.

The bytes stream into the Store and become visible there only when all of them have come. What a server said about a
file's version (ETag, Last-Modified) is kept, without keeping the file from `gc`: the next fetch of the same address
asks whether the file changed, and transfers nothing when it did not. Only http and https are followed, also through
redirections; sizes are bounded.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeAlias, cast

from v86lab.errors import ImageError
from v86lab.formats import GIB, quoted, size_text
from v86lab.store import Store

Progress: TypeAlias = Callable[[int, "int | None"], object]

MAX_BYTES = 8 * GIB
_TIMEOUT = 60.0  # seconds without a byte
_USER_AGENT = "v86lab"


def file_name(url: str) -> str:
    """The file name an address ends in, or an empty text.

    Examples
    --------
    >>> file_name("https://example.org/images/tiny%20core.iso?mirror=2")
    'tiny core.iso'
    """
    try:
        return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rsplit("/", 1)[-1]
    except ValueError:
        return ""


def fetch(url: str, store: Store, max_bytes: int = MAX_BYTES, progress: Progress | None = None) -> str:
    """Download a file into the Store.

    Parameters
    ----------
    url : str
        An http or https address.
    store : Store
    max_bytes : int
        A longer answer is refused, as soon as that is known.
    progress : callable, optional
        Called with (bytes so far, bytes in all or None).

    Returns
    -------
    str
        The digest.

    Raises
    ------
    ImageError
        The address is wrong, nobody answers, the server refuses, or the answer is too long or breaks off.

    Examples
    --------
    >>> fetch("https://example.org/linux.iso", Store())    # doctest: +SKIP
    'b7e9...'
    """
    known = store.pinned(_pin(url))
    remembered = dict(known.value or {}) if known is not None else {}
    digest = remembered.get("digest")
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if isinstance(digest, str) and digest in store:
        if isinstance(remembered.get("etag"), str):
            headers["If-None-Match"] = remembered["etag"]
        elif isinstance(remembered.get("modified"), str):
            headers["If-Modified-Since"] = remembered["modified"]
    with _answer(url, headers) as response:
        if response is None:
            return cast("str", digest)
        body = _Body(url, response, max_bytes, progress)
        fetched = store.put(cast("BinaryIO", io.BufferedReader(body, 1 << 20)))
        version = {"etag": response.headers.get("ETag"), "modified": response.headers.get("Last-Modified")}
    if any(version.values()):
        store.pin(_pin(url), (), {"url": url, "digest": fetched} | {k: v for k, v in version.items() if v})
    return fetched


def _pin(url: str) -> str:
    return "url-" + hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse | None]:
    """Open the address; None means that it has not changed."""
    what = f"cannot fetch {quoted(url)}"
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        if re.search(r"[\x00-\x20\x7f-\U0010ffff]", url):
            raise ValueError("characters that must be percent-encoded")
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304:
                yield None
                return
            seen = f"{error.code} {error.reason}"
            hint = "check the address" if error.code in (401, 403, 404, 410) else "try again later"
        raise ImageError(what, expected="an answer with the file", seen=seen, hint=hint) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        seen = str(getattr(error, "reason", "") or error)
        raise ImageError(
            what,
            expected="an http or https address that answers",
            seen=seen,
            hint="check the address and the network, or download the file yourself and give its path",
        ) from error
    assert response is not None
    with response:
        yield response


class _Body(io.RawIOBase):
    """An answer's bytes as a raw stream, counted against what was promised and what is allowed."""

    def __init__(self, url: str, response: http.client.HTTPResponse, max_bytes: int, progress: Progress | None) -> None:
        super().__init__()
        self._what = f"cannot fetch {quoted(url)}"
        self._response = response
        self._max = max_bytes
        self._progress = progress
        self._total = response.length  # what Content-Length promised; http.client counts it down as it reads
        self._done = 0
        self._bound(self._total or 0)

    def _bound(self, size: int) -> None:
        if size > self._max:
            raise ImageError(
                self._what,
                expected=f"at most {size_text(self._max)}",
                seen=f"{size} bytes or more",
                hint="download the file yourself and give its path",
            )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        try:
            count = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise ImageError(
                self._what, expected="the whole file", seen=f"{self._done} bytes, then: {error}", hint="try again"
            ) from error
        self._done += count
        self._bound(self._done)
        if count == 0 and self._total is not None and self._done != self._total:
            raise ImageError(
                self._what,
                expected=f"{self._total} bytes",
                seen=f"{self._done}: the connection broke off",
                hint="try again",
            )
        if self._progress is not None and count:
            self._progress(self._done, self._total)
        return count
