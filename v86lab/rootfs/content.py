"""The bytes of a regular file, wherever they are: they stream from there and are never held whole.

The rules:

* a `Content` gives its bytes as pieces of `PIECE` bytes, the last one shorter, so that every writer sees the same cuts;
* a piece that is known to be all zeros without being read is a hole, given as None: sparse files stay sparse;
* a file of this computer that has changed since it was looked at is an `ImageError`, never other bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from v86lab.atomic import Stamp, stamp_of
from v86lab.errors import ImageError
from v86lab.store import Store

PIECE = 1 << 20
"""Bytes of a piece: a whole number of a 9p tree's chunks."""

_ZEROS = bytes(PIECE)


class Content(ABC):
    """What a regular file holds.

    Attributes
    ----------
    size : int
        Bytes.
    """

    size: int

    @abstractmethod
    def pieces(self) -> Iterator[bytes | None]:
        """The bytes in pieces of `PIECE`, the last one shorter; None for a hole, as long as its piece would be."""

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where bytes are that are not known to be zeros, in order: offset and length; nothing is read for it."""
        if self.size:
            yield 0, self.size

    def read(self) -> bytes:
        """All bytes at once; for files that are known to be small."""
        return b"".join(self.solid())

    def solid(self) -> Iterator[bytes]:
        """The pieces, with holes as zeros."""
        left = self.size
        for piece in self.pieces():
            length = min(left, PIECE)
            yield _ZEROS[:length] if piece is None else piece
            left -= length

    def digest(self) -> str:
        """The sha256 of the bytes, in hex."""
        hasher = hashlib.sha256()
        for piece in self.solid():
            hasher.update(piece)
        return hasher.hexdigest()


@dataclass(frozen=True)
class Inline(Content):
    """Bytes that are in memory already.

    Examples
    --------
    >>> Inline(b"hello").size, list(Inline(b"hello").pieces())
    (5, [b'hello'])
    """

    data: bytes

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes."""
        return len(self.data)

    def pieces(self) -> Iterator[bytes | None]:
        for start in range(0, len(self.data), PIECE):
            yield self.data[start : start + PIECE]


@dataclass(frozen=True)
class Blob(Content):
    """A blob of a Store, read where it lies.

    Examples
    --------
    >>> store = Store()
    >>> Blob(store, store.put(b"hello"), 5).read()
    b'hello'
    """

    store: Store
    blob: str
    size: int

    def pieces(self) -> Iterator[bytes | None]:
        source = Stored(self.store, self.blob)
        with source.open() as file:
            yield from _sequential(file, self.size, source.name)

    def digest(self) -> str:
        return self.blob


@dataclass(frozen=True)
class Source:
    """A file of this computer that contents lie in, and what it was when it was looked at."""

    path: Path
    stamp: Stamp

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Source:
        """Look at a file; a link is followed now, and never again.

        Raises
        ------
        OSError
        """
        real = Path(path).resolve()
        return cls(real, stamp_of(real.stat()))

    @property
    def name(self) -> str:
        """For errors."""
        return f"{str(self.path)!a}"

    def open(self) -> BinaryIO:
        """Open it, if it is still what it was.

        Raises
        ------
        ImageError
            It has changed, or is gone.
        """
        what = f"cannot read {self.name}"
        try:
            descriptor = os.open(
                self.path,
                os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0),
            )
        except OSError as error:
            raise ImageError(
                what, expected="the file that was there before", seen=error.strerror or str(error)
            ) from error
        try:
            self.check(descriptor)
        except ImageError:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb", buffering=0)

    def check(self, descriptor: int) -> None:
        """Raise an `ImageError` if an open file is not what it was."""
        if stamp_of(os.fstat(descriptor)) != self.stamp:
            raise ImageError(
                f"cannot read {self.name}",
                expected="the file as it was when the tree was made",
                seen="a changed one",
                hint="make the tree anew",
            )


@dataclass(frozen=True)
class Stored:
    """A blob that contents lie in. (Its file's stamp tells nothing: a Store makes blobs young.)"""

    store: Store
    blob: str

    @property
    def name(self) -> str:
        """For errors."""
        return f"the blob {self.blob[:12]}"

    def open(self) -> BinaryIO:
        """Open it, verified.

        Raises
        ------
        StoreError
        """
        return self.store.open(self.blob)

    def check(self, descriptor: int) -> None:
        """Blobs do not change."""


