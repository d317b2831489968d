"""ext4: what we write is what e2fsck and debugfs see, what mke2fs writes is what we read, and nothing else gets out."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import described, trees

from v86lab import rootfs
from v86lab.errors import ImageError
from v86lab.rootfs import RootFS, ext4
from v86lab.rootfs.content import PIECE, Content, Extents, Inline, Source
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.ext4 import Plan, attributes, write_ext4
from v86lab.rootfs.ext4.directory import entries, pack, tea
from v86lab.rootfs.inode import Inode
from v86lab.store import Store

MIB = 1 << 20
FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

needs_tools = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("mke2fs", "e2fsck", "debugfs")), reason="e2fsprogs is not installed"
)
pytestmark = needs_tools
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="makes device nodes and changes owners"
)


def written(tree: RootFS, path: Path, size: int | None = None, **options: object) -> Path:
    with path.open("wb") as file:
        write_ext4(tree, file, size, **options)  # type: ignore[arg-type]
    return path


def checked(image: Path) -> None:
    """e2fsck has nothing to say."""
    ran = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    complaints = [line for line in lines if line and not re.match(r"Pass \d|.*: \d+/\d+ files .* blocks$", line)]
    assert (ran.returncode, complaints) == (0, []), ran.stdout + ran.stderr


def debugfs(image: Path, *commands: str, write: bool = False) -> str:
    script = "\n".join(commands)
    run = ["debugfs", *(["-w"] if write else []), "-f", "-", str(image)]
    return subprocess.run(run, input=script, capture_output=True, text=True, check=True).stdout


def made(folder: Path, image: Path, size: str, *options: str) -> Path:
    """What mke2fs makes of a folder."""
    image.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-F", *options, "-d", folder, image, size], check=True, capture_output=True)
    return image


def file_with(data: bytes, xattrs: tuple[tuple[bytes, bytes], ...]) -> Inode:
    return Inode(stat.S_IFREG | 0o644, content=Inline(data), xattrs=xattrs)


def tree_of(*files: tuple[bytes, Inode]) -> RootFS:
    draft = Draft("an example")
    for path, inode in files:
        draft.add(path, inode)
    return RootFS(draft, "an example")


def without_root(tree: RootFS) -> dict[bytes, tuple[object, ...]]:
    """mke2fs gives its root the time at which it runs."""
    return {path: row for path, row in described(tree).items() if path}


VARIED = tree_of(
    (b"", Inode.directory(0o751, 3, 4, 1_600_000_000_123_456_789)),
    (b"bin/tool", Inode.file(b"#!/bin/sh\n", 0o4755, 70_000, 4_000_000_000, -(10**9))),
    (b"bin/late", Inode.file(b"x" * 10_000, mtime=9_000_000_000_000_000_001)),
    (b"dev/sda1", Inode(stat.S_IFBLK | 0o660, 0, 6, device=(8, 1))),
    (b"dev/huge", Inode(stat.S_IFCHR | 0o600, device=(4095, 1_048_575))),
    (b"dev/pipe", Inode(stat.S_IFIFO | 0o600)),
    (b"dev/socket", Inode(stat.S_IFSOCK | 0o600)),
    (b"link/fast", Inode.link(b"t" * 59)),
    (b"link/slow", Inode.link(b"t" * 60)),
    (b"link/longest", Inode.link(b"t" * 4095)),
    (b"caf\xe9", Inode.file(b"no UTF-8")),
    (b"n" * 255, Inode.file(b"")),
    (b"few", file_with(b"", ((b"security.capability", b"\1\0\0\2" + bytes(16)), (b"user.empty", b"")))),
    (b"many", file_with(b"y", tuple((b"user.n%02d" % n, bytes([n]) * 120) for n in range(20)))),
    (b"foreign", file_with(b"z", ((b"com.apple.x", b"1"), (b"system.data", b"2"), (b"trusted.t", b"3")))),
)


def acl(*rows: tuple[int, int, int]) -> bytes:
    """linux/posix_acl_xattr.h."""
    return b"\2\0\0\0" + b"".join(struct.pack("<HHI", *row) for row in rows)


NOBODY = 0xFFFFFFFF
LIST = acl((1, 6, NOBODY), (2, 7, 1000), (2, 4, 70_000), (4, 4, NOBODY), (8, 5, 12), (16, 7, NOBODY), (32, 0, NOBODY))


# ---- what we write ----

BEFORE_2310 = (-(1 << 31), (1 << 33) + (1 << 31) - 1)  # later times are mistakes to e2fsck, though not to Linux


def fits(tree: RootFS) -> bool:
    """Whether a block has room for each file's extended attributes."""
    return all(sum(24 + len(name) + len(value) for name, value in one.inode.xattrs) < 4000 for one in tree.entries())


