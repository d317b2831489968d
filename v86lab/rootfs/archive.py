"""An archive from anywhere, as bytes that can be read at any place: what the readers of tar and cpio stand on.

The rules:

* contents decide, not names: gzip, xz, zstd and bzip2 are recognised, and unpacked as a stream, once, into a blob of
  the Store;
* an uncompressed file stays where it is; a stream becomes a blob;
* what comes from a stranger is bounded while it is unpacked, in bytes and in memory: a bomb is an `ImageError`, and
  leaves nothing behind.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

import zstandard

from v86lab.atomic import replacing
from v86lab.errors import ImageError, StoreError
from v86lab.formats import MIB, describe, quoted, size_text, wrapper
from v86lab.store import CHUNK, Store

from .content import Source, Stored, one_by_one

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD = 64 << 10
"""Bytes at an archive's beginning that tell what it is."""

Given: TypeAlias = str | os.PathLike[str] | BinaryIO
Target: TypeAlias = str | os.PathLike[str] | BinaryIO
Looks: TypeAlias = Callable[[bytes], bool]

_XZ_MEMORY = 512 * MIB  # a dictionary may be 4 GiB; xz -9 takes 65 MiB
_ZSTD_STEP = 1 << 10
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class _Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Archive:
    """An archive at rest.

    Attributes
    ----------
    kind : str
        "tar" or "cpio".
    name : str
        What a tree made of it is called.
    what : str
        For errors: "the tar 'base.tar.xz'".
    source : Source or Stored
        Where its bytes are, unpacked.
    size : int
        How many there are.
    """

    kind: str
    name: str
    what: str
    source: Source | Stored
    size: int

    @classmethod
    def of(cls, given: Given, kind: str, looks: Looks, store: Store | None, name: str | None, most: int) -> Archive:
        """Find an archive's bytes, and unpack them where that has to be.

        Parameters
        ----------
        given : path or binary file object
        kind : str
        looks : callable
            Whether some first bytes look like such an archive.
        store : Store, optional
            Where to unpack to; the default one.
        name : str, optional
        most : int
            Bound on the bytes when unpacked.

        Raises
        ------
        ImageError
            It cannot be read, is something else, is damaged, or is too big.
        StoreFull, StoreReadOnly
        """
        if isinstance(given, str | os.PathLike):
            path = os.fspath(given)
            name = name or Path(path).name
            what = f"the {kind} {quoted(path)}"
            try:
                if Path(path).is_file():
                    return cls._of_file(Source.of(path), kind, looks, store, name, what, most)
                with Path(path).open("rb") as pipe:
                    return cls._of_stream(pipe, kind, looks, store, name, what, most)
            except StoreError:  # an OSError too, but not about this file
                raise
            except (OSError, ValueError) as error:
                if isinstance(error, ImageError):
                    raise
                seen = getattr(error, "strerror", None) or str(error)
                raise ImageError(f"cannot read {what}", expected="a file", seen=seen) from error
        if not hasattr(given, "read"):
            raise ImageError(
                f"cannot read a {kind}", expected="a path or a binary file object", seen=type(given).__name__
            )
        title = getattr(given, "name", None)
        title = title if isinstance(title, str) else None
        what = f"the {kind} {quoted(title)}" if title else f"this {kind}"
        return cls._of_stream(given, kind, looks, store, name or title or kind, what, most)

    @classmethod
    def _of_file(
        cls, source: Source, kind: str, looks: Looks, store: Store | None, name: str, what: str, most: int
    ) -> Archive:
        with source.open() as file:
            head = file.read(HEAD)
            if _unpacker(head) is None:
                _refuse_unless(looks, head, kind, what)
                return cls(kind, name, what, source, source.stamp[2])
            file.seek(0)
            return cls._of_stream(file, kind, looks, store, name, what, most)

    @classmethod
    def _of_stream(
        cls, stream: _Reader, kind: str, looks: Looks, store: Store | None, name: str, what: str, most: int
    ) -> Archive:
        given = io.BufferedReader(_Stream(_chunks(stream, what)), CHUNK)
        unpacker = _unpacker(given.peek(HEAD))
        found = given
        if unpacker is not None:
            found = io.BufferedReader(_Stream(_unpacked(unpacker(given), what)), CHUNK)
        _refuse_unless(looks, found.peek(HEAD)[:HEAD], kind, what)
        store = store or Store()
        digest = store.put(io.BufferedReader(_Stream(_bounded(found, what, most)), CHUNK))
        return cls(kind, name, what, Stored(store, digest), store.size(digest))

    def packed_rest(self, at: int, looks: Looks, store: Store | None, most: int) -> Archive | None:
        """What is packed from some place on to the end, unpacked; None when nothing known is there."""
        with self.source.open() as file:
            file.seek(at)
            if _unpacker(file.read(16)) is None:
                return None
            file.seek(at)
            return self._of_stream(file, self.kind, looks, store, self.name, self.what, most)


