"""What machines with a seed must do alike everywhere: each scenario makes one, works with it and gives it back.

Rules:

- a scenario makes all its machines by the `make` that it is given, a `v86lab.Machine` in effect, which may show them:
  so a page runs them, where `make` says so. It needs nothing but v86lab: this file's text is also a cell of a notebook;
- nothing in it depends on the host, above all on its time;
- `SAME` names scenarios that must end in the same machine.
"""

from __future__ import annotations

import dataclasses
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import v86lab as lab
from v86lab.errors import GuestTimeout

Make = Callable[..., lab.Machine]
Scenario = Callable[[Make], lab.Machine]

SCENARIOS: dict[str, Scenario] = {}

MIB = 1 << 20
PATIENCE = 300.0  # s of guest time
FRESH = "sync; echo 3 > /proc/sys/vm/drop_caches"

# The boot sectors of sectors.py.
SECTORS = {
    "keys": (
        "fa31c08ed88ec08ed0bc007cfbb80300cd10b02ee81e0031c0cd1650b40ecd105b88d8e80f0088f8e80a00ebeab02ee80300f4eb"
        "fdbaf803eec3"
    ),
    "vga": (
        "fa31c08ed88ec08ed0bc007cfbb81300cd10bac80330c0ee42b9000388c8c0e802eee2f8b800a08ec0bd0300bada03eca80874fb"
        "31ff89f8f7e531d0aa81ff00fa75f34d75e6b02ee83700b40131dbf44383fb1475f9b81200cd10bace03b80318ef31ffb90096ba"
        "c40388cc80e40fb002ef268a0588c8aae2edb02ee80300f4ebfdbaf803eec3"
    ),
    "vbe": (
        "fa31c08ed88ec08ed0bc007cfbbe427cb90500bace01adef42adefe2f6b800a08ec031edbace01b80500ef4289e8ef31ff89e801"
        "f8ab09ff75f94583fd1275e4eb1404000000010080020200e0010300200004000100b02ee80300f4ebfdbaf803eec3"
    ),
    "count": ("fa31c08ed88ec08ed0bc007cfb6631c9b02ee81700664166890e00806601c86631c3ebf1b02ee80300f4ebfdbaf803eec3"),
    "smc": (
        "fa31c08ed88ec08ed0bc007cfb6631db66b9e093040008c975058036217c286681c30000000066890e227c66d1c3664975e4e802"
        "00eb1cb9080066c1c30488d8240f04303c3976020427e80e00e2ebb020eb08b02ee80300f4ebfdbaf803eec3"
    ),
    "floppy": (
        "fa31c08ed88ec08ed0bc007cfb6631dbbd0400b80000b200cd1353bb0080b81202b90102ba0001cd135b73034d75e488e3be0080"
        "b9000966ad66c1c3036601c3e2f5665366891e0080bb0080b80103b90305ba0000cd13665b88e3e80b00b02ee82a0031c0cd16eb"
        "a4b9080066c1c30488d8240f04303c3976020427e80e00e2ebb020eb08b02ee80300f4ebfdbaf803eec3"
    ),
    "clocks": (
        "fa31c08ed88ec08ed0bc007cfbfac706c001907cc706c2010000b08be670e4710c4088c4b08be67088e0e671e4a124fee6a1fb66"
        "31db66b9a086010030c0e643e440e83f00e440e83a00e442e83500e461e8300088c8240fe670e471e825000f316601c366a1a47c"
        "e81900664975cde83600668b1ea47ce82e00668b1e6c04e82600eb40660fb6c066c1c3056631c3c35066ff06a47cb00ce670e471"
        "b020e6a0e62058cf00000000b9080066c1c30488d8240f04303c3976020427e80e00e2ebb020eb08b02ee80300f4ebfdbaf803ee"
        "c3"
    ),
}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def cold(**options: Any) -> lab.Image:
    """The default guest with these options, booted each time."""
    return dataclasses.replace(lab.images.linux(**options), resume=False)


def sector(name: str, **options: Any) -> lab.Image:
    return lab.images.boot_sector(bytes.fromhex("".join(SECTORS[name])), **options)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def compiled(vm: lab.Machine, source: str, *arguments: str) -> str:
    """What a C program prints that is compiled in the guest."""
    vm.files.write("/root/a.c", source)
    vm.run("cc -o /root/a /root/a.c", check=True)
    return str(vm.run(["/root/a", *arguments], check=True).stdout)


