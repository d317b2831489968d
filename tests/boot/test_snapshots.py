"""Snapshots: a restored machine is the machine that was saved, and goes on as it would have."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import v86lab as lab
from v86lab.errors import GuestError, ImageError, StoreError

from .conftest import Maker, cold

pytestmark = pytest.mark.boot

PROMPT = "/ # "


COUNT = """
start:
    protected
    mov ebx, 0x9000
step:                                   ; x = x * 1664525 + 1013904223, n = n + 1
    mov eax, [ebx]
    imul eax, eax, 1664525
    add eax, 1013904223
    mov [ebx], eax
    inc dword [ebx + 4]
    jmp step
"""


def test_a_restored_machine_has_the_memory_that_was_saved_and_goes_on_from_there(
    asm: Callable[[str], lab.Machine], make: Maker
) -> None:
    vm = asm(COUNT)
    vm.console.expect("!", timeout=60)
    vm.pause()
    saved, registers = vm.memory[:], vm.cpu.registers
    snap = vm.snapshot()
    assert (vm.memory[:], vm.cpu.registers) == (saved, registers)
    for machine in (vm, make(snap)):
        if machine is vm:
            vm.restore(snap)
        machine.pause()
        now = machine.memory[:]
        assert isinstance(now, bytes) and isinstance(saved, bytes)
        assert now[:0x9000] + now[0x9008:] == saved[:0x9000] + saved[0x9008:]
        x, n = struct.unpack("<II", now[0x9000:0x9008])
        before, steps = struct.unpack("<II", saved[0x9000:0x9008])
        for _ in range((n - steps) % 2**32):
            before = (before * 1664525 + 1013904223) % 2**32
        assert x in (before, (before * 1664525 + 1013904223) % 2**32)  # it may stand between the two stores


WORK = """
(for n in $(seq 15); do find /etc /usr /bin /proc/sys/kernel -type f | sort | md5sum; done | md5sum > /tmp/sum
 mv /tmp/sum /tmp/done) > /dev/null 2>&1 &
"""
WAIT = "while [ ! -e /tmp/done ]; do sleep 0.1; done; cat /tmp/done"


def test_work_under_way_goes_on_in_this_process_and_in_another(vm: lab.Machine, tmp_path: Path) -> None:
    vm.run(WORK)
    vm.run("sleep 0.3; test ! -e /tmp/done", check=True)
    snap = vm.snapshot("working")
    straight = vm.run(WAIT, timeout=120).stdout
    vm.restore(snap)
    vm.run("test ! -e /tmp/done", check=True)
    assert vm.run(WAIT, timeout=120).stdout == straight
    snap.save(tmp_path / "working.json")
    program = f"""
        import v86lab as lab
        with lab.Machine(lab.Snapshot.load({str(tmp_path / "working.json")!r})) as vm:
            print(vm.run({WAIT!r}, timeout=120).stdout, end="")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert (done.stdout, done.stderr) == (straight, "")


FPU = """
#include <stdio.h>
#include <unistd.h>
int main(void) {
    volatile double sum = 0, x = 1;
    volatile long double wide = 0;
    for(long n = 0; n < 3000000; n++) {
        sum += 1 / x; x += 1; wide += sum / x;
        if(n == 1000) { puts("begun"); fflush(stdout); }
    }
    printf("%.17g %.21Lg\\n", sum, wide);
}
"""


def test_floating_point_work_is_exact_through_a_snapshot(vm: lab.Machine) -> None:
    vm.files.write("/root/f.c", FPU)
    vm.run("cc f.c -o f", check=True)
    straight = vm.run("./f", check=True).stdout
    assert vm.console.expect(PROMPT)
    vm.console.sendline("cd /root; ./f > out; mv out finished")
    vm.run("while ! grep -q begun out; do sleep 0.05; done; test ! -e finished", check=True)
    vm.restore(vm.snapshot())
    assert vm.run("test ! -e finished; while [ ! -e finished ]; do sleep 0.1; done; cat finished").stdout == straight