@settings(max_examples=60, suppress_health_check=FIXTURES)
@given(tree=trees(times=BEFORE_2310).filter(fits), journal=st.booleans())
def test_any_tree_is_clean_to_e2fsck_and_read_back_the_same(tmp_path: Path, tree: RootFS, journal: bool) -> None:
    image = written(tree, tmp_path / "image", journal=journal)
    checked(image)
    again = ext4(image)
    assert described(again) == described(tree)
    assert again.digest == tree.digest


def test_debugfs_sees_types_owners_times_devices_and_links(tmp_path: Path) -> None:
    image = written(VARIED, tmp_path / "image", 16 * MIB)
    checked(image)
    seen = {
        name: debugfs(image, f"stat {name}")
        for name in ("bin/tool", "bin/late", "dev/sda1", "dev/huge", "link/fast", "link/slow", "/")
    }
    assert re.search(r"Type: regular +Mode: +04755", seen["bin/tool"])
    assert re.search(r"User: 70000 +Group: *(4000000000|-294967296)\b", seen["bin/tool"])
    assert "mtime: 0xffffffff:00000000" in seen["bin/tool"]
    assert f"mtime: 0x{9_000_000_000 & 0xFFFFFFFF:08x}:{(2 | 1 << 2):08x}" in seen["bin/late"]
    assert f"ctime: 0x{1_600_000_000:08x}:{123_456_789 << 2:08x}" in seen["/"]
    assert "Device major/minor number: 08:01" in seen["dev/sda1"]
    assert "Device major/minor number: 4095:1048575" in seen["dev/huge"]
    assert f'Fast link dest: "{"t" * 59}"' in seen["link/fast"]
    assert "EXTENTS" in seen["link/slow"]
    assert debugfs(image, "stat dev/pipe", "stat dev/socket").count("Type: FIFO") == 1


@needs_root
def test_debugfs_dumps_the_files_that_were_put_in(tmp_path: Path) -> None:
    image = written(VARIED, tmp_path / "image", 16 * MIB)
    (tmp_path / "out").mkdir()
    debugfs(image, f"rdump / {tmp_path / 'out'}")
    for entry in VARIED.entries():
        dumped = os.fsencode(tmp_path / "out") + b"/" + entry.path
        if entry.inode.is_file:
            assert Path(os.fsdecode(dumped)).read_bytes() == entry.inode.content.read()
        elif entry.inode.is_link:
            assert os.fsencode(Path(os.fsdecode(dumped)).readlink()) == entry.inode.target
    assert (tmp_path / "out/bin/tool").stat().st_uid == 70_000


def test_extended_attributes_are_what_debugfs_finds(tmp_path: Path) -> None:
    image = written(VARIED, tmp_path / "image", 16 * MIB)
    for entry in VARIED.entries():
        for name, value in entry.inode.xattrs:
            if name.startswith((b"user.", b"security.", b"trusted.")):
                out = tmp_path / "value"
                debugfs(image, f"ea_get -f {out} /{entry.path.decode()} {name.decode()}")
                assert out.read_bytes() == value
    assert "File ACL: 0" in debugfs(image, "stat few")
    assert "File ACL: 0" not in debugfs(image, "stat many")


