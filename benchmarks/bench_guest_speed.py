"""Guest speed, in instructions per second of wall time, against plain v86 in Node: a cold boot and a busy loop.

Source of the target: at least 0.97 of plain v86 for both.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import plain
from verdict import verdict

import v86lab as lab

ROUNDS = 5
SECONDS = 5


def ours() -> dict[str, float]:
    image = dataclasses.replace(lab.images.linux(), resume=False)
    with lab.Machine(image) as vm:
        begin = time.perf_counter()
        vm.start()
        vm.console.expect(plain.PROMPT, timeout=120)
        booted = vm.instructions / (time.perf_counter() - begin)
        vm.console.send("while :; do :; done\n")
        time.sleep(2)
        before, start = vm.instructions, time.perf_counter()
        time.sleep(SECONDS)
        return {"boot": booted, "loop": (vm.instructions - before) / (time.perf_counter() - start)}


def peer() -> dict[str, float]:
    answer = plain.run("speed", SECONDS)
    return {job: answer[job]["instructions"] / answer[job]["seconds"] for job in ("boot", "loop")}


def main() -> None:
    rounds = [(ours(), peer()) for _ in range(ROUNDS)]
    for job, what in (("boot", "cold boot"), ("loop", "busy loop")):
        mine, theirs = (statistics.median(side[job] for side in sides) for sides in zip(*rounds, strict=True))
        print(f"{what}: v86lab {mine / 1e6:.1f} MIPS, plain v86 {theirs / 1e6:.1f} MIPS (medians of {ROUNDS})")
        pairs = statistics.median(one[job] / other[job] for one, other in rounds)
        verdict(f"guest speed, {what} / plain v86", pairs, 0.97, at_least=True)


if __name__ == "__main__":
    main()
