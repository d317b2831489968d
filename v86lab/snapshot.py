"""Snapshots: a machine's state in the Store, with the image it belongs to.

A snapshot can be restored into the machine it was taken from, or started as a machine of its own; its state fits only
the hardware, the ``v86.wasm`` and the rules (`ABI`) it was made with, and a mismatch is refused before anything is touched.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ImageError
from .image import Disk, Image
from .protocol import Capture
from .session import ABI, Session
from .store import Store

FORMAT = "v86lab snapshot"
_PATIENCE = 300.0  # s that a capture may take on a slow host
_HARDWARE = ("memory", "video_memory", "bios", "vga_bios", "acpi", "uarts", "consoles")
_MEDIA = ("fda", "fdb", "cdrom")
_MOST_JSON = 1 << 20


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
    """

    name: str
    image: Image
    state: str
    wasm: str
    abi: int = ABI
    parent: str | None = None
    instructions: int = field(default=0, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Snapshot({self.name!r} of {self.image.name!r})"

    def save(self, path: str | os.PathLike[str], store: Store | None = None) -> None:
        """Write the description as JSON; the state stays in the Store and is kept there while the file exists."""
        store = store or Store()
        target = Path(path)
        plain = {"format": FORMAT, "version": 1, **dataclasses.asdict(self), "image": self.image.to_json()}
        target.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        name = f"snapshot-{self.state}-{target.resolve().as_posix()}"
        store.pin(name, [self.state, *self.image.digests(store)], source=target.resolve())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read what `save` wrote."""
        target = Path(path)
        try:
            raw = target.read_bytes()[: _MOST_JSON + 1]
            plain = json.loads(raw)
            if plain["format"] != FORMAT or plain["version"] != 1:
                raise ValueError(f"format {plain['format']!r} version {plain['version']!r}")
            return cls(
                name=str(plain["name"]),
                image=Image.from_json(plain["image"]),
                state=_digest(plain["state"]),
                wasm=_digest(plain["wasm"]),
                abi=int(plain["abi"]),
                parent=None if plain["parent"] is None else str(plain["parent"]),
                instructions=int(plain["instructions"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageError(
                f"{target} is not a snapshot", expected="a file written by Snapshot.save", seen=str(error)
            ) from error

    def check_fits(self, image: Image, wasm: str) -> None:
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
        self.check_engine(wasm)

    def check_engine(self, wasm: str) -> None:
        """Refuse an engine of another kind than the one that made this state."""
        if (self.abi, self.wasm) != (ABI, wasm):
            raise ImageError(
                f"the snapshot {self.name!r} was made by another version of v86lab",
                expected=f"machine ABI {ABI} and v86.wasm {wasm[:12]}",
                seen=f"machine ABI {self.abi} and v86.wasm {self.wasm[:12]}",
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
        self._all: list[Snapshot] = []
        self.current: str | None = None

    def add(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the machine now stands on it. A name that is taken again goes to the new one."""
        self._all = [one for one in self._all if one.name != snapshot.name] + [snapshot]
        self.current = snapshot.name

    def __getitem__(self, name: str) -> Snapshot:
        for one in self._all:
            if one.name == name:
                return one
        known = ", ".join(repr(one.name) for one in self._all) or "none"
        raise ImageError("no such snapshot", expected=f"one of {known}", seen=repr(name))

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        names = {one.name for one in self._all}
        lines: list[str] = []

        def show(parent: str | None, depth: int) -> None:
            for one in self._all:
                above = one.parent if one.parent in names and one.parent != one.name else None
                if above == parent:
                    here = "  <- here" if one.name == self.current else ""
                    lines.append("  " * depth + one.name + here)
                    show(one.name, depth + 1)

        show(None, 0)
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
            wasm=session.wasm,
            parent=parent,
            instructions=int(reply.value["instructions"]),
        )


def _medium(value: dict[str, Any] | None) -> Disk | None:
    return None if value is None else Disk(digest=value["digest"], size=value["size"])


def _size(image: Image, drive: str) -> int | None:
    disk = getattr(image, drive)
    return None if disk is None else int(disk.size)


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{value!r} is not a digest")
    return value
