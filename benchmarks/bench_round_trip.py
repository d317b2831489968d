"""The round trip of ``vm.run("true")``, against that of a command typed into the serial shell of plain v86.

Source of the targets: median at most 6 ms and p95 at most 15 ms on the machine where the serial round trip has a median
of 7.5 ms; at most 0.8 of the serial round trip in the same run.
"""

from __future__ import annotations

import statistics
import time

import plain
from verdict import percentile, verdict

import v86lab as lab

ROUNDS = 300


def ours() -> list[float]:
    times = []
    with lab.Machine() as vm:
        for _ in range(ROUNDS + 50):
            begin = time.perf_counter()
            vm.run("true")
            times.append(time.perf_counter() - begin)
    return times[50:]


def main() -> None:
    mine, serial = ours(), plain.run("serial", ROUNDS + 50)["times"][50:]
    for what, times in (('v86lab, run("true")', mine), ("plain v86, serial shell", serial)):
        print(f"{what}: median {statistics.median(times) * 1000:.2f} ms, p95 {percentile(times, 0.95) * 1000:.2f} ms")
    verdict("run / serial, median", statistics.median(mine) / statistics.median(serial), 0.8, at_least=False)
    verdict("run / serial, p95", percentile(mine, 0.95) / percentile(serial, 0.95), 0.8, at_least=False)


if __name__ == "__main__":
    main()
