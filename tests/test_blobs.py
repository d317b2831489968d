"""Blobs over real sockets: a Tornado server on a thread, `http.client` and bare sockets before it, nginx beside it."""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import hashlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import psutil
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from v86lab.blobs import PIECE, BlobServer
from v86lab.store import Store

SIZE = 3 * PIECE + 1234
DATA = random.Random(3).randbytes(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()
ETAG = f'"{DIGEST}"'
EMPTY = hashlib.sha256(b"").hexdigest()
SECRET = "s3cret"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread or process does; the limit is there for a failure only."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("hello " * 1000)

    def post(self) -> None:
        self.write(self.request.body[::-1])


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class Server:
    """A server of blobs before an application that compresses all it can."""

    def __init__(self, store: Store) -> None:
        self.store = store
        (listener,) = bind_sockets(0, "127.0.0.1")
        self.port: int = listener.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(listener,))
        self.thread.start()
        self.ready.wait()

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self.loop)
        application = Application([("/hello", Hello), ("/echo", Echo)], compress_response=True)
        prefix = f"/{SECRET}/blob/"
        server = HTTPServer(
            BlobServer(
                self.store, lambda path: path.removeprefix(prefix) if path.startswith(prefix) else None, application
            )
        )
        server.add_sockets([listener])
        self.loop.call_soon(self.ready.set)
        self.loop.run_forever()
        server.stop()
        self.loop.run_until_complete(server.close_all_connections())
        until(lambda: not self.loop.run_until_complete(self._others()))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    @staticmethod
    async def _others() -> set[asyncio.Task[object]]:
        await asyncio.sleep(0.001)
        return asyncio.all_tasks() - {asyncio.current_task()}

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = Store(tmp_path_factory.mktemp("store"), shared=[])
    store.put(DATA)
    store.put(b"")
    with closing(Server(store)) as running:
        yield running


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(server: Server, digest: str = DIGEST, method: str = "GET", **fields: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, f"/{SECRET}/blob/{digest}", headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


# --- what is answered ---


@pytest.mark.parametrize(
    ("field", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-255", 0, 256),
        ("bytes=1000-1999", 1000, 2000),
        (f"bytes={PIECE - 1}-{PIECE}", PIECE - 1, PIECE + 1),
        (f"bytes=5-{2 * PIECE + 4}", 5, 2 * PIECE + 5),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes={SIZE - 7}-", SIZE - 7, SIZE),
        (f"bytes={SIZE - 7}-{SIZE + 1000}", SIZE - 7, SIZE),
        (f"bytes=0-{SIZE - 1}", 0, SIZE),
        ("bytes=0-", 0, SIZE),
        ("bytes=-99999999999999999999999", 0, SIZE),
    ],
)
def test_a_range_gets_206_and_exactly_its_bytes_even_when_it_is_everything(
    server: Server, field: str, start: int, stop: int
) -> None:
    answer = ask(server, Range=field)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.body == DATA[start:stop]


def test_many_random_ranges_on_one_connection_are_right(server: Server) -> None:
    dice = random.Random(4)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        for _ in range(200):
            start = dice.randrange(SIZE)
            stop = min(SIZE, start + dice.choice([1, 256, 4096, 65536, PIECE + 1]))
            connection.request("GET", f"/{SECRET}/blob/{DIGEST}", headers={"Range": f"bytes={start}-{stop - 1}"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (206, DATA[start:stop])


def test_without_a_range_the_whole_is_sent(server: Server) -> None:
    answer = ask(server)
    assert (answer.status, answer.body) == (200, DATA)
    assert "Content-Range" not in answer.headers
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("field", ["bytes=a-b", "bytes=5-4", "items=0-1", "bytes 0-1", "bytes="])
def test_a_range_that_does_not_parse_is_ignored(server: Server, field: str) -> None:
    answer = ask(server, Range=field)
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize("field", [f"bytes={SIZE}-", "bytes=-0", "bytes=99999999999999999999-", "bytes=" + "0-0," * 99])
def test_an_unsatisfiable_range_gets_416_and_the_length(server: Server, field: str) -> None:
    answer = ask(server, Range=field)
    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert answer.headers["Cache-Control"] == "no-store"


def test_several_ranges_come_as_valid_multipart(server: Server) -> None:
    answer = ask(server, Range=f"bytes={PIECE}-{2 * PIECE + 9}, 0-9, -5")
    assert answer.status == 206
    assert "Content-Range" not in answer.headers
    assert len(answer.body) == int(answer.headers["Content-Length"])
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + answer.body)
    assert message.get_content_type() == "multipart/byteranges" and not message.defects
    parts = list(message.iter_parts())
    expected = [(PIECE, 2 * PIECE + 10), (0, 10), (SIZE - 5, SIZE)]
    assert [part["Content-Range"] for part in parts] == [f"bytes {a}-{b - 1}/{SIZE}" for a, b in expected]
    assert {part["Content-Type"] for part in parts} == {"application/octet-stream"}
    # The parser decodes line ends of its own accord, so the bytes themselves are cut out by hand.
    boundary = b"\r\n--" + answer.headers.get_boundary(b"").encode()  # type: ignore[union-attr]
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.body.split(boundary)[1:-1]]
    assert bodies == [DATA[a:b] for a, b in expected]
    assert answer.body.endswith(boundary + b"--\r\n")


def test_ranges_that_touch_come_as_one_part(server: Server) -> None:
    answer = ask(server, Range="bytes=0-9,10-19,5-15")
    assert answer.status == 206 and answer.headers["Content-Range"] == f"bytes 0-19/{SIZE}"
    assert answer.body == DATA[:20]


def test_head_says_what_get_would_and_sends_nothing(server: Server) -> None:
    answer = ask(server, method="HEAD", Range="bytes=0-9")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["ETag"] == ETAG
    assert ask(server, "0" * 64, "HEAD").status == 404


def test_if_none_match_gets_304_without_a_body(server: Server) -> None:
    for fields in ({"If_None_Match": ETAG}, {"If_None_Match": f'W/{ETAG}, "x"', "Range": "bytes=0-1"}):
        answer = ask(server, **fields)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == ETAG and "immutable" in answer.headers["Cache-Control"]
        assert "Content-Type" not in answer.headers
    assert ask(server, If_None_Match='"other"').status == 200


def test_if_range_and_if_match_go_by_the_strong_tag(server: Server) -> None:
    assert ask(server, Range="bytes=0-1", If_Range=ETAG).status == 206
    for other in ("W/" + ETAG, '"other"', "Sun, 22 Nov 2026 08:49:37 GMT"):
        answer = ask(server, Range="bytes=0-1", If_Range=other)
        assert (answer.status, answer.body) == (200, DATA)
    assert ask(server, If_Match='"other"').status == 412
    assert ask(server, If_Match=ETAG).status == 200


def test_an_empty_blob(server: Server) -> None:
    answer = ask(server, EMPTY)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")
    assert ask(server, EMPTY, Range="bytes=-5").status == 200
    answer = ask(server, EMPTY, Range="bytes=0-0")
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */0")


@pytest.mark.parametrize(
    "name", ["0" * 64, DIGEST.upper(), DIGEST[:-1], DIGEST + "/", "", "../" + DIGEST, "%2e%2e", "a" * 9000]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_no_blob_gets_404(server: Server, name: str, method: str) -> None:
    answer = ask(server, name, method)
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
def test_other_methods_get_405(server: Server, method: str) -> None:
    answer = ask(server, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_query_is_ignored(server: Server) -> None:
    assert ask(server, DIGEST + "?x=1", Range="bytes=0-1").body == DATA[:2]


# --- what browsers and caches need ---


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=0-99999"}, {"Range": "bytes=0-1,5000-5001"}])
def test_blobs_are_opaque_cacheable_and_never_encoded(server: Server, fields: dict[str, str]) -> None:
    answer = ask(server, Accept_Encoding="gzip, deflate, br", Origin="https://elsewhere.example", **fields)
    assert "Content-Encoding" not in answer.headers and "Transfer-Encoding" not in answer.headers
    assert "Vary" not in answer.headers
    assert answer.headers["Content-Type"].startswith(("application/octet-stream", "multipart/byteranges"))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable, no-transform"
    assert answer.headers["ETag"] == ETAG and "Last-Modified" not in answer.headers
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed == {"Accept-Ranges", "Content-Length", "Content-Range", "ETag"}
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()) < 3600


def test_a_preflight_allows_what_v86_sends(server: Server) -> None:
    answer = ask(
        server,
        method="OPTIONS",
        Origin="https://elsewhere.example",
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="range,x-accept-encoding",
    )
    assert (answer.status, answer.body) == (204, b"")
    assert "Content-Length" not in answer.headers
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed == {"range", "if-range", "if-match", "if-none-match", "x-accept-encoding"}
    assert "GET" in answer.headers["Access-Control-Allow-Methods"]


# --- connections ---


def exchange(server: Server, request: str) -> bytes:
    """Send bare text, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(request.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_connections_are_kept_or_closed_as_the_client_says(server: Server) -> None:
    get = f"GET /{SECRET}/blob/{DIGEST} HTTP/%s\nHost: x\nRange: bytes=0-1\n%s\n"
    both = exchange(server, get % ("1.1", "") + get % ("1.1", "Connection: close\n"))
    assert both.count(b"HTTP/1.1 206") == 2 and both.count(b"\r\nConnection: close\r\n") == 1
    assert both.endswith(DATA[:2])
    both = exchange(server, get % ("1.0", "Connection: Keep-Alive\n") + get % ("1.0", ""))
    assert both.count(b" 206 ") == 2 and both.count(b"\r\nConnection: keep-alive\r\n") == 1


def test_head_is_followed_by_nothing(server: Server) -> None:
    for status, name in ((200, DIGEST), (404, "0" * 64)):
        answer = exchange(server, f"HEAD /{SECRET}/blob/{name} HTTP/1.1\nHost: x\nConnection: close\n\n")
        assert answer.startswith(b"HTTP/1.1 %d " % status) and answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1 and len(answer) < 2000


def test_a_body_nobody_wants_does_not_confuse_the_next_request(server: Server) -> None:
    get = f"GET /{SECRET}/blob/{DIGEST} HTTP/1.1\nHost: x\nRange: bytes=0-1\n"
    both = exchange(server, get + "Content-Length: 5\n\nhello" + get + "Connection: close\n\n")
    assert both.count(b"HTTP/1.1 206") == 2


def test_everything_else_goes_to_the_application(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        for _ in range(2):  # in turns on one connection
            connection.request("GET", "/hello", headers={"Accept-Encoding": "gzip"})
            response = connection.getresponse()
            assert response.status == 200 and response.headers["Content-Encoding"] == "gzip"
            response.read()
            connection.request("POST", "/hello", body=b"abc" * 50_000)
            assert connection.getresponse().read() == b"cba" * 50_000
            connection.request("GET", f"/{SECRET}/blob/{DIGEST}", headers={"Range": "bytes=0-1"})
            assert connection.getresponse().read() == DATA[:2]
            connection.request("GET", f"/wrong/blob/{DIGEST}")
            response = connection.getresponse()
            assert response.status == 404 and "ETag" not in response.headers
            response.read()

    async def talk() -> str | bytes | None:
        client = await websocket_connect(f"ws://127.0.0.1:{server.port}/echo")
        await client.write_message("through")
        answer = await client.read_message()
        client.close()
        return answer

    assert asyncio.run(talk()) == "through"


def connections(server: Server) -> int:
    ours = psutil.Process().net_connections("tcp")
    return sum(c.laddr.port == server.port and c.status != psutil.CONN_LISTEN for c in ours if c.laddr)


def blob_files(server: Server) -> int:
    return sum(str(server.store.home) in file.path for file in psutil.Process().open_files())


def test_clients_that_go_away_mid_stream_leave_nothing_open(server: Server) -> None:
    big = server.store.put(random.Random(6).randbytes(32 << 20))
    ask(server, big, Range="bytes=0-0")
    clients = []
    for number in range(20):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(f"GET /{SECRET}/blob/{big} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        if number % 2:  # half of them end with a reset
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        clients.append(client)
    until(lambda: blob_files(server) == 20)
    for client in clients:
        client.close()
    until(lambda: blob_files(server) == connections(server) == 0)
    assert ask(server, big, Range="bytes=5-6").status == 206


def test_a_server_that_stops_mid_stream_leaves_nothing_open(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", shared=[])
    digest = store.put(random.Random(6).randbytes(32 << 20))
    with closing(Server(store)) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(f"GET /{SECRET}/blob/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.recv(1000)
        until(lambda: blob_files(server) == 1)
    assert blob_files(server) == connections(server) == 0
    client.close()


def test_a_slow_client_costs_little_memory_and_others_are_served_meanwhile(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "disk"
    with source.open("wb") as file:
        file.truncate(300 << 20)
    digest = server.store.put_file(source)
    before = psutil.Process().memory_info().rss
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(f"GET /{SECRET}/blob/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert len(slow.recv(100_000)) > 0
        assert ask(server, Range="bytes=0-1").body == DATA[:2]
        received = 0
        while received < 128 << 20:
            received += len(slow.recv(1 << 20))
        assert ask(server, Range="bytes=0-1").body == DATA[:2]
        assert psutil.Process().memory_info().rss - before < 64 << 20


# --- blobs that are not as they should be ---


def test_a_damaged_blob_is_never_sent(tmp_path: Path) -> None:
    home = tmp_path / "store"
    digest = Store(home, shared=[]).put(DATA)
    path = home / "blobs" / digest[:2] / digest
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"!")
    with closing(Server(Store(home, shared=[]))) as server:
        answer = ask(server, digest, Range="bytes=0-1")
        assert (answer.status, answer.body) == (500, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert ask(server, digest, Range="bytes=0-1").status == 404
        server.store.put(DATA)
        assert ask(server, digest, Range="bytes=0-1").body == DATA[:2]


def test_a_blob_cut_short_while_it_is_sent_ends_the_connection(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", shared=[])
    digest = store.put(random.Random(6).randbytes(64 << 20))
    with closing(Server(store)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        with closing(connection):
            connection.request("GET", f"/{SECRET}/blob/{digest}")
            response = connection.getresponse()
            response.read(1000)
            store.path(digest).chmod(0o644)
            os.truncate(store.path(digest), 10)
            with pytest.raises(http.client.IncompleteRead):
                response.read()
        until(lambda: blob_files(server) == 0)


def test_requests_for_a_blob_not_seen_before_are_hashed_off_the_servers_thread(tmp_path: Path) -> None:
    digest = Store(tmp_path / "store", shared=[]).put(DATA)
    store = Store(tmp_path / "store", shared=[])
    with closing(Server(store)) as server:
        with store._hashing:  # as if a long hashing were under way
            waiting = socket.create_connection(("127.0.0.1", server.port))
            waiting.sendall(f"GET /{SECRET}/blob/{digest} HTTP/1.0\r\nRange: bytes=0-1\r\n\r\n".encode())
            assert ask(server, "0" * 64).status == 404
        with waiting:
            assert b"".join(iter(lambda: waiting.recv(65536), b"")).endswith(DATA[:2])


def test_ranges_beyond_four_gibibytes(tmp_path: Path) -> None:
    """Of a sparse file. The Store is told that it is verified: hashing it is not what is tested here."""
    store = Store(tmp_path / "store", shared=[])
    digest = store.put(b"stands for a large disk")
    path = store.path(digest)
    path.chmod(0o644)
    size, mark = (1 << 33) + 4096, (1 << 32) + 12_345
    with path.open("r+b") as file:
        file.truncate(size)
        file.seek(mark)
        file.write(b"far away")
    stat = path.stat()
    store._sound[str(path)] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    with closing(Server(store)) as server:
        answer = ask(server, digest, Range=f"bytes={mark}-{mark + 7}")
        assert (answer.status, answer.body) == (206, b"far away")
        assert answer.headers["Content-Range"] == f"bytes {mark}-{mark + 7}/{size}"
        answer = ask(server, digest, Range=f"bytes={mark - 2}-{mark + 1},-3")
        assert answer.status == 206 and b"\r\n\r\n\0\0fa\r\n" in answer.body
        assert ask(server, digest, "HEAD").headers["Content-Length"] == str(size)
        assert ask(server, digest, Range=f"bytes={size}-").headers["Content-Range"] == f"bytes */{size}"


# --- nginx ---


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An nginx with the same bytes; gives its port."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is to be installed where CI runs: apt install nginx-light")
        pytest.skip("nginx is not installed (apt install nginx-light)")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "blob").write_bytes(DATA)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if hasattr(os, "getuid") and os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; {user}pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, (folder / "error.log").read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


SAME_AS_NGINX = [
    *("bytes=0-0", "bytes=0-499", f"bytes={SIZE - 1}-", "bytes=-1", "bytes=5-", "bytes=-500", f"bytes=-{SIZE + 9}"),
    *(f"bytes=10-{10 * SIZE}", f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", f"bytes=0-{SIZE - 1}", "bytes=0-"),
    *("bytes=0-9,5000-5009", "bytes=5000-5009, 0-9 ,-3", f"bytes=0-9,{SIZE}-", "items=0-9", "bytes"),
]


@pytest.mark.parametrize("field", SAME_AS_NGINX)
def test_ranges_are_answered_as_nginx_answers_them(server: Server, nginx: int, field: str) -> None:
    ours = ask(server, Range=field)
    connection = http.client.HTTPConnection("127.0.0.1", nginx, timeout=60)
    with closing(connection):
        connection.request("GET", "/blob", headers={"Range": field})
        response = connection.getresponse()
        theirs = Answer(response.status, response.headers, response.read())
    assert ours.status == theirs.status
    assert ours.headers["Content-Range"] == theirs.headers["Content-Range"]
    if ours.status == 416:
        return
    kinds = [answer.headers["Content-Type"].partition(";")[0] for answer in (ours, theirs)]
    if "multipart/byteranges" in kinds:
        assert kinds[0] == kinds[1]
        assert ranges_in(ours) == ranges_in(theirs)
    else:
        assert ours.body == theirs.body


def ranges_in(answer: Answer) -> list[tuple[str, bytes]]:
    boundary = b"\r\n--" + answer.headers["Content-Type"].partition("boundary=")[2].encode()
    parts = []
    for part in answer.body.split(boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        parts.append((head.lower().partition(b"content-range: ")[2].partition(b"\r\n")[0].decode(), body))
    return parts
