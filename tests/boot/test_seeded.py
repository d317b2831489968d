"""Same seed, same machine: what the host does, when and how fast, leaves no trace in a machine with a seed."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import v86lab as lab
from v86lab.errors import GuestTimeout, ImageError

from .conftest import Maker

pytestmark = pytest.mark.boot

TICK = 0.01  # s of guest time, more than any tick takes
PROMPT = "/ # "
FLOPPY = bytes(range(256)) * 5760
BUSY = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo $i"


def outcome(vm: lab.Machine) -> tuple[int, float, str]:
    """Numbers of which none may differ."""
    return vm.instructions, vm.clock, vm.state_hash()


def entropy(vm: lab.Machine) -> str:
    return str(vm.run("head -c8 /dev/urandom | od -An -tx1; date +%s.%N").stdout)


def test_the_same_seed_is_the_same_machine_and_another_is_another(make: Maker) -> None:
    one, same, other = (make(seed=seed) for seed in (7, 7, 8))
    printed = [entropy(vm) for vm in (one, same, other)]
    assert printed[0] == printed[1] != printed[2]
    assert outcome(one) == outcome(same)
    assert outcome(one)[2] != outcome(other)[2]
    assert not one.diff(same)
    assert one.diff(other)
    assert one.status == "paused"


def test_nothing_moves_between_calls(make: Maker) -> None:
    vm = make(seed=7)
    vm.run("true")
    before = outcome(vm)
    time.sleep(0.5)
    assert (vm.screen.text, vm.cpu.registers["cr0"] & 1, len(vm.screen.png()) > 0) == (vm.screen.text, 1, True)
    assert outcome(vm) == before
    assert isinstance(vm.memory[0x1000:0x2000], bytes)
    assert outcome(vm) == before


def test_an_hour_of_sleep_costs_nothing(make: Maker) -> None:
    vm = make(seed=7)
    before, began = vm.clock, time.monotonic()
    first, last = str(vm.run("date +%s; sleep 3600; date +%s").stdout).split()
    assert 3600 <= int(last) - int(first) <= 3601
    assert 3600 <= vm.clock - before < 3601
    assert time.monotonic() - began < 600


def test_the_calendar_begins_at_the_images_epoch(make: Maker) -> None:
    assert str(make(seed=7).run("date +%Y-%m-%d").stdout) == "2026-01-01\n"
    assert str(make(seed=7, epoch=915148800).run("date +%Y-%m-%d").stdout) == "1999-01-01\n"


def test_mips_and_jit_are_part_of_the_machine(make: Maker) -> None:
    seconds = []
    for mips in (50, 100):
        vm = make(seed=7, mips=mips)
        before = vm.clock
        vm.run(BUSY)
        seconds.append(vm.clock - before)
    assert 1.6 < seconds[0] / seconds[1] < 2.4
    interpreted, again = (make(seed=7, jit=False) for _ in range(2))
    assert interpreted.run(BUSY).stdout == again.run(BUSY).stdout == "20000\n"
    assert outcome(interpreted) == outcome(again)


def test_advance_goes_as_far_as_it_says(make: Maker) -> None:
    vm = make(seed=7)
    before = vm.clock
    vm.advance(seconds=2)
    assert 2 - 1e-6 <= vm.clock - before < 2 + TICK  # of milliseconds, added up
    before = vm.instructions
    vm.advance(instructions=1_000_000)
    assert 1_000_000 <= vm.instructions - before < 1_300_000
    with pytest.raises(ImageError, match="seconds= or instructions="):
        vm.advance()
    with pytest.raises(ImageError, match="cannot be used"):
        vm.advance(seconds=0)


def typed(vm: lab.Machine, pause: Callable[[], None]) -> None:
    """All that can come into a machine."""
    vm.console.sendline("echo typed > /tmp/typed; cat /dev/urandom | head -c 9 | md5sum")
    pause()
    vm.console.expect("  -")
    vm.run("sleep 0.3; cat /tmp/typed", check=True)
    pause()
    vm.files.write("/root/data", bytes(range(256)) * 100)
    vm.keyboard.type("echo pressed > /tmp/pressed\n")
    pause()
    vm.advance(seconds=0.5)
    assert vm.files.read("/tmp/pressed") == b"pressed\n"
    vm.insert("fda", FLOPPY)
    pause()
    assert vm.run("md5sum < /root/data; head -c 4096 /dev/fd0 2>/dev/null | md5sum; find /etc | wc -l").returncode == 0
    vm.eject("fda")
    vm.memory[0x500] = 7
    with pytest.raises(GuestTimeout):
        vm.run("while :; do :; done", timeout=0.2)
    pause()


def test_the_hosts_timing_leaves_no_trace(make: Maker) -> None:
    hasty, slow = make(seed=7), make(seed=7)
    typed(hasty, lambda: None)
    typed(slow, lambda: time.sleep(0.3))
    assert not hasty.diff(slow)
    assert outcome(hasty) == outcome(slow)


def test_a_busy_host_leaves_no_trace(make: Maker) -> None:
    quiet, loud = make(seed=7), make(seed=7)
    quiet.run(BUSY)
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=spin) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        loud.run(BUSY)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert outcome(quiet) == outcome(loud)


# ---- snapshots ----


def test_a_snapshot_in_the_middle_changes_nothing(make: Maker, tmp_path: Path) -> None:
    straight = make(seed=7)
    straight.run("find / -xdev | md5sum")
    straight.run("(sleep 1; " + BUSY + ") > /tmp/later 2>&1 &")
    straight.advance(seconds=1.01)
    vm = make(seed=7)
    vm.run("find / -xdev | md5sum")
    vm.run("(sleep 1; " + BUSY + ") > /tmp/later 2>&1 &")
    vm.advance(seconds=1.01)
    snap = vm.snapshot("working")
    assert snap.seed == 7
    assert outcome(vm) == outcome(straight)
    snap.save(tmp_path / "working.json")

    def go_on(machine: lab.Machine) -> tuple[int, float, str]:
        machine.advance(instructions=20_000_000)
        machine.run("cat /tmp/later; " + BUSY)
        return outcome(machine)

    expected = go_on(straight)
    assert go_on(vm) == expected  # the one that was saved
    vm.restore("working")
    assert go_on(vm) == expected
    assert go_on(make(snap)) == expected
    assert go_on(make(lab.Snapshot.load(tmp_path / "working.json"))) == expected
    assert go_on(make(tmp_path / "working.json", seed=7)) == expected
    assert go_on(make(snap, seed=8)) != expected


def test_a_snapshot_may_go_from_wall_clock_time_to_a_seed_and_back(make: Maker) -> None:
    wall = make()
    wall.run("echo 1 > /tmp/n")
    snap = wall.snapshot()
    one, same = make(snap, seed=7), make(snap, seed=7)
    assert entropy(one) == entropy(same)
    assert outcome(one) == outcome(same)
    back = one.snapshot()
    wall.restore(back)
    assert (wall.seed, wall.status, wall.run("cat /tmp/n").stdout) == (None, "running", "1\n")


# ---- recordings ----


def test_a_replay_is_the_machine_that_was_recorded(make: Maker, tmp_path: Path) -> None:
    vm = make(seed=7)
    typed(vm, lambda: None)
    log = vm.recording
    assert log.seed == 7 and log.image == vm.image and log.fresh
    log.save(tmp_path / "run.json")
    for one in (log, lab.Recording.load(tmp_path / "run.json")):
        with lab.replay(one) as again:
            assert not again.diff(vm)
            assert outcome(again) == outcome(vm)
            assert again.recording == log
    with lab.replay(log) as again:
        assert entropy(again) == entropy(vm)
        assert outcome(again) == outcome(vm)
        assert again.recording == vm.recording


def test_what_was_interrupted_is_replayed_as_it_was(make: Maker) -> None:
    vm = make(seed=7)

    def interrupt() -> None:
        while "ready" not in vm.console.transcript:
            time.sleep(0.01)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    trap = "trap 'echo caught >> /tmp/trace; exit' INT; echo ready > /dev/ttyS0"
    with pytest.raises(KeyboardInterrupt):
        vm.run(f"{trap}; while :; do :; done")
    assert vm.run("cat /tmp/trace").stdout == "caught\n"
    with lab.replay(vm.recording) as again:
        assert outcome(again) == outcome(vm)


def test_a_reset_is_replayed(make: Maker) -> None:
    vm = make(seed=7)
    vm.run("echo 1 > /tmp/n")
    vm.reset()
    vm.console.expect(PROMPT, timeout=120)
    assert vm.run("cat /tmp/n").returncode == 1
    with lab.replay(vm.recording) as again:
        assert outcome(again) == outcome(vm)


def test_a_recording_goes_on_through_a_snapshot(make: Maker) -> None:
    vm = make(seed=7)
    vm.insert("fda", FLOPPY)
    vm.run("echo 1 > /tmp/n")
    child = make(vm.snapshot())
    child.run("echo 2 >> /tmp/n")
    with lab.replay(child.recording) as again:
        assert again.run("cat /tmp/n").stdout == "1\n2\n" == child.run("cat /tmp/n").stdout
        assert outcome(again) == outcome(child)


def test_a_live_machine_is_recorded_too(make: Maker) -> None:
    vm = make(seed=7)
    vm.start()
    vm.resume()
    assert (vm.status, vm.statistics["live"]) == ("running", True)
    before = vm.clock
    time.sleep(0.5)
    vm.console.sendline("echo live > /tmp/live")
    time.sleep(1)
    vm.pause()
    assert 0.5 < vm.clock - before < 60
    assert (vm.status, vm.run("cat /tmp/live").stdout) == ("paused", "live\n")
    with lab.replay(vm.recording) as again:
        assert outcome(again) == outcome(vm)


def test_a_changed_recording_is_refused(make: Maker) -> None:
    vm = make(seed=7)
    vm.run("echo 1")
    vm.console.sendline("echo 2")
    vm.advance(seconds=1)
    plain = vm.recording
    lie = lab.Recording(
        plain.seed,
        plain.image,
        plain.state,
        plain.fresh,
        plain.events[1:],
        plain.steps,
        plain.instructions,
        plain.seconds,
    )
    with pytest.raises(ImageError, match="does not follow this recording") as caught:
        lab.replay(lie)
    assert caught.value.hint
    other = lab.images.linux(memory="256 MiB")
    with pytest.raises(ImageError, match=r"another image.*memory"):
        lab.replay(plain, other)


# ---- budgets ----


def test_a_budget_in_guest_time_leaves_the_machine_usable_and_does_not_depend_on_the_host(make: Maker) -> None:
    outcomes = []
    for _ in range(2):
        vm = make(seed=7)
        with pytest.raises(GuestTimeout, match="within 5 s of guest time") as late:
            vm.run("sleep 3600", timeout=5)
        assert late.value.budget == "timeout"
        with pytest.raises(GuestTimeout, match="within 30000000 instructions") as late:
            vm.run("echo begun; while :; do :; done", instructions=30_000_000)
        assert (late.value.budget, late.value.stdout) == ("instructions", "begun\n")
        with pytest.raises(GuestTimeout, match="within 3 s of guest time"):
            vm.console.expect("never shown", timeout=3)
        with pytest.raises(GuestTimeout, match="within 3 s of guest time"):
            vm.screen.expect("never shown", timeout=3)
        with pytest.raises(GuestTimeout, match="did not stop within 2 s of guest time"):
            vm.wait(timeout=2)
        assert vm.run("echo usable").stdout == "usable\n"
        outcomes.append(outcome(vm))
    assert outcomes[0] == outcomes[1]


def test_wall_time_guards_the_host(make: Maker) -> None:
    vm = make(seed=7)
    with pytest.raises(GuestTimeout, match=r"within 0\.5 s of wall time") as late:
        vm.run("while :; do :; done", wall_timeout=0.5)
    assert late.value.budget == "wall_timeout"
    with pytest.raises(GuestTimeout, match=r"did not come so far within 0\.5 s of wall time"):
        vm.run("while :; do :; done &")
        vm.advance(seconds=1e6, wall_timeout=0.5)
    assert vm.run("echo usable").stdout == "usable\n"
    with lab.replay(vm.recording) as again:
        assert outcome(again) == outcome(vm)


def test_a_seeded_machine_can_be_waited_for(make: Maker) -> None:
    vm = make(seed=7)
    vm.console.sendline("sleep 600; poweroff")
    assert vm.wait(timeout=3600) == "off"
    assert vm.wait() == "off"
    hashes = vm.instructions
    assert hashes == vm.instructions


def test_a_machine_on_wall_clock_time_says_what_a_seed_is_for(make: Maker) -> None:
    vm = make()
    assert vm.seed is None
    for call in (lambda: vm.advance(seconds=1), lambda: vm.recording):
        with pytest.raises(ImageError, match="needs a machine with a seed") as caught:
            call()
        assert caught.value.hint == "give it a seed: lab.Machine(seed=...)"
    assert len(vm.state_hash()) == 64
    with pytest.raises(GuestTimeout, match="within 30000000 instructions"):
        vm.run("while :; do :; done", instructions=30_000_000)


def test_seeds_run_side_by_side(make: Maker) -> None:
    make(seed=0).start()  # the start state is there

    def race(seed: int) -> tuple[str, str]:
        with lab.Machine(seed=seed) as vm:
            return entropy(vm), vm.state_hash()

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(race, [0, 1, 2, 0, 1, 2]))
    assert together[:3] == together[3:]
    assert len(set(together)) == 3
    assert race(1) == together[1]
