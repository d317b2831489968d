"""Hostile trees for the tests of every format: a strategy of `RootFS` objects, and what tells them apart.

A format that cannot hold everything asks for less: `trees(xattrs=False, subsecond=False)`. Files are at most a few
pieces long, and few, so that a hundred trees cost seconds.
"""

# Paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH115, PTH118, PTH123, PTH208

from __future__ import annotations

import hashlib
import itertools
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from v86lab.rootfs.content import PIECE, Content, Inline
from v86lab.rootfs.draft import Draft
from v86lab.rootfs.inode import Inode
from v86lab.rootfs.tree import RootFS

MOST_ENTRIES = 12
YEARS = (-(1 << 31), (1 << 34) - (1 << 31) - 1)  # seconds that ext4 can hold: 1901 to 2446
YEARS_ON_DISK = (YEARS[0] + 1, YEARS[1] - 1)  # Linux' timestamp_truncate cuts the parts of the outermost seconds


@dataclass(frozen=True)
class Patchy(Content):
    """A file of the given size with some bytes here and there, and holes where no piece has any."""

    size: int
    patches: tuple[tuple[int, bytes], ...]

    def pieces(self) -> Iterator[bytes | None]:
        for start in range(0, self.size, PIECE):
            piece = bytearray(min(PIECE, self.size - start))
            for at, data in self.patches:
                low, high = max(at, start), min(at + len(data), start + len(piece))
                if low < high:
                    piece[low - start : high - start] = data[low - at : high - at]
            yield bytes(piece) if any(piece) else None


def bytes_of(seed: int, size: int) -> bytes:
    """Many bytes at the price of two numbers."""
    return random.Random(seed).randbytes(size)


ODD_NAMES = [
    b"-",
    b"--checkpoint-action=exec=sh",
    b"\n",
    b" ",
    b" lead and trail ",
    b"...",
    b"*",
    b"\\",
    b"a\\nb",
    b"'\"$(id)`id`",
    b"\xff\xfe",
    b"caf\xe9",
    "caf\xe9 \u4e2d\U0001f600".encode(),
    b"e\xcc\x81",  # another spelling of é: not the same name
    b"NUL",
    b"name=value",
    b"%25",
    b"\x01\x7f",
    b"x" * 99,
    b"x" * 100,
    b"x" * 101,
    b"y" * 255,
    b"\xc3\xa9" * 127,
]


def names() -> st.SearchStrategy[bytes]:
    """A name in a directory: anything but a slash, NUL, `.` and `..`."""
    anything = st.binary(min_size=1, max_size=20).map(lambda raw: raw.translate(None, b"/\0"))
    return st.one_of(st.sampled_from([b"a", b"b", b"usr", b"lib"]), st.sampled_from(ODD_NAMES), anything).filter(
        lambda name: name not in (b"", b".", b"..")
    )


def contents() -> st.SearchStrategy[Content]:
    """What files hold: nothing, a little, some pieces, zeros, holes at any end."""
    little = st.one_of(st.just(b""), st.binary(max_size=40), st.sampled_from([b"\0", bytes(600), b"x" * 512]))
    size = st.sampled_from([511, 4096, 4097, 65536, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7])
    much = st.builds(bytes_of, st.integers(0, 3), size)
    patches = st.lists(
        st.tuples(st.integers(0, 4 * PIECE + 9), st.sampled_from([b"x", b"y" * 5000])), max_size=3, unique_by=_at
    ).map(lambda found: tuple(sorted(found)))
    patchy = st.builds(
        Patchy, st.sampled_from([PIECE, 2 * PIECE, 3 * PIECE + 5, 4 * PIECE + 20]), patches.filter(_apart)
    )
    return st.one_of(little.map(Inline), little.map(Inline), much.map(Inline), patchy)


def _at(patch: tuple[int, bytes]) -> int:
    return patch[0]


def _apart(patches: tuple[tuple[int, bytes], ...]) -> bool:
    return all(a[0] + len(a[1]) <= b[0] for a, b in itertools.pairwise(patches))


def targets() -> st.SearchStrategy[bytes]:
    """Where symbolic links point: anywhere."""
    anything = st.binary(min_size=1, max_size=30).map(lambda raw: raw.replace(b"\0", b"?"))
    long = st.sampled_from([b"/" * 150, b"t" * 100, b"t" * 101, b"../" * 300, b"z/" * 2047])
    return st.one_of(
        st.sampled_from([b".", b"..", b"/", b"a", b"/usr/lib", b"../../etc/passwd", b"\xff"]), anything, long
    )


def attributes(namespaces: tuple[bytes, ...]) -> st.SearchStrategy[tuple[tuple[bytes, bytes], ...]]:
    """Extended attributes."""
    ends = st.sampled_from([b"a", b"a.b", b"n=v", b"50%", b"%3D", b"\xff", b"q" * 200])
    name = st.builds(lambda space, end: space + b"." + end, st.sampled_from(namespaces), ends)
    value = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b"\0", b"\n", b"a\nb\n", b"v" * 3000]))
    return st.dictionaries(name, value, max_size=3).map(lambda found: tuple(sorted(found.items())))


