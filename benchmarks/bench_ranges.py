"""Ranges of a large file over loopback: our Range handler beside nginx and Tornado's StaticFileHandler.

    python benchmarks/bench_ranges.py [--seconds 2] [--rounds 5]

Each server is a process of its own and serves the same 256 MB. `wrk` asks for random ranges over four connections. In
every round each server has its turn at each size; what counts are ratios of the medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.web import Application, StaticFileHandler
from verdict import verdict

from v86lab.blobs import BlobServer
from v86lab.store import Store

SIZE = 256 << 20
RANGES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
CONNECTIONS = 4
TARGETS = [("Tornado", size, 1.3) for size in RANGES] + [("nginx", "1 MiB", 0.75)]

# wrk calls request() for every request; the ranges are aligned as a disk's are.
LUA = """
local path = os.getenv("RANGES_PATH")
local length, total = tonumber(os.getenv("RANGES_LENGTH")), tonumber(os.getenv("RANGES_TOTAL"))
math.randomseed(1)
request = function()
  local start = math.random(0, (total - length) / 4096) * 4096
  return wrk.format("GET", path, {Range = "bytes=" .. start .. "-" .. (start + length - 1)})
end
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=2.0, help="of load for each server, size and round")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--serve", nargs=3, metavar=("WHAT", "FOLDER", "PORT"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        what, folder, port = chosen.serve
        asyncio.run(serve(what, Path(folder), int(port)))
    wrk, nginx = find("wrk", "wrk"), find("nginx", "nginx-light")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "ranges.lua").write_text(LUA)
        with (folder / "file").open("wb") as file:
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))
        digest = Store(folder / "store", shared=[]).put_file(folder / "file")
        servers = {}
        for what, path in (("nginx", "/file"), ("Tornado", "/file"), ("ours", f"/blob/{digest}")):
            port = free_port()
            if what == "nginx":
                command = [nginx, "-c", nginx_conf(folder, port)]
            else:
                command = [sys.executable, __file__, "--serve", what, name, str(port)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL if what == "nginx" else None)
            stack.callback(end, process)
            servers[what] = (port, path)
        for port, path in servers.values():
            wait_for(port)
            load(wrk, folder, port, path, 4096, 1.0)  # page cache, and our verification of the blob
        report(measure(wrk, folder, servers, chosen.seconds, chosen.rounds))


def measure(
    wrk: str, folder: Path, servers: dict[str, tuple[int, str]], seconds: float, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Requests a second of each server at each size, one figure per round."""
    rates: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds):
        for size, length in RANGES.items():
            names = list(servers)
            for what in names[turn % len(names) :] + names[: turn % len(names)]:  # none is always first
                port, path = servers[what]
                rates.setdefault((what, size), []).append(load(wrk, folder, port, path, length, seconds))
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return rates


def report(rates: dict[tuple[str, str], list[float]]) -> None:
    """Print the table and the targets."""
    middle = {key: statistics.median(values) for key, values in rates.items()}
    print(f"{'requests/s':<12}" + "".join(f"{what:>10}" for what in ("nginx", "Tornado", "ours")), end="")
    print(f"{'ours/nginx':>14}{'ours/Tornado':>14}")
    for size in RANGES:
        nginx, tornado, ours = (middle[what, size] for what in ("nginx", "Tornado", "ours"))
        print(f"{size:<12}{nginx:>10.0f}{tornado:>10.0f}{ours:>10.0f}{ours / nginx:>14.2f}{ours / tornado:>14.2f}")
    for what, size, target in TARGETS:
        verdict(f"ranges of {size} / {what}", middle["ours", size] / middle[what, size], target, at_least=True)


def load(wrk: str, folder: Path, port: int, path: str, length: int, seconds: float) -> float:
    """Requests a second under load."""
    done = subprocess.run(
        [
            wrk,
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(folder / "ranges.lua"),
            f"http://127.0.0.1:{port}",
        ],
        env={**os.environ, "RANGES_PATH": path, "RANGES_LENGTH": str(length), "RANGES_TOTAL": str(SIZE)},
        capture_output=True,
        text=True,
        check=True,
    )
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", done.stdout)
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"the load did not go well:\n{done.stdout}{done.stderr}")
    return float(rate[1])


async def serve(what: str, folder: Path, port: int) -> None:
    """One of the Tornado servers, until it is ended."""
    if what == "ours":
        store = Store(folder / "store", shared=[])

        def name_of(path: str) -> str | None:
            return path.removeprefix("/blob/") if path.startswith("/blob/") else None

        HTTPServer(BlobServer(store, name_of, Application())).listen(port, "127.0.0.1")
    else:
        logging.disable()  # it complains once that the file is too large for an ETag
        handlers = [("/(.*)", StaticFileHandler, {"path": str(folder)})]
        Application(handlers, log_function=lambda _: None).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


def nginx_conf(folder: Path, port: int) -> str:
    """Write a configuration for one worker that keeps to `folder`; give its path."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if hasattr(os, "getuid") and os.getuid() == 0 else ""
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; master_process off; {user} pid {folder}/pid; error_log stderr;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; {paths}\n"
        f"  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    return str(path)


def find(program: str, package: str) -> str:
    path = shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if path is None:
        raise SystemExit(f"{program} is not installed. Hint: apt install {package}")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"no server came up on port {port}")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


if __name__ == "__main__":
    main()
