"""Snapshots: a machine's state in the Store, with the image it belongs to.

A snapshot can be restored into the machine it was taken from, or started as a machine of its own; its state fits only
the hardware, the ``v86.wasm`` and the machine ABI (`v86lab.abi`) it was made with, and a mismatch is refused before
anything is touched.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from . import bundle, saved
from .abi import ABI, check, mismatch
from .errors import ImageError
from .image import Disk, Image
from .protocol import Capture
from .seed import checked_seed
from .session import Session
from .store import Store

FORMAT = "v86lab snapshot"
VERSION = 2  # version 1 had no seed
_PATIENCE = 300.0  # s that a capture may take on a slow host
_HARDWARE = ("memory", "video_memory", "bios", "vga_bios", "acpi", "uarts", "consoles")
_MEDIA = ("fda", "fdb", "cdrom")
_MOST_JSON = 1 << 20
_T = TypeVar("_T", int, str)


@dataclass(frozen=True)
class Snapshot:
    """A machine at one moment.

    Attributes
    ----------
    name : str
    image : Image
        The machine's description, with the media that were in its drives.
    state : str
        Digest of the state in the Store.
    wasm : str
        Digest of the ``v86.wasm`` it was made with.
    abi : int
    parent : str or None
        Name of the snapshot that the machine had been restored from or last saved as.
    instructions : int
        How many instructions the machine had retired.
    seed : int or None
        Of the machine that it was taken of; None: it was on wall-clock time.
    """

    name: str
    image: Image
    state: str
    wasm: str
    abi: int = ABI
    parent: str | None = None
    instructions: int = field(default=0, repr=False, compare=False)
    seed: int | None = None

    def __repr__(self) -> str:
        return f"Snapshot({self.name!r} of {self.image.name!r})"

    def save(self, path: str | os.PathLike[str], store: Store | None = None) -> None:
        """Write the description as JSON; the state stays in the Store and is kept there while the file exists.

        Raises
        ------
        ImageError
            The file cannot be written.
        StoreError
            The state, or a blob of the image, is not in the Store.
        """
        store = Store() if store is None else store
        target = Path(path).resolve()
        keeps = [self.state, *self.image.digests(store)]
        plain = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self), "image": self.image.to_json()}
        pin = f"snapshot-{self.state}-{target.as_posix()}"
        saved.save("snapshot", target, json.dumps(plain, indent=1) + "\n", store, keeps, pin)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read what `save` wrote."""
        target = Path(path)
        try:
            with target.open("rb") as file:
                raw = file.read(_MOST_JSON + 1)
            if len(raw) > _MOST_JSON:
                raise ValueError("more than 1 MiB")
            plain = json.loads(raw)
            if plain["format"] != FORMAT or plain["version"] not in (1, VERSION):
                raise ValueError(f"format {plain['format']!r} version {plain['version']!r}")
            abi = _is(int, plain["abi"])
            if abi == ABI:
                return cls(
                    name=_is(str, plain["name"]),
                    image=Image.from_json(plain["image"]),
                    state=_digest(plain["state"]),
                    wasm=_digest(plain["wasm"]),
                    parent=None if plain["parent"] is None else _is(str, plain["parent"]),
                    instructions=_is(int, plain["instructions"]),
                    seed=None if plain["version"] == 1 else checked_seed(plain["seed"]),
                )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImageError(
                f"{target} is not a snapshot", expected="a file written by Snapshot.save", seen=f"{error!s:.200}"
            ) from error
        raise mismatch(f"the snapshot {target}", abi)

    @classmethod
    def found(cls, what: object) -> Snapshot | None:
        """The snapshot that `what` is, or that the file it names was saved from; None where it is something else."""
        if isinstance(what, Snapshot):
            return what
        if not isinstance(what, str | os.PathLike):
            return None
        try:
            with Path(what).open("rb") as file:
                ours = json.loads(file.read(_MOST_JSON + 1))["format"] == FORMAT
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return cls.load(what) if ours else None

    def check_fits(self, image: Image) -> None:
        """Refuse a machine that this state does not belong to.

        Raises
        ------
        ImageError
            Names what differs.
        """
        differing = [name for name in _HARDWARE if getattr(image, name) != getattr(self.image, name)]
        differing += [name for name in ("hda", "hdb") if _size(image, name) != _size(self.image, name)]
        differing += ["share"] if (image.share is None) != (self.image.share is None) else []
        if differing:
            seen = ", ".join(f"{name} {getattr(image, name)!r}" for name in differing)
            wanted = ", ".join(f"{name} {getattr(self.image, name)!r}" for name in differing)
            raise ImageError(
                f"the snapshot {self.name!r} does not fit this machine",
                expected=wanted,
                seen=seen,
                hint="start it as a machine of its own: lab.Machine(snapshot)",
            )
        self.check_engine()

    def check_engine(self) -> None:
        """Refuse an engine of another kind than the one that made this state."""
        check(f"the snapshot {self.name!r}", self.abi)
        wasm = bundle.wasm()
        if self.wasm != wasm:
            raise ImageError(
                f"the snapshot {self.name!r} was made by another version of v86lab",
                expected=f"v86.wasm {wasm[:12]}",
                seen=f"v86.wasm {self.wasm[:12]}",
                hint="install the version that made it, or boot the image and make it anew",
            )