# ---- starting ----


@scenario
def default_start(make: Make) -> lab.Machine:
    vm = make(seed=7)
    vm.start()
    return vm


@scenario
def cold_boot(make: Make) -> lab.Machine:
    vm = make(cold(memory="96 MiB"), seed=7)
    assert vm.run("dmesg | tail -n 3; cat /proc/interrupts").stdout
    return vm


@scenario
def without_acpi(make: Make) -> lab.Machine:
    vm = make(cold(acpi=False), seed=8)
    vm.run("sleep 1.5; cat /proc/interrupts /proc/uptime", check=True)
    return vm


@scenario
def with_io_apic(make: Make) -> lab.Machine:
    image = cold(hda=noise(MIB))
    vm = make(dataclasses.replace(image, cmdline=image.cmdline.replace(" noapic", "")), seed=9)
    said = str(vm.run("md5sum < /dev/sda; sleep 1; cat /proc/interrupts", check=True).stdout)
    assert "IO-APIC" in said, said
    return vm


@scenario
def another_epoch_and_rate(make: Make) -> lab.Machine:
    vm = make(cold(epoch=915148800, mips=20), seed=7)
    assert str(vm.run("date +%Y; seq 2000 | md5sum; date", check=True).stdout).startswith("1999")
    return vm


@scenario
def interpreted(make: Make) -> lab.Machine:
    vm = make(cold(jit=False), seed=7)
    vm.run("for n in 1 2 3; do seq 500 | md5sum; done; find / -xdev | wc -l", check=True)
    return vm


# ---- processes and time ----


@scenario
def processes(make: Make) -> lab.Machine:
    vm = make(seed=1)
    vm.run(
        "find / -xdev 2>/dev/null | sort -r | md5sum; ps | grep -c root; seq 3000 | awk '{ s += $1 } END { print s }'"
    )
    vm.run("(yes | head -n 20000 > /dev/null &); (seq 20000 | sort -n | tail -n 1 > /tmp/last &); sleep 3")
    assert vm.run("cat /tmp/last").stdout == "20000\n"
    return vm


@scenario
def chance(make: Make) -> lab.Machine:
    vm = make(seed=2)
    vm.run(
        "head -c 100000 /dev/urandom | tee /tmp/random | md5sum; cat /proc/sys/kernel/random/uuid; mktemp", check=True
    )
    vm.run("head -c 64 /dev/random | od -An -tx1; for n in 1 2 3; do echo $RANDOM; done", check=True)
    return vm


@scenario
def timers(make: Make) -> lab.Machine:
    vm = make(seed=3)
    before = vm.clock
    vm.run("date; sleep 3600; date; for n in 1 2 3 4 5; do usleep 1500; done; timeout 2 sleep 100; time sleep 0.25")
    vm.run("(while :; do date >> /tmp/log; sleep 7; done) & sleep 60; kill $!; wc -l /tmp/log", check=True)
    assert 3662 < vm.clock - before < 3664
    return vm


@scenario
def budgets(make: Make) -> lab.Machine:
    vm = make(seed=4)
    for budget in ({"timeout": 0.3}, {"instructions": 30_000_000}):
        try:
            vm.run("while :; do :; done", **budget)
        except GuestTimeout:
            continue
        raise AssertionError("it has come to an end")
    vm.advance(seconds=0.25)
    vm.advance(instructions=1_234_567)
    return vm


@scenario
def fork_heavy(make: Make) -> lab.Machine:
    vm = make(seed=5)
    vm.run(
        "n=0; while [ $n -lt 250 ]; do n=$((n + 1)); (:) & done; wait; for n in $(seq 60); do echo $n | cat | cat; done"
    )
    vm.run(
        "f() { [ $1 -gt 0 ] && { f $(($1 - 1)) & f $(($1 - 1)) & wait; echo $$ >> /tmp/all; }; }; f 6; wc -l /tmp/all"
    )
    return vm


