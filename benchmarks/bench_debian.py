"""Debian with systemd over 9p to its login prompt, against plain v86 with an fs.json and the project's first kernel.

``python benchmarks/bench_debian.py DEBIAN.tar V86 FIRST_KERNEL``: a plain tar of a minbase with systemd (``mmdebstrap
--variant=minbase --architectures=i386 --include=systemd-sysv,kmod,udev,dbus``), a checkout of github.com/copy/v86 for
its ``tools/``, and a bzImage made from ``v86lab/firmware/src/kernel/spike.config`` (``build.py --spike FOLDER``).
They boot one after the other. Source of the targets: issue "A Linux of your own".
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_rootfs import upstream, well_formed
from verdict import verdict

import v86lab as lab
from v86lab import firmware
from v86lab.node import find_node

ROUNDS = 2
LOGIN = "login: "


def plain(kernel: Path, folder: Path) -> float:
    """Seconds of plain v86."""
    files = [firmware.path("bios.bin"), firmware.path("vgabios.bin"), kernel, folder / "fs.json", f"{folder / 'flat'}/"]
    script = Path(__file__).with_name("plain_9p.mjs")
    done = subprocess.run([find_node(), script, *files, LOGIN], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def ours(image: lab.Image) -> tuple[float, float]:
    """Seconds, and megabytes fetched."""
    begin = time.perf_counter()
    with lab.Machine(image) as vm:
        vm.console.expect(LOGIN, timeout=600)
        seconds = time.perf_counter() - begin
        fetched = vm.files.fetched
        print(f"v86lab: {seconds:.1f} s, {len(fetched)} requests, {vm.instructions / 1e6:.0f} million instructions")
        return seconds, sum(one.bytes for one in fetched) / 1e6


def main() -> None:
    if len(sys.argv) != 4:
        print("Debian: left out, it needs a tar, a checkout of v86 and the first kernel: see bench_debian.py")
        return
    tar, checkout, kernel = (Path(argument).resolve() for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream(well_formed(tar, folder), checkout / "tools", folder / "plain")
        image = lab.rootfs.tar(tar).as_9p(memory="512 MiB")
        rounds = [(ours(image), plain(kernel, folder / "plain")) for _ in range(ROUNDS)]
    print("plain v86: " + ", ".join(f"{seconds:.1f} s" for _, seconds in rounds))
    verdict("Debian to login / plain v86", statistics.median(a / b for (a, _), b in rounds), 0.8, at_least=False)
    print(f"fetched of that minbase: {rounds[0][0][1]:.1f} MB")
    _, fetched = ours(lab.rootfs.debian().as_9p(memory="512 MiB"))
    verdict("megabytes fetched of lab.rootfs.debian() / 12", fetched / 12, 1, at_least=False)


if __name__ == "__main__":
    main()
