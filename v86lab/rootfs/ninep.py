"""A tree as the guest sees it over 9p: a manifest, and the bytes of its files as blobs of the Store.

The engine's 9P2000.L server (``js/src/core/ninep``) serves it. (v86's own 9p loads an fs.json that knows neither device
numbers nor sub-second times, extended attributes, or names that are no UTF-8: `docs/ninep.md` has the comparison.) The
manifest is JSON, most often in a zstd frame::

    {"format": "v86lab-tree", "version": 1, "chunk": 1048576, "size": <bytes of the files>,
     "inodes": [[mode, uid, gid, seconds, nanoseconds, body], ...],        inode 0 is the root
     "names": [[inode of the directory, name, inode], ...]}

in the order of `RootFS.entries`: each directory before what lies in it, by the bytes of the names, which is the order
in which the guest lists them. Inodes are numbered by their first names; two names of one inode are hard links. An inode
with extended attributes has a seventh member, ``[[name, value in base64], ...]``. The body is

* of a regular file ``[size, chunk, ...]``: the chunks are of 1 MiB, the last one shorter; each is the digest of a blob,
  with a ``z`` before it when the blob is a zstd frame of the chunk, or null for zeros;
* of a symbolic link its target; of a device ``[major, minor]``; of anything else null.

Names and targets are UTF-8; a byte that is not has U+DC00 added to it (Python's surrogateescape). Equal trees give
equal manifests. A manifest may come from a stranger: `read` checks all of it.
"""

from __future__ import annotations

import base64
import binascii
import json
import reprlib
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import zstandard

from v86lab.errors import ImageError
from v86lab.formats import MIB, size_text
from v86lab.store import Store

from .content import PIECE, Content
from .draft import Draft
from .inode import Inode
from .names import as_bytes
from .tree import RootFS

FORMAT, VERSION = "v86lab-tree", 1
LEVEL = 3
_MOST_JSON = 256 * MIB
_WORTH = 0.95  # a chunk that zstd makes no smaller than this stays as it is
_HEX = frozenset("0123456789abcdef")
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1


@dataclass(frozen=True)
class Chunked(Content):
    """A file of a 9p tree: chunks in the Store.

    Attributes
    ----------
    chunks : tuple of (str or None)
        As in the manifest.
    """

    store: Store
    size: int
    chunks: tuple[str | None, ...]

    def pieces(self) -> Iterator[bytes | None]:
        left = self.size
        for chunk in self.chunks:
            length = min(left, PIECE)
            yield None if chunk is None else self._piece(chunk, length)
            left -= length

    def _piece(self, chunk: str, length: int) -> bytes:
        data = self.store.get(chunk.removeprefix("z"))
        if chunk.startswith("z"):
            data = _unpacked(data, length)
        if len(data) != length:
            raise ImageError("a chunk of a 9p tree is damaged", expected=f"{length} bytes", seen=f"{len(data)}")
        return data


def write(tree: RootFS, store: Store, compress: bool = True) -> str:
    """Put a tree into the Store for 9p.

    Parameters
    ----------
    tree : RootFS
    store : Store
    compress : bool
        Pack chunks that become smaller by it with zstd.

    Returns
    -------
    str
        Digest of the manifest.

    Examples
    --------
    >>> from v86lab import rootfs
    >>> store = Store()
    >>> tree = rootfs.of({"/etc/motd": "hello"})
    >>> read(write(tree, store), store).digest == tree.digest
    True
    """
    packer = zstandard.ZstdCompressor(level=LEVEL) if compress else None
    inodes: list[list[Any]] = []
    names: list[list[Any]] = []
    numbers = {entry.path: entry.number for entry in tree.entries()}
    for entry in tree.entries():
        if entry.number == len(inodes):
            inodes.append(_inode_row(entry.inode, store, packer))
        if entry.path:
            folder, _, name = entry.path.rpartition(b"/")
            names.append([numbers[folder], _text(name), entry.number])
    plain = {"format": FORMAT, "version": VERSION, "chunk": PIECE, "size": tree.size, "inodes": inodes, "names": names}
    data = json.dumps(plain, separators=(",", ":")).encode("ascii")
    return store.put(packer.compress(data) if packer is not None else data)


def _inode_row(inode: Inode, store: Store, packer: zstandard.ZstdCompressor | None) -> list[Any]:
    body: Any = None
    if inode.is_file:
        body = [inode.size, *(_chunk(piece, store, packer) for piece in inode.content.pieces())]
    elif inode.is_link:
        body = _text(inode.target)
    elif inode.is_device:
        body = list(inode.device)
    seconds, nanoseconds = divmod(inode.mtime, 10**9)
    row: list[Any] = [inode.mode, inode.uid, inode.gid, seconds, nanoseconds, body]
    if inode.xattrs:
        row.append([[_text(name), base64.b64encode(value).decode("ascii")] for name, value in inode.xattrs])
    return row