def test_an_access_control_list_is_translated_both_ways(tmp_path: Path) -> None:
    rights = ((b"system.posix_acl_access", LIST), (b"system.posix_acl_default", acl((1, 7, NOBODY))))
    broken = ((b"system.posix_acl_access", b"none"),)
    tree = tree_of((b"d", Inode(stat.S_IFDIR | 0o755, xattrs=rights)), (b"f", file_with(b"", broken)))
    image = written(tree, tmp_path / "image", MIB)
    checked(image)
    debugfs(image, f"ea_get -f {tmp_path / 'value'} d system.posix_acl_access")
    ids_as_debugfs_has_them = LIST.replace(b"\xff" * 4, bytes(4))
    assert (tmp_path / "value").read_bytes() == ids_as_debugfs_has_them
    assert described(ext4(image)) == described(tree)
    assert [row[0] for row in attributes.to_disk(broken)] == [0]


def test_a_large_directory_has_an_index_that_e2fsck_accepts(tmp_path: Path) -> None:
    draft = Draft("many")
    for n in range(10_000):
        draft.add(b"many/file number %d, with a name of some length" % n, Inode.file(b""))
    tree = RootFS(draft, "many")
    image = written(tree, tmp_path / "image", 64 * MIB)
    checked(image)
    dump = debugfs(image, "htree_dump many")
    assert "Hash Version: 2" in dump
    assert dump.count("Entry #") > 150
    assert ext4(image).digest == tree.digest
    [found] = re.findall(r"^(\d+)", debugfs(image, "ncheck -c 5000").splitlines()[-1])
    assert found == "5000"


def test_an_index_with_a_level_between_is_accepted_too(tmp_path: Path) -> None:
    draft = Draft("huge")
    names = [b"%06d" % n + b"x" * 249 for n in range(8_000)]  # 15 in a leaf: 534 leaves
    first = b"d/" + names[0]
    draft.add(first, Inode.file(b""))
    for name in names[1:]:
        draft.hard_link(b"d/" + name, first)
    image = written(RootFS(draft, "huge"), tmp_path / "image", 16 * MIB)
    checked(image)
    assert "Indirect levels: 1" in debugfs(image, "htree_dump d")
    assert len(ext4(image)) == 8_002


def test_names_of_one_hash_on_both_sides_of_a_block_are_marked_in_the_index() -> None:
    seed = (0, 0, 0, 0)
    assert tea(b"f011378", seed) == tea(b"f015374", seed) == 0x304A4C42
    below = [name for name in (b"n%06d" % n for n in range(1000)) if tea(name, seed) < 0x304A4C42][:63]
    above = [name for name in (b"n%06d" % n for n in range(1000)) if tea(name, seed) > 0x304A4C42][:10]
    names = [(name, 12, 1) for name in [*below, b"f011378", b"f015374", *above]]  # 64 of 16 bytes in 1024
    root, first, second = pack(names, 2, 2, bytes(16), 1024)
    assert struct.unpack_from("<II", root, 40) == (0x304A4C43, 2)
    assert (list(entries(first))[-1][0], next(entries(second))[0]) == (b"f011378", b"f015374")


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        for at in (0, 300 * MIB, 1024 * MIB - 5):
            file.seek(at)
            file.write(b"here!")
    tree = tree_of((b"", Inode.directory())).with_file("/sparse", sparse)
    image = written(tree, tmp_path / "image", 16 * MIB)
    checked(image)
    assert image.stat().st_blocks * 512 < MIB
    found = ext4(image)["/sparse"]
    assert (found.size, list(found.content.spans())) == (
        1024 * MIB,
        [(0, 4096), (300 * MIB, 4096), (1024 * MIB - 4096, 4096)],
    )
    assert [piece.strip(b"\0") for piece in found.content.pieces() if piece is not None] == [b"here!"] * 3


def test_a_file_of_more_than_four_gigabytes_keeps_its_size(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"end")
    size = 5 * 1024 * MIB - 1000
    content = Extents(Source.of(tmp_path / "data"), size, ((size - 3, 0, 3),))
    image = written(tree_of((b"large", Inode.file(content))), tmp_path / "image", MIB)
    checked(image)
    found = ext4(image)["/large"]
    assert (found.size, list(found.content.spans())) == (size, [(size - 3096, 3096)])


