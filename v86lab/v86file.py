"""The `.v86` file: what a user made, in one file with every blob it needs, to hand out.

The container is a tar archive, so that `tar tf` lists it and `tar xf` unpacks it::

    manifest.json
    blobs/<digest>          the bytes of a blob,
    blobs/<digest>.zst      or a zstd frame of them, when that is smaller
    ...                     one member for each blob, in the order of the digests

    {"format": "v86lab-file", "version": 1, "kind": "image", "digest": <sha256 of the description's canonical JSON>,
     "description": <what Image.to_json gave>, "blobs": {<digest>: <bytes>, ...}}

`docs/v86-file.md` says why a tar and how to read one by hand. The rules:

* It is written and read in one pass, from and to a pipe if need be; neither end holds a blob in memory.
* The same description and blobs give the same bytes, as far as libzstd does: nothing of a file says when, where and by
  whom it was made.
* A file may come from a stranger. Nothing in it is believed: the manifest is bounded and must be written as we write
  it, every header must be the one that the manifest calls for, so that names and kinds of members are never chosen by
  the file; a blob that gives more than its size, or another digest, is refused before it is kept.
* Blobs that the Store has are passed over. What was unpacked before an error stays there for a second try, until `gc`
  takes it; nothing refers to it.

It works on plain JSON values: `v86lab.image.Image` makes and takes the description.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import reprlib
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import zstandard

from .atomic import replacing
from .errors import ImageError, StoreError
from .formats import GIB, MIB, describe, quoted, size_text
from .pins import DIGEST
from .store import CHUNK, Store

FORMAT, VERSION = "v86lab-file", 1
MAX_BYTES = 64 * GIB
"""Bytes that the blobs of a file may have in all, unpacked."""

_MANIFEST = "manifest.json"
_MOST_JSON = 32 * MIB
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_LEVEL = 3  # 9 makes files 8 % smaller and takes three times as long
_WORTH = 0.95  # a blob that zstd makes no smaller than this stays as it is, as those that are zstd frames already do
_WINDOW = 8 * MIB  # RFC 8878, 3.1.1.1.2, recommends that decoders have it
_STEP = 256  # bytes of a frame at a time: they give 8 MiB at most, 4 bytes for each block of 128 KiB
_HELD = 8 * MIB  # of a packed blob's bytes, the rest lies on the disk until its length is known
_AGAIN = "it may be damaged: get the file again"


# ---- tar ------------------------------------------------------------------------------------------------------------


def _header(name: str, size: int) -> bytes:
    """A member's header: a plain file of root's, from 1970. GNU's form of ustar, which has sizes above 8 GiB."""
    length = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields = (name.encode("ascii"), b"0000644\0", b"0000000\0", b"0000000\0", length, b"00000000000\0")
    head = struct.pack("100s8s8s8s12s12s", *fields)
    rest = struct.pack("1s100s8s", b"0", b"", b"ustar  \0").ljust(_BLOCK - len(head) - 8, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(rest) + 8 * ord(" ")) + rest


def _length(header: bytes) -> int:
    """The size that a header tells, whatever else it holds; -1 where there is none."""
    field = header[124:136]
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field[:11], 8) if re.fullmatch(rb"[0-7]{11}\0", field) else -1


def recognised(head: bytes) -> bool:
    """Whether a file that begins like this is a .v86 file.

    Examples
    --------
    >>> recognised(b"PK")
    False
    """
    return head.startswith(_MANIFEST.encode() + b"\0") and head[257:262] == b"ustar"


# ---- writing --------------------------------------------------------------------------------------------------------


def save(
    path: str | os.PathLike[str], kind: str, description: Mapping[str, Any], digests: Iterable[str], store: Store
) -> None:
    """Write a file whole or not at all; an existing one is replaced at once.

    Parameters
    ----------
    path : path
    kind : str
        What is described: "image".
    description : mapping
        Plain JSON values.
    digests : iterable of str
        Every blob that the description refers to.
    store : Store
        Where the blobs are.

    Raises
    ------
    ImageError
        The file cannot be written, or would be larger than one may be.
    StoreError
        A blob is not in the Store.
    """
    try:
        target = Path(path).resolve()
        with replacing(target) as file:
            write(file, kind, description, digests, store, str(target.parent))
    except StoreError:  # an OSError too, but not about this file
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"cannot save the {kind} as {quoted(os.fspath(path))}",
            expected="a folder one may write to, with room for it",
            seen=getattr(error, "strerror", None) or str(error),
        ) from error


