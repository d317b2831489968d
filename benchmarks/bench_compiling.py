"""Compiling inside a guest: gcc's ``hello.c``, and a program of 10 000 lines in eleven files, on 9p and on a disk.

Peers: the same commands on this computer, where it has a gcc; and the guest itself: what it takes the first time, the
second, and in a machine restored from a snapshot that was taken after the second.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from verdict import verdict

import v86lab as lab

FILES, FUNCTIONS = 10, 100
FOLDER = "/root/program"
HELLO = "gcc -o hello hello.c && ./hello"
MAKE = {"gcc": "make -s && ./program", "tcc": "make -s CC=tcc && ./program"}


def program() -> dict[str, str]:
    """The files, by name."""
    files = {"hello.c": '#include <stdio.h>\nint main(void) { printf("hello %d\\n", 42); return 0; }\n'}
    for part in range(FILES):
        lines = ["#include <stdio.h>", "#include <string.h>"]
        for number in range(FUNCTIONS):
            lines += [f"int f{part}_{number}(int x, const char *s)", "{", "    char buffer[64];", "    int i, sum = 0;"]
            lines += ["    for (i = 0; i < (x & 15); i++)", f"        sum += i * {number + 1} + (int)strlen(s);"]
            lines += ['    snprintf(buffer, sizeof buffer, "%d:%s", sum, s);', "    return sum + buffer[0];", "}", ""]
        files[f"part{part}.c"] = "\n".join(lines) + "\n"
    objects = " ".join(f"part{part}.o" for part in range(FILES))
    calls = " + ".join(f'f{part}_{part}({part}, "x")' for part in range(FILES))
    declared = "".join(f"int f{part}_{part}(int, const char *);\n" for part in range(FILES))
    files["main.c"] = (
        f'#include <stdio.h>\n{declared}int main(void)\n{{\n    printf("%d\\n", {calls});\n    return 0;\n}}\n'
    )
    rule = "%.o: %.c\n\t$(CC) -c -o $@ $<\n"
    files["Makefile"] = f"program: {objects} main.o\n\t$(CC) -o $@ $^\n{rule}"
    return files


def guest(vm: lab.Machine, what: str, command: str) -> float:
    """Seconds of a command in the guest."""
    begin = time.perf_counter()
    done = vm.run(f"cd {FOLDER} && rm -f *.o && {command}", timeout=900, check=True)
    seconds = time.perf_counter() - begin
    millions = (done.instructions or 0) / 1e6
    print(f"{what}: {seconds:.2f} s, {millions:.0f} million instructions, {millions / seconds:.0f} MIPS", flush=True)
    return seconds


def host(files: dict[str, str], command: str) -> float | None:
    """Seconds of a command on this computer."""
    if shutil.which("gcc") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        begin = time.perf_counter()
        subprocess.run(["sh", "-c", command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


def main() -> None:
    files = program()
    print(f"{sum(text.count(chr(10)) for text in files.values())} lines")
    tree = lab.rootfs.debian(packages=["gcc", "libc6-dev", "make", "tcc"])
    for name, text in files.items():
        tree = tree.with_file(f"{FOLDER}/{name}", text)
    native = {command: host(files, command) for command in (HELLO, MAKE["gcc"])}
    for where in ("9p", "disk"):
        options = {"memory": "512 MiB", "init": "v86lab"}
        image = tree.as_9p(**options) if where == "9p" else tree.as_disk("2 GiB", **options)
        with lab.Machine(image) as vm:
            vm.run("true", timeout=600)
            first, second = (guest(vm, f"{where}, hello, {which} time", HELLO) for which in ("first", "second"))
            whole = guest(vm, f"{where}, program, gcc", MAKE["gcc"])
            tiny = guest(vm, f"{where}, program, tcc", MAKE["tcc"])
            snapshot = vm.snapshot()
        with lab.Machine(snapshot) as vm:
            vm.run("true", timeout=600)
            restored = guest(vm, f"{where}, hello, first time after the snapshot", HELLO)
        verdict(f"{where}: hello, second time / first", second / first, 0.5, at_least=False)
        verdict(f"{where}: hello after a snapshot / first", restored / first, 0.5, at_least=False)
        verdict(f"{where}: program, tcc / gcc", tiny / whole, 0.5, at_least=False)
        for command, seconds in ((HELLO, second), (MAKE["gcc"], whole)):
            if (peer := native[command]) is not None:
                print(f"{where}: {command.split()[0]} in the guest / on this computer: {seconds / peer:.0f}x")


if __name__ == "__main__":
    main()
