"""Many small blobs put at once: the disk is waited for once, not for each. `v86lab.store.Store.batch` makes these.

The rule stays that a blob appears when its bytes are on the disk: files are written aside, then all are synchronised,
then all get their names. What has appeared stays when a later one fails, so a second try goes on from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from .atomic import Stamp, publish, stamp_of
from .shelf import Shelf

_MOST_BYTES = 64 << 20  # that wait for their names
_MOST_FILES = 2048


class Batch:
    """Blobs on their way into a Store; a context manager that puts what is left at its end.

    Parameters
    ----------
    shelf : Shelf
        Where they go.
    known : callable
        Whether a blob of this digest and length is there already.
    published : callable
        Told of each new file and its stamp.
    """

    def __init__(
        self, shelf: Shelf, known: Callable[[str, int], bool], published: Callable[[Path, Stamp], None]
    ) -> None:
        self._shelf = shelf
        self._known = known
        self._published = published
        self._waiting: dict[str, Path] = {}
        self._bytes = 0

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            for path in self._waiting.values():
                with suppress(OSError):
                    path.unlink()

    def put(self, data: bytes) -> str:
        """Keep bytes.

        Returns
        -------
        str
            The digest. The blob can be had when the batch is over, or earlier.

        Raises
        ------
        StoreFull, StoreReadOnly
        """
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._waiting or self._known(digest, len(data)):
            return digest
        with self._shelf.writing():
            path = self._shelf.home / "tmp" / f"batch-{os.urandom(8).hex()}"
            if not self._waiting:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._waiting[digest] = path
            with path.open("xb") as file:
                file.write(data)
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES or len(self._waiting) >= _MOST_FILES:
            self.flush()
        return digest

    def flush(self) -> None:
        """Give all blobs that wait their names."""
        with self._shelf.writing():
            if hasattr(os, "sync"):
                os.sync()
            for digest, path in list(self._waiting.items()):
                self._published(place := self._shelf.place(digest), self._name(path, place))
                del self._waiting[digest]
        self._bytes = 0

    def _name(self, path: Path, place: Path) -> Stamp:
        if not hasattr(os, "sync"):
            with path.open("r+b") as file:
                return publish(file, path, place, mode=0o444)
        path.chmod(0o444)
        stamp = stamp_of(path.stat())
        try:
            path.rename(place)
        except FileNotFoundError:
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        return stamp
