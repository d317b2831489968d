from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trees
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from v86lab import rootfs
from v86lab.errors import ImageError, StoreError
from v86lab.rootfs import RootFS, tar, tar_header
from v86lab.rootfs.content import PIECE, Extents, Stored
from v86lab.rootfs.inode import Inode
from v86lab.rootfs.tar import write_tar
from v86lab.store import Store

GNU_TAR = shutil.which("tar")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make all of it")
gnu = pytest.mark.skipif(GNU_TAR is None or os.name == "nt", reason="needs GNU tar")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def packed(tree: RootFS) -> bytes:
    file = io.BytesIO()
    write_tar(tree, file)
    return file.getvalue()


def python_tar(add: Callable[[tarfile.TarFile], None], **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        add(archive)
    return file.getvalue()


def member(name: str, data: bytes = b"", **fields: Any) -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return lambda archive: archive.addfile(info, io.BytesIO(data))


def members(*parts: Callable[[tarfile.TarFile], None], **options: Any) -> bytes:
    def add(archive: tarfile.TarFile) -> None:
        for part in parts:
            part(archive)

    return python_tar(add, **options)


def read(data: bytes, store: Store, **options: Any) -> RootFS:
    return tar(io.BytesIO(data), store=store, **options)


def nothing_is_left(store: Store) -> bool:
    return not list((store.home / "tmp").glob("*")) and not list(store.digests())


# ---- round trips ----


@settings(max_examples=60)
@given(trees.trees(sockets=False))
def test_a_tree_comes_back_from_a_tar_as_it_was_and_gives_the_same_bytes_again(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        write_tar(tree, path)
        again = tar(path)
        assert trees.described(again) == trees.described(tree)
        assert again.digest == tree.digest
        assert packed(again) == path.read_bytes()


@gnu
@root
@settings(max_examples=40)
@given(trees.trees(sockets=False, xattrs=False, times=trees.YEARS_ON_DISK))
def test_gnu_tar_extracts_what_the_tree_says(tree: RootFS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_tar(tree, Path(folder, "a.tar"))
        extracted = Path(folder, "x")
        extracted.mkdir()
        said = subprocess.run(
            ["tar", "-C", extracted, "-xpf", Path(folder, "a.tar"), "--numeric-owner", "--warning=no-timestamp"],
            capture_output=True,
            check=False,
        )
        assert (said.returncode, said.stderr) == (0, b"")
        assert trees.on_disk(extracted) == trees.described(tree)
        extracted.chmod(0o700)


@gnu
@root
def test_gnu_tar_extracts_attributes_holes_and_links_as_they_were(tmp_path: Path) -> None:
    attributes = (
        (b"trusted.n=v", b"\0\n"),
        (b"user.50%", b"x" * 2000),
        (b"user.empty", b""),
        (b"user.n=v", b"a\nb=c\n"),
    )
    sparse = trees.Patchy(40 * PIECE + 5, ((3 * PIECE + 7, b"in the middle"),))
    tree = (
        rootfs.of({})
        .with_inode(
            "/f", Inode(0o104755, 7, 8, 1_500_000_000, rootfs.of({"a": b"data"})["a"].content, xattrs=attributes)
        )
        .with_inode("/sparse", Inode.file(sparse))
        .with_inode(
            "/" + "d" * 200 + "/sparse too", Inode.file(trees.Patchy(5 * PIECE, ((0, b"x"), (5 * PIECE - 1, b"y"))))
        )
        .with_inode("/all zeros", Inode.file(trees.Patchy(8 * PIECE, ())))
    )
    write_tar(tree, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").stat().st_size < 8 * PIECE
    (tmp_path / "x").mkdir()
    subprocess.run(
        ["tar", "-C", tmp_path / "x", "-xpf", tmp_path / "a.tar", "--numeric-owner", "--xattrs", "--xattrs-include=*"],
        check=True,
    )
    assert trees.on_disk(tmp_path / "x", xattrs=True) == trees.described(tree)
    for name in ("sparse", "all zeros"):
        assert (tmp_path / "x" / name).stat().st_blocks * 512 < 2 * PIECE


def test_python_reads_what_we_write() -> None:
    tree = rootfs.of({"/" + "long/" * 60 + "name": b"deep", "/zeros": bytes(3 * PIECE) + b"end"}).with_inode(
        "/late", Inode.file(b"", uid=1 << 31, mtime=-1_500_000_000)
    )
    with tarfile.open(fileobj=io.BytesIO(packed(tree))) as archive:
        assert [info.name for info in archive][-1] == "zeros"
        assert archive.extractfile("zeros").read() == bytes(3 * PIECE) + b"end"  # type: ignore[union-attr]
        assert archive.extractfile("long/" * 60 + "name").read() == b"deep"  # type: ignore[union-attr]
        late = archive.getmember("late")
        assert (late.uid, late.mtime) == (1 << 31, -1.5)


def test_extended_headers_stand_only_where_ustar_cannot_say_it() -> None:
    plain = rootfs.of({"/a": b"x", "/usr/bin/b": b""}).with_link("/l", "a").with_attributes("/a", mtime=5 * 10**9)
    assert b"PaxHeader" not in packed(plain)
    assert b" mtime=5.25\n" in packed(plain.with_attributes("/a", mtime=5_250_000_000))
    assert b" mtime=-0.25\n" in packed(plain.with_attributes("/a", mtime=-250_000_000))
    assert b" mtime=8589934592\n" in packed(plain.with_attributes("/a", mtime=8**11 * 10**9))


def test_a_record_counts_its_own_length() -> None:
    for length in range(1, 1100):
        records = tar_header.Records()
        block = tar_header.header(tar_header.FILE, b"n", records=[(b"comment", b"v" * length)])
        records.read(block[512:-512])
        assert records.values == {b"comment": b"v" * length}


def test_sockets_are_left_out_with_a_warning(store: Store) -> None:
    tree = rootfs.of({"/a": b"x"}).with_inode("/run/log", Inode(stat.S_IFSOCK | 0o666))
    with pytest.warns(UserWarning, match=r"no sockets: '/run/log'"):
        data = packed(tree)
    assert read(data, store).paths() == ["/", "/a", "/run"]


def test_a_tar_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    tree = rootfs.of({}).with_file("/f", tmp_path / "file")
    (tmp_path / "out.tar").write_bytes(b"old")
    (tmp_path / "file").write_bytes(b"changed")
    with pytest.raises(ImageError, match="as it was when the tree was made"):
        write_tar(tree, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out.tar"]
    with pytest.raises(ImageError, match=r"cannot write the tar.*No such file"):
        write_tar(rootfs.of({}), tmp_path / "none" / "out.tar")
    with pytest.raises(ImageError, match="cannot write the tar"):
        write_tar(rootfs.of({}), tmp_path)


# ---- what GNU tar writes ----


def make_folder(folder: Path) -> None:
    """A real folder with what each format has its own way for."""
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / "usr" / "bin" / "tool").write_bytes(b"#!/bin/sh\n")
    (folder / "usr" / "bin" / "tool").chmod(0o4755)
    (folder / "usr" / "bin" / "again").hardlink_to(folder / "usr" / "bin" / "tool")
    (folder / "bin").symlink_to("usr/bin")
    (folder / ("n" * 150)).write_bytes(b"long name")
    (folder / "to long").symlink_to("t/" * 120)
    (folder / ("n" * 151)).hardlink_to(folder / ("n" * 150))
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(4000, 300_000))
    os.chown(folder / "device", 3_000_000, 4_000_000_000)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(b"latin 1")
    with (folder / "sparse").open("wb") as file:
        for number in range(60):
            file.seek(number * 100_000)
            file.write(b"data %d" % number)
        file.truncate(10_000_000)
    (folder / "hole").touch()
    os.truncate(folder / "hole", 5_000_000)
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)


@gnu
@root
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu", "--sparse"],
        ["--format=oldgnu", "--sparse"],
        ["--format=posix"],
        ["--format=posix", "--sparse", "--sparse-version=0.0"],
        ["--format=posix", "--sparse", "--sparse-version=0.1"],
        ["--format=posix", "--sparse", "--sparse-version=1.0"],
        ["--format=gnu", "-z"],
        ["--format=posix", "--sparse", "-J"],
        ["--format=posix", "--zstd"],
        ["--format=gnu", "-P", "--transform=s,^[.],/abs/.,"],
    ],
    ids=" ".join,
)
def test_what_gnu_tar_writes_is_read_in_all_its_formats(tmp_path: Path, options: list[str], store: Store) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make_folder(folder)
    subprocess.run(["tar", *options, "-C", folder, "-cf", tmp_path / "a.tar", "."], check=True)
    found = trees.described(tar(tmp_path / "a.tar", store=store))
    if "-P" in options:
        found = {path.removeprefix(b"abs").removeprefix(b"/"): row for path, row in found.items() if path}
        found = {path: (*row[:6], row[6] and row[6].removeprefix(b"abs/")) for path, row in found.items()}  # type: ignore[attr-defined]
    assert found == trees.on_disk(folder)