def test_what_was_typed_and_not_yet_read_is_kept(vm: lab.Machine, make: Maker) -> None:
    vm.console.expect(PROMPT)
    vm.pause()
    text = "".join(f"{n:04}" for n in range(200))
    vm.console.send(f"echo {text} | md5sum\n")
    vm.keyboard.type("x=typed\n")
    snap = vm.snapshot()
    vm.resume()
    twin = make(snap)
    for machine in (vm, twin):
        machine.console.expect(hashlib.md5(text.encode() + b"\n").hexdigest(), timeout=60)
        machine.screen.expect(re.compile(r"x=typed\n/ #$"), timeout=60)


def test_a_snapshot_of_a_paused_machine_runs_when_restored(vm: lab.Machine) -> None:
    vm.pause()
    snap = vm.snapshot()
    assert vm.status == "paused"
    vm.restore(snap)
    assert vm.status == "running"
    assert vm.run("echo on").stdout == "on\n"


@pytest.mark.parametrize("moment", [0, 20_000_000])
def test_a_guest_that_was_saved_while_it_booted_boots_on(make: Maker, moment: int) -> None:
    vm = make(cold())
    vm.start()
    while vm.instructions < moment:  # in the BIOS, and in the kernel before there is an agent
        pass
    snap = vm.snapshot()
    assert snap.instructions < 60_000_000, "it had booted already: another moment is needed"
    twin = make(snap)
    assert twin.run("echo up", timeout=120).stdout == "up\n"
    assert abs(int(twin.run("date +%s").stdout) - time.time()) < 5


def test_the_guest_has_the_right_time_after_a_restore(vm: lab.Machine) -> None:
    vm.run("date -s 2001-01-01")
    snap = vm.snapshot()
    vm.restore(snap)
    seconds = int(vm.run("date +%s").stdout)
    assert abs(seconds - time.time()) < 5
    vm.run("hwclock -r", check=True)
    assert float(str(vm.run("cut -d' ' -f1 /proc/uptime").stdout)) < 3600


def test_two_restores_of_one_snapshot_draw_different_random_numbers(vm: lab.Machine, make: Maker) -> None:
    snap = vm.snapshot()
    drawn = []
    for machine in (vm, vm, make(snap)):
        if machine is vm:
            vm.restore(snap)
        drawn.append(machine.run("head -c 32 /dev/urandom; cat /proc/sys/kernel/random/uuid", text=False).stdout)
    assert len(set(drawn)) == 3


def test_a_restore_waits_for_a_command_of_another_thread(vm: lab.Machine) -> None:
    snap = vm.snapshot()
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(vm.run("touch /tmp/trace; sleep 1; echo done").stdout))
    thread.start()
    while thread.is_alive() and vm._session.lock.acquire(blocking=False):
        vm._session.lock.release()  # the command does not have the machine yet
    vm.restore(snap)
    assert results == ["done\n"]
    thread.join()
    assert vm.run("ls /tmp").stdout == ""


def test_a_mismatch_is_refused_before_anything_is_touched(vm: lab.Machine, make: Maker) -> None:
    other = make(cold(memory="96 MiB"))
    snap = other.snapshot("small")
    vm.run("touch /tmp/untouched")
    with pytest.raises(ImageError, match="memory"):
        vm.restore(snap)
    with pytest.raises(ImageError, match="made by another version"):
        vm.restore(lab.Snapshot("old", vm.image, snap.state, "0" * 64))
    assert vm.run("ls /tmp").stdout == "untouched\n"
    with pytest.raises(ImageError, match="made by another version"):
        make(lab.Snapshot("old", vm.image, snap.state, "0" * 64)).run("true")


