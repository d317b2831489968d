from __future__ import annotations

import doctest
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import samples

from v86lab import download, images
from v86lab.errors import ImageError
from v86lab.store import Store

BODY = os.urandom(3_000_000)


class Handler(BaseHTTPRequestHandler):
    """A server that behaves as its path says; it keeps the requests' headers."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        kind, _, rest = self.path.strip("/").partition("/")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname" if rest == "file" else "/" + rest)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "none":
            self.send_error(404)
        elif kind == "etag" and self.headers.get("If-None-Match") == '"one"':
            self.send_response(304)
            self.end_headers()
        elif kind == "busy" and len(self.seen) < 3:
            self.send_response(503)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind in ("cut", "weak", "changed"):
            self.cut(kind)
        elif kind == "nonsense":
            self.wfile.write(b"I do not speak HTTP\r\n\r\n")
            self.close_connection = True
        else:
            body = samples.iso() if kind == "iso" else b"<html>hello</html>" if kind == "html" else BODY
            self.send_response(200)
            if kind != "unsized":
                self.send_header("Content-Length", str(len(body) + (kind == "short")))
            if kind == "etag":
                self.send_header("ETag", '"one"')
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    def cut(self, kind: str) -> None:
        """A million bytes at a time, then the connection breaks off."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        same = self.headers.get("If-Range") == '"one"' and kind == "cut"
        self.send_response(206 if start and same else 200)
        start = start if same else 0
        self.send_header("Content-Length", str(len(BODY) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("ETag", 'W/"one"' if kind == "weak" else '"one"')
        self.end_headers()
        self.wfile.write(BODY[start : start + 1_000_000])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(download)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize(("path", "total"), [("plain", len(BODY)), ("unsized", None), ("redirect/plain", len(BODY))])
def test_a_download_is_in_the_store_and_tells_its_progress(
    server: str, store: Store, path: str, total: int | None
) -> None:
    progress: list[tuple[int, int | None]] = []
    digest = download.fetch(server + path, store, progress=lambda done, of: progress.append((done, of)))
    assert digest == hashlib.sha256(BODY).hexdigest() and store.get(digest) == BODY
    assert progress[-1] == (len(BODY), total) and progress == sorted(progress, key=lambda step: step[0])
    assert Handler.seen[-1]["Accept-Encoding"] == "identity"


def test_an_unchanged_file_is_not_transferred_again_and_a_collected_one_is(server: str, store: Store) -> None:
    digest = download.fetch(server + "etag", store)
    assert download.fetch(server + "etag", store) == digest
    assert [request.get("If-None-Match") for request in Handler.seen] == [None, '"one"']
    store.gc(older_than=-1)
    assert digest not in store, "what a server said about a file does not keep it"
    assert download.fetch(server + "etag", store) == digest and digest in store
    assert Handler.seen[-1].get("If-None-Match") is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "saw 404 Not Found.*check the address"),
        ("short", "expected 3000001 bytes, saw 3000000: the connection broke off"),
        ("redirect/file", "cannot fetch"),
        ("redirect/redirect/redirect/none", "404"),
        ("nonsense", "cannot fetch"),
        ("white space", "percent-encoded"),
        ("caf\xe9", "percent-encoded"),
    ],
)
def test_what_goes_wrong_is_an_image_error_and_leaves_no_blob(
    server: str, store: Store, path: str, message: str
) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        download.fetch(server + path, store)
    assert caught.value.hint and list(store.digests()) == []
    assert not [file for file in store.home.rglob("tmp/*") if file.is_file()]


def test_a_file_that_cannot_have_changed_goes_on_where_it_broke_off(
    server: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    done: list[int] = []
    digest = download.fetch(server + "cut", store, progress=lambda so_far, _: done.append(so_far))
    assert store.get(digest) == BODY and done == sorted(done) and done[-1] == len(BODY)
    ranges = [(request.get("Range"), request.get("If-Range")) for request in Handler.seen]
    assert ranges == [(None, None), ("bytes=1000000-", '"one"'), ("bytes=2000000-", '"one"')]
    Handler.seen.clear()
    with pytest.raises(ImageError, match="expected 3000000 bytes, saw 1000000: the connection broke off"):
        download.fetch(server + "weak", store)
    assert len(Handler.seen) == 1
    with pytest.raises(ImageError, match=r"expected the rest from byte 1000000 on.*saw 200"):
        download.fetch(server + "changed", store)


def test_a_server_that_is_busy_is_asked_again(server: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (60.0, 60.0))  # Retry-After decides
    assert store.get(download.fetch(server + "busy", store)) == BODY and len(Handler.seen) == 3
    Handler.seen.clear()
    monkeypatch.setattr(download, "PAUSES", (0.0,))
    with pytest.raises(ImageError, match=r"saw 503 Service Unavailable.*try again later"):
        download.fetch(server + "busy", store)


def test_no_proxy_is_asked_for_what_this_computer_serves(
    server: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert download.fetch(server + "plain", store) in store
    with pytest.raises(ImageError, match=r"cannot fetch.*refused"):
        download.fetch("http://example.invalid/", store)


def test_a_host_that_does_not_answer_is_named(store: Store) -> None:
    for url in ("http://127.0.0.1:1/a.iso", "http://does-not-exist.invalid/", "http://[", "http://"):
        with pytest.raises(ImageError, match="cannot fetch"):
            download.fetch(url, store)


@pytest.mark.parametrize("path", ["plain", "unsized"])
def test_a_file_over_the_bound_is_refused(server: str, store: Store, path: str) -> None:
    with pytest.raises(ImageError, match="at most 1 MiB"):
        download.fetch(server + path, store, max_bytes=1 << 20)
    assert list(store.digests()) == []


def test_an_image_can_be_named_by_its_address(server: str, store: Store) -> None:
    image = images.resolve(server + "iso/tiny%20core.iso?x=1", store=store)
    assert image == images.iso(samples.iso(), name="tiny core.iso", store=store)
    with pytest.raises(ImageError, match=r"html'.*HTML page"):
        images.resolve(server + "html", store=store)