def _refuse_unless(looks: Looks, head: bytes, kind: str, what: str) -> None:
    if looks(head):
        return
    wrapped = wrapper(head)
    seen = describe(head).partition(",")[0]
    hint = wrapped[1] if wrapped else None
    if wrapped is None and seen.endswith(" data") and seen != "unknown data":
        hint = "this packing is not supported: unpack it first"
    raise ImageError(
        f"{what} is no {kind} archive",
        expected=f"a {kind}, plain or packed by gzip, xz, zstd or bzip2",
        seen=seen,
        hint=hint,
    )


class _Stream(io.RawIOBase):
    """Chunks as a stream; it cannot be rewound."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer)
        done = 0
        while done < len(room) and (self._left or self._more()):
            length = min(len(room) - done, len(self._left))
            room[done : done + length] = self._left[:length]
            self._left = self._left[length:]
            done += length
        return done

    def _more(self) -> bool:
        self._left = memoryview(next((chunk for chunk in self._chunks if chunk), b""))
        return bool(self._left)


def _chunks(stream: _Reader, what: str) -> Iterator[bytes]:
    while True:
        chunk = stream.read(CHUNK)
        if not isinstance(chunk, bytes):
            raise ImageError(
                f"cannot read {what}", expected="bytes", seen=type(chunk).__name__, hint="open it binary and blocking"
            )
        if not chunk:
            return
        yield chunk


def _bounded(stream: _Reader, what: str, most: int) -> Iterator[bytes]:
    size = 0
    while chunk := stream.read(CHUNK):
        size += len(chunk)
        if size > most:
            raise ImageError(
                f"{what} is too big",
                expected=f"at most {size_text(most)} when unpacked",
                seen="more",
                hint="give a larger max_bytes if you trust it",
            )
        yield chunk


def write(target: Target, kind: str, parts: Iterator[bytes]) -> None:
    """Write an archive: to a path whole or not at all, or to a binary file object.

    Raises
    ------
    ImageError
        The path cannot be written.
    """
    if not isinstance(target, str | os.PathLike):
        with one_by_one():
            target.writelines(parts)
        return
    try:
        with replacing(Path(target)) as file, one_by_one():
            file.writelines(parts)
    except StoreError:  # an OSError too, but not about this file
        raise
    except OSError as error:
        raise ImageError(
            f"cannot write the {kind} {quoted(os.fspath(target))}",
            expected="a file one may write, and room for it",
            seen=error.strerror or str(error),
        ) from error


# ---- unpacking ------------------------------------------------------------------------------------------------------


def _unpacked(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    try:
        yield from chunks
    except StoreError:
        raise
    except _DAMAGED as error:
        raise ImageError(
            f"{what} is damaged", expected="packed data", seen=str(error), hint="copy or download it again"
        ) from error


def _gzip(stream: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stream) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _zstd(stream: BinaryIO) -> Iterator[bytes]:
    # Not `stream_reader`, which takes a cut frame for a whole one. What this gives for a step is bounded by the step:
    # a block of 4 bytes is at most 128 KiB (RFC 8878, 3.1.1.2).
    data = stream.read(_ZSTD_STEP)
    while data:
        machine = zstandard.ZstdDecompressor().decompressobj()
        while not machine.eof:
            data = data or stream.read(_ZSTD_STEP)
            if not data:
                raise EOFError("the end of the file")
            yield machine.decompress(data)
            data = b""
        data = machine.unused_data or stream.read(_ZSTD_STEP)


def _xz(stream: BinaryIO) -> Iterator[bytes]:
    return _frames(stream, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY))


def _bzip2(stream: BinaryIO) -> Iterator[bytes]:
    return _frames(stream, bz2.BZ2Decompressor)


def _frames(stream: BinaryIO, new: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> Iterator[bytes]:
    data = stream.read(CHUNK)
    while data:
        machine = new()
        while not machine.eof:
            if machine.needs_input:
                data = data or stream.read(CHUNK)
                if not data:
                    raise EOFError("the end of the file")
            yield machine.decompress(data if machine.needs_input else b"", CHUNK)
            data = b""
        data = machine.unused_data
        while not (data := data.lstrip(b"\0")) and (data := stream.read(CHUNK)):  # padding
            pass


def _unpacker(head: bytes) -> Callable[[BinaryIO], Iterator[bytes]] | None:
    return next((unpacker for magic, unpacker in _MAGICS if head.startswith(magic)), None)


_MAGICS: tuple[tuple[bytes, Callable[[BinaryIO], Iterator[bytes]]], ...] = (
    (b"\x1f\x8b", _gzip),
    (b"\xfd7zXZ\x00", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh", _bzip2),
)
