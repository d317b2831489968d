"""Trees that boot: from 9p, from a disk, from memory; commands that change them; a guest's files as a tree again."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator

import pytest

import v86lab as lab
from v86lab import firmware
from v86lab.rootfs import Inode, RootFS
from v86lab.rootfs.equipment import PLACE

pytestmark = pytest.mark.boot

ODD = b"odd/caf\xe9 \xff"
MTIME = 1_234_567_890_123_456_789
BIG = bytes(range(256)) * 5000

MAKERS: dict[str, Callable[[RootFS], lab.Image]] = {
    "9p": lambda tree: tree.as_9p(memory="128 MiB"),
    "disk": lambda tree: tree.as_disk("64 MiB", memory="128 MiB"),
    "initramfs": lambda tree: tree.as_initramfs(),
}


@pytest.fixture(scope="module")
def tree() -> RootFS:
    """A small root file system without an init of its own: the default guest's busybox, and odd files."""
    guest = lab.rootfs.cpio(firmware.path("initramfs"), name="small")
    guest = guest.without("/init", "/sbin/init", "/sbin/agent", "/opt/cc.squashfs", "/etc/inittab", "/etc/fstab")
    return (
        guest.with_file("/odd/big", BIG, mtime=MTIME)
        .with_file(ODD, b"bytes", mode=0o4751, uid=1234, gid=70000)
        .with_link("/odd/link", b"no/\xffwhere")
        .with_inode("/odd/node", Inode(stat.S_IFCHR | 0o640, 3, 4, device=(400, 70000)))
        .with_inode("/odd/block", Inode(stat.S_IFBLK | 0o600, device=(8, 1)))
        .with_inode("/odd/pipe", Inode(stat.S_IFIFO | 0o644))
        .with_directory("/odd/sticky", mode=0o1777)
        .with_file("/odd/empty", b"")
    )


@pytest.fixture(scope="module", params=MAKERS)
def vm(request: pytest.FixtureRequest, tree: RootFS) -> Iterator[lab.Machine]:
    with lab.Machine(MAKERS[request.param](tree)) as machine:
        machine.run("true", timeout=120)
        yield machine


def on_root(vm: lab.Machine) -> str:
    rows = [str(line).split() for line in str(vm.run("cat /proc/mounts").stdout).splitlines()]
    return next(row[2] for row in rows if row[1] == "/")


def test_the_guest_sees_every_file_as_the_tree_says(vm: lab.Machine, tree: RootFS) -> None:
    script = "cd / && find bin etc odd -print0 | xargs -0 stat -c '%n|%f|%u|%g|%s|%t|%T|%h'"
    raw = vm.run(script, text=False, check=True).stdout
    assert isinstance(raw, bytes)
    seen = {line.split(b"|")[0]: line.split(b"|")[1:] for line in raw.splitlines()}
    firsts: dict[int, int] = {}
    for entry in tree.entries():
        firsts[entry.number] = firsts.get(entry.number, 0) + 1
    for entry in tree.entries():
        if entry.path.partition(b"/")[0] not in (b"bin", b"etc", b"odd"):
            continue
        inode = entry.inode
        mode, uid, gid, size, major, minor, links = seen.pop(entry.path)
        assert (int(mode, 16), int(uid), int(gid)) == (inode.mode, inode.uid, inode.gid), entry.path
        if inode.is_device:
            assert (int(major, 16), int(minor, 16)) == inode.device
        if not inode.is_directory:
            assert (int(size), int(links)) == (inode.size, firsts[entry.number]), entry.path
    assert {path for path in seen if not path.startswith(PLACE.encode())} <= {b"etc/mtab"}


def test_the_bytes_are_those_of_the_tree(vm: lab.Machine, tree: RootFS) -> None:
    raw = vm.run("cd / && find bin odd -type f -print0 | xargs -0 md5sum", text=False, check=True).stdout
    assert isinstance(raw, bytes)
    sums = {line[34:]: line[:32].decode() for line in raw.splitlines()}
    files = [e for e in tree.entries() if e.inode.is_file and e.path.partition(b"/")[0] in (b"bin", b"odd")]
    assert len(sums) == len(files)
    for entry in files:
        assert sums[entry.path] == hashlib.md5(entry.inode.content.read()).hexdigest()
    assert vm.run(["readlink", "/odd/link"], text=False).stdout == b"no/\xffwhere\n"


def test_times_are_exact_where_the_format_has_them(vm: lab.Machine) -> None:
    fraction = "000000000" if on_root(vm) in ("rootfs", "tmpfs") else "123456789"
    assert str(vm.run("stat -c '%Y %y' /odd/big").stdout).startswith(f"1234567890 2009-02-13 23:31:30.{fraction}")


def test_what_the_guest_changes_is_in_its_tree(vm: lab.Machine, tree: RootFS) -> None:
    vm.run("cd /odd && echo new > made && rm empty && chown 5:6 big && mv pipe moved && ln made again", check=True)
    seen = vm.files.tree("/")
    assert seen.read("/odd/made") == b"new\n" and seen.read("/odd/big") == BIG
    assert "/odd/empty" not in seen and seen["/odd/moved"].type == "fifo"
    assert (seen["/odd/big"].uid, seen["/odd/big"].gid) == (5, 6)
    assert seen["/odd/node"] == tree["/odd/node"] or on_root(vm) in ("rootfs", "tmpfs")
    numbers = {entry.path: entry.number for entry in seen.entries()}
    assert numbers[b"odd/made"] == numbers[b"odd/again"]
    assert seen[ODD].mode == tree[ODD].mode and seen["/bin/busybox"].size == tree["/bin/busybox"].size
    assert seen.listdir("/proc") == [] and "/proc" in seen
    part = vm.files.tree("/odd")
    assert part.read("/made") == b"new\n" and part[b"caf\xe9 \xff"].uid == 1234


def test_a_file_system_that_was_shut_down_is_clean(tree: RootFS) -> None:
    with lab.Machine(MAKERS["disk"](tree)) as machine:
        machine.run("echo kept > /kept; poweroff &", timeout=120)
        machine.wait(60)
        assert machine.status == "off"
        machine.reset()
        assert machine.run("cat /kept; dmesg | grep -c 'recovery'", timeout=120).stdout == "kept\n0\n"


def test_a_command_changes_a_tree_the_same_way_every_time(tree: RootFS) -> None:
    script = "adduser -D student && head -c4 /dev/urandom > /root/key && date > /root/now"
    once, again = tree.run(script), tree.run(script)
    assert b"student:x:1000" in once.read("/etc/passwd") and len(once.read("/root/key")) == 4
    assert once.digest == again.digest
    assert PLACE not in once and once["/odd/big"].mtime == MTIME


def test_a_command_that_fails_makes_no_tree(tree: RootFS) -> None:
    with pytest.raises(lab.errors.GuestCommandError, match=r"status 3.*no such thing"):
        tree.run("echo no such thing >&2; exit 3")
