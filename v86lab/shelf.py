"""One folder of blobs: where they lie, and how files get there. `v86lab.store` has the rules.

What cannot be written is a `StoreError` that says why.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import pins
from .atomic import Stamp, stamp_of
from .errors import StoreError, StoreFull, StoreReadOnly
from .pins import DIGEST

STALE = 3600.0
"""Seconds without a write after which a file in tmp/ is taken for a crash's leftover."""

_MODE = 0o600 if os.name == "nt" else 0o444  # there, "read-only" would keep even its owner from removing it
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}


@dataclass(frozen=True)
class Shelf:
    """A folder of blobs.

    Examples
    --------
    >>> Shelf(Path("/srv/store")).place("ab" * 32).parts[-3:-1]
    ('blobs', 'ab')
    """

    home: Path

    def place(self, digest: str) -> Path:
        """Where a blob lies, or would."""
        return self.home.joinpath("blobs", digest[:2], digest)

    def has(self, digest: str) -> bool:
        """Whether a blob, sound or not, lies in its place."""
        return os.path.exists(self._name(digest))  # noqa: PTH110

    def _name(self, digest: str) -> str:
        """`place` as a str: making paths of ten thousand small blobs costs more than writing them."""
        return f"{self.home}{os.sep}blobs{os.sep}{digest[:2]}{os.sep}{digest}"

    def add(self, digest: str, data: bytes) -> tuple[str, Stamp]:
        """Write a small blob, without waiting for the disk; gives where it lies, and its stamp.

        Raises
        ------
        StoreFull, StoreReadOnly
            Nothing is left of it.
        """
        place, aside = self._name(digest), f"{self.home}{os.sep}tmp{os.sep}{digest[:8]}{os.urandom(8).hex()}"
        with self.writing():
            try:
                stamp = _write(aside, data)
            except FileNotFoundError:
                (self.home / "tmp").mkdir(parents=True, exist_ok=True)
                stamp = _write(aside, data)
            try:
                _rename(aside, place)
            except BaseException:
                _remove(aside)
                raise
        return place, stamp

    def blobs(self) -> Iterator[Path]:
        """Every blob there is, in no particular order."""
        for folder in pins.listing(self.home / "blobs"):
            for path in pins.listing(folder):
                if DIGEST.fullmatch(path.name):
                    yield path

    def sweep(self) -> None:
        """Remove what crashes left in tmp/ long ago."""
        with suppress(OSError):
            for path in pins.listing(self.home / "tmp"):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE:
                        path.unlink()

    @contextmanager
    def new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a file in tmp/ that is gone afterwards, unless it was published."""
        with self.writing():
            folder = self.home / "tmp"
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder)
        file = os.fdopen(descriptor, "wb")
        try:
            yield file, Path(name)
        finally:
            with suppress(OSError):  # what could not be written a moment ago still cannot
                file.close()
            with suppress(OSError):
                Path(name).unlink()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell what an `OSError` means for the Store."""
        try:
            yield
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> StoreError:
        if isinstance(error, StoreError):
            return error
        what = f"cannot write to the Store in {self.home}"
        if error.errno in _FULL:
            return StoreFull(
                what,
                expected="room for one more file",
                seen=error.strerror,
                hint="free some room there, try gc, or set V86LAB_HOME to a folder on another disk",
            )
        if error.errno in _UNWRITABLE:
            return StoreReadOnly(
                what,
                expected="a folder that this user may write to",
                seen=f"{error.strerror}: {error.filename}" if error.filename else error.strerror,
                hint="set V86LAB_HOME to such a folder; V86LAB_SHARED may name this one, to read what it holds",
            )
        return StoreError(what, seen=str(error), hint="have the disk checked, or set V86LAB_HOME to another")


def _write(path: str, data: bytes) -> Stamp:
    """A new file, whole or not at all. Paths are str: see `Shelf._name`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), _MODE)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            return stamp_of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(path)
        raise


def _rename(path: str, place: str) -> None:
    try:
        os.replace(path, place)  # noqa: PTH105
    except FileNotFoundError:
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
        os.replace(path, place)  # noqa: PTH105
    except PermissionError:
        if os.name != "nt" or not os.path.exists(place):  # noqa: PTH110
            raise
        _remove(path)  # Windows does not replace a file that somebody reads; it holds the same bytes


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108
