"""Descriptions saved as files (snapshots, recordings): small JSON that refers to blobs of a Store.

The rules: nothing is written before every blob is known to be there; the file appears whole or not at all; its blobs
are kept for as long as it exists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from .atomic import write_atomically
from .errors import ImageError
from .store import Store


def save(what: str, target: Path, text: str, store: Store, keeps: Iterable[str], pin: str) -> None:
    """Write a description, and keep its blobs in the Store while the file exists.

    Parameters
    ----------
    what : str
        What it is, for people: "snapshot".
    target : Path
        An existing file is replaced at once.
    text : str
    store : Store
    keeps : iterable of str
        Digests of the blobs.
    pin : str
        Name of the pin.

    Raises
    ------
    ImageError
        The file cannot be written.
    StoreError
        A blob is not in the Store.
    """
    digests = list(keeps)
    for digest in digests:
        store.size(digest)
    try:
        write_atomically(target, text)
    except OSError as error:
        raise ImageError(
            f"cannot save the {what} as {str(target)!r}",
            expected="a folder one may write to",
            seen=error.strerror or str(error),
        ) from error
    store.pin(pin, digests, source=target)


def pin_name(what: str, target: Path) -> str:
    """Names a pin for a file by where it is.

    Examples
    --------
    >>> len(pin_name("recording", Path("a.json")))
    42
    """
    return f"{what}-" + hashlib.sha256(str(target).encode("utf-8", "surrogateescape")).hexdigest()[:32]