@gnu
@root
def test_v7_and_ustar_archives_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a" / ("d" * 90)).mkdir(parents=True)
    (folder / "a" / ("d" * 90) / "short").write_bytes(b"x")
    (folder / "link").symlink_to("a")
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    for form in ("v7", "ustar"):
        subprocess.run(["tar", f"--format={form}", "-C", folder, "-cf", tmp_path / form, "."], check=True)
        assert trees.described(tar(tmp_path / form)) == trees.on_disk(folder)


@gnu
@root
def test_attributes_of_gnu_tar_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "f").touch()
    for name, value in (("user.a=b", b"\0\n"), ("user.50%", b""), ("user.%3D", b"v"), ("trusted.t", b"x" * 3000)):
        os.setxattr(folder / "f", name, value)
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-C", folder, "-cf", tmp_path / "a.tar", "."], check=True)
    tree = tar(tmp_path / "a.tar")
    assert trees.described(tree) == trees.on_disk(folder, xattrs=True)
    assert len(tree["/f"].xattrs) == 4 and tree["/f"].mtime % 10**9


# ---- where the bytes are ----


def test_files_of_an_uncompressed_tar_lie_in_the_tar_itself(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(packed(rootfs.of({"/f": b"hello"})))
    tree = tar(path, store=store)
    content = tree["/f"].content
    assert isinstance(content, Extents) and content.source.name == repr(str(path.resolve()))
    assert not store.home.exists()
    assert tree.read("/f") == b"hello" and tree.name == "a.tar" and tar(path, name="x").name == "x"
    path.write_bytes(packed(rootfs.of({"/f": b"other"})) + bytes(512))
    with pytest.raises(ImageError, match="make the tree anew"):
        tree.read("/f")


def test_a_tar_is_found_through_a_link_and_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tar").write_bytes(packed(rootfs.of({"/f": b"hello"})))
    (tmp_path / "link").symlink_to("a.tar")
    monkeypatch.chdir(tmp_path)
    tree = tar("link")
    monkeypatch.chdir("/")
    assert tree.read("/f") == b"hello"


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
    "zst without a size": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("way", ["path", "file object", "pipe", "byte by byte"])
def test_packed_tars_are_unpacked_once_into_the_store(tmp_path: Path, store: Store, packing: str, way: str) -> None:
    tree = rootfs.of({"/f": b"hello" * 1000, "/usr/g": bytes(2 * PIECE)})
    data = PACKERS[packing](packed(tree))
    (tmp_path / "no telling name").write_bytes(data)
    if way == "path":
        found = tar(tmp_path / "no telling name", store=store)
    elif way == "file object":
        with (tmp_path / "no telling name").open("rb") as file:
            found = tar(file, store=store)
    elif way == "pipe":
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as end, subprocess.Popen(["cat", tmp_path / "no telling name"], stdout=writer):
            os.close(writer)
            found = tar(end, store=store)
    else:
        found = tar(_Dripping(data), store=store)  # type: ignore[arg-type]
    assert found.digest == tree.digest
    assert isinstance(found["/f"].content, Extents) and isinstance(found["/f"].content.source, Stored)
    assert list(store.digests()) == [found["/f"].content.source.blob]


class _Dripping:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 100))


