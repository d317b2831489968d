"""A cold boot to the shell, against the kernel that the project began with, both in plain v86.

That kernel is not in the repository: ``python v86lab/firmware/src/build.py --spike FOLDER`` builds it in some minutes,
then ``python benchmarks/bench_cold_boot.py FOLDER``. Source of the target: at most 1.2 of it.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import plain
from verdict import spread, verdict

ROUNDS = 7
CMDLINE = "console=ttyS0 tsc=reliable mitigations=off random.trust_cpu=on"


def main() -> None:
    if len(sys.argv) != 2:
        print("cold boot: left out, it needs the first kernel: see the docstring of bench_cold_boot.py")
        return
    first = [Path(sys.argv[1]) / name for name in ("kernel", "initrd.gz")]
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(plain.run("boot", 0)["boot"]["seconds"])
        theirs.append(plain.run("boot", 0, first, CMDLINE)["boot"]["seconds"])
    print(f"default guest: {spread(mine)}; first kernel: {spread(theirs)}")
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True))
    verdict("cold boot / first kernel", ratio, 1.2, at_least=False)


if __name__ == "__main__":
    main()
