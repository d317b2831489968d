"""What reproducibility costs: machines with a seed against machines on wall-clock time, in Node.

Sources of the targets: at least 0.95 of the speed; an hour of sleep in less than 1 s; a replay in at most 1.05 of the
time of the original; 100 schedules of a race in at most 0.6 s each on two cores; a state hash in at most 150 ms.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import plain
from verdict import verdict

import v86lab as lab

ROUNDS = 5
INSTRUCTIONS = 2_000_000_000
SEEDS = 100
WORK = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); find / -xdev | md5sum; done; cat /proc/interrupts; date"
KEYS_PER_SECOND = 5
RACE = """
#include <pthread.h>
#include <stdio.h>
static volatile int balance;
static int plus_one(int n) { return n + 1; }
static void *deposit(void *unused)
{
    for (int i = 0; i < 20000; i++) {
        int seen = balance;
        seen = plus_one(seen);
        balance = seen;
    }
    return unused;
}
int main(void)
{
    pthread_t other;
    pthread_create(&other, 0, deposit, 0);
    deposit(0);
    pthread_join(other, 0);
    printf("%d\\n", balance);
    return 0;
}
"""


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def boot(seed: int | None) -> float:
    image = dataclasses.replace(lab.images.linux(), resume=False)
    with lab.Machine(image, seed=seed, engine="node") as vm:
        return timed(lambda: vm.console.expect(plain.PROMPT, timeout=120))


def loop(seed: int | None) -> float:
    """Instructions per second of wall time."""
    with lab.Machine(seed=seed, engine="node") as vm:
        vm.run("true")
        vm.console.send("while :; do :; done\n")
        if seed is None:
            time.sleep(2)
            before, begin = vm.instructions, time.perf_counter()
            time.sleep(INSTRUCTIONS / 500e6)
        else:
            vm.advance(instructions=INSTRUCTIONS // 2)
            before, begin = vm.instructions, time.perf_counter()
            vm.advance(instructions=INSTRUCTIONS)
        return (vm.instructions - before) / (time.perf_counter() - begin)


def speed() -> None:
    boots = [(boot(None), boot(0)) for _ in range(ROUNDS)]
    print("cold boot, wall-clock and seeded: " + ", ".join(f"{a:.2f} s {b:.2f} s" for a, b in boots))
    verdict("speed of a seeded cold boot / wall-clock", statistics.median(a / b for a, b in boots), 0.95, at_least=True)
    loops = [(loop(None), loop(0)) for _ in range(ROUNDS)]
    print("busy loop, MIPS: " + ", ".join(f"{a / 1e6:.0f} {b / 1e6:.0f}" for a, b in loops))
    verdict("speed of a seeded busy loop / wall-clock", statistics.median(b / a for a, b in loops), 0.95, at_least=True)


def hour_and_hash() -> None:
    with lab.Machine(seed=1, engine="node") as vm:
        vm.run("true")
        hours = [timed(lambda: vm.run("sleep 3600")) for _ in range(ROUNDS)]
        verdict("sleep 3600 / 1 s", statistics.median(hours), 1.0, at_least=False)
        hashes = [timed(vm.state_hash) for _ in range(ROUNDS)]
        verdict("state hash of 128 MiB / 150 ms", statistics.median(hashes[1:]) / 0.150, 1.0, at_least=False)


def replay() -> None:
    ratios = []
    for _ in range(ROUNDS):
        with lab.Machine(seed=2, engine="node") as vm:
            original = timed(lambda vm=vm: vm.run(WORK))  # type: ignore[misc]
            log = vm.recording
        begin = time.perf_counter()
        with lab.replay(log):
            again = time.perf_counter() - begin
        ratios.append(again / original)
    verdict("replay / original run", statistics.median(ratios), 1.05, at_least=False)


def log_sizes() -> None:
    image = dataclasses.replace(lab.images.linux(), resume=False)
    with lab.Machine(image, seed=3, engine="node") as vm:
        vm.console.expect(plain.PROMPT, timeout=120)
        at_boot = len(json.dumps(vm.recording.events))
        for _ in range(60 * KEYS_PER_SECOND):
            vm.console.send("a")
            vm.advance(seconds=1 / KEYS_PER_SECOND)
        typed = len(json.dumps(vm.recording.events)) - at_boot
    print(f"recording: {at_boot} bytes for a boot, {typed} for a minute of typing ({KEYS_PER_SECOND} keys a second)")


def race() -> None:
    with lab.Machine(seed=0, engine="node") as vm:
        vm.files.write("/root/race.c", RACE)
        vm.run("cc -o /root/race /root/race.c -lpthread", check=True)
        compiled = vm.snapshot("compiled")

    def once(seed: int) -> int:
        with lab.Machine(compiled, seed=seed, engine="node") as vm:
            return int(vm.run("/root/race").stdout)

    begin = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        balances = list(pool.map(once, range(SEEDS)))
    seconds = (time.perf_counter() - begin) / SEEDS
    print(f"{sum(balance != 40000 for balance in balances)} of {SEEDS} seeds lose an update; {seconds:.2f} s each")
    verdict("a schedule of the race / 0.6 s", seconds / 0.6, 1.0, at_least=False)


def main() -> None:
    speed()
    hour_and_hash()
    replay()
    log_sizes()
    race()


if __name__ == "__main__":
    main()
