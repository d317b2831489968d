"""Pins: what `Store.gc` must keep, and small values under a name, one JSON file each.

Reading them is here; writing and the rules of a Store are in `v86lab.store`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StoreError

DIGEST = re.compile(r"[0-9a-f]{64}")
"""A sha256 digest as the Store writes it."""

_PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789_-."


@dataclass(frozen=True)
class Pin:
    """What `gc` must keep, and a small value under a name.

    Attributes
    ----------
    name : str
        Any text.
    keeps : tuple of str
        Digests of blobs.
    value : Mapping, optional
        Anything JSON can hold.
    source : Path, optional
        The file on whose behalf the blobs are kept. Once it is gone, so is the pin.
    """

    name: str
    keeps: tuple[str, ...]
    value: Mapping[str, Any] | None = None
    source: Path | None = None


def place(layer: Path, name: str) -> Path:
    """Where a Store keeps the pin of that name."""
    # Capitals are quoted as well: some file systems do not tell them from small letters.
    quoted = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02x}" for byte in name.encode())
    if len(quoted) > 150:
        quoted = f"{quoted[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return layer / "pins" / f"{quoted}.json"


def text(pin: Pin) -> bytes:
    """A pin as its file holds it."""
    source = None if pin.source is None else str(pin.source.absolute())
    plain = {"name": pin.name, "keeps": list(pin.keeps), "value": pin.value, "source": source}
    return json.dumps(plain, indent=1).encode() + b"\n"


def load_all(layer: Path) -> Iterator[Pin]:
    """Every pin of a Store that is not void."""
    for path in listing(layer / "pins"):
        if path.name.endswith(".json") and (pin := load(path)) is not None:
            yield pin


def load(path: Path) -> Pin | None:
    """Read a pin; None when there is none or its source is gone."""
    try:
        written = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    try:
        match json.loads(written):
            case {
                "name": str(name),
                "keeps": [*keeps],
                "value": (dict() | None) as value,
                "source": (str() | None) as source,
            } if all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in keeps):
                if source is not None and not Path(source).exists():
                    return None
                return Pin(name, tuple(keeps), value, None if source is None else Path(source))
    except ValueError:
        pass
    raise StoreError(
        f"{path} is not a pin",
        expected="JSON with name, keeps, value and source",
        seen=repr(written[:80]),
        hint="remove the file if you do not need what it kept; until then gc removes nothing",
    )


def listing(folder: Path) -> list[Path]:
    """What a folder holds; nothing when it is not there."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(path: Path, error: Exception) -> StoreError:
    """What to raise when a file of the Store's cannot be read."""
    return StoreError(f"cannot read {path}", seen=str(error), hint="check its permissions and the disk")
