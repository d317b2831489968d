"""Many small blobs put at once: the disk is waited for once, not for each. `v86lab.store.Store.batch` makes these.

The rule stays that a blob appears when its bytes are on the disk: files are written aside, then all are synchronised,
then all get their names. What has appeared stays when a later one fails, so a second try goes on from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from .atomic import Stamp, publish, stamp_of
from .shelf import Shelf

_MOST_BYTES = 64 << 20  # that wait for their names
_MOST_FILES = 2048
_MODE = 0o444 if hasattr(os, "sync") else 0o600  # Windows would not let anybody write to it again


class Batch:
    """Blobs on their way into a Store; a context manager that puts what is left at its end.

    Parameters
    ----------
    shelves : sequence of Shelf
        Where blobs may be already; new ones go to the first.
    known : callable
        Whether a blob of this digest and length is there already.
    published : callable
        Told of each new file and its stamp.
    """

    def __init__(
        self,
        shelves: Sequence[Shelf],
        known: Callable[[str, int], bool],
        published: Callable[[Path, Stamp], None],
    ) -> None:
        self._shelves = shelves
        self._shelf = shelves[0]
        self._known = known
        self._published = published
        self._aside = f"{self._shelf.home / 'tmp'}{os.sep}batch-{os.urandom(8).hex()}-"
        self._waiting: dict[str, str] = {}
        self._bytes = 0
        self._count = 0

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
                    os.unlink(path)  # noqa: PTH108  (a str: see Shelf.name)

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
        if digest in self._waiting or (self._is_somewhere(digest) and self._known(digest, len(data))):
            return digest
        with self._shelf.writing():
            if not self._count:
                (self._shelf.home / "tmp").mkdir(parents=True, exist_ok=True)
            self._count += 1
            path = self._aside + str(self._count)
            self._waiting[digest] = path
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), _MODE)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
            finally:
                os.close(descriptor)
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES or len(self._waiting) >= _MOST_FILES:
            self.flush()
        return digest

    def _is_somewhere(self, digest: str) -> bool:
        return any(os.path.exists(shelf.name(digest)) for shelf in self._shelves)  # noqa: PTH110

    def flush(self) -> None:
        """Give all blobs that wait their names."""
        with self._shelf.writing():
            if hasattr(os, "sync"):
                os.sync()
            for digest, path in list(self._waiting.items()):
                self._published(self._shelf.place(digest), self._named(path, digest))
                del self._waiting[digest]
        self._bytes = 0

    def _named(self, path: str, digest: str) -> Stamp:
        if not hasattr(os, "sync"):
            with open(path, "r+b") as file:  # noqa: PTH123
                return publish(file, Path(path), self._shelf.place(digest), mode=0o444)
        stamp = stamp_of(os.stat(path))  # noqa: PTH116
        place = self._shelf.name(digest)
        try:
            os.rename(path, place)  # noqa: PTH104
        except FileNotFoundError:
            self._shelf.place(digest).parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, place)  # noqa: PTH104
        return stamp
