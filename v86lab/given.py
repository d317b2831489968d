"""Reading what a user gave: a path, bytes or a medium that the Store has. Files are streamed, never read whole."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

from v86lab import formats
from v86lab.errors import ImageError
from v86lab.image import Disk
from v86lab.store import Store

Medium: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | Disk

_T = TypeVar("_T")


class Data:
    """An open file that `formats` can slice and the Store can take, with a name for errors."""

    def __init__(self, file: BinaryIO, name: str, digest: str | None = None) -> None:
        self.name = name
        self._file = file
        self._digest = digest
        self._size = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, _ = key.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))

    def stream(self) -> BinaryIO:
        """The file, at its start."""
        self._file.seek(0)
        return self._file

    def put(self, store: Store) -> str:
        """Put it all into the Store, unless it comes from there."""
        if self._digest is None:
            digest = store.put(self.stream())
            if store.size(digest) != self._size:
                raise ImageError(
                    f"{self.name} changed while it was read",
                    expected=f"{self._size} bytes",
                    seen=f"{store.size(digest)} bytes",
                    hint="is something still writing it?",
                )
            self._digest = digest
        return self._digest

    def disk(self, store: Store) -> Disk:
        """Put it into the Store as a medium."""
        if not self._size:
            raise ImageError(f"cannot use {self.name}", expected="some bytes", seen="an empty file")
        return Disk(self.put(store), self._size)


@contextmanager
def opened(given: Medium, what: str, store: Store) -> Iterator[Data]:
    if isinstance(given, Disk):
        with store.open(given.digest) as file:
            yield Data(file, f"the {what} {given.digest[:12]}", given.digest)
    elif isinstance(given, (bytes, bytearray, memoryview)):
        raw = bytes(given)
        if 0 < len(raw) < 1024 and raw.isascii() and Path(raw.decode().replace("\0", "")).is_file():
            raise ImageError(
                f"cannot use these bytes as the {what}",
                expected="a file's content as bytes, or its path as a str",
                seen=f"a path as bytes, {raw!r}",
                hint="write the path without b",
            )
        yield Data(io.BytesIO(raw), f"the {what}")
    elif isinstance(given, (str, os.PathLike)):
        with _opened_file(os.fspath(given), what) as file:
            yield Data(file, f"the {what} {formats.quoted(os.fspath(given))}")
    else:
        raise ImageError(f"cannot use this {what}", expected="a path or bytes", seen=type(given).__name__)


def _opened_file(path: str, what: str) -> BinaryIO:
    name = f"the {what} {formats.quoted(path)}"
    if not path:
        raise ImageError(f"cannot open the {what}", expected="the path of a file", seen="an empty str")
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(
                f"cannot open {name}",
                expected="a file",
                seen="a folder",
                hint="a folder can be shared with the guest: images.linux(share=FOLDER)",
            )
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):  # opening a pipe would wait for its writer
            raise ImageError(f"cannot open {name}", expected="a file", seen="a pipe, socket or device")
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        hint = f"relative paths start in {Path.cwd()}" if isinstance(error, FileNotFoundError) else None
        seen = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"cannot open {name}", expected="a file one may read", seen=seen, hint=hint) from error


def checked(check: Callable[[Any], _T], data: Data) -> _T:
    """Run a check of `formats`, and name the file in its error."""
    try:
        return check(data)
    except ImageError as error:
        raise ImageError(
            f"{data.name}: {error.what}", expected=error.expected, seen=error.seen, hint=error.hint
        ) from None
