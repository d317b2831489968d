"""The Store: the only place where bytes live on disk, found by their sha256.

    <home>/blobs/ab/<64 hex digits>   blobs, mode 0444, never changed in place
    <home>/pins/<quoted name>.json    what `gc` must keep, and small named values
    <home>/tmp/                       files being written; what a crash left is swept after an hour
    <home>/damaged/                   blobs whose bytes no longer gave their digest; `gc` removes them

Below the user's own home may lie *shared* Stores of the same layout. They are only ever read.

The rules it keeps:

* A blob appears under its digest by one rename: whatever is killed, and whenever, nobody sees part of a blob.
* Its bytes are on the disk then, so that a power cut may lose a blob that was just put, but damages none. The thousands
  of small blobs of a tree or a .v86 file are the exception (`put` with ``sync=False``): waiting for the disk would take
  longer than all else. What a power cut leaves of one of these in its first seconds is too short, which `touch` sees:
  making the tree again, or opening the file again, mends it.
* No locks between processes. Two that put the same blob both succeed, since they put the same bytes.
* `get`, `open` and `verify` never hand out bytes that do not give the digest. `get` hashes what it returns; `open`
  and `verify` hash a blob once per process, and again when its file was changed.
* A stream is hashed while it is copied and never held in memory. Long runs of zeros become holes, so that the image of
  an empty disk costs nothing.
* Putting a blob that exists already, or pinning it, makes it young again, and `gc` looks again after taking a blob
  away, and puts it back if it became young meanwhile: one that was put is still there to be pinned. (While `gc` looks,
  some microseconds, such a blob is not to be seen.)
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from . import pins
from .atomic import Stamp, publish, stamp_of
from .errors import (
    DamagedBlob,
    ImageError,
    MalformedDigest,
    StoreError,
    UnknownDigest,
)
from .pins import DIGEST, Pin, unreadable
from .shelf import Shelf

CHUNK = 1 << 20
"""Bytes read, hashed and written at a time, and the length of a run of zeros that becomes a hole."""

_ZEROS = bytes(CHUNK)


@dataclass(frozen=True)
class GcReport:
    """What a `Store.gc` removed: how many blobs, and how many bytes they held."""

    removed: int
    bytes: int


@dataclass(frozen=True)
class NewBlob:
    """A blob that is being written: its `file`, and `keep`, which puts it into the Store and gives its digest."""

    file: BinaryIO
    keep: Callable[[], str]


class Store:
    """Content-addressed bytes on disk, shared by all processes of a user.

    Parameters
    ----------
    home : path, optional
        Where to write. Default: the environment's ``V86LAB_HOME``, else the platform's cache folder for v86lab. It is
        made when something is put first; opening a Store never fails.
    shared : sequence of paths, optional
        Stores that are read after the user's own. Default: ``V86LAB_SHARED``, separated as ``PATH`` is.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = Store(folder.name)
    >>> digest = store.put(b"hello")
    >>> digest[:8], digest in store, store.size(digest), store.get(digest)
    ('2cf24dba', True, 5, b'hello')
    >>> store.pin("greeting", keeps=[digest])
    >>> store.gc(older_than=0)
    GcReport(removed=0, bytes=0)
    >>> store.unpin("greeting")
    >>> store.gc(older_than=0)
    GcReport(removed=1, bytes=5)
    >>> folder.cleanup()
    """

    def __init__(self, home: Path | str | None = None, shared: Sequence[Path | str] | None = None) -> None:
        if home is None:
            home = os.environ.get("V86LAB_HOME") or platformdirs.user_cache_path("v86lab", appauthor=False)
        if shared is None:
            shared = [part for part in os.environ.get("V86LAB_SHARED", "").split(os.pathsep) if part]
        self.home = Path(home).expanduser().absolute()
        self.shared = tuple(Path(layer).expanduser().absolute() for layer in shared)
        self._own = Shelf(self.home)
        self._shelves = (self._own, *map(Shelf, self.shared))
        self._sound: dict[str, Stamp] = {}  # by path, as str: a `Path` takes longer than a small blob's sha256
        self._unsound: set[tuple[Path, Stamp]] = set()
        self._hashing = threading.Lock()
        self._own.sweep()

    def __repr__(self) -> str:
        return f"Store({str(self.home)!r})"

    # --- putting ---

    def put(
        self, data: bytes | bytearray | memoryview | BinaryIO, digest: str | None = None, *, sync: bool = True
    ) -> str:
        """Keep bytes, or what a binary stream gives until its end.

        Parameters
        ----------
        data : bytes-like, or a binary stream
        digest : str, optional
            Its digest if known. When that blob is here, nothing is read.
        sync : bool
            Wait until the bytes are on the disk. One of many small blobs that can be made again needs no wait.

        Returns
        -------
        str
            The digest. When the blob exists already and `data` can be read twice, nothing is written.

        Raises
        ------
        ImageError
            The bytes do not give `digest`; nothing was kept.
        StoreFull, StoreReadOnly
            Nothing was kept.
        """
        if digest is not None and self.touch(_well_formed(digest)):
            return digest
        if isinstance(data, bytes) and not sync:
            return self._put_small(data, expected=digest)
        if isinstance(data, bytes | bytearray | memoryview):
            view = memoryview(data)
            view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
            chunks = [view[start : start + CHUNK] for start in range(0, len(view), CHUNK)]
            return (digest is None and self._known(chunks)) or self._keep(chunks, expected=digest)
        seekable = getattr(data, "seekable", None)
        if digest is not None or seekable is None or not seekable():
            return self._keep(_read(data), expected=digest)
        start = data.tell()
        known = self._known(_read(data))
        if known is None:
            data.seek(start)
            return self._keep(_read(data))
        return known

    def put_file(self, path: Path | str, digest: str | None = None) -> str:
        """Keep a copy of a file.

        Parameters
        ----------
        path : path
            The file.
        digest : str, optional
            Its digest if known. When that blob is here, the file is not even opened.

        Raises
        ------
        ImageError
            The file cannot be read, or its bytes do not give `digest`; then nothing is kept.
        StoreFull, StoreReadOnly
            Nothing was kept.
        """
        if digest is not None and self.touch(_well_formed(digest)):
            return digest
        try:
            file = Path(path).open("rb")  # noqa: SIM115 - errors of opening are not those of what follows
        except OSError as error:
            raise ImageError(
                f"cannot read {path}", expected="a file", seen=error.strerror, hint="check the name and its permissions"
            ) from error
        with file:
            if digest is None:
                return self.put(file)
            return self._keep(_read(file), expected=digest, source=str(path))

    @contextmanager
    def new_blob(self) -> Iterator[NewBlob]:
        """A file to write a blob into that has to be written out of order, such as a disk; gone unless it is kept.

        Examples
        --------
        >>> store = Store()
        >>> with store.new_blob() as blob:
        ...     _ = blob.file.write(b"hello")
        ...     digest = blob.keep()
        >>> store.get(digest)
        b'hello'
        """
        with self._own.new_file() as (file, name):
            yield NewBlob(file, lambda: self._take(file, name))

    def _take(self, file: BinaryIO, name: Path) -> str:
        with self._own.writing():
            file.flush()
            with name.open("rb", buffering=0) as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
        if not self.touch(digest, name.stat().st_size):
            with self._own.writing():
                path = self._own.place(digest)
                self._sound[str(path)] = publish(file, name, path, mode=0o444)
        return digest

    def _put_small(self, data: bytes, expected: str | None) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if expected is not None and digest != expected:
            raise _not_what_was_said("the data", expected, digest)
        if not (any(shelf.has(digest) for shelf in self._shelves) and self.touch(digest, len(data))):
            place, stamp = self._own.add(digest, data)
            self._sound[place] = stamp
        return digest

    def _known(self, chunks: Iterable[bytes | memoryview]) -> str | None:
        """The digest of these bytes if their blob is here (it is made young), else None."""
        hasher, size = hashlib.sha256(), 0
        for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
        digest = hasher.hexdigest()
        return digest if self.touch(digest, size) else None

    def _keep(
        self, chunks: Iterable[bytes | memoryview], *, expected: str | None = None, source: str = "the data"
    ) -> str:
        """Write a blob and give its digest."""
        hasher = hashlib.sha256()
        with self._own.new_file() as (file, name):
            for chunk in chunks:
                hasher.update(chunk)
                with self._own.writing():
                    if len(chunk) == CHUNK and not chunk[0] and bytes(chunk) == _ZEROS:
                        file.seek(CHUNK, os.SEEK_CUR)
                    else:
                        file.write(chunk)
            digest = hasher.hexdigest()
            if expected is not None and digest != expected:
                raise _not_what_was_said(source, expected, digest)
            with self._own.writing():
                file.truncate()  # a hole at the end has no length of its own
                path = self._own.place(digest)
                self._sound[str(path)] = publish(file, name, path, mode=0o444)
        return digest

    def touch(self, digest: str, size: int | None = None) -> bool:
        """Whether a blob is here; the user's own is made young, and set aside if it has not the right size.

        Examples
        --------
        >>> store = Store()
        >>> store.touch(store.put(b"hello"), 5)
        True
        """
        own = self._own.place(digest)
        try:
            before = stamp_of(own.stat())
            if size is not None and before[2] != size:
                self._set_aside(own, before)
            elif (own, before) not in self._unsound:
                with suppress(PermissionError):  # another user's file in a home of several: it stays as old as it is
                    os.utime(own)
                if self._sound.get(str(own)) == before:
                    self._sound[str(own)] = stamp_of(own.stat())
                return True
        except OSError:
            pass  # not here, or not for us to see
        return any(path != own and (size is None or stamp[2] == size) for path, stamp in self._copies(digest))

    # --- getting ---

    def get(self, digest: str) -> bytes:
        """Bytes of a blob, verified.

        Raises
        ------
        UnknownDigest, MalformedDigest, DamagedBlob
        """
        damaged = []
        for path, file, stamp in self._opened(digest):
            with file, _reading(path):
                data = file.read()
            if hashlib.sha256(data).hexdigest() == digest:
                return data
            damaged.append(self._set_aside(path, stamp))
        raise self._absent(digest, damaged)

    def open(self, digest: str) -> io.FileIO:
        """Open a blob for reading, verified: hashed the first time this process sees it.

        The file is unbuffered: read or ``readinto`` as much as you need at a time.

        Raises
        ------
        UnknownDigest, MalformedDigest, DamagedBlob
        """
        file = self.open_verified(digest)
        if file is not None:
            return file
        damaged = []
        for path, file, stamp in self._opened(digest):
            try:
                with _reading(path), self._hashing:  # one at a time: others most often want the same blob
                    if self._sound.get(str(path)) == stamp or hashlib.file_digest(file, "sha256").hexdigest() == digest:
                        self._sound[str(path)] = stamp
                        file.seek(0)
                        return file
            except BaseException:
                file.close()
                raise
            file.close()
            damaged.append(self._set_aside(path, stamp))
        raise self._absent(digest, damaged)

    def open_verified(self, digest: str) -> io.FileIO | None:
        """Open a blob if that takes no hashing, else None: for callers that must not wait."""
        for path, file, stamp in self._opened(digest):
            if self._sound.get(str(path)) == stamp:
                return file
            file.close()
            return None
        return None

    def verify(self, digest: str) -> Path:
        """Path of a blob whose bytes were hashed by this process and were right.

        Raises
        ------
        UnknownDigest, MalformedDigest, DamagedBlob
        """
        with self.open(digest):
            return self.path(digest)

    def path(self, digest: str) -> Path:
        """Path of a blob, for other programs to read (not to write). It is not verified: see `verify`.

        Raises
        ------
        UnknownDigest, MalformedDigest
        """
        for path, _ in self._copies(digest):
            return path
        raise self._absent(digest, [])

    def size(self, digest: str) -> int:
        """Length of a blob in bytes.

        Raises
        ------
        UnknownDigest, MalformedDigest
        """
        for _, stamp in self._copies(digest):
            return stamp[2]
        raise self._absent(digest, [])

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and bool(DIGEST.fullmatch(digest)) and any(self._copies(digest))

    def digests(self) -> Iterator[str]:
        """Every digest here, shared Stores included, each once, in no particular order."""
        seen = set()
        for shelf in self._shelves:
            for path in shelf.blobs():
                if path.name not in seen:
                    seen.add(path.name)
                    yield path.name

    def _copies(self, digest: str) -> Iterator[tuple[Path, Stamp]]:
        """Files that should hold a blob, the user's own first, without those known to be damaged."""
        _well_formed(digest)
        for shelf in self._shelves:
            path = shelf.place(digest)
            try:
                stamp = stamp_of(path.stat())
            except OSError:
                continue
            if (path, stamp) not in self._unsound:
                yield path, stamp

    def _opened(self, digest: str) -> Iterator[tuple[Path, io.FileIO, Stamp]]:
        """As `_copies`, each opened, unbuffered; the receiver closes it."""
        _well_formed(digest)
        for shelf in self._shelves:
            path = shelf.place(digest)
            try:
                file = path.open("rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise unreadable(path, error) from error
            stamp = stamp_of(os.fstat(file.fileno()))
            if (path, stamp) in self._unsound:
                file.close()
            else:
                yield path, file, stamp

    def _set_aside(self, path: Path, stamp: Stamp) -> Path:
        """Take a damaged file out of service, and give its new path; where that is not allowed, remember it."""
        self._unsound.add((path, stamp))
        aside = self.home / "damaged" / f"{path.name}-{os.urandom(4).hex()}"
        if self.home in path.parents:
            with suppress(OSError):
                aside.parent.mkdir(parents=True, exist_ok=True)
                path.rename(aside)
                if stamp_of(aside.stat()) == stamp:
                    return aside
                aside.replace(path)  # another process had put a sound one in the meantime
        return path

    def _absent(self, digest: str, damaged: Sequence[Path]) -> StoreError:
        if damaged:
            return DamagedBlob(
                f"blob {digest[:12]}… is damaged",
                expected=f"sha256 {digest}",
                seen=f"other bytes, in {damaged[0]}",
                hint="it will not be used again: make or fetch it anew; if this happens often, have the disk checked",
            )
        return UnknownDigest(
            f"no blob {digest[:12]}… in the Store",
            expected=" or ".join(str(shelf.place(digest)) for shelf in self._shelves),
            hint="make or fetch it again; gc removes what no pin keeps",
        )

    # --- pins ---

    def pin(
        self,
        name: str,
        keeps: Iterable[str],
        value: Mapping[str, Any] | None = None,
        source: Path | str | None = None,
    ) -> None:
        """Make `gc` keep blobs, under a name; a pin of that name is replaced.

        Parameters
        ----------
        name : str
            Any text.
        keeps : iterable of str
            Digests of blobs that are here.
        value : Mapping, optional
            Anything JSON can hold.
        source : path, optional
            A file on whose behalf they are kept: when it is gone, the pin is void. It must be there before the pin.

        Raises
        ------
        UnknownDigest
            A blob is not here.
        StoreFull, StoreReadOnly
            The pin of that name is as it was.
        """
        digests = sorted(set(keeps))
        for digest in digests:
            if not self.touch(_well_formed(digest)):
                raise self._absent(digest, [])
        pin = Pin(name, tuple(digests), value, None if source is None else Path(source))
        with self._own.new_file() as (file, path), self._own.writing():
            file.write(pins.text(pin))
            publish(file, path, pins.place(self.home, name), mode=0o644)

    def pinned(self, name: str) -> Pin | None:
        """The pin of that name, the user's own before a shared one; None when there is none or it is void.

        Raises
        ------
        StoreError
            The pin's file is not one of ours.
        """
        for layer in (self.home, *self.shared):
            pin = pins.load(pins.place(layer, name))
            if pin is not None:
                return pin
        return None

    def unpin(self, name: str) -> None:
        """Forget a pin of the user's own; without one, do nothing."""
        with self._own.writing():
            pins.place(self.home, name).unlink(missing_ok=True)

    def pins(self) -> list[Pin]:
        """Every pin that is not void, by name; the user's own hide shared ones of the same name."""
        found: dict[str, Pin] = {}
        for layer in (self.home, *self.shared):
            for pin in pins.load_all(layer):
                found.setdefault(pin.name, pin)
        return [found[name] for name in sorted(found)]

    # --- cleaning ---

    def gc(self, older_than: float = 86400.0) -> GcReport:
        """Remove blobs of the user's own Store that no pin keeps.

        Parameters
        ----------
        older_than : float
            Seconds. Blobs put, put again or pinned more recently stay, since somebody may be about to pin them. Give 0
            only when nothing else uses the Store.

        Raises
        ------
        StoreError
            A pin cannot be read (nothing is removed then, since it may keep anything), or the Store not be written to.
        """
        self._own.sweep()
        for path in pins.listing(self.home / "pins"):
            if path.name.endswith(".json") and pins.load(path) is None:
                self._remove(path, older_than=0)
        kept = {digest for pin in pins.load_all(self.home) for digest in pin.keeps}
        removed = size = 0
        for path in [*self._own.blobs(), *pins.listing(self.home / "damaged")]:
            if path.name not in kept and (length := self._remove(path, older_than)) is not None:
                removed += 1
                size += length
        return GcReport(removed, size)

    def _remove(self, path: Path, older_than: float) -> int | None:
        """Remove a file that is old enough; give its length, or None when it stays."""
        doomed = self.home / "tmp" / f"gc-{os.urandom(8).hex()}"
        try:
            before = path.stat()
            if time.time() - before.st_mtime < older_than:
                return None
            with self._own.writing():
                doomed.parent.mkdir(parents=True, exist_ok=True)
            path.rename(doomed)
            if stamp_of(doomed.stat()) != stamp_of(before):
                doomed.replace(path)  # made young, or put anew, since we looked
                return None
            doomed.unlink()
        except FileNotFoundError:
            return None  # another gc was faster
        except OSError as error:
            if os.name == "nt" and isinstance(error, PermissionError):
                return None  # open somewhere: Windows lets nobody move it
            raise self._own.unwritable(error) from error
        return before.st_size


def _well_formed(digest: str) -> str:
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise MalformedDigest(
            "not a digest", expected="64 hex digits in lower case", seen=repr(digest)[:80], hint="Store.put gives one"
        )
    return digest


def _not_what_was_said(source: str, expected: str, seen: str) -> ImageError:
    return ImageError(
        f"{source} is not what it was said to be",
        expected=f"sha256 {expected}",
        seen=seen,
        hint="it may be damaged or another version; fetch it again, or leave the digest out",
    )


def _read(stream: BinaryIO) -> Iterator[bytes]:
    """A stream's bytes, a chunk at a time."""
    while True:
        chunk = stream.read(CHUNK)
        if not isinstance(chunk, bytes):
            raise ImageError(
                "cannot read a stream", expected="bytes", seen=type(chunk).__name__, hint="open it binary and blocking"
            )
        if not chunk:
            return
        yield chunk


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error
