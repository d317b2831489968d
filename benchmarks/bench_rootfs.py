"""Trees to what guests boot from, against the tools of the field, on a tar of a Debian minbase.

``python benchmarks/bench_rootfs.py DEBIAN.tar V86``: a plain tar of a minbase (``mmdebstrap --variant=minbase
--architectures=i386``), and a checkout of github.com/copy/v86, whose ``tools/fs2json.py`` and
``tools/copy-to-sha256.py`` are the peers. mke2fs is e2fsprogs'. Targets: issue "A Linux of your own".
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from verdict import spread, verdict

ROUNDS = 5
_NINEP = """
import resource, sys, time
from v86lab import rootfs
from v86lab.rootfs import ninep
from v86lab.store import Store
began = time.perf_counter()
store = Store(sys.argv[2])
ninep.write(rootfs.tar(sys.argv[1], store=store), store, compress=sys.argv[3] == "zstd")
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
_EXT4 = """
import sys, time
from v86lab import rootfs
from v86lab.rootfs.disk import write_disk
tree = rootfs.directory(sys.argv[1])
began = time.perf_counter()
with open(sys.argv[2], "wb") as file:
    write_disk(tree, file, int(sys.argv[3]))
print(time.perf_counter() - began)
"""


def timed(*command: str | Path, cwd: Path | None = None) -> tuple[float, str]:
    """Seconds that a command took, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    return time.perf_counter() - began, done.stdout


def upstream(tar: Path, tools: Path, folder: Path) -> float:
    """Seconds of v86's own tools: a tar to an fs.json and a folder of files."""
    (folder / "flat").mkdir(parents=True)
    first, _ = timed(sys.executable, tools / "fs2json.py", "--out", folder / "fs.json", tar)
    second, _ = timed(sys.executable, tools / "copy-to-sha256.py", tar, folder / "flat")
    return first + second


def well_formed(tar: Path, folder: Path) -> Path:
    """The same tree in a tar whose names do not begin with ``./``: upstream's tools mishandle those."""
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-C", tree, "--exclude=./dev/*", "-xf", tar], check=True)
    made = folder / "plain.tar"
    names = sorted(path.name for path in tree.iterdir())
    subprocess.run(["tar", "-C", tree, "--format=ustar", "-cf", made, *names], check=True)
    return made


def bench_9p(tar: Path, tools: Path, folder: Path) -> None:
    """A tar to a 9p tree: in a cell, where v86lab has been imported, and as a process of its own."""
    times: dict[str, list[float]] = {}
    peak = 0
    for n in range(ROUNDS):
        os.sync()  # what one wrote is not the other's to wait for
        times.setdefault("upstream", []).append(upstream(tar, tools, folder / f"upstream{n}"))
        for how in ("plain", "zstd"):
            os.sync()
            process, printed = timed(sys.executable, "-c", _NINEP, tar, folder / f"{how}{n}", how)
            call, memory = printed.split()
            times.setdefault(how, []).append(float(call))
            times.setdefault(f"{how}, process", []).append(process)
            peak = max(peak, int(memory))
    for how, seconds in times.items():
        print(f"tar to 9p tree, {how}: {spread(seconds)}")
    for how, target in (("plain", 2.0), ("zstd", 1.0), ("plain, process", 2.0), ("zstd, process", 1.0)):
        ratio = statistics.median(a / b for a, b in zip(times["upstream"], times[how], strict=True))
        verdict(f"upstream / tar to 9p tree, {how}", ratio, target, at_least=True)
    verdict("peak memory / 200 MiB", peak / 200, 1.0, at_least=False)


def bench_ext4(tree: Path, folder: Path) -> None:
    """A tree to an ext4 file system."""
    size = 512 << 20
    mine, theirs = [], []
    for _ in range(ROUNDS):
        (folder / "theirs").unlink(missing_ok=True)
        (folder / "mine").unlink(missing_ok=True)
        seconds, _ = timed("mke2fs", "-q", "-t", "ext4", "-d", tree, folder / "theirs", f"{size >> 10}k")
        theirs.append(seconds)
        _, printed = timed(sys.executable, "-c", _EXT4, tree, folder / "mine", str(size))
        mine.append(float(printed))
    print(f"tree to ext4: {spread(mine)}; mke2fs -d: {spread(theirs)}")
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
    verdict("tree to ext4 / mke2fs -d", ratio, 1.5, at_least=False)


def main() -> None:
    if len(sys.argv) != 3:
        print("trees: left out, it needs a tar of a Debian and a checkout of v86: see the docstring of bench_rootfs.py")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tar = well_formed(Path(sys.argv[1]).resolve(), folder)
        bench_9p(tar, Path(sys.argv[2]).resolve() / "tools", folder)
        bench_ext4(folder / "tree", folder)


if __name__ == "__main__":
    main()