@pytest.mark.parametrize("pieces", [5, 400, 3000])
def test_a_file_of_many_extents_has_a_tree_of_them(tmp_path: Path, pieces: int) -> None:
    data = random.Random(1).randbytes(pieces * 1000)
    (tmp_path / "data").write_bytes(data)
    extents = tuple((n * 8192, n * 1000, 1000) for n in range(pieces))
    tree = tree_of((b"f", Inode.file(Extents(Source.of(tmp_path / "data"), pieces * 8192, extents))))
    image = written(tree, tmp_path / "image", 32 * MIB)
    checked(image)
    assert ext4(image).digest == tree.digest
    depth = {5: 1, 400: 1, 3000: 2}[pieces]
    assert f"{depth}/ {depth}" in debugfs(image, "dump_extents f")


def test_files_lie_in_one_piece_in_the_order_of_the_tree(tmp_path: Path) -> None:
    tree = rootfs.of({f"/{name}": name * 20_000 for name in "abc"})
    image = written(tree, tmp_path / "image", 16 * MIB)
    content = [ext4(image)[f"/{name}"].content for name in "abc"]
    places = [one.extents for one in content if isinstance(one, Extents)]
    starts = [at for [(_, at, _)] in places]
    assert starts == [starts[0], starts[0] + 20_480, starts[0] + 40_960]


def test_several_groups_with_copies_of_the_superblock(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"all over")
    far = Extents(Source.of(tmp_path / "data"), 700 * MIB, ((0, 0, 8), (650 * MIB, 0, 8)))
    solid = Claimed(300 * MIB)
    tree = tree_of((b"far", Inode.file(far)), (b"solid", Inode.file(solid)))
    image = written(tree, tmp_path / "image", 1000 * MIB, label="groups")
    checked(image)
    assert "solid" in debugfs(image, "ls -l /")
    copy = subprocess.run(["e2fsck", "-fn", "-b", "32768", image], capture_output=True, text=True)
    assert "bad magic" not in copy.stderr.lower()
    assert "UNINIT" in subprocess.run(["dumpe2fs", image], capture_output=True, text=True).stdout


@pytest.mark.parametrize("more", [0, 1, 2, 3, 20])
def test_blocks_that_bring_less_than_they_cost_are_left_out(more: int) -> None:
    tree = tree_of((b"solid", Inode.file(Claimed(32_700 * 4096))))
    for blocks in range(32):  # in one of these, rounding of the inode table takes what one block more brings
        plan = Plan(tree.with_inode("/more", Inode.file(Claimed(1 + blocks * 4096))))
        with tempfile.TemporaryFile() as file:
            plan.write(file, plan.least + more * 4096)


@dataclass(frozen=True)
class Claimed(Content):
    """Zeros that are not known to be any before they are read."""

    size: int

    def pieces(self) -> Iterator[bytes | None]:
        yield from itertools.repeat(None, -(-self.size // PIECE))


@pytest.mark.parametrize("size", [200 * MIB, 128 * MIB + 4096, 256 * MIB + 8 * MIB, 129 * MIB + 12_345])
def test_odd_sizes_are_clean(tmp_path: Path, size: int) -> None:
    image = written(VARIED, tmp_path / "image", size)
    checked(image)
    assert image.stat().st_size == size


def test_label_identity_and_number_of_inodes_are_as_asked(tmp_path: Path) -> None:
    identity = UUID("12345678-1234-5678-1234-567812345678")
    image = written(VARIED, tmp_path / "image", 64 * MIB, label="a label", uuid=identity, inodes=20_000)
    checked(image)
    said = subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True).stdout
    assert re.search(r"volume name: +a label$", said, re.M)
    assert str(identity) in said
    free = re.search(r"Free inodes: +(\d+)", said)
    assert free is not None
    assert int(free[1]) >= 20_000
    with pytest.raises(ImageError, match="at most 16 bytes"):
        Plan(VARIED, label="a label of more than that")


def test_a_journal_is_there_unless_it_is_not_wanted(tmp_path: Path) -> None:
    with_one, without = written(VARIED, tmp_path / "a"), written(VARIED, tmp_path / "b", journal=False)
    for image in (with_one, without):
        checked(image)
    said = subprocess.run(["dumpe2fs", "-h", with_one], capture_output=True, text=True).stdout
    assert re.search(r"Total journal blocks: +1024", said)
    assert "journal" not in subprocess.run(["dumpe2fs", "-h", without], capture_output=True, text=True).stdout.lower()


def test_the_same_tree_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import hashlib, io; from test_rootfs_ext4 import VARIED; from v86lab.rootfs.ext4 import write_ext4;"
        "file = io.BytesIO(); write_ext4(VARIED, file, 4 << 20); print(hashlib.sha256(file.getvalue()).hexdigest())"
    )
    here = Path(__file__).parent
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here)},
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    own = hashlib.sha256(written(VARIED, tmp_path / "image", 4 * MIB).read_bytes()).hexdigest()
    assert runs == [own, own]
    other = VARIED.with_attributes("/few", mode=0o600)
    assert Plan(other)._uuid != Plan(VARIED)._uuid


