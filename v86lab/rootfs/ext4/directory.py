"""A directory's blocks: entries one after the other, and in large directories an index by the hash of the name.

Kernel: Documentation/filesystems/ext4/directory.rst; fs/ext4/hash.c for the hash.

A directory of more than one block is written with an index ("htree"). Linux would take one without, but never makes
the index later: every look-up in a directory of 10 000 entries would then read all of its blocks, which a guest fetches
over the network. The hash is TEA, the shorter of the two that do not cost Linux more; an index names its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from v86lab.errors import ImageError

from .layout import DIRENT, HASH_TEA

Name = tuple[bytes, int, int]
"""An entry: name, inode number, file type."""

_DIRECTORY = 2
_INDEX_ENTRY = struct.Struct("<II")
_ROOT_INFO = struct.Struct("<IBBBB")
"""reserved_zero, hash_version, info_length, indirect_levels, unused_flags."""
_EOF = 0x7FFFFFFF << 1  # EXT4_HTREE_EOF_32BIT: no name may have it


def pack(names: Sequence[Name], own: int, above: int, seed: bytes, size: int) -> list[bytes]:
    """The blocks of a directory.

    Parameters
    ----------
    names : sequence of (bytes, int, int)
        In the order that a directory of one block gets.
    own, above : int
        Inode numbers of the directory and of the one it lies in.
    seed : bytes
        The file system's s_hash_seed.
    size : int
        Bytes of a block.

    Examples
    --------
    >>> [block] = pack([(b"a", 12, 1)], 2, 2, bytes(16), 1024)
    >>> list(entries(block))
    [(b'.', 2), (b'..', 2), (b'a', 12)]
    """
    dots = [(b".", own, _DIRECTORY), (b"..", above, _DIRECTORY)]
    blocks = _filled([*dots, *names], size)
    if len(blocks) == 1:
        return [_block(blocks[0], size)]
    words = struct.unpack("<4I", seed)
    hashed = sorted((tea(name[0], words), name) for name in names)
    leaves = _filled([name for _, name in hashed], size)
    hashes = [pair[0] for pair in hashed]
    return _indexed(leaves, hashes, dots, size)


def tea(name: bytes, seed: Sequence[int]) -> int:
    """The hash of a name: 31 bits, and a last one that is 0 (fs/ext4/hash.c: DX_HASH_TEA, unsigned).

    Examples
    --------
    >>> hex(tea(b"passwd", (1, 2, 3, 4)))
    '0xfe972bb2'
    """
    x, y = (seed if any(seed) else (0x67452301, 0xEFCDAB89))[:2]
    for start in range(0, len(name), 16):
        rest = len(name) - start
        part = name[start : start + 16]
        pad = bytes([rest])
        if rest < 16:  # the word that is cut short has its padding before it
            whole = rest & ~3
            part = (part[:whole] + pad * (-rest & 3) + part[whole:]).ljust(16, pad)
        a, b, c, d = struct.unpack(">4I", part)
        u, v, total = x, y, 0
        for _ in range(16):
            total = total + 0x9E3779B9 & 0xFFFFFFFF
            u = u + ((v << 4) + a ^ v + total ^ (v >> 5) + b) & 0xFFFFFFFF
            v = v + ((u << 4) + c ^ u + total ^ (u >> 5) + d) & 0xFFFFFFFF
        x, y = x + u & 0xFFFFFFFF, y + v & 0xFFFFFFFF
    x &= ~1
    return x if x != _EOF else x - 2


def entries(block: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and inode numbers in a block, "." and ".." too; blocks of an index have none.

    Raises
    ------
    ImageError
        It is damaged.
    """
    at, end = 0, len(block)
    while at < end:
        if at + DIRENT.size > end:
            raise _damaged("an entry that is cut short")
        inode, length, size, _ = DIRENT.unpack_from(block, at)
        if end == 65536 and length in (0, 65535):  # ext4_rec_len_from_disk: 16 bits are too few
            length = 65536
        if length < DIRENT.size or length % 4 or at + length > end or size > length - DIRENT.size:
            raise _damaged(f"an entry of {length} bytes with a name of {size}")
        if inode:
            name = block[at + DIRENT.size : at + DIRENT.size + size]
            if not name or b"/" in name or b"\0" in name:
                raise _damaged(f"the name {name[:80]!r}")
            yield name, inode
        at += length


def _indexed(leaves: list[list[Name]], hashes: list[int], dots: list[Name], size: int) -> list[bytes]:
    """The root of the index, the leaves, and nodes between when one block has no room for all hashes."""
    starts = []
    at = 0
    for leaf in leaves:
        goes_on = at and hashes[at] == hashes[at - 1]  # names of one hash on both sides: the lowest bit says so
        starts.append(hashes[at] | bool(goes_on))
        at += len(leaf)
    blocks = [b"", *(_block(leaf, size) for leaf in leaves)]
    pairs = [(start, number) for number, start in enumerate(starts, 1)]
    levels = 0
    if len(pairs) > _most(32, size):
        levels = 1
        most = _most(8, size)
        above = []
        for start in range(0, len(pairs), most):
            above.append((pairs[start][0], len(blocks)))
            blocks.append(DIRENT.pack(0, size, 0, 0) + _index(pairs[start : start + most], 8, size))
        pairs = above
    if len(pairs) > _most(32, size):
        raise ImageError("a directory is too large for ext4", expected="fewer entries", seen=f"{len(hashes)}")
    (dot, own, _), (dotdot, over, _) = dots
    root = DIRENT.pack(own, 12, 1, _DIRECTORY) + dot.ljust(4, b"\0")
    root += DIRENT.pack(over, size - 12, 2, _DIRECTORY) + dotdot.ljust(4, b"\0")
    root += _ROOT_INFO.pack(0, HASH_TEA, _ROOT_INFO.size, levels, 0)
    blocks[0] = root + _index(pairs, 32, size)
    return blocks


def _index(pairs: Sequence[tuple[int, int]], start: int, size: int) -> bytes:
    """The rest of an index block: limit and count instead of the first hash, which is known."""
    limit = _most(start, size)
    data = bytearray(struct.pack("<HHI", limit, len(pairs), pairs[0][1]))
    for pair in pairs[1:]:
        data += _INDEX_ENTRY.pack(*pair)
    return bytes(data.ljust(size - start, b"\0"))


def _most(start: int, size: int) -> int:
    return (size - start) // _INDEX_ENTRY.size


def _filled(names: Sequence[Name], size: int) -> list[list[Name]]:
    """The names, as many in each block as fit."""
    blocks: list[list[Name]] = [[]]
    left = size
    for name in names:
        need = _length(name[0])
        if need > left:
            blocks.append([])
            left = size
        blocks[-1].append(name)
        left -= need
    return blocks


def _block(names: Sequence[Name], size: int) -> bytes:
    data = bytearray()
    for name, inode, kind in names[:-1]:
        length = _length(name)
        data += DIRENT.pack(inode, length, len(name), kind) + name.ljust(length - DIRENT.size, b"\0")
    name, inode, kind = names[-1]
    data += DIRENT.pack(inode, size - len(data), len(name), kind) + name
    return bytes(data.ljust(size, b"\0"))


def _length(name: bytes) -> int:
    return DIRENT.size + len(name) + 3 & ~3


def _damaged(seen: str) -> ImageError:
    return ImageError("a directory is damaged", expected="entries as ext4's directory.rst describes", seen=seen)