def write(
    file: BinaryIO,
    kind: str,
    description: Mapping[str, Any],
    digests: Iterable[str],
    store: Store,
    scratch: str | None = None,
) -> None:
    """Write to a stream that need not be seekable.

    Parameters
    ----------
    file : binary stream
    kind, description, digests, store
        As in `save`.
    scratch : str, optional
        A folder for blobs that are large even when packed, while their length is not known.

    Examples
    --------
    >>> store, file = Store(), io.BytesIO()
    >>> write(file, "image", {"disk": "2cf24dba..."}, [store.put(b"hello")], store)
    >>> _ = file.seek(0)
    >>> Reader(file).description
    {'disk': '2cf24dba...'}
    """
    blobs = {digest: store.size(digest) for digest in sorted(set(digests))}
    if (total := sum(blobs.values())) > MAX_BYTES:
        raise ImageError("this does not go into one file", expected=size_text(MAX_BYTES), seen=size_text(total))
    manifest = _manifest(kind, description, blobs)
    if len(manifest) > _MOST_JSON:
        raise ImageError(
            "this does not go into one file",
            expected=f"a manifest of at most {size_text(_MOST_JSON)}",
            seen=f"{len(blobs)} blobs",
            hint="put the files on a disk: tree.as_disk(...)",
        )
    _put_member(file, _MANIFEST, len(manifest), io.BytesIO(manifest))
    packer = zstandard.ZstdCompressor(level=_LEVEL)
    for digest, size in blobs.items():
        with store.open(digest) as blob, tempfile.SpooledTemporaryFile(_HELD, dir=scratch) as packed:
            length = _pack(blob, size, packer, packed)
            if length is None:
                blob.seek(0)
                _put_member(file, f"blobs/{digest}", size, blob)
            else:
                packed.seek(0)
                _put_member(file, f"blobs/{digest}.zst", length, packed)
    file.write(_END)


def _manifest(kind: str, description: Mapping[str, Any], blobs: Mapping[str, int]) -> bytes:
    plain = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "digest": _digest_of(description),
        "description": description,
        "blobs": blobs,
    }
    return json.dumps(plain, separators=(",", ":")).encode("ascii") + b"\n"


def _digest_of(description: Mapping[str, Any]) -> str:
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _pack(blob: IO[bytes], size: int, packer: zstandard.ZstdCompressor, packed: IO[bytes]) -> int | None:
    """Pack a blob, and give the length; None when that is not worth it, which is often seen before its end."""
    frame = packer.compressobj(size=size)
    while packed.tell() < size * _WORTH:
        chunk = blob.read(CHUNK)
        packed.write(frame.compress(chunk) if chunk else frame.flush())
        if not chunk:
            return packed.tell() if packed.tell() < size * _WORTH else None
    return None


def _put_member(file: BinaryIO, name: str, size: int, source: IO[bytes]) -> None:
    file.write(_header(name, size))
    while chunk := source.read(CHUNK):
        file.write(chunk)
    file.write(bytes(-size % _BLOCK))


# ---- reading --------------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for a `Reader`, and name it in the errors about it. A pipe will do."""
    name = f"the file {quoted(os.fspath(path))}"
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - errors of opening are not those of what follows
    except (OSError, ValueError) as error:
        seen = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"cannot read {name}", expected="a .v86 file", seen=seen) from error
    with file:
        try:
            yield file
        except ImageError as error:
            raise ImageError(
                f"{name}: {error.what}", expected=error.expected, seen=error.seen, hint=error.hint
            ) from error


