"""Debian repositories made here, and a web server for them that can break off."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Deb:
    """A package to make."""

    name: str
    version: str = "1.0"
    fields: str = ""
    content: str = "hello\n"


def repository(folder: Path, debs: list[Deb], release_date: str = "Sat, 01 Aug 2026 00:00:00 UTC") -> None:
    """Make an apt repository, suite "stable", in place of one that is there."""
    shutil.rmtree(folder, ignore_errors=True)
    index = folder / "dists" / "stable" / "main" / "binary-i386"
    index.mkdir(parents=True)
    (folder / "pool").mkdir()
    stanzas = []
    for deb in debs:
        staging = folder / "staging"
        (staging / "DEBIAN").mkdir(parents=True)
        (staging / "usr" / "share" / deb.name).mkdir(parents=True)
        (staging / "usr" / "share" / deb.name / "hello").write_text(deb.content)
        control = (
            f"Package: {deb.name}\nVersion: {deb.version}\nArchitecture: i386\nMaintainer: v86lab <a@example.org>\n"
            f"Description: a test\n{deb.fields}"
        )
        (staging / "DEBIAN" / "control").write_text(control)
        path = folder / "pool" / f"{deb.name}_{deb.version}_i386.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", str(staging), str(path)],
            check=True,
            capture_output=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        )
        shutil.rmtree(staging)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        stanzas.append(f"{control}Filename: pool/{path.name}\nSize: {len(data)}\nSHA256: {digest}\n")
    text = "\n".join(stanzas)
    (index / "Packages").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "dists" / "stable" / "Release").write_text(
        f"Suite: stable\nCodename: stable\nDate: {release_date}\nArchitectures: i386\nComponents: main\n"
        f"SHA256:\n {digest} {len(text.encode())} main/binary-i386/Packages\n"
    )


class Web:
    """A web server for a folder: what was asked for, and what it refuses to give whole."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                if any(name in self.path for name in web.broken):
                    self.send_response(200)
                    data = Path(self.translate_path(self.path)).read_bytes()
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                else:
                    super().do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def deb(self, suite: str = "stable") -> str:
        """The line of apt's sources for it."""
        return f"deb [trusted=yes] {self.url} {suite} main"
