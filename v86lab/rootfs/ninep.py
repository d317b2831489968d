"""Trees as 9p manifests (`v86lab.tree9p`), and back."""

from __future__ import annotations

import base64
import binascii
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import zstandard

from v86lab import tree9p
from v86lab.errors import ImageError
from v86lab.store import Store
from v86lab.tree9p import CHUNK

from .content import PIECE, Content, one_by_one
from .draft import Draft
from .inode import Inode
from .names import as_bytes
from .tree import RootFS

LEVEL = 3
_WORTH = 0.95  # a chunk that zstd makes no smaller than this stays as it is
_BUNDLE_BYTES = 1 << 20
_BUNDLE_CHUNKS = 64


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

    def spans(self) -> Iterator[tuple[int, int]]:
        for number, chunk in enumerate(self.chunks):
            if chunk is not None:
                yield number * CHUNK, min(CHUNK, self.size - number * CHUNK)

    def pieces(self) -> Iterator[bytes | None]:
        for start in range(0, self.size, PIECE):
            chunks = self.chunks[start // CHUNK : (start + PIECE) // CHUNK]
            lengths = [min(CHUNK, self.size - at) for at in range(start, min(self.size, start + PIECE), CHUNK)]
            parts = [
                bytes(length) if chunk is None else self._chunk(chunk, length)
                for chunk, length in zip(chunks, lengths, strict=True)
            ]
            yield b"".join(parts) if any(chunks) else None

    def _chunk(self, chunk: str, length: int) -> bytes:
        data = self.store.get(chunk.removeprefix("z"))
        if chunk.startswith("z"):
            data = tree9p.unpacked(data, length)
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
    inodes: list[list[Any]] = []
    names: list[list[Any]] = []
    numbers: dict[bytes, int] = {}  # of the directories
    with one_by_one(), _Packer(store, compress) as packer:
        for entry in tree.entries():
            if entry.number == len(inodes):
                inodes.append(_row(entry.inode, store, packer))
            if entry.inode.is_directory:
                numbers[entry.path] = entry.number
            if entry.path:
                folder, _, name = entry.path.rpartition(b"/")
                names.append([numbers[folder], _text(name), entry.number])
    data = tree9p.encode(inodes, names)
    return store.put(zstandard.ZstdCompressor(LEVEL).compress(data) if compress else data)


def pack(pieces: Sequence[bytes], store: Store) -> list[str | None]:
    """Put pieces of files into the Store; gives their names as chunks of a manifest."""
    chunks: list[str | None] = []
    with _Packer(store, compress=True) as packer:
        for piece in pieces:
            packer.add(piece, chunks)
    return chunks


class _Packer:
    """Puts chunks into the Store, packed on all cores; where a chunk ends up is filled in when it is there.

    Chunks are handed to the threads by the bundle, for a task for each small file would cost more than the file. Only
    one thread writes: two would wait for each other in the file system.
    """

    def __init__(self, store: Store, compress: bool) -> None:
        self._store = store
        self._compress = compress
        self._local = threading.local()
        self._cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._cores)
        self._bundle: list[bytes] = []
        self._bytes = 0
        self._places: deque[tuple[list[Any], int]] = deque()
        self._under_way: deque[Future[list[tuple[bytes, bool]]]] = deque()

    def __enter__(self) -> _Packer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._hand_over()
                while self._under_way:
                    self._finish()
        finally:
            self._threads.shutdown(cancel_futures=True)

    def add(self, chunk: bytes | None, body: list[Any]) -> None:
        """Have the name of a chunk appended to a body."""
        body.append(None)
        if chunk is None or (chunk[:1] == b"\0" and not chunk.strip(b"\0")):
            return
        if not self._compress:
            body[-1] = self._store.put(chunk, sync=False)
            return
        self._places.append((body, len(body) - 1))
        self._bundle.append(chunk)
        self._bytes += len(chunk)
        if self._bytes >= _BUNDLE_BYTES or len(self._bundle) >= _BUNDLE_CHUNKS:
            self._hand_over()

    def _hand_over(self) -> None:
        if len(self._under_way) > 2 * self._cores:
            self._finish()
        self._under_way.append(self._threads.submit(self._pack, self._bundle))
        self._bundle, self._bytes = [], 0

    def _finish(self) -> None:
        for data, packed in self._under_way.popleft().result():
            body, at = self._places.popleft()
            body[at] = ("z" if packed else "") + self._store.put(data, sync=False)

    def _pack(self, bundle: list[bytes]) -> list[tuple[bytes, bool]]:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:  # one may serve one thread at a time
            compressor = self._local.compressor = zstandard.ZstdCompressor(LEVEL)
        found = []
        for chunk in bundle:
            packed = compressor.compress(chunk)
            found.append((packed, True) if len(packed) < len(chunk) * _WORTH else (chunk, False))
        return found


