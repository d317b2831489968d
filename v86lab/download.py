"""Fetch files from the web into the Store.

The bytes stream into the Store and become visible there only when all of them have come. What a server said about a
file's version (ETag, Last-Modified) is kept, without keeping the file from `gc`: the next fetch of the same address
asks whether the file changed, and transfers nothing when it did not.

The rules, for `fetch` and for whoever stands on `open_url` and `Body`:

* only http and https are followed, also through redirections, which carry no credentials to another origin; no proxy
  is asked for what this computer serves itself;
* sizes are bounded;
* what fails for the moment (429, 5xx, a connection that broke) is asked for again a few times, with pauses; a file that
  cannot have changed goes on where it broke off (RFC 9110, 14.2).
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import io
import ipaddress
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from typing import IO, BinaryIO, TypeAlias, cast

from v86lab.errors import ImageError
from v86lab.formats import GIB, MIB, quoted, size_text
from v86lab.store import Store

Progress: TypeAlias = Callable[[int, "int | None"], object]

MAX_BYTES = 8 * GIB
PAUSES = (1.0, 2.0, 4.0)
"""Seconds before what failed for the moment is asked for again, each time once; unless the server says how long."""

_MOST_PAUSE = 60.0  # seconds that a server may make us wait
_TIMEOUT = 60.0  # seconds without a byte
_TRANSIENT = {429, 500, 502, 503, 504}
_BROKE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.IncompleteRead)
_USER_AGENT = "v86lab"
_MOST_REFUSAL = 64 << 10  # bytes kept of what a server says with a refusal


class Refused(ImageError):
    """A server answered, but not with the file.

    Attributes
    ----------
    status : int
    url : str
        The address that refused; after redirections another than was asked.
    headers : Message
    body : bytes
        What it said, cut after 64 KiB.
    """

    def __init__(self, what: str, error: urllib.error.HTTPError) -> None:
        self.status = error.code
        self.url = error.url
        self.headers = error.headers
        try:
            self.body = error.read(_MOST_REFUSAL)
        except (OSError, http.client.HTTPException):
            self.body = b""
        hint = "check the address" if error.code in (401, 403, 404, 410) else "try again later"
        super().__init__(what, expected="an answer with the file", seen=f"{error.code} {error.reason}", hint=hint)


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


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address: what credentials are for.

    Examples
    --------
    >>> origin("https://example.org/a") == origin("https://EXAMPLE.org:443/b")
    True
    """
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this computer's own.

    Examples
    --------
    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("[::1]"), is_loopback("example.org")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


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
    what = f"cannot fetch {quoted(url)}"
    known = store.pinned(_pin(url))
    remembered = dict(known.value or {}) if known is not None else {}
    digest = remembered.get("digest")
    headers: dict[str, str] = {}
    if isinstance(digest, str) and digest in store:
        if isinstance(remembered.get("etag"), str):
            headers["If-None-Match"] = remembered["etag"]
        elif isinstance(remembered.get("modified"), str):
            headers["If-Modified-Since"] = remembered["modified"]
    try:
        response = open_url(what, url, headers)
    except Refused as refused:
        if refused.status == 304:
            return cast("str", digest)
        raise
    etag = response.headers.get("ETag")
    version = {"etag": etag, "modified": response.headers.get("Last-Modified")}
    again = None
    if etag is not None and etag.startswith('"'):  # a weak one, W/"...", may stay when bytes change

        def again(offset: int) -> http.client.HTTPResponse:
            return open_url(what, url, {"Range": f"bytes={offset}-", "If-Range": etag})

    with Body(what, response, max_bytes, progress=progress, again=again) as body:
        fetched = store.put(cast("BinaryIO", io.BufferedReader(body, MIB)))
    if any(version.values()):
        store.pin(_pin(url), (), {"url": url, "digest": fetched} | {k: v for k, v in version.items() if v})
    return fetched


