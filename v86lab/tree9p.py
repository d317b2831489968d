"""A 9p tree: what the guest sees of files that the host has, as a manifest; the files' bytes are blobs of the Store.

The engine's 9P2000.L server (``js/src/core/ninep``) serves it; `v86lab.rootfs.ninep` writes it. (v86's own 9p loads an
fs.json that knows neither device numbers nor sub-second times, extended attributes, or names that are no UTF-8:
``docs/ninep.md`` has the comparison.) The manifest is JSON, most often in a zstd frame::

    {"format": "v86lab-tree", "version": 1, "chunk": 262144, "size": <bytes of the files>,
     "inodes": [[mode, uid, gid, seconds, nanoseconds, body], ...],        inode 0 is the root
     "names": [[inode of the directory, name, inode], ...]}

Each directory stands before what lies in it, and names of one directory are sorted by their bytes: the order in which
the guest lists them. Inodes are numbered by their first names; two names of one inode are hard links. An inode with
extended attributes has a seventh member, ``[[name, value in base64], ...]``. The body is

* of a regular file ``[size, chunk, ...]``: the chunks are of 256 KiB, the last one shorter; each is the digest of a
  blob, with a ``z`` before it when the blob is a zstd frame of the chunk, or null for zeros;
* of a symbolic link its target; of a device ``[major, minor]``; of anything else null.

Names and targets are UTF-8; a byte that is not has U+DC00 added to it (Python's surrogateescape). Equal trees give
equal manifests. A manifest may come from a stranger: whoever loads one has it checked as a whole, without recursion.
"""

from __future__ import annotations

import json
import reprlib
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import zstandard

from v86lab.errors import ImageError
from v86lab.formats import KIB, MIB, size_text
from v86lab.store import Store

FORMAT, VERSION = "v86lab-tree", 1
CHUNK = 256 * KIB
"""Bytes of a chunk: what a guest fetches at least of a file. A megabyte costs a sixth more bytes on a Debian's boot."""

_MOST_JSON = 256 * MIB
_MOST_SIZE = 1 << 53
_HEX = frozenset("0123456789abcdef")
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1


@dataclass(frozen=True)
class Manifest:
    """A manifest whose rows have been checked.

    Attributes
    ----------
    inodes, names : list of list
        As in the JSON.
    """

    inodes: list[list[Any]]
    names: list[list[Any]]

    @classmethod
    def load(cls, digest: str, store: Store) -> Manifest:
        """Read a manifest from the Store.

        Raises
        ------
        ImageError
            It is no manifest, or a damaged one.
        StoreError
            It is not in the Store.
        """
        if store.size(digest) > _MOST_JSON:
            raise ImageError("this 9p tree is too big", expected=f"at most {size_text(_MOST_JSON)}", seen="more")
        return cls.parse(store.get(digest))

    @classmethod
    def parse(cls, raw: bytes, new: int = 0) -> Manifest:
        """Read a manifest from its bytes.

        Parameters
        ----------
        raw : bytes
            JSON, or a zstd frame of it.
        new : int
            How many chunks may be named ``n0``, ``n1``... because they come beside the manifest.
        """
        try:
            plain = json.loads(unpacked(raw, _MOST_JSON) if raw.startswith(_ZSTD) else raw)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ImageError):
                raise
            raise ImageError("this is no 9p tree", expected="JSON", seen=f"{error!s:.80}") from error
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT or plain.get("version") != VERSION:
            raise ImageError(
                "this is no 9p tree",
                expected=f'a JSON object with "format": "{FORMAT}" and "version": {VERSION}',
                seen=type(plain).__name__,
                hint="one of an earlier release has to be made anew: share the folder again",
            )
        inodes, names = plain.get("inodes"), plain.get("names")
        if plain.get("chunk") != CHUNK or not isinstance(inodes, list) or not isinstance(names, list):
            raise _damaged(plain)
        for row in inodes:
            _check_inode(row, new)
        _check_names(inodes, names)
        return cls(inodes, names)

    def chunks(self) -> Iterator[str]:
        """The chunks that are not zeros, as they are named."""
        for row in self.inodes:
            if stat.S_ISREG(row[0]):
                yield from (chunk for chunk in row[5][1:] if chunk is not None)