class Snapshots:
    """The snapshots taken of one machine, as a tree; shows itself.

    Examples
    --------
    >>> Snapshots()
    (no snapshots)
    """

    def __init__(self) -> None:
        self._all: dict[str, Snapshot] = {}
        self._above: dict[str, str | None] = {}
        self.current: str | None = None

    def add(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the machine now stands on it.

        A name that is taken again goes to the new snapshot; what came from the old one moves up to its origin.
        """
        name = self.current = snapshot.name
        if self._all.get(name) == snapshot:
            return
        self._all.pop(name, None)
        above = self._above.pop(name, None)
        self._above = {one: above if parent == name else parent for one, parent in self._above.items()}
        parent = above if snapshot.parent == name else snapshot.parent
        self._all[name], self._above[name] = snapshot, parent if parent in self._all else None

    def free_name(self) -> str:
        """The first of "snapshot-1", "snapshot-2" and so on that is not taken."""
        return next(name for n in itertools.count(1) if (name := f"snapshot-{n}") not in self._all)

    def __getitem__(self, name: str) -> Snapshot:
        if name not in self._all:
            known = ", ".join(map(repr, self._all)) or "none"
            raise ImageError("no such snapshot", expected=f"one of {known}", seen=repr(name))
        return self._all[name]

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        below: dict[str | None, list[str]] = {}
        for name in reversed(self._all):
            below.setdefault(self._above[name], []).append(name)
        lines, waiting = [], [(name, 0) for name in below.get(None, [])]
        while waiting:
            name, depth = waiting.pop()
            lines.append("  " * depth + name + ("  <- here" if name == self.current else ""))
            waiting += [(child, depth + 1) for child in below.get(name, [])]
        return "\n".join(lines) or "(no snapshots)"


def take(session: Session, name: str, parent: str | None) -> Snapshot:
    """Save the machine as it is into the Store."""
    with session.lock:
        reply = session.call(Capture, allow=_PATIENCE)
        media: dict[str, Any] = {drive: _medium(reply.value["media"][drive]) for drive in _MEDIA}
        return Snapshot(
            name=name,
            image=dataclasses.replace(session.image, **media),
            state=session.hub.store.put(reply.payload),
            wasm=bundle.wasm(),
            parent=parent,
            instructions=int(reply.value["instructions"]),
            seed=session.seed,
        )


def _medium(value: dict[str, Any] | None) -> Disk | None:
    return None if value is None else Disk(digest=value["digest"], size=value["size"])


def _size(image: Image, drive: str) -> int | None:
    disk = getattr(image, drive)
    return None if disk is None else int(disk.size)


def _is(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{value!r:.80} is no {kind.__name__}")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{value!r:.80} is not a digest")
    return value