class _Opened:
    """The file that was read last, for contents that are read one after the other."""

    def __init__(self) -> None:
        self._source: Source | Stored | None = None
        self._file: BinaryIO | None = None

    @contextmanager
    def open(self, source: Source | Stored) -> Iterator[BinaryIO]:
        if self._file is None or source is not self._source:
            self.check()
            self.close()
            self._source, self._file = source, source.open()
        yield self._file

    def check(self) -> None:
        if self._file is not None and self._source is not None:
            self._source.check(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


_opened: ContextVar[_Opened | None] = ContextVar("_opened", default=None)


@contextmanager
def one_by_one() -> Iterator[None]:
    """Within it, contents are read one after the other: a file that many of them lie in is opened once.

    Raises
    ------
    ImageError
        At the end, if that file has changed meanwhile.
    """
    opened = _Opened()
    token = _opened.set(opened)
    try:
        yield
        opened.check()
    finally:
        _opened.reset(token)
        opened.close()


@dataclass(frozen=True)
class Extents(Content):
    """Parts of a file of this computer: a member of an archive, a file of a disk image, a file by itself.

    Attributes
    ----------
    source : Source or Stored
    size : int
        Bytes.
    extents : sequence of (int, int, int)
        Where the bytes lie, in order: offset in the content, offset in the source, length. Between them are holes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "disk")
    ...     _ = path.write_bytes(b"..hello world")
    ...     Extents(Source.of(path), 8, ((0, 2, 5), (7, 12, 1))).read()
    b'hello\\x00\\x00d'
    """

    source: Source | Stored
    size: int
    extents: Sequence[tuple[int, int, int]]

    @classmethod
    def whole(cls, path: str | os.PathLike[str]) -> Extents:
        """A file by itself, with the holes that its file system tells of.

        Raises
        ------
        OSError
        """
        return cls.all_of(Source.of(path))

    @classmethod
    def all_of(cls, source: Source) -> Extents:
        """As `whole`, of a file that was looked at.

        Raises
        ------
        ImageError
            It has changed.
        """
        size = source.stamp[2]
        if size <= PIECE or not hasattr(os, "SEEK_DATA"):
            return cls(source, size, ((0, 0, size),) if size else ())
        found = []
        with source.open() as file:
            at = 0
            while at < size:
                try:
                    start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:  # ENXIO: nothing but a hole up to the end
                    break
                at = min(size, os.lseek(file.fileno(), start, os.SEEK_HOLE))
                found.append((start, start, at - start))
        return cls(source, size, tuple(found))

    def spans(self) -> Iterator[tuple[int, int]]:
        for inside, _, length in self.extents:
            yield inside, length

    def pieces(self) -> Iterator[bytes | None]:
        if not self.size:
            return
        opened = _opened.get()
        with self.source.open() if opened is None else opened.open(self.source) as file:
            if len(self.extents) == 1 and self.extents[0][2] == self.size:
                file.seek(self.extents[0][1])
                yield from _sequential(file, self.size, self.source.name)
                return
            yield from self._scattered(file)

    def _scattered(self, file: BinaryIO) -> Iterator[bytes | None]:
        extents, n = self.extents, 0
        for start in range(0, self.size, PIECE):
            end = min(self.size, start + PIECE)
            while n < len(extents) and extents[n][0] + extents[n][2] <= start:
                n += 1
            piece = None
            at = n
            while at < len(extents) and extents[at][0] < end:
                inside, outside, length = extents[at]
                low, high = max(start, inside), min(end, inside + length)
                piece = bytearray(end - start) if piece is None else piece
                file.seek(outside + low - inside)
                piece[low - start : high - start] = _exactly(file, high - low, self.source.name)
                at += 1
            yield None if piece is None else bytes(piece)


def _sequential(file: BinaryIO | io.FileIO, size: int, name: str) -> Iterator[bytes]:
    for start in range(0, size, PIECE):
        yield _exactly(file, min(PIECE, size - start), name)


def _exactly(file: BinaryIO | io.FileIO, length: int, name: str) -> bytes:
    parts = []
    left = length
    while left:
        part = file.read(left)
        if not part:
            raise ImageError(f"{name} is cut short", expected=f"{left} more bytes", seen="its end")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