def encode(inodes: list[list[Any]], names: list[list[Any]]) -> bytes:
    """Write a manifest as JSON."""
    size = sum(row[5][0] for row in inodes if stat.S_ISREG(row[0]))
    plain = {"format": FORMAT, "version": VERSION, "chunk": CHUNK, "size": size, "inodes": inodes, "names": names}
    return json.dumps(plain, separators=(",", ":")).encode("ascii")


def digests_of(digest: str, store: Store) -> frozenset[str]:
    """The blobs that a tree's files consist of.

    Examples
    --------
    >>> row = [0o100644, 0, 0, 0, 0, [5, "d" * 64]]
    >>> store = Store()
    >>> manifest = store.put(encode([[0o40755, 0, 0, 0, 0, None], row], [[0, "a", 1]]))
    >>> digests_of(manifest, store) == {"d" * 64}
    True
    """
    return frozenset(chunk.removeprefix("z") for chunk in Manifest.load(digest, store).chunks())


def unpacked(data: bytes, most: int) -> bytes:
    """The bytes of a zstd frame, at most so many.

    Raises
    ------
    ImageError
        It is damaged, or longer.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= most:
            raise ImageError("a zstd frame is damaged", expected=f"at most {size_text(most)}", seen=f"{size} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=most)
    except zstandard.ZstdError as error:
        raise ImageError("a zstd frame is damaged", seen=str(error)) from error


def _check_inode(row: object, new: int) -> None:
    if not isinstance(row, list) or len(row) not in (6, 7) or not all(type(number) is int for number in row[:5]):
        raise _damaged(row)
    mode, _, _, _, nanoseconds, body = row[:6]
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFREG:
        sound = isinstance(body, list) and bool(body) and type(body[0]) is int and 0 <= body[0] < _MOST_SIZE
        sound = sound and len(body) - 1 == -(-body[0] // CHUNK) and all(_is_chunk(one, new) for one in body[1:])
    elif kind == stat.S_IFLNK:
        sound = isinstance(body, str)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        sound = isinstance(body, list) and len(body) == 2 and all(type(number) is int for number in body)
    else:
        sound = body is None
    if not sound or not 0 <= nanoseconds < 10**9 or (len(row) == 7 and not _are_xattrs(row[6])):
        raise _damaged(row)


def _is_chunk(chunk: object, new: int) -> bool:
    if chunk is None:
        return True
    if not isinstance(chunk, str):
        return False
    if chunk.startswith("n"):
        return chunk[1:].isdecimal() and chunk.isascii() and int(chunk[1:]) < new
    digest = chunk.removeprefix("z")
    return len(digest) == 64 and _HEX.issuperset(digest)


def _are_xattrs(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    )


def _check_names(inodes: list[list[Any]], names: list[list[Any]]) -> None:
    if not inodes or not stat.S_ISDIR(inodes[0][0]):
        raise _damaged("a tree without a root")
    placed = {0}
    seen: set[tuple[int, str]] = set()
    for row in names:
        if not (isinstance(row, list) and len(row) == 3 and type(row[0]) is int and type(row[2]) is int):
            raise _damaged(row)
        folder, name, number = row
        sound = isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\0"} & set(name)
        if not sound or folder not in placed or not stat.S_ISDIR(inodes[folder][0]) or (folder, name) in seen:
            raise _damaged(row)
        if not 0 < number < len(inodes) or (number in placed and stat.S_ISDIR(inodes[number][0])):
            raise _damaged(row)
        placed.add(number)
        seen.add((folder, name))
    if len(placed) != len(inodes):
        raise _damaged("an inode without a name")


def _damaged(seen: object) -> ImageError:
    return ImageError("this 9p tree is damaged", expected="what v86lab.tree9p describes", seen=reprlib.repr(seen))
