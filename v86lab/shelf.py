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
from .errors import StoreError, StoreFull, StoreReadOnly
from .pins import DIGEST

STALE = 3600.0
"""Seconds without a write after which a file in tmp/ is taken for a crash's leftover."""

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

    def name(self, digest: str) -> str:
        """`place` as a str: making paths of ten thousand small blobs costs more than reading them."""
        return f"{self.home}{os.sep}blobs{os.sep}{digest[:2]}{os.sep}{digest}"

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