THREADS = """
#include <pthread.h>
#include <stdio.h>
volatile int count, turns[4];
int compute(int n) { int i; for (i = 0; i < 20; i++) n = n * 1103515245 + 12345; return n; }
void *work(void *which)
{
    int i;
    for (i = 0; i < 100000; i++) {
        int seen = count;
        turns[(long) which] += compute(i) & 1;
        count = seen + 1;
    }
    return 0;
}
int main(void)
{
    pthread_t threads[4];
    long i;
    for (i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, (void *) i);
    for (i = 0; i < 4; i++) pthread_join(threads[i], 0);
    printf("%d %d %d %d %d\\n", count, turns[0], turns[1], turns[2], turns[3]);
    return 0;
}
"""


@scenario
def threads(make: Make) -> lab.Machine:
    vm = make(seed=6)
    assert int(compiled(vm, THREADS).split()[0]) <= 400000
    return vm


# ---- the processor ----

CALLS = """
#include <stdio.h>
#include <stdlib.h>
unsigned table[1024];
unsigned mix(unsigned a, unsigned b) { return (a << 7 | a >> 25) ^ b * 2654435761u; }
unsigned step(unsigned a, int n) { return n & 1 ? mix(a, n) : mix(n, a) + table[a & 1023]; }
unsigned (*steps[2])(unsigned, int) = { step, (unsigned (*)(unsigned, int)) mix };
int main(int count, char **values)
{
    unsigned a = 1;
    int n, most = atoi(values[1]);
    for (n = 0; n < most; n++) {
        a = steps[(a >> 3) & 1](a, n);
        table[n & 1023] ^= a;
        if (a % 1000003 == 0) printf("%d\\n", n);
    }
    printf("%08x\\n", a);
    return 0;
}
"""


@scenario
def a_thousand_million(make: Make) -> lab.Machine:
    vm = make(seed=10)
    before = vm.instructions
    compiled(vm, CALLS, "21000000")
    assert vm.instructions - before > 10**9, vm.instructions - before
    return vm


@scenario
def counters_wrap_around(make: Make) -> lab.Machine:
    vm = make(sector("count"), seed=11)
    vm.console.expect(".")
    vm.advance(instructions=2**32 + 50_000_000)
    assert vm.instructions > 2**32
    return vm


@scenario
def code_that_changes_itself(make: Make) -> lab.Machine:
    vm = make(sector("smc"), seed=12)
    vm.console.expect(".", PATIENCE)
    return vm


CHANGING = """
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
int main(void)
{
    unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0x03, 0x44, 0x24, 0x04, 0xc3 }; /* mov imm, eax; add 4(esp), eax; ret */
    unsigned char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at;
    unsigned sum = 0;
    int round, n;
    for (round = 0; round < 400; round++) {
        mprotect(page, 8192, PROT_READ | PROT_WRITE);
        at = page + (round * 37) % 4000 + (round & 1 ? 0 : 90);         /* now and then over the end of a page */
        memcpy(at, code, sizeof code);
        memcpy(at + 1, &round, 4);
        mprotect(page, 8192, PROT_READ | PROT_EXEC);
        for (n = 0; n < 200; n++) sum = ((unsigned (*)(unsigned)) at)(sum) * 3 + n;
    }
    printf("%08x\\n", sum);
    return 0;
}
"""


@scenario
def code_on_writable_pages(make: Make) -> lab.Machine:
    vm = make(seed=13)
    compiled(vm, CHANGING)
    return vm