def test_what_a_file_held_before_is_replaced(tmp_path: Path) -> None:
    image = tmp_path / "image"
    fresh = written(VARIED, tmp_path / "fresh", 2 * MIB).read_bytes()
    image.write_bytes(b"\xff" * 3 * MIB)
    with image.open("r+b") as file:
        write_ext4(VARIED, file, 2 * MIB, offset=4096)
    assert image.read_bytes() == b"\xff" * 4096 + fresh


@pytest.mark.parametrize("count", [0, 1000])
def test_a_tree_that_does_not_fit_says_what_it_needs(tmp_path: Path, count: int) -> None:
    tree = rootfs.of({f"/{n}": "x" * 5000 for n in range(count)} | {"/large": "y" * (3 * MIB)})
    plan = Plan(tree)
    rounded = -(-plan.least // MIB)
    with pytest.raises(ImageError, match=rf'expected at least {rounded} MiB, saw 1 MiB. Hint: size="{rounded} MiB"'):
        write_ext4(tree, io.BytesIO(), MIB)
    image = written(tree, tmp_path / "image", plan.least)
    checked(image)
    assert ext4(image).digest == tree.digest
    with pytest.raises(ImageError, match="does not fit"):
        write_ext4(tree, io.BytesIO(), plan.least - 4096)
    for size in (plan.least + 4096, plan.least + MIB, plan.least + 8 * MIB):
        checked(written(tree, tmp_path / "image", size))


def test_attributes_too_large_names_too_many_and_a_taken_place_are_refused() -> None:
    large = tree_of((b"f", file_with(b"", ((b"user.x", bytes(5000)),))))
    with pytest.raises(ImageError, match="no room for the extended attributes of '/f'"):
        Plan(large)
    draft = Draft("links")
    draft.add(b"f", Inode.file(b""))
    for n in range(65_000):
        draft.hard_link(b"%d" % n, b"f")
    with pytest.raises(ImageError, match="too many names for ext4: expected 65000, saw 65001"):
        Plan(RootFS(draft, "links"))
    for taken in (tree_of((b"lost+found", Inode.file(b""))), rootfs.of({"/a": ""})):
        draft = Draft("taken")
        rootfs.tree.lay_over(draft, taken)
        if b"a" in draft.names:
            draft.hard_link(b"lost+found", b"a")
        with pytest.raises(ImageError, match=r"/lost\+found"):
            Plan(RootFS(draft, "taken"))


def test_a_tree_may_bring_its_own_lost_and_found(tmp_path: Path) -> None:
    tree = tree_of((b"a", Inode.file(b"")), (b"lost+found/#12", Inode.file(b"found")), (b"z", Inode.file(b"")))
    image = written(tree, tmp_path / "image", MIB)
    checked(image)
    assert ext4(image).digest == tree.digest


# ---- what we read ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all types, on a real file system."""
    top = tmp_path_factory.mktemp("folder")
    (top / "sub/deeper").mkdir(parents=True)
    (top / "sub/deeper/small").write_bytes(b"small")
    (top / "sub/medium").write_bytes(random.Random(1).randbytes(700_001))
    for n in range(700):
        (top / f"sub/deeper/one of many files, {n}").touch()
    with (top / "sparse").open("wb") as file:
        for at in (5000, 200_000, 3 * MIB, 80 * MIB):  # direct, indirect, and beyond with blocks of 1 KiB
            file.seek(at)
            file.write(b"data at %d" % at)
    (top / "hard").hardlink_to(top / "sub/deeper/small")
    (top / "fast").symlink_to("f" * 40)
    (top / "slow").symlink_to("s" * 200)
    Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9")).write_bytes(b"latin")
    (top / "sub/deeper/small").chmod(0o4711)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.mknod(top / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.mknod(top / "large", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
        os.mkfifo(top / "fifo")
        os.chown(top / "sub/medium", 100_000, 200_000)
        os.setxattr(top / "sub", "trusted.note", b"n" * 300)
        os.setxattr(top / "sparse", "trusted.short", b"s")
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, (0, number * 1_000_003), follow_symlinks=False)  # mke2fs 1.47.0 drops parts of a second
    return top


SMALL_GROUPS = ("-b", "1024", "-g", "256", "-N", "8192")  # 16 inodes in each
KINDS = {
    "ext2": ("-t", "ext2", "-b", "1024", "-I", "128"),
    "ext2, as of 1995": ("-t", "ext2", "-b", "4096", "-r", "0"),
    "ext3": ("-t", "ext3", "-b", "2048", "-I", "256"),
    "ext4": ("-t", "ext4"),
    "ext4 of small blocks": ("-t", "ext4", "-b", "1024", "-I", "128"),
    "ext4 without most": ("-t", "ext4", "-O", "^64bit,^metadata_csum,^flex_bg,^extent,^has_journal,^resize_inode"),
    "inline data": ("-t", "ext4", "-O", "inline_data", "-I", "512"),
    "meta_bg": ("-t", "ext4", "-O", "meta_bg,^resize_inode", *SMALL_GROUPS),
    "meta_bg, two copies": ("-t", "ext4", "-O", "meta_bg,^resize_inode,sparse_super2", *SMALL_GROUPS),
    "meta_bg, all copies": ("-t", "ext4", "-O", "meta_bg,^resize_inode,^sparse_super", *SMALL_GROUPS),
    "large blocks": ("-t", "ext4", "-b", "65536"),
}


@needs_root
@pytest.mark.parametrize("kind", KINDS)
def test_what_mke2fs_makes_is_read_as_it_was(kind: str, folder: Path, tmp_path: Path) -> None:
    image = made(folder, tmp_path / "image", "128M", *KINDS[kind])
    expected = without_root(rootfs.directory(folder))
    found = without_root(ext4(image))
    if "-r" in KINDS[kind]:  # had no extended attributes
        expected = {path: (*row[:5], (), row[6]) for path, row in expected.items()}
    assert found == expected


@needs_root
@pytest.mark.parametrize(("table", "number"), [("dos", 2), ("dos", 5), ("gpt", 2)])
def test_a_partition_of_a_disk_is_found(table: str, number: int, folder: Path, tmp_path: Path) -> None:
    image = made(folder, tmp_path / "image", "100M", "-t", "ext4")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(120 * MIB)
    rows = {
        ("dos", 2): "label: dos\nstart=2048,size=4096,type=c\nstart=8192,type=83\n",
        ("dos", 5): "label: dos\nstart=2048,size=4096,type=c\nstart=6144,type=5\nstart=8192,type=83\n",
        ("gpt", 2): "label: gpt\nstart=2048,size=4096\nstart=8192,type=linux\n",
    }
    subprocess.run(["sfdisk", "-q", disk], input=rows[table, number], text=True, check=True)
    with disk.open("r+b") as file, image.open("rb") as source:
        file.seek(8192 * 512)
        shutil.copyfileobj(source, file)
    expected = described(ext4(image))
    assert described(ext4(disk)) == described(ext4(disk, partition=number)) == expected
    with pytest.raises(ImageError, match=r"no partition 9: expected one of its partitions, saw 1: .*, 2 MiB; "):
        ext4(disk, partition=9)
    with pytest.raises(ImageError, match="is no ext2, ext3 or ext4"):
        ext4(disk, partition=1)


def test_blocks_that_were_never_written_read_as_zeros(tmp_path: Path) -> None:
    image = written(rootfs.of({"/f": b"x" * 5000}), tmp_path / "image", 4 * MIB)
    debugfs(image, "fallocate f 4 9", "sif f size 40000", write=True)
    checked(image)
    assert ext4(image).read("/f") == b"x" * 5000 + bytes(35_000)
    assert "Uninit" in debugfs(image, "dump_extents f")


@needs_root
def test_an_attribute_in_an_inode_of_its_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    for name in ("a", "b"):
        (tmp_path / "top" / name).touch()
        os.setxattr(tmp_path / "top" / name, "trusted.large", b"v" * 3000)
        os.utime(tmp_path / "top" / name, (0, 0))
    image = made(tmp_path / "top", tmp_path / "image", "8M", "-t", "ext4", "-b", "1024", "-O", "ea_inode")
    assert "trusted.large (3000)" in debugfs(image, "stat a").replace("inode <", "")
    assert without_root(ext4(image)) == without_root(rootfs.directory(tmp_path / "top"))


DENIED: list[tuple[str, str | None]] = [
    ("feature needs_recovery", "not shut down cleanly.*e2fsck -f"),
    ("ssv state 0", "not shut down cleanly"),
    ("ssv state 3", "found errors"),
    ("sif f flags 0x80800", "'/f'.*is encrypted"),
    ("sif f flags 0x180000", "'/f'.*fs-verity"),
    ("sif d flags 0x40080000", "'/d'.*upper and lower case"),
    ("feature bigalloc", "bigalloc"),
    ("feature FEATURE_I25", "features 0x2000000"),
    ("link d d/again", "two names"),
    ("sif f mode 0", "'/f'.*mode"),
    ("sif f block[0] 0", "'/f'.*a node of the extents"),
    ("ssv inodes_count 4000000000", "do not go together"),
    ("ssv blocks_count 4000000", "cut short: expected 15625 MiB"),
    ("sif f size 99999999999999", "at most 64 GiB"),
    ("feature encrypt casefold verity", None),
]


@pytest.mark.parametrize(("command", "message"), DENIED)
def test_what_cannot_be_read_says_why(command: str, message: str | None, tmp_path: Path) -> None:
    image = written(rootfs.of({"/f": "x", "/d/e": "y"}), tmp_path / "image", 4 * MIB)
    debugfs(image, command, write=True)
    if message is None:  # no file makes use of it
        assert ext4(image).read("/f") == b"x"
        return
    with pytest.raises(ImageError, match=re.compile(message, re.DOTALL)):
        ext4(image)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "partition table is damaged"),
        (bytes(4 * MIB), "bare or in a partition of a raw disk, saw no partitions"),
        (b"QFI\xfb" + bytes(5000), "saw a qcow2 disk image. Hint: convert it: qemu-img"),
        (b"\x1f\x8b" + bytes(5000), "is damaged: expected packed data"),
    ],
)
def test_what_is_no_file_system_says_what_it_is(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(ImageError, match=message):
        ext4(tmp_path / "image")
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ImageError, match="expected a file, saw"):
            ext4(path)