def _chunk(piece: bytes | None, store: Store, packer: zstandard.ZstdCompressor | None) -> str | None:
    if piece is None or not piece.strip(b"\0"):
        return None
    if packer is not None:
        packed = packer.compress(piece)
        if len(packed) < len(piece) * _WORTH:
            return "z" + store.put(packed)
    return store.put(piece)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _unpacked(data: bytes, most: int) -> bytes:
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= most:
            raise ImageError("a zstd frame is damaged", expected=f"at most {size_text(most)}", seen=f"{size} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=most)
    except zstandard.ZstdError as error:
        raise ImageError("a zstd frame is damaged", seen=str(error)) from error


# ---- reading --------------------------------------------------------------------------------------------------------


def read(digest: str, store: Store, name: str = "9p tree") -> RootFS:
    """The tree that a manifest describes.

    Raises
    ------
    ImageError
        It is no manifest, or a damaged one.
    StoreError
        It is not in the Store.
    """
    return parse(_load(digest, store), store, name)


def digests_of(digest: str, store: Store) -> frozenset[str]:
    """The blobs that a tree's files consist of; the manifest is checked on the way.

    Examples
    --------
    >>> from v86lab import rootfs
    >>> store = Store()
    >>> len(digests_of(write(rootfs.of({"a": "same", "b": "same"}), store), store))
    1
    """
    tree = read(digest, store)
    contents = (entry.inode.content for entry in tree.entries())
    return frozenset(
        chunk.removeprefix("z")
        for content in contents
        if isinstance(content, Chunked)
        for chunk in content.chunks
        if chunk is not None
    )


def _load(digest: str, store: Store) -> object:
    if store.size(digest) > _MOST_JSON:
        raise ImageError("this 9p tree is too big", expected=f"at most {size_text(_MOST_JSON)}", seen="more")
    raw = store.get(digest)
    try:
        return json.loads(_unpacked(raw, _MOST_JSON) if raw.startswith(_ZSTD) else raw)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("this is no 9p tree", expected="JSON", seen=f"{error!s:.80}") from error


def parse(plain: object, store: Store, name: str = "9p tree") -> RootFS:
    """The tree that a manifest's plain JSON values describe; all of it is checked."""
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT or plain.get("version") != VERSION:
        raise ImageError(
            "this is no 9p tree",
            expected=f'a JSON object with "format": "{FORMAT}", version {VERSION}',
            seen=f"{type(plain).__name__}",
            hint="one of an earlier release is made anew: share the folder again",
        )
    rows, names = plain.get("inodes"), plain.get("names")
    if plain.get("chunk") != PIECE or not isinstance(rows, list) or not isinstance(names, list) or not rows:
        raise _damaged(plain)
    inodes = [_inode(row, store) for row in rows]
    draft = Draft(name)
    draft.add(b"", inodes[0])
    places: dict[int, bytes] = {0: b""}
    for row in names:
        if not (isinstance(row, list) and len(row) == 3 and type(row[0]) is int and type(row[2]) is int):
            raise _damaged(row)
        folder, text, number = row
        part = as_bytes(text)
        if folder not in places or not inodes[folder].is_directory or not 0 < number < len(inodes):
            raise _damaged(row)
        if part in (b"", b".", b"..") or b"/" in part:
            raise _damaged(row)
        path = places[folder] + b"/" + part if places[folder] else part
        if path in draft.names:
            raise _damaged(row)
        if number not in places:
            places[number] = path
            draft.add(path, inodes[number])
        else:
            draft.hard_link(path, places[number])
    if len(places) != len(inodes):
        raise _damaged("an inode without a name")
    return RootFS(draft, name)


def _inode(row: object, store: Store) -> Inode:
    if not isinstance(row, list) or len(row) not in (6, 7) or not all(type(number) is int for number in row[:5]):
        raise _damaged(row)
    mode, uid, gid, seconds, nanoseconds, body = row[:6]
    if not 0 <= nanoseconds < 10**9:
        raise _damaged(row)
    parts: dict[str, Any] = {}
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFREG:
        parts["content"] = _file(body, store)
    elif kind == stat.S_IFLNK:
        parts["target"] = as_bytes(body)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        if not (isinstance(body, list) and len(body) == 2 and all(type(number) is int for number in body)):
            raise _damaged(row)
        parts["device"] = (body[0], body[1])
    elif body is not None:
        raise _damaged(row)
    if len(row) == 7:
        try:
            parts["xattrs"] = tuple((as_bytes(key), base64.b64decode(value, validate=True)) for key, value in row[6])
        except (TypeError, ValueError, binascii.Error):
            raise _damaged(row) from None
    return Inode(mode, uid, gid, seconds * 10**9 + nanoseconds, **parts)


def _file(body: object, store: Store) -> Chunked:
    if not isinstance(body, list) or not body or type(body[0]) is not int or not 0 <= body[0] < 1 << 53:
        raise _damaged(body)
    size, *chunks = body
    if len(chunks) != -(-size // PIECE):
        raise _damaged(body)
    for chunk in chunks:
        plain = chunk.removeprefix("z") if isinstance(chunk, str) else None
        if chunk is not None and (plain is None or len(plain) != 64 or not _HEX.issuperset(plain)):
            raise _damaged(body)
    return Chunked(store, size, tuple(chunks))


def _damaged(seen: object) -> ImageError:
    return ImageError("this 9p tree is damaged", expected="what v86lab.rootfs.ninep describes", seen=reprlib.repr(seen))