def test_an_uncompressed_stream_goes_into_the_store_and_stays_readable_when_it_is_put_again(store: Store) -> None:
    data = packed(rootfs.of({"/f": b"hello"}))
    tree = read(data, store)
    os.utime(store.path(store.put(data)), (5, 5))
    store.put(data)
    assert tree.read("/f") == b"hello"
    assert read(data, store).digest == tree.digest


def test_a_stream_may_come_in_small_pieces_and_by_way_of_a_named_pipe(tmp_path: Path, store: Store) -> None:
    tree = rootfs.of({"/f": b"hello" * 1000})
    assert tar(_Dripping(packed(tree)), store=store).digest == tree.digest  # type: ignore[arg-type]
    if hasattr(os, "mkfifo"):
        (tmp_path / "a.tar").write_bytes(packed(tree))
        os.mkfifo(tmp_path / "pipe")
        with subprocess.Popen(["dd", f"if={tmp_path / 'a.tar'}", f"of={tmp_path / 'pipe'}", "status=none"]):
            assert tar(tmp_path / "pipe", store=store).digest == tree.digest


@pytest.mark.parametrize("packing", ["gz", "xz", "bz2", "zst"])
def test_frames_one_after_another_are_one_tar(store: Store, packing: str) -> None:
    data = packed(rootfs.of({"/f": b"hello"}))
    frames = PACKERS[packing](data[:700]) + PACKERS[packing](data[700:])
    assert read(frames, store).read("/f") == b"hello"