@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_a_damaged_state_is_refused_and_the_machine_goes_on(vm: lab.Machine, damage: str) -> None:
    snap = vm.snapshot("damaged")
    vm.run("touch /tmp/going-on")
    path = vm.hub.store.path(snap.state)
    path.chmod(0o600)
    if damage == "lose":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[:-1000])
    with pytest.raises(StoreError):
        vm.restore(snap)
    assert vm.status == "running"
    assert vm.run("ls /tmp").stdout == "going-on\n"


@pytest.mark.parametrize("content", [b"", b"V86L", b"\x28\xb5\x2f\xfd" + bytes(100), b"no state at all" * 1000])
def test_bytes_that_are_no_state_are_refused_and_the_machine_goes_on(vm: lab.Machine, content: bytes) -> None:
    import zstandard

    vm.run("touch /tmp/going-on")
    for data in (content, zstandard.compress(content), zstandard.compress(b"V86L\x10\0\0\0{}" + content)):
        wrong = lab.Snapshot("wrong", vm.image, vm.hub.store.put(data), vm.snapshots["fresh"].wasm)
        with pytest.raises(ImageError, match="cannot be restored"):
            vm.restore(wrong)
    assert vm.status == "running"
    assert vm.run("ls /tmp").stdout == "going-on\n"


def test_twins_of_one_snapshot_go_their_own_ways(vm: lab.Machine, make: Maker) -> None:
    vm.run("echo common > /tmp/a")
    snap = vm.snapshot()
    first, second = make(snap), make(snap)
    first.run("echo first > /tmp/b")
    second.run("echo second > /tmp/b; rm /tmp/a")
    assert [str(one.run("cat /tmp/a /tmp/b 2>/dev/null").stdout) for one in (first, second, vm)] == [
        "common\nfirst\n", "second\n", "common\n",
    ]  # fmt: skip


def test_snapshots_of_a_machine_that_was_restored_and_reset_are_as_good(vm: lab.Machine) -> None:
    for n in range(3):
        vm.run(f"echo {n} >> /tmp/log")
        vm.restore(vm.snapshot())
    assert vm.run("cat /tmp/log").stdout == "0\n1\n2\n"
    before = vm.instructions
    vm.reset()
    vm.run("true", timeout=120)
    assert vm.instructions > before
    vm.restore(vm.snapshot())
    assert vm.instructions > before
    assert vm.run("echo on").stdout == "on\n"


def test_the_tree_shows_where_the_machine_stands(make: Maker, vm: lab.Machine) -> None:
    machine = make(vm.snapshot("start"))
    machine.snapshot("one")
    machine.snapshot()
    machine.restore("one")
    machine.snapshot("two")
    assert repr(machine.snapshots) == "start\n  one\n    snapshot-1\n    two  <- here"
    assert len(machine.snapshots) == 4 and machine.snapshots["two"].parent == "one"
    with pytest.raises(ImageError, match="'one'"):
        machine.restore("three")


def test_a_saved_snapshot_can_be_loaded_and_is_kept_while_its_file_exists(vm: lab.Machine, tmp_path: Path) -> None:
    vm.run("echo kept > /tmp/a")
    snap, file = vm.snapshot("kept"), tmp_path / "kept.json"
    snap.save(file)
    assert lab.Snapshot.load(file) == snap
    kept = {digest for pin in vm.hub.store.pins() for digest in pin.keeps}
    assert {snap.state, *snap.image.digests()} <= kept
    with lab.Machine(file) as twin:
        assert twin.run("cat /tmp/a").stdout == "kept\n"
    file.write_text("{}")
    with pytest.raises(ImageError, match="not a snapshot"):
        lab.Snapshot.load(file)


def test_a_snapshot_of_a_guest_that_is_off_is_refused(vm: lab.Machine) -> None:
    vm.console.sendline("poweroff -f")
    vm.wait(60)
    with pytest.raises(GuestError, match="powered off"):
        vm.snapshot()
    vm.reset()
    assert vm.run("echo up", timeout=120).stdout == "up\n"
