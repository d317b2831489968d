from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trees
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from v86lab import firmware, rootfs
from v86lab.errors import ImageError
from v86lab.rootfs import RootFS, cpio
from v86lab.rootfs.content import PIECE, Extents, Stored
from v86lab.rootfs.cpio import write_cpio
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.inode import Inode
from v86lab.store import Store

SINCE_1970 = (0, (1 << 32) - 1)
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make all of it")
gnu = pytest.mark.skipif(shutil.which("cpio") is None, reason="needs GNU cpio")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def packed(tree: RootFS) -> bytes:
    file = io.BytesIO()
    write_cpio(tree, file)
    return file.getvalue()


def entry(
    name: bytes, data: bytes = b"", *, mode: int = 0o100644, number: int = 1, links: int = 1, magic: bytes = b"070701"
) -> bytes:
    check = sum(data) if magic == b"070702" else 0
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, check)
    head = magic + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


END = entry(b"TRAILER!!!", mode=0)


def read(data: bytes, store: Store, max_bytes: int = 1 << 30) -> RootFS:
    return cpio(io.BytesIO(data), store=store, max_bytes=max_bytes)


# ---- round trips ----


@settings(max_examples=60)
@given(trees.trees(xattrs=False, subsecond=False, times=SINCE_1970))
def test_a_tree_comes_back_from_a_cpio_as_it_was_and_gives_the_same_bytes_again(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.cpio")
        write_cpio(tree, path)
        again = cpio(path)
        assert trees.described(again) == trees.described(tree)
        assert again.digest == tree.digest
        assert packed(again) == path.read_bytes()


@settings(max_examples=30)
@given(trees.trees(times=SINCE_1970))
def test_only_attributes_and_parts_of_seconds_are_lost(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_cpio(tree, Path(folder, "a.cpio"))
        rows = {
            path: (*row[:3], row[3] // 10**9 * 10**9, row[4], (), row[6])  # type: ignore[operator]
            for path, row in trees.described(tree).items()
        }
        assert trees.described(cpio(Path(folder, "a.cpio"))) == rows


@gnu
@root
@settings(max_examples=40)
@given(trees.trees(xattrs=False, subsecond=False, times=SINCE_1970))
def test_gnu_cpio_extracts_what_the_tree_says(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        extracted = Path(folder, "x")
        extracted.mkdir()
        said = subprocess.run(
            ["cpio", "-idm", "--quiet", "--no-absolute-filenames"],
            input=packed(tree),
            cwd=extracted,
            capture_output=True,
            check=False,
        )
        assert (said.returncode, said.stderr) == (0, b"")
        assert _as_gnu_cpio_leaves(trees.on_disk(extracted)) == _as_gnu_cpio_leaves(trees.described(tree))


def _as_gnu_cpio_leaves(rows: dict[bytes, tuple[Any, ...]]) -> dict[bytes, tuple[Any, ...]]:
    """Of symbolic links it keeps neither times nor hard links, of directories no times when their entries come after
    them; the folder that it extracts into stays as it is."""
    kept: dict[bytes, tuple[Any, ...]] = {}
    for path, row in rows.items():
        timeless = (*row[:3], *row[4:])
        kept[path] = timeless[:-1] if row[0] == "0o120777" else timeless if row[0].startswith("0o4") else row
    del kept[b""]
    return kept


@gnu
@root
@pytest.mark.parametrize("form", ["newc", "crc"])
def test_what_gnu_cpio_writes_is_read(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "folder"
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / "usr" / "bin" / "tool").write_bytes(os.urandom(3 * PIECE + 5))
    (folder / "usr" / "bin" / "tool").chmod(0o4755)
    for name in ("a", "z"):
        (folder / name).hardlink_to(folder / "usr" / "bin" / "tool")
    (folder / "bin").symlink_to("usr/bin")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", stat.S_IFBLK | 0o600, os.makedev(4000, 300_000))
    os.chown(folder / "device", 3_000_000, 4_000_000_000)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9\n")).write_bytes(b"latin 1")
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    names = b"".join(os.fsencode(path.relative_to(folder)) + b"\0" for path in [folder, *folder.rglob("*")])
    with (tmp_path / "a.cpio").open("wb") as file:
        subprocess.run(
            ["cpio", "-o0", "--quiet", "-H", form],
            input=names,
            stdout=file,
            cwd=folder,
            check=True,
            stderr=subprocess.PIPE,
        )
    assert trees.described(cpio(tmp_path / "a.cpio")) == trees.on_disk(folder)


def test_the_default_guests_initramfs_is_read_and_written() -> None:
    tree = cpio(firmware.path("initramfs"))
    assert tree["/bin/arch"].target == b"/bin/busybox" and tree["/init"].mode & 0o111
    assert isinstance(tree["/bin/busybox"].content, Extents) and tree.follow("/init") is tree["/bin/busybox"]
    with tempfile.TemporaryDirectory() as folder:
        write_cpio(tree, Path(folder, "again"))
        assert cpio(Path(folder, "again")).digest == tree.digest


def test_the_data_of_hard_links_stands_with_the_last_name() -> None:
    data = packed(rootfs.of({"/a": b"once only"}) + _linked("/a", "/b", "/c"))
    assert data.count(b"once only") == 1
    assert data.index(b"c\0") < data.index(b"once only")


def _linked(*names: str) -> RootFS:
    draft = Draft("links")
    draft.add(names[0], Inode.file(b"once only"))
    for name in names[1:]:
        draft.hard_link(name, names[0])
    return RootFS(draft, "links")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (rootfs.of({"/TRAILER!!!": b""}), r"at '/TRAILER!!!' of files: expected no file named like the end mark"),
        (rootfs.of({"/a": b""}).with_attributes("/a", mtime=-1), "a time between 1970 and 2106, saw -1 seconds"),
        (rootfs.of({"/a": b""}).with_attributes("/a", mtime=10**9 << 32), "a time between 1970 and 2106"),
        (rootfs.of({}).with_inode("/a", Inode.file(trees.Patchy(1 << 32, ()))), "less than 4 GiB.*Hint: write a tar"),
    ],
)
def test_what_newc_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path, tree: RootFS, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        write_cpio(tree, tmp_path / "a.cpio")
    assert list(tmp_path.iterdir()) == []


# ---- several archives ----


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("packing", PACKERS)
def test_archives_one_after_another_are_one_tree(tmp_path: Path, store: Store, packing: str) -> None:
    early = entry(b"kernel/x86/microcode/GenuineIntel.bin", b"microcode") + END + bytes(600)
    early += bytes(-len(early) % 4)
    main = entry(b"init", b"#!/bin/sh") + entry(b"a", b"main") + END + bytes(100)
    (tmp_path / "initrd").write_bytes(early + PACKERS[packing](main))
    tree = cpio(tmp_path / "initrd", store=store)
    assert tree.read("/kernel/x86/microcode/GenuineIntel.bin") == b"microcode"
    assert tree.read("/init") == b"#!/bin/sh"
    content = tree["/init"].content
    assert isinstance(content, Extents) and isinstance(content.source, Stored) == (packing != "plain")
    assert read(early + PACKERS[packing](main), store).digest == tree.digest


@pytest.mark.parametrize("packing", PACKERS)
def test_an_archive_as_a_stream_is_unpacked_into_the_store(store: Store, packing: str) -> None:
    tree = read(PACKERS[packing](packed(rootfs.of({"/init": b"#!/bin/sh"}))), store)
    assert tree.read("/init") == b"#!/bin/sh" and tree.name == "cpio"


def test_numbers_of_inodes_count_within_one_archive(store: Store) -> None:
    one = entry(b"a", b"first", number=5, links=2) + END
    two = entry(b"b", b"second", number=5, links=2) + END
    tree = read(one + two, store)
    assert (tree.read("/a"), tree.read("/b")) == (b"first", b"second")


def test_hard_links_may_have_their_data_with_any_name(store: Store) -> None:
    for at in range(3):
        parts = [entry(b"%d" % n, b"data" if n == at else b"", number=9, links=3) for n in range(3)]
        tree = read(b"".join(parts) + END, store)
        assert [tree.read(f"/{n}") for n in range(3)] == [b"data"] * 3
        assert {one.first for one in tree.entries() if one.path} == {b"0"}


def test_names_are_made_relative_and_later_entries_win(store: Store) -> None:
    data = entry(b".", mode=0o041777) + entry(b"./a", b"1") + entry(b"/b", b"2") + entry(b"a", b"3") + END
    tree = read(data, store)
    assert tree.paths() == ["/", "/a", "/b"] and tree.read("/a") == b"3" and tree["/"].mode == 0o041777


# ---- bad input ----

SMALL = packed(rootfs.of({"/etc/motd": b"hello" * 50, "/" + "n" * 100: b"x"}).with_link("/l", "t" * 20))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no cpio archive.*saw an empty file"),
        (b"070707" + b"0" * 100, "is no cpio archive.*saw text"),
        (b"\x02\x21\x4c\x18" + b"x" * 99, "saw lz4 data. Hint: this packing is not supported: unpack it first"),
        (b"\x04\x22\x4d\x18" + b"x" * 99, "saw lz4-compressed data. Hint: decompress it first: unlz4"),
        (SMALL[:50], "cut short.*saw its end, after 50 bytes"),
        (SMALL[:300], "cut short"),
        (SMALL.split(b"TRAILER")[0][:-110], "cut short.*its end"),
        (SMALL + b"garbage", "expected another archive, or nothing, saw something else at byte"),
        (entry(b"a")[:-4] + b"xxxx" + SMALL, "damaged"),
        (SMALL.replace(b"070701", b"070701" + b"+", 1), "expected hex digits"),
        (entry(b"a").replace(b"000081a4", b"0x0081a4") + END, "expected hex digits"),
        (entry(b"a").replace(b"000081a4", b" 00081a4") + END, "expected hex digits"),
        (entry(b"../a") + END, r"leads out of the tree: expected a path without ..*'../a'"),
        (entry(b"a/../../b") + END, "leads out of the tree"),
        (entry(b"a\0b") + END, "expected no NUL"),
        (entry(b"n" * 300) + END, "too long"),
        (entry(b"n" * 5000) + END, "names of at most 4095 bytes"),
        (entry(b"l", b"t" * 5000, mode=0o120777) + END, "targets of at most 4095 bytes"),
        (entry(b"l", b"", mode=0o120777) + END, "a link's target, at '/l'"),
        (entry(b"f", mode=0o050000) + END, "a file's mode, at '/f'"),
        (entry(b"d/f", b"") + entry(b"d") + END, "replaces a directory that is not empty"),
        (
            entry(b"f", b"data", magic=b"070702").replace(b"data", b"date") + END,
            r"a file is damaged, at '/f'.*the sum 410",
        ),
        (SMALL + gzip.compress(b"text" * 100), "is no cpio archive.*saw text"),
        (SMALL + gzip.compress(SMALL)[:-9], "damaged.*Hint: copy or download"),
    ],
)
def test_bad_archives_are_refused_in_words_that_help(data: bytes, message: str, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(data, store)
    assert len(str(caught.value)) < 600
    (tmp_path / "a.cpio").write_bytes(data)
    with pytest.raises(ImageError, match=message):
        cpio(tmp_path / "a.cpio", store=store)
    assert not list((store.home / "tmp").glob("*"))


def test_a_bomb_is_stopped_while_it_is_unpacked(store: Store) -> None:
    bomb = gzip.compress(entry(b"zeros", bytes(16 << 20)) + END)
    with pytest.raises(ImageError, match="too big: expected at most 1 MiB when unpacked"):
        read(bomb, store, max_bytes=1 << 20)
    early = entry(b"a") + END
    with pytest.raises(ImageError, match="too big: expected at most 1 MiB when unpacked"):
        read(early + bomb, store, max_bytes=1 << 20)
    assert not list((store.home / "tmp").glob("*"))


def test_an_archive_of_the_format_crc_is_verified(store: Store) -> None:
    assert read(entry(b"f", b"data", magic=b"070702") + END, store).read("/f") == b"data"


@settings(max_examples=300)
@given(st.data())
def test_any_damage_gives_a_tree_or_an_image_error(data: st.DataObject) -> None:
    raw = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from(b"\0017afAF./x\xff"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.cpio").write_bytes(raw)
        try:
            assert len(cpio(Path(folder, "a.cpio")).digest) == 64
        except ImageError as error:
            assert len(str(error)) < 1000