def test_padding_after_a_packed_tar_is_no_harm(store: Store) -> None:
    data = packed(rootfs.of({"/f": b"hello"}))
    for packing in ("gz", "xz", "bz2"):
        assert read(PACKERS[packing](data) + bytes(512), store).read("/f") == b"hello"


# ---- what members mean ----


def test_names_are_made_relative(store: Store) -> None:
    data = members(member("./"), member("./a"), member("/etc/b"), member("usr//lib/./c"), member("//d"))
    assert read(data, store).paths() == ["/", "/a", "/d", "/etc", "/etc/b", "/usr", "/usr/lib", "/usr/lib/c"]


def test_the_roots_own_entry_counts(store: Store) -> None:
    data = members(member("./", type=tarfile.DIRTYPE, mode=0o1777, uid=5, mtime=7))
    found = read(data, store)["/"]
    assert (found.mode, found.uid, found.mtime) == (0o041777, 5, 7 * 10**9)


def test_later_entries_replace_earlier_ones_but_directories_keep_what_is_in_them(store: Store) -> None:
    data = members(
        member("d", type=tarfile.DIRTYPE, mode=0o700),
        member("d/f", b"one"),
        member("d/hard", type=tarfile.LNKTYPE, linkname="./d/f"),
        member("d/f", b"two"),
        member("./d/", type=tarfile.DIRTYPE, mode=0o755),
        member("d/new", type=tarfile.LNKTYPE, linkname="d/f"),
    )
    tree = read(data, store)
    assert {path: tree.read(path) for path in ("/d/f", "/d/hard", "/d/new")} == {
        "/d/f": b"two",
        "/d/hard": b"one",
        "/d/new": b"two",
    }
    assert tree["/d"].mode == 0o040755
    assert [entry.first for entry in tree.entries() if entry.path == b"d/new"] == [b"d/f"]


def test_entries_below_a_link_go_where_it_leads_inside_the_tree(store: Store) -> None:
    data = members(
        member("usr/bin/", type=tarfile.DIRTYPE),
        member("bin", type=tarfile.SYMTYPE, linkname="/usr/bin"),
        member("up", type=tarfile.SYMTYPE, linkname="../../.."),
        member("bin/sh", b"sh"),
        member("up/etc/passwd", b"root"),
        member("hard", type=tarfile.LNKTYPE, linkname="bin/sh"),
    )
    tree = read(data, store)
    assert {"/usr/bin/sh", "/etc/passwd", "/hard"} <= set(tree.paths())
    assert tree.read("/hard") == b"sh"


