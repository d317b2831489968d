"""Images made by hand, and registries to keep them in: Debian's docker-registry, and a server in front of it that
asks for tokens, sends on, breaks off or refuses, as a test wants."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "student", "correct horse"
_BCRYPT = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"  # of PASSWORD, as `htpasswd -B` makes them

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
INDEX, MANIFEST, CONFIG, LAYER = (OCI + name + ".v1" for name in ("index", "manifest", "config", "layer"))
LAYER += ".tar"
I386 = {"os": "linux", "architecture": "386"}
AMD64 = {"os": "linux", "architecture": "amd64"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def layer(*entries: str | tuple[str, bytes | str] | tarfile.TarInfo) -> bytes:
    """A tar: "name/" for a directory, "name" for an empty file, ("name", bytes) for a file, ("name", "-> target") for a
    symbolic link, ("name", "== target") for a hard link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            name, content = entry if isinstance(entry, tuple) else (entry, b"")
            info = tarfile.TarInfo(name.rstrip("/") or "./")
            info.mode = 0o644
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            if isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname, content = content[3:], b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


# Two layers of one image; the second takes a name of the first away.
BASE = layer("./", "./etc/", ("./etc/motd", b"hello\n"), ("./etc/alias", "== ./etc/motd"), ("./bin", "-> usr/bin"))
OVER = layer(("etc/issue", b"an example\n"), ("usr/bin/true", b"\x7fELF"), "etc/.wh.alias")
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": "sha256:" + sha256(data), "size": len(data), **more}


class Made:
    """Blobs and manifests of images, by digest; the last one made is the `root`."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.root = ""

    def keep(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.blobs[sha256(data)] = data
        return described(data, media_type, **more)

    def document(self, fields: dict[str, Any], media_type: str, **more: Any) -> dict[str, Any]:
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
        self.root = sha256(data)
        self.manifests[self.root] = (media_type, data)
        return described(data, media_type, **more)

    def image(
        self,
        *layers: bytes,
        pack: Callable[[bytes], bytes] = gzip.compress,
        kind: str = LAYER + "+gzip",
        manifest: str = MANIFEST + "+json",
        config_type: str = CONFIG + "+json",
        diff_ids: Sequence[str] | None = None,
        platform: dict[str, str] = I386,
        **run: Any,
    ) -> dict[str, Any]:
        """An image for one platform; gives its descriptor."""
        ids = [sha256(tar) for tar in layers] if diff_ids is None else diff_ids
        rootfs = {"type": "layers", "diff_ids": ["sha256:" + one for one in ids]}
        config = json.dumps({**platform, "rootfs": rootfs, "config": run}).encode()
        return self.document(
            {
                "config": self.keep(config, config_type),
                "layers": [self.keep(pack(tar), kind) for tar in layers],
            },
            manifest,
            platform=platform,
        )

    def index(self, *entries: dict[str, Any], media_type: str = INDEX + "+json") -> dict[str, Any]:
        return self.document({"manifests": list(entries)}, media_type)

    def push(self, server: Server, name: str, tag: str) -> str:
        """Upload everything; gives the reference of the root by tag."""
        for digest, data in self.blobs.items():
            status, headers, _ = server.ask("POST", f"/v2/{name}/blobs/uploads/")
            assert status == 202, (status, headers)
            where = headers["Location"].partition(f":{server.port}")[2]
            where += f"{'&' if '?' in where else '?'}digest=sha256:{digest}"
            assert server.ask("PUT", where, data, {"Content-Type": "application/octet-stream"})[0] == 201
        for digest, (media_type, data) in self.manifests.items():
            for reference in [f"sha256:{digest}"] + [tag] * (digest == self.root):
                status, _, said = server.ask(
                    "PUT", f"/v2/{name}/manifests/{reference}", data, {"Content-Type": media_type}
                )
                assert status == 201, said
        return f"127.0.0.1:{server.port}/{name}:{tag}"

    def layout(self, folder: Path, *entries: dict[str, Any]) -> Path:
        """An OCI image layout with these in its index."""
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest, data in self.blobs.items():
            (blobs / digest).write_bytes(data)
        for digest, (_, data) in self.manifests.items():
            (blobs / digest).write_bytes(data)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        return folder


class Server:
    """An HTTP server on loopback, as a client sees it."""

    def __init__(self, port: int, authorization: str | None = None) -> None:
        self.port = port
        self.authorization = authorization

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        headers = dict(headers or {})
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()


@contextlib.contextmanager
def docker_registry(folder: Path, authorization: str | None = None) -> Iterator[Server]:
    """The real thing, on a free port; with a password if the client is to have an `authorization`."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry (Debian: docker-registry)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "validation": {"disabled": True},
    }
    folder.mkdir()
    if authorization is not None:
        (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(settings))  # YAML is a superset
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    server = Server(port, authorization)
    try:
        for _ in range(200):
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(ConnectionRefusedError):
                server.ask("GET", "/v2/")
                break
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait()


class Asked(BaseHTTPRequestHandler):
    """A request to a `Front`."""

    protocol_version = "HTTP/1.1"
    server: Front

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if not self.server.act(self):
            self.answer(*self.upstream())

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def upstream(self) -> tuple[int, dict[str, str], bytes]:
        """What the server behind says."""
        passed = {name: self.headers[name] for name in ("Accept", "Range") if name in self.headers}
        status, headers, body = self.server.behind.ask("GET", self.path, headers=passed)
        return status, {name: headers[name] for name in ("Content-Type", "Content-Range") if name in headers}, body

    def answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> bool:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def json(self, status: int, fields: object, **headers: str) -> bool:
        self.answer(
            status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(fields).encode()
        )
        return True

    def log_message(self, *args: object) -> None:
        pass


class Front(ThreadingHTTPServer):
    """A server in front of another; `act` answers a request, or gives False to pass it on."""

    daemon_threads = True

    def __init__(self, behind: Server) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.behind = behind
        self.act: Callable[[Asked], bool] = lambda _: False
        self.asked: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def paths(self, part: str) -> list[str]:
        """What was asked for, of paths with a part."""
        return [path for path, _ in self.asked if part in path]


@contextlib.contextmanager
def front(behind: Server) -> Iterator[Front]:
    with Front(behind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
