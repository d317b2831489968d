"""A descriptor: what an image says of bytes that lie elsewhere; and the stream that holds them to it.

Nothing is believed before all of it was seen: a `Checked` stream gives its end only when size and digest were right,
so that whoever reads to the end (as a Store does before a blob appears) has what was promised.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from v86lab.errors import ImageError
from v86lab.formats import GIB

MOST_BLOB = 16 * GIB
"""Bytes of a layer, as it is kept and as it is unpacked."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def sha256(digest: object, what: str) -> str:
    """The hex digits of an OCI digest.

    Raises
    ------
    ImageError
        It is not a sha256; the other registered algorithm, sha512, is not in use.

    Examples
    --------
    >>> sha256("sha256:" + "ab" * 32, "an example")[:4]
    'abab'
    """
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        raise ImageError(f"{what} has a digest that cannot be used", expected="sha256:...", seen=f"{digest!r:.90}")
    return match[1]


@dataclass(frozen=True)
class Descriptor:
    """What an image says of a blob.

    Attributes
    ----------
    media_type : str
    digest : str
        The sha256 in hex, as a Store has it.
    size : int
        Bytes.

    Examples
    --------
    >>> Descriptor("application/vnd.oci.image.config.v1+json", "ab" * 32, 1000).oci_digest[:12]
    'sha256:ababa'
    """

    media_type: str
    digest: str
    size: int

    @property
    def oci_digest(self) -> str:
        """The digest as OCI writes it."""
        return "sha256:" + self.digest


class Checked(io.RawIOBase):
    """A stream that ends only when its bytes were the right ones; the stream below is closed with it.

    Parameters
    ----------
    stream : BinaryIO
    what : str
        What the bytes are, for errors.
    digest : str, optional
        The sha256 in hex that all bytes together must give; None when nobody said.
    size : int, optional
        How many bytes there must be; None when nobody said.
    most : int
        How many there may be.
    came : callable, optional
        Told of each number of bytes that came.

    Examples
    --------
    >>> Checked(io.BytesIO(b"hello"), "an example", size=5).readall()
    b'hello'
    """

    def __init__(
        self,
        stream: BinaryIO,
        what: str,
        digest: str | None = None,
        size: int | None = None,
        most: int = MOST_BLOB,
        came: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self.name = what  # as of a file; readers name what they read by it
        self._stream = stream
        self._what = what
        self._digest = digest
        self._size = size
        self._most = most if size is None else size
        self._came = came
        self._hasher = hashlib.sha256()
        self._done = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._hasher.update(data)
        self._done += len(data)
        if self._done > self._most or (not data and self._size is not None and self._done != self._size):
            exactly = "at most" if self._size is None else "exactly"
            seen = f"{self._done} bytes" + (" or more" if data else "")
            raise ImageError(f"{self._what} has another size", expected=f"{exactly} {self._most} bytes", seen=seen)
        if not data and self._digest not in (None, self._hasher.hexdigest()):
            raise ImageError(
                f"{self._what} is not what it was said to be",
                expected=f"sha256 {self._digest}",
                seen=self._hasher.hexdigest(),
                hint="it is damaged, or somebody changed it; fetch it again",
            )
        if self._came is not None and data:
            self._came(len(data))
        return len(data)