FLOATS = """
#include <math.h>
#include <stdio.h>
#include <string.h>
#define ONE(name, code) \\
    { long double x = a; unsigned char bytes[16] = {0}; asm volatile(code : "=m"(x) : "m"(a), "m"(b) : "memory"); \\
      memcpy(bytes, &x, 10); for (i = 0; i < 10; i++) sum = sum * 31 + bytes[i]; }
unsigned sum;
int main(void)
{
    double values[] = { 0.0, -0.0, 1.0, -1.5, 0.3, 3.141592653589793, 1e-310, 1e300, -7.25e-5, 12345.678, 0.99999 };
    int n, m, i;
    for (n = 0; n < 11; n++) for (m = 0; m < 11; m++) {
        double a = values[n], b = values[m];
        ONE(add, "fldl %1; faddl %2; fstpt %0")
        ONE(div, "fldl %1; fdivl %2; fstpt %0")
        ONE(sqrt, "fldl %1; fsqrt; fmull %2; fstpt %0")
        ONE(sin, "fldl %1; fsin; fstpt %0")
        ONE(cos, "fldl %1; fcos; fstpt %0")
        ONE(tan, "fldl %1; fptan; fmulp; fstpt %0")
        ONE(atan, "fldl %1; fldl %2; fpatan; fstpt %0")
        ONE(log, "fldl %1; fldl %2; fyl2x; fstpt %0")
        ONE(log1, "fldl %1; fldl %2; fyl2xp1; fstpt %0")
        ONE(exp, "fldl %1; f2xm1; fstpt %0")
        ONE(scale, "fldl %1; fldl %2; fscale; fstp %%st(1); fstpt %0")
        ONE(rest, "fldl %1; fldl %2; fprem; fstp %%st(1); fstpt %0")
        ONE(round, "fldl %1; frndint; fstpt %0")
        ONE(parts, "fldl %1; fxtract; faddp; fstpt %0")
        ONE(bcd, "fldl %1; fbstp %0")
    }
    printf("%08x\\n", sum);
    double x = 0, y = 1;
    for (n = 1; n < 20000; n++) {
        x += sin(n) / n + exp(-n / 1000.0);
        y += pow(x, 0.3) * log(n + 0.5) + atan2(n, x) + (float) x / 3;
    }
    printf("%.17g %.17g\\n", x, y);
    return 0;
}
"""


@scenario
def floating_point(make: Make) -> lab.Machine:
    vm = make(seed=14)
    compiled(vm, FLOATS)
    return vm


# Each instruction is put into `run`: movups (%eax), %xmm0; movups (%edx), %xmm1; OP %xmm1, %xmm0; movups %xmm0, (%ecx).
SSE = """
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
struct op { unsigned char length, code[4]; } ops[] = {
#define P(n) {3, {0x0f, n, 0xc1}}, {4, {0x66, 0x0f, n, 0xc1}}, {4, {0xf3, 0x0f, n, 0xc1}}, {4, {0xf2, 0x0f, n, 0xc1}},
    P(0x58) P(0x59) P(0x5c) P(0x5d) P(0x5e) P(0x5f) P(0x51)             /* add mul sub min div max sqrt */
    {3, {0x0f, 0x52, 0xc1}}, {4, {0xf3, 0x0f, 0x52, 0xc1}},             /* rsqrt */
    {3, {0x0f, 0x53, 0xc1}}, {4, {0xf3, 0x0f, 0x53, 0xc1}},             /* rcp */
    {3, {0x0f, 0x5a, 0xc1}}, {4, {0x66, 0x0f, 0x5a, 0xc1}},             /* cvt */
    {4, {0xf3, 0x0f, 0x5a, 0xc1}}, {4, {0xf2, 0x0f, 0x5a, 0xc1}},
    {3, {0x0f, 0x5b, 0xc1}}, {4, {0x66, 0x0f, 0x5b, 0xc1}}, {4, {0xf3, 0x0f, 0x5b, 0xc1}},
    {4, {0xf3, 0x0f, 0xe6, 0xc1}}, {4, {0xf2, 0x0f, 0xe6, 0xc1}}, {4, {0x66, 0x0f, 0xe6, 0xc1}},
    {4, {0x66, 0x0f, 0xf4, 0xc1}}, {4, {0x66, 0x0f, 0xf6, 0xc1}},       /* integers */
    {4, {0x66, 0x0f, 0xe4, 0xc1}}, {4, {0x66, 0x0f, 0x63, 0xc1}},
};
int main(int count, char **values)
{
    unsigned char before[] = { 0x0f, 0x10, 0x00, 0x0f, 0x10, 0x0a }, after[] = { 0x0f, 0x11, 0x01, 0xc3 }, *run;
    unsigned numbers[][4] = {
        { 0x3f800000, 0xc0490fdb, 0x00000001, 0x7f7fffff }, { 0x3eaaaaab, 0x42f6e979, 0x80000000, 0x00800000 },
        { 0x54442d18, 0x400921fb, 0x00000001, 0x00000000 }, { 0x9999999a, 0x3fb99999, 0xffffffff, 0x7fefffff },
        { 0x7f800000, 0xff800000, 0x4f000000, 0xcf000001 }, { 0x00000000, 0x41dfffff, 0xffc00000, 0xc1e00000 },
    };
    unsigned sum = 0, result[4];
    int i, n, m, turn, most = sizeof numbers / sizeof *numbers;
    run = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (i = 0; i < sizeof ops / sizeof *ops; i++) {
        unsigned part = 0;
        memcpy(run, before, 6);
        memcpy(run + 6, ops[i].code, ops[i].length);
        memcpy(run + 6 + ops[i].length, after, 4);
        for (turn = 0; turn < 6; turn++) for (n = 0; n < most; n++) for (m = 0; m < most; m++) {
            unsigned *a = numbers[n], *b = numbers[m], *c = result;
            asm volatile("call *%3" : : "a"(a), "d"(b), "c"(c), "S"(run) : "memory");
            part = (part << 5 | part >> 27) ^ result[0];
            part = (part << 5 | part >> 27) ^ result[1] * 3 ^ result[2] * 5 ^ result[3] * 7;
        }
        printf("%02x %02x %08x\\n", ops[i].code[0], ops[i].code[1], part);
        sum ^= part * (2 * i + 1);
    }
    printf("%08x\\n", sum);
    return 0;
}
"""