def _pin(url: str) -> str:
    return "url-" + hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def open_url(
    what: str, url: str, headers: Mapping[str, str] | None = None, data: bytes | None = None
) -> http.client.HTTPResponse:
    """Open an address; the caller closes the answer.

    Parameters
    ----------
    what : str
        What cannot be done if this fails, for errors.
    url : str
    headers : mapping, optional
    data : bytes, optional
        A form to post.

    Raises
    ------
    Refused
        The server answered with an error, still after the pauses, or with 304.
    ImageError
        The address is wrong, or nobody answers.
    """
    request = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
    for pause in (*PAUSES, None):
        try:
            if re.search(r"[\x00-\x20\x7f-\U0010ffff]", url):
                raise ValueError("characters that must be percent-encoded")
            response = _opener(url).open(urllib.request.Request(url, data, request), timeout=_TIMEOUT)
            assert response is not None
            return cast("http.client.HTTPResponse", response)
        except urllib.error.HTTPError as error:
            with error:
                refused = Refused(what, error)
            wait = _asked_to_wait(refused.headers)
            if pause is None or refused.status not in _TRANSIENT or (wait or 0) > _MOST_PAUSE:
                raise refused from error
            pause = pause if wait is None else wait
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
            reason = getattr(error, "reason", "") or error
            if pause is None or not isinstance(reason, _BROKE):
                raise ImageError(
                    what,
                    expected="an http or https address that answers",
                    seen=str(reason),
                    hint="check the address and the network, or download the file yourself and give its path",
                ) from error
        time.sleep(pause)
    raise AssertionError("unreachable")


def _opener(url: str) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    if not is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        opener.add_handler(urllib.request.ProxyHandler())
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections; credentials stay with the origin that they are for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if new is not None and origin(new.full_url) != origin(req.full_url):
            new.remove_header("Authorization")
        return new


def _asked_to_wait(headers: Message) -> float | None:
    """Seconds that a Retry-After says, or None (RFC 9110, 10.2.3: seconds or a date)."""
    said = str(headers.get("Retry-After", "")).strip()
    if re.fullmatch(r"\d{1,9}", said, re.ASCII):
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


class Body(io.RawIOBase):
    """An answer's bytes as a raw stream, counted against what was promised and what is allowed.

    Parameters
    ----------
    what : str
        What cannot be done if this fails, for errors.
    response : HTTPResponse
        Closed with the stream.
    max_bytes : int
        More is refused, as soon as that is known.
    total : int, optional
        Bytes that must come. Default: what the server promises, if it does.
    progress : callable, optional
        Called with (bytes so far, bytes in all or None).
    again : callable, optional
        Asks for the rest from a byte on, if that is certain to be the rest of the same file.
    """

    def __init__(
        self,
        what: str,
        response: http.client.HTTPResponse,
        max_bytes: int,
        *,
        total: int | None = None,
        progress: Progress | None = None,
        again: Callable[[int], http.client.HTTPResponse] | None = None,
    ) -> None:
        super().__init__()
        self._what = what
        self._response = response
        self._max = max_bytes
        self._progress = progress
        self._again = again
        promised = response.length  # Content-Length; http.client counts it down as it reads
        self._total = promised if total is None else total
        self._done = 0
        self._resumed: list[int] = []  # where, since the last MiB without trouble
        try:
            self._bound(self._total or 0)
            if promised is not None and promised != self._total:
                raise ImageError(what, expected=f"{self._total} bytes", seen=f"a server that promises {promised}")
        except ImageError:
            self.close()
            raise

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

    def close(self) -> None:
        self._response.close()
        super().close()

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while True:
            try:
                count = self._response.readinto(buffer)
            except (OSError, http.client.HTTPException) as error:
                self._resume(f"then: {error}", error)
                continue
            if count or self._total is None or self._done >= self._total:
                break
            self._resume("the connection broke off", None)
        self._done += count
        self._bound(self._done)
        if self._progress is not None and count:
            self._progress(self._done, self._total)
        return count

    def _resume(self, seen: str, error: Exception | None) -> None:
        """Go on where the bytes broke off, or say that they did."""
        self._resumed = [offset for offset in self._resumed if self._done - offset < MIB]
        if self._again is None or len(self._resumed) >= len(PAUSES):
            raise ImageError(
                self._what,
                expected="the whole file" if self._total is None else f"{self._total} bytes",
                seen=f"{self._done}: {seen}",
                hint="try again",
            ) from error
        time.sleep(PAUSES[len(self._resumed)])
        self._resumed.append(self._done)
        self._response.close()
        self._response = self._again(self._done)
        place = self._response.headers.get("Content-Range", "")
        if self._response.status != 206 or not place.startswith(f"bytes {self._done}-"):
            raise ImageError(
                self._what,
                expected=f"the rest from byte {self._done} on, where the connection broke off",
                seen=f"{self._response.status} {quoted(place)}",
                hint="try again",
            ) from error
