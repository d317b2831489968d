"""Memory of one 128 MiB machine in Node and of ten, and a C program compiled in the guest.

Memory is proportional set size (PSS) where the system tells it, else resident set size; the limit it is compared with
is the guest's own memory.
"""

from __future__ import annotations

import contextlib
import time

import psutil
from verdict import verdict

import v86lab as lab

PROGRAM = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
MANY = 10


def memory(pid: int) -> int:
    info = psutil.Process(pid).memory_full_info()
    return int(getattr(info, "pss", info.rss))


def main() -> None:
    with contextlib.ExitStack() as stack:
        machines = []
        for _ in range(MANY):
            vm = stack.enter_context(lab.Machine())
            vm.run("true")
            machines.append(vm)
        sizes = [memory(vm.engine.pid or 0) for vm in machines]
        print(f"one machine: {sizes[0] / 2**20:.0f} MiB; {MANY} machines: {sum(sizes) / 2**20:.0f} MiB")
        verdict("memory of a machine / its guest's", sum(sizes) / MANY / machines[0].image.memory, 3.0, at_least=False)
        vm = machines[0]
        vm.files.write("/root/hello.c", PROGRAM)
        times = {}
        for name, command in (("cc hello.c", "cc hello.c -o hello"), ("./hello", "./hello")):
            begin = time.perf_counter()
            vm.run(command, check=True)
            times[name] = time.perf_counter() - begin
        print(", ".join(f"{name}: {seconds * 1000:.0f} ms" for name, seconds in times.items()))


if __name__ == "__main__":
    main()
