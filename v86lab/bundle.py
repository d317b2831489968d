"""The JavaScript that this package carries: what it was made from, and its files."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from .store import Store


@cache
def contents() -> dict[str, Any]:
    """``static/VERSIONS.json``: versions, the digest of the sources, and that of each file.

    Examples
    --------
    >>> sorted(contents())
    ['esbuild', 'files', 'sources', 'v86']
    """
    made: dict[str, Any] = json.loads((files("v86lab") / "static" / "VERSIONS.json").read_text(encoding="utf-8"))
    return made


def stored(store: Store, name: str) -> str:
    """Have a file of the bundle in the Store, so that pages can fetch it; gives its digest.

    What pages fetch is a gzip file: the Hub never encodes an answer.
    """
    digest: str = contents()["files"][name]
    if digest not in store:
        store.put((files("v86lab") / "static" / name).read_bytes())
    return digest


def wasm() -> str:
    """Digest of ``v86.wasm``."""
    digest: str = contents()["files"]["v86.wasm"]
    return digest
