"""A disk that we wrote, in a guest: Linux sees what the tree says, and what it writes there is sound."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from test_rootfs_ext4 import VARIED, checked, needs_tools

import v86lab as lab
from v86lab import rootfs
from v86lab.errors import ImageError
from v86lab.rootfs.disk import write_disk
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.inode import Inode

from .conftest import Maker, cold

pytestmark = [pytest.mark.boot, needs_tools]

MIB = 1 << 20
MOUNT = "mkdir -p /tmp/x && mount -t ext4 /dev/sda1 /tmp/x"


@pytest.fixture(scope="module")
def tree() -> rootfs.RootFS:
    """Files of all types, a large one, and a directory of 3000."""
    draft = Draft("for a guest")
    rootfs.tree.lay_over(draft, VARIED)
    draft.add(b"large", Inode.file(bytes(range(256)) * 20_000))
    for n in range(3000):
        draft.add(b"crowd/entry number %05d" % n, Inode.file(b"", mode=n % 0o1000))
    return rootfs.RootFS(draft, "for a guest")


@pytest.fixture(scope="module")
def disk(tree: rootfs.RootFS, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "disk"
    write_disk(tree, path, 32 * MIB)
    return path


def rows(tree: rootfs.RootFS) -> set[bytes]:
    """What the guest's stat prints of each file."""
    links: dict[int, int] = {}
    for entry in tree.entries():
        links[entry.number] = links.get(entry.number, 0) + 1
    found = set()
    for entry in tree.entries():
        inode = entry.inode
        if not inode.is_directory:
            numbers = b"%x,%x" % inode.device
            owner = b"%d:%d" % (inode.uid, inode.gid)
            seconds = b"%d" % ((inode.mtime // 10**9 + (1 << 31)) % (1 << 32) - (1 << 31))  # busybox has 32 bits
            what = (b"./" + entry.path, b"%x" % inode.mode, owner, b"%d" % inode.size, seconds)
            found.add(b" ".join((*what, numbers, b"%d" % links[entry.number])))
    return found


def contents(vm: lab.Machine, path: Path) -> Path:
    """The guest's file system, as a file here."""
    data = vm.run("sync; cat /dev/sda1", check=True, text=False, timeout=300).stdout
    assert isinstance(data, bytes)
    assert len(data) == 31 * MIB
    path.write_bytes(data)
    return path


def test_the_guest_sees_what_the_tree_says(make: Maker, tree: rootfs.RootFS, disk: Path) -> None:
    vm = make(cold(hda=disk))
    vm.run(MOUNT.replace("mount", "mount -o ro"), check=True)
    listing = "cd /tmp/x && find . ! -type d -print0 | xargs -0 stat -c '%n %f %u:%g %s %Y %t,%T %h'"
    seen = vm.run(listing, check=True, text=False, timeout=300).stdout
    assert isinstance(seen, bytes)
    assert set(seen.splitlines()) == rows(tree)
    for path in ("/large", "/bin/late", "/crowd/entry number 02777"):
        said = str(vm.run(["sha256sum", f"/tmp/x{path}"], check=True).stdout).split()[0]
        assert said == hashlib.sha256(tree.read(path)).hexdigest()
    longest = str(vm.run("readlink /tmp/x/link/longest", check=True).stdout)
    assert longest.strip() == "t" * 4095


def test_what_the_guest_writes_is_sound_unmounted_or_not(
    make: Maker, tree: rootfs.RootFS, disk: Path, tmp_path: Path
) -> None:
    vm = make(cold(hda=disk))
    change = (
        "cd /tmp/x && for n in $(seq 100); do echo $n > crowd/new$n; done && rm 'crowd/entry number 00005' && "
        "mkdir -p a/b/c && dd if=/dev/zero of=a/b/c/zeros bs=1M count=5 2>/dev/null && echo more >> large && "
        "mv bin/late a"
    )
    vm.run(f"{MOUNT} && ({change}) && sync", check=True, timeout=300)
    pulled = contents(vm, tmp_path / "pulled")
    with pytest.raises(ImageError, match="not shut down cleanly"):
        rootfs.ext4(pulled)
    vm.run("umount /tmp/x", check=True)
    clean = contents(vm, tmp_path / "clean")
    checked(clean)
    assert subprocess.run(["e2fsck", "-fy", pulled], capture_output=True).returncode in (0, 1)
    for image in (pulled, clean):
        found = rootfs.ext4(image)
        assert len(found) == len(tree) + 100 - 1 + 4
        assert found.read("/crowd/new100") == b"100\n"
        assert found.read("/a/b/c/zeros") == bytes(5 * MIB)
        assert found.read("/large") == tree.read("/large") + b"more\n"
        assert found["/a/late"].mtime == tree["/bin/late"].mtime
        assert found["/dev/huge"] == tree["/dev/huge"]


def test_a_machine_that_starts_from_such_a_disk_is_told_what_is_missing(make: Maker, disk: Path) -> None:
    vm = make(lab.images.disk(disk))
    vm.screen.expect("no boot loader: start it with its kernel", timeout=60)
