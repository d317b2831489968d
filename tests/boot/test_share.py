"""A folder of the host at /mnt over 9p: the guest may change what it sees, never what the host has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import v86lab as lab

from .conftest import cold

pytestmark = pytest.mark.boot

BIG = b"0123456789abcdef" * 20_000
FRESH = "echo 3 > /proc/sys/vm/drop_caches; "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    (folder / "a.txt").write_text("from the host\n")
    (folder / "big").write_bytes(BIG)
    (folder / "empty").touch()
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "žluť.txt").write_text("deep\n")
    return folder


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[tuple[lab.Machine, lab.Snapshot]]:
    with lab.Machine(cold(share=folder)) as machine:
        yield machine, machine.snapshot("fresh")


@pytest.fixture
def vm(shared: tuple[lab.Machine, lab.Snapshot]) -> lab.Machine:
    machine, fresh = shared
    machine.restore(fresh)
    return machine


def on_host(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_guest_reads_what_the_host_has(vm: lab.Machine) -> None:
    found = str(vm.run("cd /mnt; find . -type f | sort | xargs cat | md5sum", check=True).stdout)
    assert found.split()[0] == hashlib.md5(b"from the host\n" + BIG + b"deep\n").hexdigest()
    assert vm.files.listdir("/mnt") == ["a.txt", "big", "deep", "empty"]
    assert vm.files.read("/mnt/deep/er/žluť.txt") == b"deep\n"
    assert vm.run("tail -c 10 /mnt/big").stdout == BIG[-10:].decode()


CHANGES = """
cd /mnt &&
echo new > created && echo more >> a.txt && mkdir -p d/e && mv big d/moved && ln created hard && ln -s a.txt soft &&
echo through >> hard && dd if=/dev/null of=empty bs=1 seek=5000 2>/dev/null && rm deep/er/* && rmdir deep/er &&
printf 0123456789 > cut && dd if=/dev/null of=cut bs=1 seek=4 2>/dev/null && chmod 640 cut && sync
"""
LOOK = """
cd /mnt; cat created a.txt soft cut; echo; stat -c '%n %s %h %a' hard empty cut; ls deep d d/e | xargs; md5sum < d/moved
"""
SEEN = (
    "new\nthrough\nfrom the host\nmore\nfrom the host\nmore\n0123\n"
    "hard 12 2 644\nempty 5000 1 644\ncut 4 1 640\nd: e moved d/e: deep:\n" + hashlib.md5(BIG).hexdigest() + "  -\n"
)


def test_changes_are_seen_survive_a_reset_and_are_in_snapshots_but_never_reach_the_host(
    vm: lab.Machine, folder: Path
) -> None:
    before = on_host(folder)
    vm.run(CHANGES, check=True)
    look = FRESH + LOOK
    assert vm.run(look).stdout == SEEN
    changed = vm.snapshot("changed")
    vm.reset()
    assert vm.run(look, timeout=120).stdout == SEEN
    assert vm.run(FRESH + "cat /mnt/deep/er/* /mnt/big").returncode != 0
    vm.restore("fresh")
    assert vm.run(FRESH + "cat /mnt/a.txt; ls /mnt").stdout == "from the host\na.txt\nbig\ndeep\nempty\n"
    with lab.Machine(changed) as twin:
        assert twin.run(look).stdout == SEEN
    assert on_host(folder) == before


def test_special_files_survive_a_snapshot(vm: lab.Machine) -> None:
    vm.run("cd /mnt && mknod null c 1 3 && mkfifo pipe", check=True)
    vm.restore(vm.snapshot())
    look = FRESH + "cd /mnt; stat -c '%F %t %T' null pipe; echo gone > null; stat -c %s null"
    assert vm.run(look).stdout == "character special file 1 3\nfifo 0 0\n0\n"


def test_a_file_that_is_open_goes_on_after_a_restore(vm: lab.Machine) -> None:
    vm.run("cd /mnt; (exec 3>>log; while [ ! -e /tmp/stop ]; do echo line >&3; sleep 0.05; done; echo end >&3) &")
    vm.run("sleep 0.3")
    vm.restore(vm.snapshot())
    vm.run("touch /tmp/stop; sleep 0.5")
    lines = vm.files.read("/mnt/log").decode().split()
    assert lines[-1] == "end" and set(lines[:-1]) == {"line"}


def test_files_are_fetched_once_and_only_when_opened(vm: lab.Machine) -> None:
    vm.run("ls -lR /mnt")
    before = vm.statistics["share"]
    vm.run(FRESH + "cat /mnt/a.txt")
    vm.run(FRESH + "cat /mnt/a.txt")
    after = vm.statistics["share"]
    assert isinstance(before, dict) and isinstance(after, dict)
    assert (before["requests"], after["requests"]) == (0, 1)