def test_a_packed_image_goes_into_the_store_and_is_bounded(tmp_path: Path) -> None:
    image = written(VARIED, tmp_path / "image", 4 * MIB)
    packed = tmp_path / "image.gz"
    packed.write_bytes(gzip.compress(image.read_bytes(), 1))
    store = Store(tmp_path / "store")
    tree = ext4(packed, store=store)
    packed.unlink()
    assert (tree.name, tree.digest) == ("image.gz", VARIED.digest)
    with image.open("rb") as file, pytest.raises(ImageError, match="at most 1 MiB"):
        ext4(file, store=store, max_bytes=MIB)


def test_a_tree_of_extents_that_goes_in_circles_ends(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(4096))
    extents = tuple((n * 8192, 0, 4096) for n in range(2000))
    tree = tree_of((b"f", Inode.file(Extents(Source.of(tmp_path / "data"), 2000 * 8192, extents))))
    image = written(tree, tmp_path / "image", 32 * MIB)
    raw = bytearray(image.read_bytes())
    nodes = [at for at in range(0, len(raw), 4096) if raw[at : at + 2] == b"\x0a\xf3"]
    top = max(nodes, key=lambda at: raw[at + 6])
    assert raw[top + 6] == 1
    for row in range(raw[top + 2]):  # all of its children are the first
        raw[top + 12 + row * 12 + 4 : top + 12 + row * 12 + 8] = raw[top + 16 : top + 20]
    image.write_bytes(raw)
    with pytest.raises(ImageError, match="in order"):
        ext4(image)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    image = written(rootfs.of({"/d/one": "1", "/d/two": "2"}), tmp_path / "image", MIB)
    image.write_bytes(image.read_bytes().replace(b"\3\1two", b"\3\1one"))
    with pytest.raises(ImageError, match=r"^'/d': .* expected each name once, saw b'one' twice"):
        ext4(image)


