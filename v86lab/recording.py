"""Recordings: all that came into a seeded machine from outside, so that the same run can be had again.

A recording is small: the image and the state are in the Store, by digest; what is kept is what was typed, put into
drives, written and run, each with the step at which it happened. Saved, it is one JSON file, which may come from a
stranger: it is read bounded and checked.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from . import saved
from .abi import ABI, check, mismatch
from .errors import EngineError, ImageError
from .image import Image
from .protocol import ReadRecording
from .seed import checked_seed
from .session import Session
from .store import Store

FORMAT = "v86lab recording"
VERSION = 1
_HEAD = f'{{"format": "{FORMAT}"'.encode()
_TAIL = b"}\n"
_MOST_BYTES = 256 << 20
_PATIENCE = 120.0  # s in which an engine writes a long one down
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEYS = ("abi", "seed", "image", "state", "fresh", "steps", "instructions", "seconds", "events")
_T = TypeVar("_T", int, str, bool)


@dataclass(frozen=True)
class Recording:
    """A run of a seeded machine, from its start until the moment when `Machine.recording` was read.

    Attributes
    ----------
    seed : int
    image : Image
        What it ran, with the media that were in its drives at the start.
    state : str or None
        Digest of the state it started from; None: it booted.
    fresh : bool
        Whether that state was given the seed's own time and entropy.
    events : sequence
        What came in, in order: ``[step, instructions, kind, ...]`` each, of JSON values.
    steps, instructions : int
        How far it had come.
    seconds : float
        The guest's clock at its end.
    abi : int
        The machine ABI.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine(seed=7) as vm:
    ...     made = vm.run("head -c8 /dev/urandom | sha256sum").stdout
    ...     with lab.replay(vm.recording) as again:
    ...         again.state_hash() == vm.state_hash()
    True
    """

    seed: int
    image: Image
    state: str | None
    fresh: bool
    events: Sequence[Sequence[Any]] = field(hash=False)
    steps: int
    instructions: int
    seconds: float
    abi: int = ABI

    def __repr__(self) -> str:
        count = f"{len(self.events)} event" + ("" if len(self.events) == 1 else "s")
        return f"Recording(seed {self.seed} of {self.image.name!r}: {count} in {self.seconds:.3f} s)"

    def digests(self, store: Store | None = None) -> frozenset[str]:
        """All blobs that it refers to: of the image, the state, and media that were put into drives.

        Parameters
        ----------
        store : Store, optional
            With it, the files of the image's 9p tree are included.
        """
        states = [] if self.state is None else [self.state]
        return self.image.digests(store) | frozenset(states) | frozenset(_media(self.events))

    def save(self, path: str | os.PathLike[str], store: Store | None = None) -> None:
        """Write it as JSON; the blobs it refers to stay in the Store, and are kept there while the file exists.

        Raises
        ------
        ImageError
            The file cannot be written.
        StoreError
            A blob is not in the Store.
        """
        store = Store() if store is None else store
        target = Path(path).resolve()
        plain = {"format": FORMAT, "version": VERSION} | {key: getattr(self, key) for key in _KEYS}
        plain |= {"image": self.image.to_json(), "events": list(self.events)}
        pin = saved.pin_name("recording", target)
        saved.save("recording", target, json.dumps(plain) + "\n", store, self.digests(store), pin)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read what `save` wrote. Its blobs are looked for only when it is replayed.

        Raises
        ------
        ImageError
            It cannot be read, is cut short or damaged, or was made with another version or machine ABI.
        """
        name = f"the recording {os.fspath(path)!r}"
        try:
            with Path(path).open("rb") as file:
                raw = file.read(_MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            seen = getattr(error, "strerror", None) or str(error)
            raise ImageError(f"cannot read {name}", expected="a saved recording", seen=seen) from error
        if len(raw) > _MOST_BYTES:
            raise ImageError(f"cannot read {name}", expected=f"at most {_MOST_BYTES} bytes", seen="more")
        if not raw.startswith(_HEAD) and not (raw and _HEAD.startswith(raw)):
            raise ImageError(f"{name} is none", expected="a file written by Recording.save", seen=repr(raw[:40]))
        try:
            plain = json.loads(raw, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            if not raw.endswith(_TAIL):
                raise ImageError(
                    f"{name} is cut short",
                    expected="the whole of a file written by Recording.save",
                    seen=f"an end after {len(raw)} bytes",
                    hint="copy it again",
                ) from None
            raise ImageError(
                f"{name} is damaged", expected="JSON", seen=f"{error!s:.80}", hint="copy it again"
            ) from None
        return cls._of(name, plain)

    @classmethod
    def _of(cls, name: str, plain: Mapping[str, Any]) -> Recording:
        if plain.get("format") != FORMAT or plain.get("version") != VERSION:
            raise ImageError(
                f"cannot read {name}",
                expected=f"{FORMAT}, version {VERSION}",
                seen=f"{plain.get('format')!r:.40}, version {plain.get('version')!r:.40}",
                hint="it was saved by another release of v86lab: pip install --upgrade v86lab",
            )
        try:
            abi = _is(int, plain["abi"])
            if abi == ABI:
                return cls(image=Image.from_json(plain["image"]), **_values(plain))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ImageError(
                f"{name} is damaged",
                expected="what Recording.save wrote",
                seen=f"no {error}" if isinstance(error, KeyError) else f"{error!s:.200}",
            ) from error
        raise mismatch(name, abi)

    def check_replays(self, image: Image | None) -> None:
        """Refuse a run that this installation, or another image, could not give again.

        Raises
        ------
        ImageError
            Names what differs.
        """
        check(f"the recording of seed {self.seed}", self.abi)
        if image is None or image.digest == self.image.digest:
            return
        ours, theirs = self.image.to_json(), image.to_json()
        differing = [name for name in ours if ours[name] != theirs[name]]
        raise ImageError(
            f"the recording of {self.image.name!r} is of another image",
            expected=", ".join(f"{name} {ours[name]!r:.80}" for name in differing),
            seen=", ".join(f"{name} {theirs[name]!r:.80}" for name in differing),
            hint="replay it without image=: lab.replay(recording)",
        )


def take(session: Session) -> Recording:
    """What has come into the session's machine until now."""
    session.assert_seeded("a recording")
    with session.lock:
        payload = session.call(ReadRecording, allow=_PATIENCE).payload
        try:
            plain = json.loads(payload)
            return Recording(image=Image.from_json(plain["image"]), **_values(plain))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise EngineError(
                "the engine's recording cannot be read", seen=f"{error!s:.200}", hint="this is a defect of v86lab"
            ) from error


def _values(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recording that are plain JSON, checked."""
    seed, state, seconds = checked_seed(_is(int, plain["seed"])), plain["state"], plain["seconds"]
    if state is not None and not _DIGEST.fullmatch(_is(str, state)):
        raise ValueError(f"{reprlib.repr(state)} is no digest")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{reprlib.repr(seconds)} is no time")
    values = {"seed": seed, "state": state, "fresh": _is(bool, plain["fresh"]), "seconds": float(seconds)}
    steps, instructions = (_count(plain[name]) for name in ("steps", "instructions"))
    events = plain["events"]
    if not isinstance(events, list):
        raise ValueError(f"{reprlib.repr(events)} are no events")
    before = 0
    for event in events:
        if not isinstance(event, list) or len(event) < 3 or not isinstance(event[2], str):
            raise ValueError(f"{reprlib.repr(event)} is no event")
        step, _ = _count(event[0]), _count(event[1])
        if not before <= step <= steps:
            raise ValueError(f"the event {reprlib.repr(event)} is out of order")
        before = step
    return values | {"steps": steps, "instructions": instructions, "events": events}


def _media(events: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The digests of media in events: ``{"digest": ..., "size": ...}`` is an item of one that changes a medium."""
    for event in events:
        for item in event:
            digest = item.get("digest") if isinstance(item, Mapping) else None
            if isinstance(digest, str) and _DIGEST.fullmatch(digest):
                yield digest


def _is(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{reprlib.repr(value)} is no {kind.__name__}")
    return value


def _count(value: object) -> int:
    count = _is(int, value)
    if count < 0:
        raise ValueError(f"{count} is no count")
    return count


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
