"""From nothing to nothing: when engines start, how they end, and what is said when they cannot start."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import v86lab as lab
from v86lab.errors import EngineError, GuestTimeout, ImageError

from .conftest import Maker

pytestmark = pytest.mark.boot

PATIENCE = 20.0  # s until something that ends by itself has ended on a busy machine


def ends(pid: int) -> bool:
    """Whether this process ends by itself."""
    try:
        psutil.Process(pid).wait(PATIENCE)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def pid_of(vm: lab.Machine) -> int:
    engine = vm._session.engine
    assert engine is not None and engine.pid is not None
    return engine.pid


def script(source: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env},
    )  # fmt: skip


def engines() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "node.mjs" in " ".join(child.cmdline())}


def test_nothing_starts_before_it_is_used(make: Maker) -> None:
    before = engines()
    vm = make()
    assert (vm.status, vm.engine.kind, repr(vm)) == ("new", "none", "<Machine 'linux': new>")
    assert (vm.image.memory, len(vm.memory), repr(vm.snapshots)) == (128 << 20, 128 << 20, "(no snapshots)")
    assert vm.console.transcript == ""
    assert engines() == before
    vm.start()
    assert (vm.status, vm.engine.kind) == ("running", "node")
    assert engines() - before == {pid_of(vm)}


def test_a_closed_machine_ends_its_process_and_says_that_it_is_closed(make: Maker) -> None:
    vm = make()
    vm.run("true")
    pid = pid_of(vm)
    vm.close()
    vm.close()
    assert not psutil.pid_exists(pid)
    assert vm.status == "closed" and vm.wait() == "closed"
    for call in (lambda: vm.run("true"), vm.snapshot, vm.reset, vm.start, lambda: vm.screen.text):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_closing_ends_what_another_thread_waits_for(make: Maker) -> None:
    vm = make()
    vm.run("true")
    caught: list[BaseException] = []

    def work() -> None:
        try:
            vm.run("sleep 1000")
        except EngineError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive() and vm._session.lock.acquire(blocking=False):
        vm._session.lock.release()
    vm.close()
    thread.join()
    assert len(caught) == 1 and vm.status == "closed"


def test_a_forgotten_machine_ends_its_process() -> None:
    vm = lab.Machine()
    vm.run("true")
    vm.console.expect(re.compile(r"(/) #\B"))
    pid = pid_of(vm)
    del vm
    gc.collect()
    assert ends(pid)


def test_a_machine_in_a_cycle_is_collected_with_it() -> None:
    vm = lab.Machine(lab.images.boot_sector(b"\xeb\xfe"))
    vm.start()
    vm.itself = vm  # type: ignore[attr-defined]
    pid = pid_of(vm)
    del vm
    gc.collect()
    assert ends(pid)


def test_a_process_that_dies_under_a_command_is_an_engine_error_and_reset_starts_another(make: Maker) -> None:
    vm = make()
    vm.run("touch /tmp/lost")
    pid = pid_of(vm)
    killer = threading.Timer(1, lambda: psutil.Process(pid).kill())
    killer.start()
    with pytest.raises(EngineError, match=r"process ended.*vm\.reset"):
        vm.run("sleep 1000")
    killer.join()
    assert vm.status == "faulted"
    with pytest.raises(EngineError, match="process ended"):
        vm.run("true")
    vm.reset()
    assert vm.run("ls /tmp").stdout == ""
    assert pid_of(vm) != pid


def test_a_process_that_dies_while_nothing_runs_is_noticed(make: Maker) -> None:
    vm = make()
    vm.run("touch /tmp/kept")
    snap = vm.snapshot("kept")
    psutil.Process(pid_of(vm)).kill()
    assert vm.wait(PATIENCE) == "faulted"
    with pytest.raises(EngineError, match="process ended"):
        vm.run("true")
    vm.restore(snap)
    assert vm.run("ls /tmp").stdout == "kept\n"


PARENT = """
import os, sys, time
import v86lab as lab
vm = lab.Machine()
vm.run("true")
child = 0
{fork}
print(vm._session.engine.pid, child, flush=True)
{then}
"""
FORK = """
child = os.fork()
if child == 0:
    time.sleep(1000)