def test_numbers_in_base_256_are_read_in_every_field(store: Store) -> None:
    def field(value: int, length: int) -> bytes:
        return (value + (1 << 8 * length if value < 0 else 0x80 << 8 * (length - 1))).to_bytes(length, "big")

    block = bytearray(tar_header.header(tar_header.CHARACTER, b"f"))
    block[100:108] = field(0o4755, 8)
    block[108:116] = field(4_000_000_000, 8)
    block[116:124] = field(3_000_000_000, 8)
    block[136:148] = field(-1_000_000_000, 12)
    block[329:337] = field(4095, 8)
    block[337:345] = field(1_000_000, 8)
    tree = read(_summed(block) + bytes(1024), store)
    found = tree["/f"]
    assert (found.mode, found.uid, found.gid) == (0o024755, 4_000_000_000, 3_000_000_000)
    assert (found.mtime, found.device) == (-(10**18), (4095, 1_000_000))


def _summed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_sums_of_signed_bytes_are_right_too(store: Store) -> None:
    block = bytearray(tar_header.header(tar_header.FILE, b"caf\xe9")[-512:])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(struct.unpack("512b", block))
    assert read(bytes(block) + bytes(1024), store).paths() == ["/", "/caf\udce9"]


def test_records_of_global_headers_hold_until_a_members_own(store: Store) -> None:
    options = {"format": tarfile.PAX_FORMAT, "pax_headers": {"comment": "by git", "mtime": "5.5"}}
    data = members(member("a"), member("b", pax_headers={"mtime": "7.000000001"}), member("c"), **options)
    tree = read(data, store)
    assert [tree[name].mtime for name in ("/a", "/b", "/c")] == [5_500_000_000, 7_000_000_001, 5_500_000_000]


def test_an_archive_without_members_is_an_empty_tree(store: Store) -> None:
    assert read(bytes(10240), store).paths() == ["/"]


# ---- bad input ----

