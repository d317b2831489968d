"""QEMU (TCG) as a peer: the default guest's kernel and initramfs, driven over its serial port."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from v86lab import firmware, images

TOOL, IMAGE_TOOL = "qemu-system-i386", "qemu-img"
PATIENCE = 60.0


def require() -> None:
    """End with advice where QEMU is missing."""
    for tool, package in ((TOOL, "qemu-system-x86"), (IMAGE_TOOL, "qemu-utils")):
        if shutil.which(tool) is None:
            sys.exit(f"this benchmark compares with QEMU: apt-get install {package}")


class Guest:
    """A QEMU process with the serial port on its standard streams."""

    def __init__(self, folder: Path, *options: str) -> None:
        linux = images.linux()
        self._socket = folder / "monitor"
        self._process = subprocess.Popen(
            (
                TOOL,
                "-accel",
                "tcg",
                "-m",
                "128",
                "-display",
                "none",
                "-serial",
                "stdio",
                "-net",
                "none",
                "-monitor",
                f"unix:{self._socket},server,nowait",
                "-drive",
                f"file={folder / 'states.qcow2'},format=qcow2",
                "-kernel",
                firmware.path("bzimage"),
                "-initrd",
                firmware.path("initramfs"),
                "-append",
                linux.cmdline,
                *options,
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._seen = b""

    def until(self, wanted: bytes) -> None:
        """Wait until the serial port shows `wanted`."""
        assert self._process.stdout is not None
        end = time.monotonic() + PATIENCE
        while wanted not in self._seen:
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"QEMU did not show {wanted!r} but {self._seen[-500:]!r}")
            self._seen += os.read(self._process.stdout.fileno(), 65536)
        self._seen = self._seen.partition(wanted)[2]

    def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def monitor(self, command: str) -> None:
        """Give a monitor command and wait for the next prompt."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self._socket))
            link.settimeout(PATIENCE)
            for line in ("", command + "\n"):
                link.sendall(line.encode())
                while not link.recv(65536).endswith(b"(qemu) "):
                    pass

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder with an empty disk that can hold states."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([IMAGE_TOOL, "create", "-q", "-f", "qcow2", f"{name}/states.qcow2", "64M"], check=True)
        yield Path(name)


def cold_boot() -> float:
    """Seconds from nothing to the shell's prompt."""
    with folder() as place:
        begin = time.perf_counter()
        guest = Guest(place)
        try:
            guest.until(b"/ # ")
            return time.perf_counter() - begin
        finally:
            guest.close()


def load_states(rounds: int) -> list[float]:
    """Seconds from nothing to the first command's answer, from a saved state."""
    with folder() as place:
        guest = Guest(place)
        try:
            guest.until(b"/ # ")
            guest.monitor("savevm ready")
        finally:
            guest.close()
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            guest = Guest(place, "-loadvm", "ready")
            try:
                guest.send(b"echo FIR''ST\n")
                guest.until(b"FIRST")
                times.append(time.perf_counter() - begin)
            finally:
                guest.close()
        return times