def _inodes(
    directories: bool, xattrs: bool, subsecond: bool, large_ids: bool, sockets: bool, times: tuple[int, int]
) -> st.SearchStrategy[Inode]:
    kinds = [stat.S_IFREG] * 4 + [stat.S_IFLNK] * 2 + [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO]
    kinds += [stat.S_IFSOCK] if sockets else []
    most_id = (1 << 32) - 2 if large_ids else (1 << 16) - 2
    ids = st.one_of(st.sampled_from([0, 0, 1000, 65534, most_id]), st.integers(0, most_id))
    edges = [at for at in (-1, 0, 1, 1_700_000_000, (1 << 31) - 1, 1 << 31, 1 << 33) if times[0] <= at <= times[1]]
    seconds = st.one_of(st.sampled_from([*edges, *times]), st.integers(*times))
    parts = st.sampled_from([0, 1, 500_000_000, 123_456_789, 999_999_999]) if subsecond else st.just(0)

    @st.composite
    def inode(draw: st.DrawFn) -> Inode:
        kind = stat.S_IFDIR if directories else draw(st.sampled_from(kinds))
        permissions = draw(
            st.one_of(st.sampled_from([0o644, 0o755, 0, 0o7777, 0o4755, 0o1777]), st.integers(0, 0o7777))
        )
        spaces = (
            (b"user", b"trusted", b"security") if kind in (stat.S_IFREG, stat.S_IFDIR) else (b"trusted", b"security")
        )
        return Inode(
            kind | (0o777 if kind == stat.S_IFLNK else permissions),
            draw(ids),
            draw(ids),
            draw(seconds) * 10**9 + draw(parts),
            draw(contents()) if kind == stat.S_IFREG else Inline(b""),
            draw(targets()) if kind == stat.S_IFLNK else b"",
            (draw(st.integers(0, 4095)), draw(st.integers(0, (1 << 20) - 1)))
            if kind in (stat.S_IFCHR, stat.S_IFBLK)
            else (0, 0),
            draw(attributes(spaces)) if xattrs else (),
        )

    return inode()


def trees(
    *,
    xattrs: bool = True,
    subsecond: bool = True,
    large_ids: bool = True,
    sockets: bool = True,
    times: tuple[int, int] = YEARS,
    most: int = MOST_ENTRIES,
) -> st.SearchStrategy[RootFS]:
    """A tree with everything that a format may trip over.

    Parameters
    ----------
    xattrs : bool
        Extended attributes, of any namespace; ``user.*`` only where Linux allows it.
    subsecond : bool
        Times that are no whole seconds.
    large_ids : bool
        Owners beyond 16 bits, up to 2**32 - 2.
    sockets : bool
    times : (int, int)
        The earliest and the latest time, in seconds.
    most : int
        Names besides the root, at most.
    """
    others = _inodes(False, xattrs, subsecond, large_ids, sockets, times)
    folders = _inodes(True, xattrs, subsecond, large_ids, sockets, times)

    @st.composite
    def tree(draw: st.DrawFn) -> RootFS:
        draft = Draft("a hostile tree")
        draft.add(b"", draw(folders))
        places: list[bytes] = [b""]
        files: list[bytes] = []
        for _ in range(draw(st.integers(0, most))):
            folder = draw(st.sampled_from(places))
            name = draw(names())
            path = folder + b"/" + name if folder else name
            if path in draft.names or len(path) > 2000:
                continue
            kind = draw(st.sampled_from(["directory", "file", "file", "again"]))
            if kind == "directory":
                draft.add(path, draw(folders))
                places.append(path)
            elif kind == "again" and files:
                draft.hard_link(path, draw(st.sampled_from(files)))
                files.append(path)
            else:
                draft.add(path, draw(others))
                files.append(path)
        return RootFS(draft, "a hostile tree")

    return tree()


def described(tree: RootFS) -> dict[bytes, tuple[object, ...]]:
    """All that a tree says, by path: for asserts that show what differs. Equal where `RootFS.digest` is."""
    rows: dict[bytes, tuple[object, ...]] = {}
    for entry in tree.entries():
        inode = entry.inode
        body: object = None
        if inode.is_file:
            body = (inode.content.size, inode.content.digest())
        elif inode.is_link:
            body = inode.target
        elif inode.is_device:
            body = inode.device
        same_as = None if entry.first == entry.path else entry.first
        rows[entry.path] = (oct(inode.mode), inode.uid, inode.gid, inode.mtime, body, inode.xattrs, same_as)
    return rows


def on_disk(folder: str | os.PathLike[str], xattrs: bool = False) -> dict[bytes, tuple[object, ...]]:
    """The same of a real folder, found with `os.lstat` alone: for what other programs have extracted."""
    root = os.fsencode(folder)
    found = [b""]
    for path in found:
        where = os.path.join(root, path)
        if stat.S_ISDIR(os.lstat(where).st_mode):
            found += [os.path.join(path, name) for name in os.listdir(where)]
    rows: dict[bytes, tuple[object, ...]] = {}
    firsts: dict[tuple[int, int], bytes] = {}
    for path in sorted(found, key=lambda path: path.split(b"/") if path else []):
        where = os.path.join(root, path)
        info = os.lstat(where)
        body: object = None
        if stat.S_ISREG(info.st_mode):
            with open(where, "rb") as file:
                body = (info.st_size, hashlib.file_digest(file, "sha256").hexdigest())
        elif stat.S_ISLNK(info.st_mode):
            body = os.readlink(where)
        elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            body = (os.major(info.st_rdev), os.minor(info.st_rdev))
        first = firsts.setdefault((info.st_dev, info.st_ino), path)
        names = sorted(os.listxattr(where, follow_symlinks=False)) if xattrs else []
        attributes = tuple((os.fsencode(name), os.getxattr(where, name, follow_symlinks=False)) for name in names)
        same_as = None if first == path else first
        rows[path] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, body, attributes, same_as)
    return rows