SMALL = packed(rootfs.of({"/etc/motd": b"hello" * 200, "/" + "n" * 120: b"x"}).with_link("/l", "t" * 120))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no tar archive: expected a tar.* saw an empty file"),
        (b"hello, world\n" * 100, "is no tar archive.*saw text"),
        (os.urandom(64) * 20, "is no tar archive.*saw unknown data"),
        (b"PK\x03\x04" + bytes(600), "saw a zip archive. Hint: unpack it first"),
        (b"\x04\x22\x4d\x18" + bytes(600), "saw lz4-compressed data. Hint: decompress it first: unlz4"),
        (b"\x02\x21\x4c\x18" + b"x" * 600, "saw lz4 data. Hint: this packing is not supported"),
        (gzip.compress(b"hello, world\n" * 100), "is no tar archive.*saw text"),
        (gzip.compress(b""), "saw an empty file"),
        (gzip.compress(gzip.compress(SMALL)), "saw gzip-compressed data"),
        (bytes(1 << 20), "is no tar archive"),
        (SMALL[:400], "cut short.*saw its end, after 400 bytes"),
        (b"\x1f\x8bgarbage", "damaged.*Hint: copy or download it again"),
        (gzip.compress(SMALL)[:-20], "damaged"),
        (gzip.compress(SMALL) + b"garbage", "damaged"),
        (bz2.compress(SMALL)[:-20], "damaged.*end of the file"),
        (lzma.compress(SMALL)[:-20], "damaged.*end of the file"),
        (lzma.compress(SMALL)[:100] + b"x" * 30 + lzma.compress(SMALL)[130:], "damaged"),
        (zstandard.ZstdCompressor(write_checksum=True).compress(SMALL)[:-8], "damaged.*end of the file"),
        (zstandard.ZstdCompressor().compress(SMALL[:1024]), "cut short"),
        (zstandard.ZstdCompressor().compress(SMALL) + b"garbage", "damaged"),
        (SMALL[:512].replace(b"0000755", b"0000777") + SMALL[512:], "damaged.*a wrong checksum before byte 512"),
        (members(member("../x")), r"leads out of the tree: expected a path without ..*'../x'"),
        (members(member("a/../../x")), "leads out of the tree"),
        (members(member("a/..")), "leads out of the tree"),
        (members(member("x", type=tarfile.LNKTYPE, linkname="../../etc/passwd")), "target of a hard link.*leads out"),
        (members(member("x", type=tarfile.LNKTYPE, linkname="later"), member("later")), "a hard link to nothing"),
        (
            members(member("d", type=tarfile.DIRTYPE), member("x", type=tarfile.LNKTYPE, linkname="d")),
            "hard link to a dir",
        ),
        (members(member("d/f"), member("d")), "replaces a directory that is not empty"),
        (members(member("d"), member("d/f")), "expected a directory at '/d', saw a file"),
        (members(member("./", type=tarfile.SYMTYPE, linkname="/")), "replaces its root"),
        (
            members(
                member("a", type=tarfile.SYMTYPE, linkname="b"),
                member("b", type=tarfile.SYMTYPE, linkname="a"),
                member("a/f"),
            ),
            "circles",
        ),
        (members(member("n" * 300)), "too long"),
        (members(member("l", type=tarfile.SYMTYPE, linkname="")), r"a link's target, at '/l'"),
        (members(member("f", type=b"M")), r"a member, at '/f'.*b'M'. Hint: join its volumes"),
        (members(member("f", type=b"?")), r"expected a known type, saw b'\?'"),
        (members(member("f", mtime=1 << 40), format=tarfile.GNU_FORMAT), "a file's time, at '/f'"),
        (members(member("f", uid=(1 << 32) - 1), format=tarfile.GNU_FORMAT), "owner, at '/f'"),
        (members(member("f", pax_headers={"mtime": "soon"}), format=tarfile.PAX_FORMAT), "a number that is none"),
        (members(member("f", pax_headers={"size": "9" * 19}), format=tarfile.PAX_FORMAT), "cut short"),
        (_summed(bytearray(SMALL[:512].replace(b"0000755", b"00+0755"))) + SMALL[512:], "a number that is none"),
        (
            _summed(bytearray(SMALL[:124] + b"\xff" * 12 + SMALL[136:156] + b"0" + SMALL[157:512])) + SMALL,
            "negative size",
        ),
    ],
)
def test_bad_archives_are_refused_in_words_that_help(data: bytes, message: str, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(data, store)
    assert len(str(caught.value)) < 600
    assert not list((store.home / "tmp").glob("*"))
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ImageError, match=message):
        tar(tmp_path / "a.tar", store=store)
    assert not list((store.home / "tmp").glob("*"))


def test_a_tar_cut_at_any_block_is_refused(store: Store, tmp_path: Path) -> None:
    end = len(SMALL.rstrip(b"\0")) // 512 + 1
    for block in range(end + 1):
        (tmp_path / "a.tar").write_bytes(SMALL[: block * 512])
        with pytest.raises(ImageError, match=r"cut short|empty file"):
            tar(tmp_path / "a.tar", store=store)
    (tmp_path / "a.tar").write_bytes(SMALL[: (end + 1) * 512])
    assert len(tar(tmp_path / "a.tar", store=store)) == 5


@pytest.mark.parametrize("packing", PACKERS)
def test_a_bomb_is_stopped_while_it_is_unpacked(store: Store, packing: str) -> None:
    bomb = PACKERS[packing](members(member("zeros", bytes(16 << 20))))
    with pytest.raises(ImageError, match=r"too big: expected at most 1 MiB when unpacked.*max_bytes"):
        read(bomb, store, max_bytes=1 << 20)
    assert nothing_is_left(store)


def test_a_sparse_bomb_and_many_files_are_stopped(store: Store) -> None:
    data = packed(rootfs.of({}).with_inode("/f", Inode.file(trees.Patchy(64 << 20, ()))))
    assert len(data) < 20_000
    with pytest.raises(ImageError, match=r"too big: expected files of at most 32 MiB, saw more, at '/f'"):
        read(data, store, max_bytes=32 << 20)


def test_an_xz_that_wants_all_memory_is_refused(store: Store) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 16}]
    data = bytearray(lzma.compress(SMALL, filters=filters))
    at = data.index(b"\x21\x01\x08")  # LZMA2, one byte of properties: the dictionary's size
    data[at + 2] = 40  # 4 GiB - 1
    header_end = 12 + (data[12] + 1) * 4
    data[header_end - 4 : header_end] = struct.pack("<I", zlib.crc32(bytes(data[12 : header_end - 4])))
    with pytest.raises(ImageError, match=r"damaged.*[Mm]emory"):
        read(bytes(data), store)