class Reader:
    """A .v86 file that is being read: its manifest first, then its blobs.

    Parameters
    ----------
    file : binary stream
        It stands where the .v86 file begins, and is read to its end by `unpack`.

    Attributes
    ----------
    kind : str
        What is described: "image".
    description : mapping
        Plain JSON values, which nobody has checked; their digest was right.
    blobs : mapping of str to int
        Digests of the blobs that follow, and how many bytes they have.

    Raises
    ------
    ImageError
        It is no .v86 file, one of another release, or a damaged one.

    Examples
    --------
    >>> here, there, file = Store(), Store(), io.BytesIO()
    >>> digest = here.put(b"hello")
    >>> write(file, "image", {}, [digest], here)
    >>> _ = file.seek(0)
    >>> reader = Reader(file)
    >>> reader.unpack(there)
    >>> reader.kind, reader.blobs == {digest: 5}, there.get(digest)
    ('image', True, b'hello')
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        seekable = getattr(file, "seekable", None)
        self._seekable = seekable is not None and seekable()
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        header = self._read(_BLOCK)
        if not recognised(header):
            raise _unknown(header)
        size = _length(header)
        if not 0 < size <= _MOST_JSON or header != _header(_MANIFEST, size):
            raise ImageError(
                "its manifest is damaged",
                expected=f"a plain header, at most {size_text(_MOST_JSON)}",
                seen=f"{size} bytes",
                hint=_AGAIN,
            )
        raw = self._exactly(size)
        self._padding(size)
        try:
            self.kind, self.description, self.blobs = _checked(json.loads(raw), raw)
        except (ValueError, RecursionError) as error:  # ValueError covers bad UTF-8, bad JSON and absurd numbers
            if isinstance(error, ImageError):
                raise
            raise ImageError("its manifest is damaged", expected="JSON", seen=f"{error!s:.80}", hint=_AGAIN) from error

    def unpack(self, store: Store) -> None:
        """Put the blobs into a Store.

        Raises
        ------
        ImageError
            The file is damaged, or cut short.
        StoreError
            A blob cannot be kept.
        """
        for digest, size in self.blobs.items():
            self._blob(digest, size, store)
        if self._exactly(len(_END)) != _END or self._read(1):
            raise ImageError("it does not end where it should", expected="nothing more", seen="more", hint=_AGAIN)

    def _blob(self, digest: str, size: int, store: Store) -> None:
        header = self._exactly(_BLOCK)
        name, length, frame = f"blobs/{digest}", size, False
        if header != _header(name, size):
            name, length, frame = f"{name}.zst", _length(header), True
            if not 0 < length < size or header != _header(name, length):
                seen = ascii(header[:100].rstrip(b"\0").decode("latin-1")) if any(header) else "the end"
                raise ImageError(
                    "it does not go on as its manifest says", expected=f"blobs/{digest}", seen=seen, hint=_AGAIN
                )
        if store.touch(digest, size):
            self._pass(length)
        else:
            part = _Part(self._some, length)
            stream: io.RawIOBase = part
            if frame:
                stream = _Frame(io.BufferedReader(part, CHUNK), self._unpacker.decompressobj(), size)
            try:
                reader = io.BufferedReader(stream, CHUNK)
                if size > CHUNK:
                    store.put(cast("BinaryIO", reader), digest)
                else:
                    store.put(reader.read(), digest, sync=False)
                self._pass(part.left)  # another process may have put the blob just now
            except ImageError as error:
                what = f"{name}: {error.what}"
                raise ImageError(what, expected=error.expected, seen=error.seen, hint=_AGAIN) from error
        self._padding(length)

    def _padding(self, size: int) -> None:
        if any(self._exactly(-size % _BLOCK)):
            raise ImageError("it does not go on as its manifest says", expected="zeros", seen="others", hint=_AGAIN)

    def _pass(self, size: int) -> None:
        """Leave bytes out; a file that ends among them is found to be cut short at what follows."""
        if self._seekable:
            self._file.seek(size, os.SEEK_CUR)
            return
        while size:
            size -= len(self._exactly(min(size, CHUNK)))

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) != size:
            raise ImageError("it is cut short", expected=f"{size - len(data)} more bytes", seen="its end", hint=_AGAIN)
        return data

    def _read(self, size: int) -> bytes:
        """So many bytes, or fewer at the end: a pipe gives what it has."""
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        """The next bytes of the file, none at its end."""
        try:
            data = self._file.read(most)
        except ImageError:
            raise
        except (OSError, ValueError) as error:
            raise ImageError("it cannot be read", expected="its bytes", seen=str(error)) from error
        if not isinstance(data, bytes):
            raise ImageError(
                "it cannot be read", expected="bytes", seen=type(data).__name__, hint="open it binary and blocking"
            )
        return data


def _unknown(head: bytes) -> ImageError:
    hint = None
    if b'"v86lab image"' in head:
        hint = (
            "images that earlier releases saved as JSON hold no blobs; while the Store still has these, "
            'lab.Image.from_json(json.load(file)).save("lab.v86") makes a file that does'
        )
    seen = describe(head).partition(",")[0]  # behind a comma would be a size, but this is only the first block
    return ImageError("this is no .v86 file", expected=f"a tar that begins with {_MANIFEST}", seen=seen, hint=hint)


def _checked(plain: object, raw: bytes) -> tuple[str, Mapping[str, Any], Mapping[str, int]]:
    """A manifest's parts; it must be what `_manifest` writes, to the byte."""
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
        raise ImageError("this is no .v86 file", expected=f'"format": "{FORMAT}"', seen=reprlib.repr(plain))
    if plain.get("version") != VERSION:
        raise ImageError(
            "cannot read this .v86 file",
            expected=f"version {VERSION}",
            seen=f"version {reprlib.repr(plain.get('version'))}",
            hint="another release of v86lab wrote it: pip install --upgrade v86lab",
        )
    kind, description, blobs = plain.get("kind"), plain.get("description"), plain.get("blobs")
    if isinstance(kind, str) and isinstance(description, Mapping) and isinstance(blobs, Mapping):
        sized = all(DIGEST.fullmatch(digest) and type(size) is int and size >= 0 for digest, size in blobs.items())
        if sized and list(blobs) == sorted(blobs) and _manifest(kind, description, blobs) == raw:
            if (total := sum(blobs.values())) > MAX_BYTES:
                raise ImageError(
                    "this .v86 file is too big", expected=f"{size_text(MAX_BYTES)} unpacked", seen=size_text(total)
                )
            return kind, description, blobs
    raise ImageError("its manifest is damaged", expected="what v86lab.v86file describes", seen="other", hint=_AGAIN)