@scenario
def sse(make: Make) -> lab.Machine:
    vm = make(seed=15)
    compiled(vm, SSE)
    return vm


NANS = """
        { 0x7fc00001, 0xffc00002, 0x7f800003, 0xff800004 }, { 0x7fc00011, 0x7ff80000, 0x00000005, 0xfff00000 },
        { 0xffc00021, 0x7f800022, 0x3f800000, 0x7fc00023 },
    };
    unsigned sum"""


@scenario
def sse_of_nans(make: Make) -> lab.Machine:
    """Which of two comes out, often enough that every compiler of the host has been at it; so on x86-64 hosts."""
    vm = make(seed=31)
    compiled(vm, SSE.replace("    };\n    unsigned sum", NANS.strip("\n"), 1).replace("turn < 6", "turn < 200"))
    return vm


# ---- memory ----


EAT = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    unsigned char *block;
    int n;
    for (n = 0; (block = malloc(1 << 20)); n++) { memset(block, n, 1 << 20); fprintf(stderr, "%d\\n", n); }
    return 0;
}
"""


@scenario
def memory_pressure(make: Make) -> lab.Machine:
    vm = make(cold(memory="88 MiB"), seed=16)
    vm.files.write("/root/a.c", EAT)
    vm.run("cc -o /root/a /root/a.c && mkdir /fill && mount -t tmpfs -o size=24m tmpfs /fill", check=True)
    vm.run("dd if=/dev/zero bs=64k of=/fill/all 2> /dev/null; df /fill; find / -xdev -type f | xargs cat > /dev/null")
    assert vm.run("/root/a 2> /root/eaten").returncode == -9  # the kernel killed it
    vm.run("tail -n 1 /root/eaten; rm /fill/all; dmesg | grep -c Killed", check=True)
    return vm


@scenario
def written_memory(make: Make) -> lab.Machine:
    vm = make(seed=17)
    top = len(vm.memory)
    vm.run("true")
    vm.memory[0x600] = 0xA5
    vm.memory[top - 5000 : top] = noise(5000)
    vm.memory[0xB8000:0xB8010] = b"w\x1fr\x1fi\x1ft\x1ft\x1fe\x1fn\x1f!\x1f"
    vm.advance(seconds=0.1)
    return vm


# ---- disks and folders ----


def disk_work(make: Make) -> lab.Machine:
    vm = make(cold(hda=noise(3 * MIB)), seed=18)
    look = f"{FRESH}; md5sum < /dev/sda"
    vm.run(f"dd if=/dev/sda bs=4k skip=600 count=3 2>/dev/null | md5sum; {look}", check=True, timeout=PATIENCE)
    vm.run("mke2fs /dev/sda && mkdir /disk && mount /dev/sda /disk && cp -r /etc /disk && umount /disk", check=True)
    vm.run(f"{look}; mount /dev/sda /disk && rm -r /disk/etc/init.d && umount /disk", check=True, timeout=PATIENCE)
    return vm


@contextmanager
def jitter() -> Iterator[None]:
    """The server opens what is asked of it now soon and now late."""
    late, lock = random.Random(), threading.Lock()
    opened, verified = lab.Store.open, lab.Store.open_verified
    wait = threading.Event().wait

    def open_late(store: lab.Store, digest: str) -> Any:
        with lock:
            seconds = late.choice([0, 0, 0.005, 0.02, 0.08])
        wait(seconds)
        return opened(store, digest)

    lab.Store.open, lab.Store.open_verified = open_late, lambda *_: None  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        lab.Store.open, lab.Store.open_verified = opened, verified  # type: ignore[method-assign]


@scenario
def disk_of_a_jittery_server(make: Make) -> lab.Machine:
    with jitter():
        return disk_work(make)


@scenario
def disk(make: Make) -> lab.Machine:
    return disk_work(make)


@scenario
def changed_cd(make: Make) -> lab.Machine:
    vm = make(seed=19)
    vm.run("md5sum /dev/sr0")
    vm.insert("cdrom", data_cd(noise(40_000, 3)))
    vm.run("md5sum /dev/sr0; mkdir /cd; mount -t iso9660 /dev/sr0 /cd && md5sum /cd/* && umount /cd", check=True)
    vm.eject("cdrom")
    return vm


@scenario
def changed_floppy(make: Make) -> lab.Machine:
    vm = make(sector("floppy"), seed=30)
    vm.console.expect(".")
    for n in (2, 3):
        vm.insert("fda", noise(1440 * 1024, n))
        vm.keyboard.type("x")
        vm.console.expect(".")
    vm.eject("fda")
    vm.keyboard.type("x")
    vm.console.expect(".")
    return vm


def data_cd(content: bytes) -> bytes:
    """A CD with one file, A.TXT: ECMA-119, the least that a kernel mounts."""

    def both(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little") + value.to_bytes(size, "big")

    def record(name: bytes, at: int, size: int, flags: int) -> bytes:
        body = bytes([0]) + both(at, 4) + both(size, 4) + bytes(7) + bytes([flags, 0, 0]) + both(1, 2)
        body += bytes([len(name)]) + name + (b"" if len(name) % 2 else b"\0")
        return bytes([len(body) + 1]) + body

    root = record(b"\0", 18, 2048, 2) + record(b"\1", 18, 2048, 2) + record(b"A.TXT;1", 19, len(content), 0)
    primary = bytearray(2048)
    primary[0:8] = b"\x01CD001\x01\x00"
    primary[8:72] = b" " * 32 + b"DATA".ljust(32)
    blocks = 19 + -(-len(content) // 2048)
    primary[80:88], primary[120:124], primary[124:128] = both(blocks, 4), both(1, 2), both(1, 2)
    primary[128:132], primary[156:190], primary[881] = both(2048, 2), record(b"\0", 18, 2048, 2), 1
    end = (b"\xffCD001\x01").ljust(2048, b"\0")
    image = bytes(16 * 2048) + bytes(primary) + end + root.ljust(2048, b"\0") + content
    return image.ljust(-(-len(image) // 2048) * 2048, b"\0")


@scenario
def shared_folder(make: Make) -> lab.Machine:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "big").write_bytes(noise(300_000))
        (folder / "a.txt").write_text("from the host\n")
        (folder / "deep" / "er" / "b.txt").write_text("deep\n")
        (folder / "unread").write_bytes(noise(5000, 4))
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (1_000_000_000, 1_000_000_000))  # the guest sees it
        vm = make(cold(share=folder), seed=20)
        vm.run(
            "cd /mnt; ls -lR; md5sum big; cat a.txt deep/er/b.txt; echo more >> a.txt; mv big deep/moved;"
            "echo new > made; ln -s a.txt soft; ln made hard; rm -r deep/er; mkdir -p x/y; chmod 600 made;"
            f"{FRESH}; cat soft hard; stat made",
            check=True,
        )
        vm.run("find / -xdev | head -n 500 > /mnt/x/y/list; md5sum /mnt/deep/moved; ls -la /mnt", check=True)
    return vm


# ---- people ----


@scenario
def typed_keys(make: Make) -> lab.Machine:
    vm = make(seed=21)
    vm.start()
    vm.keyboard.type("echo 'Typed: {}[]|~' > /tmp/typed; date >> /tmp/typed\n")
    vm.keyboard.keys("<leftshifton>a<leftshiftoff><wait500ms><bs><up><up><enter>")
    vm.advance(seconds=0.5)
    assert vm.files.read("/tmp/typed").startswith(b"Typed: {}[]|~\n")
    return vm


@scenario
def typed_keys_of_the_bios(make: Make) -> lab.Machine:
    vm = make(sector("keys"), seed=22)
    vm.console.expect(".")
    vm.keyboard.type("abc")
    vm.advance(seconds=0.2)
    vm.keyboard.keys("<f1><wait200ms><ctrl+a><pageup>xyz")
    vm.advance(seconds=0.2)
    vm.screen.expect("xyz")
    return vm


@scenario
def serial_console(make: Make) -> lab.Machine:
    vm = make(seed=23)
    vm.console.sendline("stty size; cat > /tmp/lines")
    vm.console.send("first line\nsecond \b line\n" + "x" * 300 + "\n")
    vm.console.sendcontrol("d")
    vm.console.sendline("md5sum < /tmp/lines; sleep 50; date")
    vm.console.expect("  -")
    vm.advance(seconds=1)
    vm.console.sendcontrol("c")
    vm.console.sendline("echo $((6 * 7))")
    vm.console.expect("\n42\r")
    return vm


# ---- graphics and chips ----


@scenario
def vga(make: Make) -> lab.Machine:
    vm = make(sector("vga"), seed=24)
    vm.console.expect(".", PATIENCE)
    vm.console.expect(".", PATIENCE)
    return vm


@scenario
def vbe(make: Make) -> lab.Machine:
    vm = make(sector("vbe"), seed=25)
    vm.console.expect(".", PATIENCE)
    return vm


@scenario
def clocks(make: Make) -> lab.Machine:
    vm = make(sector("clocks"), seed=26)
    vm.console.expect(".", PATIENCE)
    return vm


# ---- starting again, and snapshots ----


@scenario
def reset_in_the_middle(make: Make) -> lab.Machine:
    vm = make(cold(hda=noise(MIB)), seed=27)
    vm.run("echo kept | dd of=/dev/sda conv=notrunc 2>/dev/null; sync; (while :; do :; done) &", check=True)
    vm.advance(seconds=0.1)
    vm.reset()
    assert vm.run("head -c 5 /dev/sda").stdout == "kept\n"
    return vm


@scenario
def rebooted_and_switched_off(make: Make) -> lab.Machine:
    vm = make(seed=28)
    vm.console.sendline("reboot -f")
    vm.console.expect("Restarting", timeout=PATIENCE)
    vm.console.expect("root.", timeout=PATIENCE)
    vm.console.expect("# ", timeout=PATIENCE)
    vm.console.sendline("poweroff")
    assert vm.wait(timeout=PATIENCE) == "off"
    return vm


def half(make: Make) -> lab.Machine:
    vm = make(seed=29)
    vm.run("find / -xdev | md5sum; (sleep 0.5; seq 100000 | md5sum > /tmp/sum) > /dev/null 2>&1 &")
    vm.keyboard.type("sleep 0.2; date > /tmp/date\n")
    vm.advance(seconds=0.51)
    return vm


def other_half(vm: lab.Machine) -> lab.Machine:
    vm.advance(instructions=5_000_000)
    vm.run("sleep 1; cat /tmp/sum /tmp/date; head -c 16 /dev/urandom | md5sum", check=True)
    return vm


@scenario
def straight_on(make: Make) -> lab.Machine:
    return other_half(half(make))


@scenario
def saved_in_the_middle(make: Make) -> lab.Machine:
    vm = half(make)
    vm.snapshot()
    return other_half(vm)


@scenario
def restored_in_the_middle(make: Make) -> lab.Machine:
    vm = half(make)
    middle = vm.snapshot()
    vm.run("rm -rf /tmp; seq 30000 | sort | md5sum")
    vm.restore(middle)
    return other_half(vm)


@scenario
def another_goes_on_in_the_middle(make: Make) -> lab.Machine:
    vm = half(make)
    middle = vm.snapshot()
    vm.close()
    return other_half(make(middle))


SAME = [
    ("disk_of_a_jittery_server", "disk"),
    ("straight_on", "saved_in_the_middle", "restored_in_the_middle", "another_goes_on_in_the_middle"),
]