def sparse_member(text: bytes, realsize: int = 2000, data: bytes = b"d" * 600) -> bytes:
    body = text + bytes(-len(text) % 512) + data
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"f"),
        (b"GNU.sparse.realsize", b"%d" % realsize),
    ]
    block = tar_header.header(tar_header.FILE, b"x", size=len(body), records=records)
    return block + body + bytes(-len(body) % 512) + bytes(1024)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x\n",
        b"-1\n",
        b"1\n0\n",
        b"1\n0\n601\n",
        b"1\n1500\n600\n",
        b"2\n100\n100\n0\n100\n",
        b"2\n0\n100\n50\n100\n",
        b"99999999999\n" + b"0\n" * 50,
        b"1" * 600,
    ],
)
def test_maps_of_sparse_files_that_do_not_fit_are_refused(text: bytes, store: Store) -> None:
    with pytest.raises(ImageError, match="damaged"):
        read(sparse_member(text), store)


def test_a_map_of_a_sparse_file_that_fits_is_used(store: Store) -> None:
    tree = read(sparse_member(b"3\n10\n100\n1000\n500\n2000\n0\n"), store)
    assert tree.read("/f") == bytes(10) + b"d" * 100 + bytes(890) + b"d" * 500 + bytes(500)


def test_extended_headers_and_long_names_without_end_are_refused(store: Store) -> None:
    for kind in (b"x", b"g", b"L", b"K"):
        data = tar_header.header(kind, b"n", size=8**11 - 1) + bytes(1024)
        with pytest.raises(ImageError, match="extended headers of at most 16 MiB"):
            read(data, store)
    name = tar_header.header(b"L", b"n", size=5) + b"names".ljust(512, b"\0")
    assert read(name * 3000 + SMALL, store)["/names"].is_directory  # no recursion


@settings(max_examples=300)
@given(st.data())
def test_any_damage_gives_a_tree_or_an_image_error(data: st.DataObject) -> None:
    raw = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        block = data.draw(st.integers(0, len(SMALL) // 512 - 1)) * 512
        raw[block + data.draw(st.integers(0, 511))] = data.draw(
            st.sampled_from([0, 0x20, 0x30, 0x37, 0x80, 0xFF, 0x2E])
        )
        if data.draw(st.booleans()):
            raw[block : block + 512] = _summed(raw[block : block + 512])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        path.write_bytes(raw)
        try:
            tree = tar(path)
            assert len(tree.digest) == 64
        except ImageError as error:
            assert len(str(error)) < 1000


def test_what_is_no_file_is_refused(tmp_path: Path, store: Store) -> None:
    for given_, message in (
        (tmp_path / "none", "cannot read the tar .*No such file"),
        (tmp_path, "cannot read the tar .*directory"),
        ("a\0b", "cannot read the tar"),
        (5, "expected a path or a binary file object, saw int"),
        (io.StringIO("text"), "expected bytes, saw str. Hint: open it binary"),
    ):
        with pytest.raises(ImageError, match=message):
            tar(given_, store=store)  # type: ignore[arg-type]
    assert nothing_is_left(store)


def test_a_stream_that_fails_leaves_nothing_behind(store: Store) -> None:
    class Broken:
        def __init__(self) -> None:
            self.left = [packed(rootfs.of({"/f": os.urandom(1 << 20)}))[: 1 << 20]]

        def read(self, size: int) -> bytes:
            if self.left:
                return self.left.pop()[:size]
            raise ConnectionResetError("the mirror went away")

    with pytest.raises(ConnectionResetError):
        tar(Broken(), store=store)  # type: ignore[arg-type]
    assert nothing_is_left(store)


def test_a_store_that_cannot_be_written_is_the_stores_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the Store should be")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(SMALL))
    with pytest.raises(StoreError):
        tar(tmp_path / "a.tar.gz", store=Store(tmp_path / "home"))
