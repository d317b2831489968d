"""The firmware and the default guest that ship with the package: BIOS, VGA BIOS, kernel, initramfs, agent.

The files lie beside this module; ``SHA256SUMS`` names them and their digests, and ``SOURCES.md`` says where they come
from. The rules: a digest is read from ``SHA256SUMS``, never computed to find out what a file is; a file whose bytes
differ from it is never used; a file that the Store already has is not read again.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from v86lab.errors import StoreError
from v86lab.store import Store

_LINE = re.compile(r"([0-9a-f]{64})[ ][ *](.+)", re.ASCII)
_REPAIR = "pip install --force-reinstall --no-deps v86lab (in a clone: git checkout v86lab/firmware)"
_unpacked = contextlib.ExitStack()
atexit.register(_unpacked.close)


@functools.cache
def _sums() -> Mapping[str, str]:
    try:
        text = importlib.resources.files(__name__).joinpath("SHA256SUMS").read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise StoreError(
            "this installation of v86lab is damaged", expected="firmware/SHA256SUMS", seen=str(error), hint=_REPAIR
        ) from error
    sums = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise StoreError(
                    "this installation of v86lab is damaged",
                    expected="digest and name in SHA256SUMS",
                    seen=repr(line[:80]),
                    hint=_REPAIR,
                )
            sums[match[2]] = match[1]
    return MappingProxyType(sums)


def names() -> tuple[str, ...]:
    """The files there are, sorted.

    Examples
    --------
    >>> "bios.bin" in names()
    True
    """
    return tuple(sorted(_sums()))


def digest(name: str) -> str:
    """The sha256, in hex, that a file must have.

    Examples
    --------
    >>> len(digest("bios.bin"))
    64
    """
    try:
        return _sums()[name]
    except KeyError:
        raise StoreError(
            "there is no such firmware", expected="one of " + ", ".join(names()), seen=repr(name)
        ) from None


def start_name(image: str) -> str:
    """The file that holds the state which an image of this digest starts from; there is one for the default guest.

    Examples
    --------
    >>> start_name("5e" * 32)
    'start-5e5e5e5e5e5e5e5e'
    """
    return f"start-{image[:16]}"


def version() -> str:
    """Twelve hex digits that change when any of the files does.

    Examples
    --------
    >>> len(version())
    12
    """
    lines = "".join(f"{_sums()[name]}  {name}\n" for name in names())
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


@functools.cache
def path(name: str) -> Path:
    """Where a file lies. From an installation inside a zip file it is unpacked first, and removed at exit.

    Examples
    --------
    >>> path("bios.bin").name
    'bios.bin'
    """
    digest(name)
    resource = importlib.resources.files(__name__).joinpath(name)
    found = _unpacked.enter_context(importlib.resources.as_file(resource))
    if not found.is_file():
        raise StoreError(
            "this installation of v86lab is damaged", expected=f"firmware/{name}", seen="no such file", hint=_REPAIR
        )
    return found


def ensure(store: Store, *wanted: str) -> dict[str, str]:
    """Have files in the Store, and give their digests by name.

    Parameters
    ----------
    store : Store
    *wanted : str
        Names; none means all.

    Returns
    -------
    dict[str, str]
        Name to digest.

    Raises
    ------
    StoreError
        A file is missing or its bytes are not those of ``SHA256SUMS``: the installation is damaged.

    Examples
    --------
    >>> store = Store()
    >>> ensure(store, "bios.bin")["bios.bin"] in store
    True
    """
    digests = {name: digest(name) for name in wanted or names()}
    for name, expected in digests.items():
        if expected in store:
            continue
        source = path(name)
        with source.open("rb") as file:
            seen = hashlib.file_digest(file, "sha256").hexdigest()
        if seen != expected:
            raise StoreError(
                "this installation of v86lab is damaged",
                expected=f"sha256 {expected} of firmware/{name}",
                seen=seen,
                hint=_REPAIR,
            )
        store.put_file(source, expected)
    return digests
