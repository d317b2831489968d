"""A Packages file: what an archive offers, and what it says of each .deb.

The bytes come from a mirror and are not verified here (apt does that): sizes are bounded, and what a line says is only
used to find files that give the digest it names, and to help with names.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from v86lab.errors import ImageError
from v86lab.formats import MIB

_MOST = 1024 * MIB
_OPENERS: dict[bytes, Callable[[io.BytesIO], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\0": lzma.open,
    b"BZh": bz2.open,
}
_FIELDS = (b"\nPackage:", b"\nVersion:", b"\nArchitecture:", b"\nFilename:", b"\nSHA256:")


@dataclass(frozen=True)
class Offer:
    """One package of an archive.

    Attributes
    ----------
    name, version, architecture : str
    filename : str
        Path of its .deb below the mirror's address.
    sha256 : str
        Digest of its .deb; empty when the archive does not say.
    """

    name: str
    version: str
    architecture: str
    filename: str
    sha256: str


def offers(data: bytes) -> Iterator[Offer]:
    """The packages of a Packages file, plain or packed with gzip, xz or bzip2.

    Raises
    ------
    ImageError
        It is damaged, or unreasonably big.

    Examples
    --------
    >>> text = b"Package: hello\\nVersion: 2.10-3\\nArchitecture: i386\\nFilename: pool/hello.deb\\nSHA256: ab\\n"
    >>> [offer.name for offer in offers(text)]
    ['hello']
    """
    for stanza in _unpacked(data).split(b"\n\n"):
        offer = Offer(*(_field(b"\n" + stanza, field) for field in _FIELDS))
        if offer.name:
            yield offer


def _field(stanza: bytes, field: bytes) -> str:
    start = stanza.find(field)
    if start < 0:
        return ""
    start += len(field)
    end = stanza.find(b"\n", start)
    return stanza[start : end if end >= 0 else None].strip().decode("utf-8", "replace")


def _unpacked(data: bytes) -> bytes:
    opener = next((opener for magic, opener in _OPENERS.items() if data.startswith(magic)), None)
    try:
        if opener is None:
            text = data
        else:
            with opener(io.BytesIO(data)) as opened:
                text = opened.read(_MOST + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ImageError("a mirror's Packages file is damaged", seen=str(error), hint="try again later") from error
    if len(text) > _MOST:
        raise ImageError("a mirror's Packages file is too big", expected=f"at most {_MOST >> 20} MiB", seen="more")
    return text