def test_a_node_of_another_depth_than_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(4096))
    extents = tuple((n * 8192, 0, 4096) for n in range(20))
    tree = tree_of((b"f", Inode.file(Extents(Source.of(tmp_path / "data"), 20 * 8192, extents))))
    image = written(tree, tmp_path / "image", MIB)
    raw = bytearray(image.read_bytes())
    [leaf] = [at for at in range(0, len(raw), 4096) if raw[at : at + 2] == b"\x0a\xf3"]
    raw[leaf + 6] = 1
    image.write_bytes(raw)
    with pytest.raises(ImageError, match="expected a node of the extents"):
        ext4(image)


def test_files_that_share_blocks_are_no_way_to_make_much_of_little(tmp_path: Path) -> None:
    tree = rootfs.of({"/solid": b"x" * 400_000} | {f"/{n}": b"" for n in range(8)})
    image = written(tree, tmp_path / "image", MIB)
    raw = image.read_bytes()
    solid = raw[raw.index(b"\x0a\xf3\1\0\4\0\0\0" + bytes(8) + struct.pack("<H", 98)) :][:60]
    image.write_bytes(raw.replace(b"\x0a\xf3\0\0\4\0".ljust(60, b"\0"), solid))
    with pytest.raises(ImageError, match="expected files of at most 256 blocks together"):
        ext4(image)