"""


@pytest.mark.parametrize("fork", ["", FORK], ids=["alone", "forked"])
def test_the_engine_ends_when_its_parent_is_killed(fork: str) -> None:
    if fork and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    with script(PARENT.format(fork=fork, then="time.sleep(1000)")) as parent:
        assert parent.stdout is not None
        pid, child = map(int, parent.stdout.readline().split())
        try:
            assert psutil.pid_exists(pid)
            parent.kill()
            assert ends(pid)
        finally:
            if child:
                os.kill(child, signal.SIGTERM)


@pytest.mark.parametrize("then", ["pass", "sys.exit(3)", "raise SystemError", "vm2 = lab.Machine(); vm2.start()"])
def test_the_engine_ends_when_python_ends_without_closing_it(then: str) -> None:
    with script(PARENT.format(fork="", then=then)) as parent:
        out, err = parent.communicate(timeout=120)
    assert ends(int(out.split()[0])), err
    assert ("Error" in err) == ("Error" in then)


def test_a_forked_child_is_told_that_the_machine_is_not_its_own() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    source = """
        import os
        import v86lab as lab
        vm = lab.Machine()
        vm.run("true")
        child = os.fork()
        if child == 0:
            try:
                vm.run("true")
            except lab.errors.EngineError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(vm.run("echo still mine").stdout)
    """
    with script(source) as parent:
        out, _ = parent.communicate(timeout=120)
    assert re.search(r"belongs to the process that made it.*\nstill mine", out)


def fake_node(folder: Path, body: str) -> str:
    node = folder / "node"
    node.write_text(f"#!/bin/sh\n{body}\n")
    node.chmod(0o755)
    return str(node)


@pytest.mark.skipif(sys.platform == "win32", reason="the fake Node is a shell script")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "V86LAB_NODE.*cannot be used"),
        ("echo v18.19.0", r"expected Node 22\.\d+ or newer, saw .*v18\.19\.0"),
        ("echo hello", "hello"),
        ("exit 1", "no version"),
        ('test "$1" = --version && echo v24.1.0 || { echo a crash >&2; exit 7; }', "exit status 7, a crash"),
    ],
)
def test_a_node_that_cannot_be_used_is_a_typed_error(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str | None, words: str
) -> None:
    monkeypatch.setenv("V86LAB_NODE", fake_node(tmp_path, body) if body else str(tmp_path / "missing"))
    vm = make()
    with pytest.raises(EngineError, match=words):
        vm.run("true")
    monkeypatch.delenv("V86LAB_NODE")
    assert vm.run("echo fine now").stdout == "fine now\n"


def test_a_machine_that_is_to_run_in_a_page_says_that_none_shows_it_and_unknown_engines_are_refused(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=r"no page runs this machine.*show it first"):
        make(engine="browser").run("true")
    monkeypatch.setenv("V86LAB_ENGINE", "none such")
    with pytest.raises(ImageError, match="none such"):
        lab.Machine()


def test_pause_stops_guest_time_and_resume_lets_it_go_on(vm: lab.Machine) -> None:
    vm.pause()
    first, registers = vm.statistics, vm.cpu.registers
    time.sleep(0.5)
    assert (vm.statistics, vm.cpu.registers) == (first, registers)
    vm.pause()
    vm.resume()
    vm.resume()
    assert vm.run("echo on").stdout == "on\n"
    assert vm.instructions > int(str(first["instructions"]))


def test_wait_ends_when_another_thread_closes_the_machine(make: Maker) -> None:
    vm = make(lab.images.boot_sector(b"\xeb\xfe"))
    vm.start()
    threading.Timer(0.5, vm.close).start()
    assert vm.wait() == "closed"
    with pytest.raises(GuestTimeout):
        other = make(lab.images.boot_sector(b"\xeb\xfe"))
        other.wait(0.2)


def test_two_machines_run_at_the_same_time(vm: lab.Machine, make: Maker) -> None:
    twin = make(vm.snapshot())
    meet = threading.Barrier(2)
    results: list[object] = []

    def work(machine: lab.Machine) -> None:
        meet.wait()
        results.append(machine.run("sleep 0.5; echo done").stdout)

    threads = [threading.Thread(target=work, args=(machine,)) for machine in (vm, twin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["done\n", "done\n"]


# -- awaitable twins ---------------------------------------------------------------------------------------------------


def test_calls_and_properties_can_be_awaited(vm: lab.Machine) -> None:
    async def main() -> None:
        assert (await vm.aio.run("echo hi", check=True)).stdout == "hi\n"
        await vm.aio.console.sendline("echo $((6*7))")
        assert (await vm.aio.console.expect("42\r\n")).text == "42\r\n"
        await vm.aio.files.write("/tmp/a", b"b")
        assert await vm.aio.files.read("/tmp/a") == b"b"
        assert "root" in await vm.aio.screen.text
        assert (await vm.aio.cpu.registers)["cr0"] & 1
        first, second = await asyncio.gather(vm.aio.run("echo 1"), vm.aio.run("echo 2"))
        assert (first.stdout, second.stdout) == ("1\n", "2\n")

    asyncio.run(main())


async def cancelled(task: asyncio.Task[object], when: Callable[[], bool]) -> None:
    while not when():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def held(vm: lab.Machine) -> bool:
    if vm._session.lock.acquire(blocking=False):
        vm._session.lock.release()
        return False
    return True


def test_cancelling_interrupts_the_command_in_the_guest(vm: lab.Machine) -> None:
    async def main() -> None:
        task = asyncio.create_task(vm.aio.run("trap 'echo caught > /tmp/trace; exit' INT; echo > /tmp/up; sleep 1000"))
        await asyncio.sleep(1)
        await cancelled(task, lambda: held(vm))
        assert (await vm.aio.run("cat /tmp/trace; pgrep sleep")).stdout == "caught\n"

    asyncio.run(main())


@pytest.mark.parametrize("pattern", ["never", re.compile(r"(never)\1")])
def test_cancelling_gives_up_a_wait(vm: lab.Machine, pattern: str | re.Pattern[str]) -> None:
    async def main() -> None:
        await cancelled(asyncio.create_task(vm.aio.console.expect(pattern, timeout=None)), lambda: held(vm))
        assert (await vm.aio.run("echo on")).stdout == "on\n"

    asyncio.run(main())


def test_cancelling_a_call_that_queues_does_not_touch_the_one_that_runs(vm: lab.Machine) -> None:
    async def main() -> None:
        running = asyncio.create_task(vm.aio.run("sleep 2; echo whole"))
        while not held(vm):
            await asyncio.sleep(0.01)
        queued = asyncio.create_task(vm.aio.run("touch /tmp/never"))
        await asyncio.sleep(0.2)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert (await running).stdout == "whole\n"
        assert (await vm.aio.run("ls /tmp")).stdout == ""

    asyncio.run(main())


def test_a_command_cancelled_while_the_machine_boots_never_runs(make: Maker) -> None:
    vm = make()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(vm.aio.run("touch /tmp/ran; sleep 1000"), 0.05)
        assert (await vm.aio.run("ls /tmp", check=True)).stdout == ""

    asyncio.run(main())


def test_a_machine_closed_while_it_starts_leaves_no_engine(make: Maker) -> None:
    vm = make()
    refused: list[EngineError] = []

    def start() -> None:
        try:
            vm.start()
        except EngineError as error:
            refused.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    while vm.status == "new":
        time.sleep(0.001)
    vm.close()
    starting.join(60)
    assert [str(error) for error in refused if "closed" in str(error)]
    assert (vm.status, vm.engine.kind) == ("closed", "none")


def test_typing_into_a_machine_that_does_not_listen_ends_and_spoils_nothing(make: Maker) -> None:
    vm = make()
    vm.run("true")
    vm.pause()
    with pytest.raises(GuestTimeout, match="keyboard"):
        vm.keyboard.type("a" * 40)
    vm.resume()
    assert vm.run("echo fine").stdout == "fine\n"
