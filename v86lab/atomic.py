"""Files that appear whole or not at all: written aside, given their name when their bytes are on the disk."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

Stamp: TypeAlias = tuple[int, int, int, int]
"""Device, inode, size and modification time: what tells that a file is the one that was hashed."""


def publish(file: BinaryIO, name: Path, path: Path, mode: int) -> Stamp:
    """Give a file its final name once its bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())
    if os.name != "nt":  # there, "read-only" would keep even its owner from removing it
        name.chmod(mode)
    stamp = stamp_of(os.fstat(file.fileno()))
    file.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(50):
        try:
            name.replace(path)
            return stamp
        except PermissionError:
            # Windows refuses while somebody has the old file open. A blob's old file is as good as the new one; a
            # pin's is read within milliseconds.
            if os.name != "nt" or attempt == 49:
                raise
            if mode == 0o444 and path.exists():
                return stamp
            time.sleep(0.02)
    raise AssertionError("unreachable")


def stamp_of(stat: os.stat_result) -> Stamp:
    """The stamp of a file, from its status."""
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name when the block ends, and is gone when it fails; an old one is replaced.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.tar")) as file:
    ...         _ = file.write(b"hello")
    ...     [(path.name, path.read_bytes()) for path in Path(folder).iterdir()]
    [('a.tar', b'hello')]
    """
    temporary = target.with_name(f".{target.name[:40]}-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(target: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(target) as file:
        file.write(text.encode("utf-8"))