def _row(inode: Inode, store: Store, packer: _Packer) -> list[Any]:
    body: Any = None
    if inode.is_file:
        body = [inode.size]
        if isinstance(inode.content, Chunked) and inode.content.store.home == store.home:
            body += inode.content.chunks  # they are there already
        else:
            for piece in inode.content.pieces():
                length = min(PIECE, inode.size - (len(body) - 1) * CHUNK)
                for at in range(0, length, CHUNK):
                    packer.add(None if piece is None else piece[at : at + CHUNK], body)
    elif inode.is_link:
        body = _text(inode.target)
    elif inode.is_device:
        body = list(inode.device)
    seconds, nanoseconds = divmod(inode.mtime, 10**9)
    row: list[Any] = [inode.mode, inode.uid, inode.gid, seconds, nanoseconds, body]
    if inode.xattrs:
        row.append([[_text(name), base64.b64encode(value).decode("ascii")] for name, value in inode.xattrs])
    return row


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def read(digest: str, store: Store, name: str = "9p tree") -> RootFS:
    """The tree that a manifest describes.

    Raises
    ------
    ImageError
        It is no manifest, or a damaged one.
    StoreError
        It is not in the Store.
    """
    return tree_of(tree9p.Manifest.load(digest, store), store, name)


def tree_of(manifest: tree9p.Manifest, store: Store, name: str, new: Sequence[str | None] = ()) -> RootFS:
    """The tree that a checked manifest describes.

    Parameters
    ----------
    manifest : Manifest
    store : Store
        Where its chunks are.
    name : str
    new : sequence of (str or None)
        What the chunks ``n0``, ``n1``... are.
    """
    draft = Draft(name)
    inodes = [_inode(row, store, new) for row in manifest.inodes]
    draft.add(b"", inodes[0])
    places: dict[int, bytes] = {0: b""}
    for folder, text, number in manifest.names:
        part = as_bytes(text)
        path = places[folder] + b"/" + part if places[folder] else part
        if number in places:
            draft.hard_link(path, places[number])
        else:
            places[number] = path
            draft.add(path, inodes[number])
    return RootFS(draft, name)


def _inode(row: list[Any], store: Store, new: Sequence[str | None]) -> Inode:
    mode, uid, gid, seconds, nanoseconds, body, *xattrs = row
    parts: dict[str, Any] = {}
    if isinstance(body, str):
        parts["target"] = as_bytes(body)
    elif isinstance(body, list) and mode & 0o170000 == 0o100000:
        chunks = (new[int(one[1:])] if one is not None and one.startswith("n") else one for one in body[1:])
        parts["content"] = Chunked(store, body[0], tuple(chunks))
    elif isinstance(body, list):
        parts["device"] = (body[0], body[1])
    if xattrs:
        try:
            parts["xattrs"] = tuple((as_bytes(key), base64.b64decode(value, validate=True)) for key, value in xattrs[0])
        except binascii.Error as error:
            raise ImageError("an extended attribute is damaged", expected="base64", seen=str(error)) from None
    return Inode(mode, uid, gid, seconds * 10**9 + nanoseconds, **parts)