def _damageable(tmp: Path, make: Callable[[Path], Path]) -> tuple[bytes, list[int]]:
    raw = make(tmp).read_bytes()
    return raw, [at for at, byte in enumerate(raw) if byte]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    draft = Draft("to be damaged")
    rootfs.tree.lay_over(draft, VARIED)
    for n in range(80):
        draft.add(b"large/" + b"%d" % n * 60, Inode.file(b""))
    tree = RootFS(draft, "to be damaged")
    return _damageable(tmp_path_factory.mktemp("ours") / "image", lambda path: written(tree, path, MIB))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    top = tmp_path_factory.mktemp("theirs")
    for n in range(20):
        (top / f"d{n}").mkdir()
        (top / f"d{n}/file").write_bytes(b"a")
    with (top / "sparse").open("wb") as file:
        file.seek(70 * MIB)
        file.write(b"end")
    options = ("-t", "ext2", "-b", "1024")
    return _damageable(top.parent / "image", lambda path: made(top, path, "1M", *options))


@settings(max_examples=150, suppress_health_check=FIXTURES)
@given(data=st.data(), own=st.booleans())
def test_damage_is_an_error_or_another_tree(
    data: st.DataObject, own: bool, ours: tuple[bytes, list[int]], theirs: tuple[bytes, list[int]], tmp_path: Path
) -> None:
    raw, places = ours if own else theirs
    broken = bytearray(raw)
    spots = st.one_of(st.sampled_from(places), st.integers(0, len(raw) - 1))
    for at, value in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), min_size=1, max_size=8)):
        broken[at] = value
    cut = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    image = tmp_path / "image"
    image.write_bytes(broken[:cut])
    try:
        tree = ext4(image)
        for entry in tree.entries():
            if entry.inode.is_file and entry.inode.size <= 4 * MIB:
                entry.inode.content.read()
    except ImageError:
        pass
