"""From `Machine()` to the answer of its first command, against QEMU with the same kernel and initramfs.

Source of the targets: at most 0.35 of QEMU's cold boot to a shell, at most 4 times its ``-loadvm`` to a first answer.
"""

from __future__ import annotations

import statistics
import time

import qemu
from verdict import spread, verdict

import v86lab as lab

ROUNDS = 7


def first_command() -> float:
    begin = time.perf_counter()
    with lab.Machine() as vm:
        vm.run("true", check=True)
        return time.perf_counter() - begin


def main() -> None:
    qemu.require()
    first_command()  # fills the Store
    loads = qemu.load_states(ROUNDS)
    ours, colds = [], []
    for _ in range(ROUNDS):
        ours.append(first_command())
        colds.append(qemu.cold_boot())
    print(f"v86lab, first command from a warm Store: {spread(ours)}")
    print(f"QEMU, cold boot to the shell:            {spread(colds)}")
    print(f"QEMU, -loadvm to the first answer:       {spread(loads)}")
    mine = statistics.median(ours)
    verdict("first command / QEMU cold boot", mine / statistics.median(colds), 0.35, at_least=False)
    verdict("first command / QEMU -loadvm", mine / statistics.median(loads), 4.0, at_least=False)


if __name__ == "__main__":
    main()