class _Part(io.RawIOBase):
    """The next bytes of a file, as a stream of their own."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        super().__init__()
        self._read = read
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self._read(min(len(buffer), self.left)) if self.left else b""
        if self.left and not data:
            raise ImageError("the file is cut short", expected=f"{self.left} more bytes", seen="its end")
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


class _Frame(io.RawIOBase):
    """What a zstd frame holds, as a stream: one frame that fills its member, and of `size` bytes unpacked."""

    def __init__(self, packed: IO[bytes], frame: zstandard.ZstdDecompressionObj, size: int) -> None:
        super().__init__()
        self._packed = packed
        self._frame = frame
        self._size = self._left = size
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._ready and (packed := self._packed.read(_STEP)):
            self._ready = memoryview(self._unpacked(packed))
            self._left -= len(self._ready)
            if self._left < 0:
                raise ImageError("it gives more than it should", expected=f"{self._size} bytes", seen="more")
        count = min(len(buffer), len(self._ready))
        if not count and (self._left or not self._frame.eof):
            raise ImageError("its zstd frame is cut short", expected=f"{self._left} more bytes", seen="its end")
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpacked(self, packed: bytes) -> bytes:
        try:
            if not self._frame.eof:
                data = self._frame.decompress(packed)
                if not self._frame.unused_data:
                    return data
        except zstandard.ZstdError as error:
            raise ImageError("its zstd frame is damaged", seen=str(error)) from error
        raise ImageError("its zstd frame is damaged", expected="its end", seen="more bytes behind it")
