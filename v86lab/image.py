"""Image: the frozen description of a PC.

An Image says what a machine is made of: memory, firmware, kernel, media, ports. The rules it keeps:

* It refers to bytes by sha256 only, never by path; the bytes are in the Store.
* It is a value: immutable, hashable, equal when the description is equal, and `Image.digest` names it.
* A combination that v86 would ignore or that cannot be expressed on its hardware is refused when the Image is made,
  so that nothing after it has to check again.
* Its JSON may come from a stranger: it is checked key by key. Saved, it is one file with all its blobs
  (`v86lab.v86file`).

`v86lab.images` makes Images from files and bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, get_args, get_type_hints

from v86lab import abi, formats, tree9p, v86file
from v86lab.errors import ImageError
from v86lab.store import Store

FORMAT = "v86lab image"
VERSION = 2
KIND = "image"
BOOT_DEVICES = ("floppy", "disk", "cdrom")

EPOCH = 1767225600  # 2026-01-01, 00:00 UTC
MIPS = 100

_MOST_EPOCH = 3155759999  # the end of 2069: Linux takes a real-time clock's year 70 for 1970
_MOST_MIPS = 10_000
_SINCE_VERSION_2 = {"abi": abi.ABI, "epoch": EPOCH, "mips": MIPS, "jit": True}
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Disk:
    """A medium: its bytes in the Store, and how many there are.

    Examples
    --------
    >>> Disk("0" * 64, 1474560).size
    1474560
    """

    digest: str
    size: int

    def __post_init__(self) -> None:
        _check_digest("a disk's digest", self.digest)
        if type(self.size) is not int or not 0 < self.size <= formats.DISK_MAX:
            raise ImageError(
                "cannot use this disk", expected="a size in bytes, less than 1 TiB", seen=reprlib.repr(self.size)
            )


@dataclass(frozen=True)
class Image:
    """A PC that can be booted.

    Parameters
    ----------
    name : str
        What people call it.
    memory, video_memory : int
        Bytes.
    bios, vga_bios : str
        Digests of the firmware.
    kernel, initrd, multiboot : str, optional
        Digests. `kernel` (a bzImage) or `multiboot` (a multiboot 1 kernel) is started in place of a medium; `initrd`
        goes with either.
    cmdline : str
        The kernel's command line.
    fda, fdb, hda, hdb, cdrom : Disk, optional
        Media in the drives at power-on.
    boot_order : tuple of str
        Media the BIOS tries, first one first: ``"floppy"``, ``"disk"``, ``"cdrom"``.
    acpi : bool
        Have ACPI tables, an IO-APIC and a local APIC.
    uarts : int
        Serial ports, 1 to 4.
    consoles : int
        Virtio console ports (hvc0...), 0 to 4.
    share : str, optional
        Digest of the fs.json of a 9p tree (tag ``host9p``).
    agent : bool
        The guest runs v86lab's agent on hvc1.
    resume : bool
        Start from a state kept in the Store, made on first use. Needs the agent, which corrects the clock afterwards.
    epoch : int
        What a seeded machine's calendar shows at power-on: seconds since 1970, in UTC.
    mips : int
        How fast a seeded machine's clock goes while the guest works: so many million instructions are a second.
    jit : bool
        Have v86 compile the guest's code; without, it interprets.

    Examples
    --------
    >>> image = Image(name="bare", memory=1 << 20, video_memory=8 << 20, bios="a" * 64, vga_bios="b" * 64)
    >>> Image.from_json(image.to_json()) == image
    True
    """

    name: str
    memory: int
    video_memory: int
    bios: str
    vga_bios: str
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    multiboot: str | None = None
    fda: Disk | None = None
    fdb: Disk | None = None
    hda: Disk | None = None
    hdb: Disk | None = None
    cdrom: Disk | None = None
    boot_order: tuple[str, ...] = BOOT_DEVICES
    acpi: bool = False
    uarts: int = 1
    consoles: int = 0
    share: str | None = None
    agent: bool = False
    resume: bool = False
    epoch: int = EPOCH
    mips: int = MIPS
    jit: bool = True

    def __post_init__(self) -> None:
        for field, kinds in _KINDS.items():
            value = getattr(self, field)
            if type(value) not in kinds:
                wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
                raise ImageError(f"cannot use this {field}", expected=wanted, seen=reprlib.repr(value))
        if not (0 < len(self.name) <= 200 and self.name.isprintable()):
            raise ImageError(
                "cannot use this image name", expected="1 to 200 printable characters", seen=f"{self.name[:80]!a}"
            )
        for field in ("bios", "vga_bios", "kernel", "initrd", "multiboot", "share"):
            if getattr(self, field) is not None:
                _check_digest(field, getattr(self, field))
        self._check_ports()
        self._check_media()
        self._check_kernel()
        self._check_clock()

    def _check_ports(self) -> None:
        formats.memory(self.memory)
        formats.video_memory(self.video_memory)
        if not 1 <= self.uarts <= 4:
            raise ImageError("cannot have so many serial ports", expected="1 to 4", seen=str(self.uarts))
        if not 0 <= self.consoles <= 4:
            raise ImageError("cannot have so many virtio consoles", expected="0 to 4", seen=str(self.consoles))
        if self.agent and self.consoles < 2:
            raise ImageError("the agent needs hvc1", expected="consoles=2 or more", seen=f"consoles={self.consoles}")
        if self.resume and not self.agent:
            raise ImageError(
                "a resumed guest needs the agent",
                expected="agent=True",
                seen="agent=False",
                hint="without it the guest's clock stays where the state was saved",
            )

    def _check_clock(self) -> None:
        if not 0 <= self.epoch <= _MOST_EPOCH:
            raise ImageError(
                "cannot use this epoch",
                expected=f"seconds since 1970, from 0 to {_MOST_EPOCH} (the end of 2069)",
                seen=reprlib.repr(self.epoch),
            )
        if not 1 <= self.mips <= _MOST_MIPS:
            raise ImageError("cannot use this mips", expected=f"1 to {_MOST_MIPS}", seen=reprlib.repr(self.mips))

    def _check_media(self) -> None:
        order = self.boot_order
        if not order or len(set(order)) != len(order) or not all(device in BOOT_DEVICES for device in order):
            raise ImageError(
                "cannot use this boot order",
                expected='"floppy", "disk", "cdrom", each once at most',
                seen=reprlib.repr(order),
            )
        if self.hdb is not None and self.hda is None:
            raise ImageError("v86 ignores a second hard disk without a first", expected="hda", seen="hdb alone")
        for name, sector in (("hda", formats.SECTOR), ("hdb", formats.SECTOR), ("cdrom", formats.CD_SECTOR)):
            disk = getattr(self, name)
            if disk is not None and disk.size % sector:
                raise ImageError(
                    f"cannot use this {name}", expected=f"whole sectors of {sector} bytes", seen=f"{disk.size} bytes"
                )
        for name, disk in (("fda", self.fda), ("fdb", self.fdb)):
            if disk is not None and formats.floppy_geometry(disk.size) is None:
                raise ImageError(
                    f"cannot use this {name}", expected="a floppy's size, such as 1474560", seen=f"{disk.size} bytes"
                )

    def _check_kernel(self) -> None:
        if self.kernel is not None and self.multiboot is not None:
            raise ImageError("a machine starts one kernel", expected="kernel or multiboot", seen="both")
        formats.command_line(self.cmdline)
        if self.kernel is None and self.multiboot is None:
            for field in ("initrd", "cmdline"):
                if getattr(self, field):
                    raise ImageError(
                        f"{field} goes with a kernel",
                        expected="kernel or multiboot",
                        seen="neither",
                        hint="a kernel on a disk or ISO gets its own from the boot loader there",
                    )
        # src/cpu.js gives a machine with an initrd 64 MiB at least; src/kernel.js puts a bzImage's initrd there.
        least = formats.INITRD_ADDRESS + (self.kernel is not None)
        if self.initrd is not None and self.memory < least:
            raise ImageError(
                "an initrd needs more memory than this",
                expected=f"{'more than' if self.kernel else 'at least'} 64 MiB",
                seen=formats.size_text(self.memory),
                hint='memory="128 MiB"',
            )

    # ---- identity and references ----

    @property
    def digest(self) -> str:
        """The sha256, in hex, of the canonical JSON: equal descriptions have equal digests, everywhere."""
        return hashlib.sha256(self.canonical_json()).hexdigest()

    def canonical_json(self) -> bytes:
        """The one way to write this description: sorted keys, no spaces, ASCII."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def digests(self, store: Store | None = None) -> frozenset[str]:
        """All blobs this description refers to.

        Parameters
        ----------
        store : Store, optional
            With it, the files of the 9p tree are included, which the description itself names only through `share`.

        Examples
        --------
        >>> image = Image(name="bare", memory=1 << 20, video_memory=8 << 20, bios="a" * 64, vga_bios="b" * 64)
        >>> image.digests() == {"a" * 64, "b" * 64}
        True
        """
        found = {self.bios, self.vga_bios}
        found.update(d for d in (self.kernel, self.initrd, self.multiboot, self.share) if d is not None)
        found.update(d.digest for d in (self.fda, self.fdb, self.hda, self.hdb, self.cdrom) if d is not None)
        if self.share is not None and store is not None:
            found.update(tree9p.digests_of(self.share, store))
        return frozenset(found)

    # ---- JSON ----

    def to_json(self) -> dict[str, Any]:
        """The description as plain JSON values, with the format's name and version, and the machine ABI."""
        plain = dataclasses.asdict(self)
        plain["boot_order"] = list(self.boot_order)
        return {"format": FORMAT, "version": VERSION, "abi": abi.ABI} | plain

    @classmethod
    def from_json(cls, plain: object) -> Image:
        """Make an Image of what `to_json` gave.

        Raises
        ------
        ImageError
            Not an Image, another version or machine ABI, a key that is missing or unknown, or values no Image may have.
        """
        expected = f'a JSON object with "format": "{FORMAT}"'
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            raise ImageError("this is no saved image", expected=expected, seen=reprlib.repr(plain))
        version = plain.get("version")
        if type(version) is not int or version not in (1, VERSION):
            raise ImageError(
                "cannot read this image",
                expected=f"version 1 or {VERSION}",
                seen=f"version {reprlib.repr(version)}",
                hint="it was saved by another release of v86lab: pip install --upgrade v86lab",
            )
        values = {key: value for key, value in plain.items() if key not in ("format", "version")}
        if version == 1:
            values = _SINCE_VERSION_2 | values
        _check_keys("this image", values, (*_FIELDS, "abi"))
        made_with = values.pop("abi")
        if type(made_with) is not int:
            raise ImageError("cannot use this image's abi", expected="int", seen=reprlib.repr(made_with))
        abi.check("this image", made_with)
        for field in ("fda", "fdb", "hda", "hdb", "cdrom"):
            disk = values[field]
            if disk is not None:
                if not isinstance(disk, Mapping):
                    raise ImageError(f"cannot use this {field}", expected="digest and size", seen=reprlib.repr(disk))
                _check_keys(field, disk, ("digest", "size"))
                values[field] = Disk(disk["digest"], disk["size"])
        order = values["boot_order"]
        if not isinstance(order, list) or not all(isinstance(device, str) for device in order):
            raise ImageError("cannot use this boot order", expected="a list of names", seen=reprlib.repr(order))
        values["boot_order"] = tuple(order)
        return cls(**values)

    # ---- files ----

    def save(self, path: str | os.PathLike[str], store: Store | None = None) -> None:
        """Write one file that holds the description and every blob, to hand out: a .v86 file.

        Parameters
        ----------
        path : path
            Where to write; an existing file is replaced at once.
        store : Store, optional
            Where the blobs are (default: the user's own).

        Raises
        ------
        ImageError
            The file cannot be written.
        StoreError
            A blob is not in the Store.

        Examples
        --------
        >>> from v86lab import images
        >>> image = images.boot_sector(b"hello")
        >>> image.save("hello.v86")
        >>> Image.load("hello.v86") == image
        True
        """
        store = Store() if store is None else store
        v86file.save(path, KIND, self.to_json(), self.digests(store), store)

    @classmethod
    def load(cls, source: str | os.PathLike[str] | BinaryIO, store: Store | None = None) -> Image:
        """Read what `save` wrote, and put the blobs into the Store that it does not have.

        Nothing keeps them there but use: when `gc` has taken some, the file is read again.

        Parameters
        ----------
        source : path or binary stream
            A stream is read to its end, and need not be seekable.
        store : Store, optional
            Where the blobs go (default: the user's own).

        Raises
        ------
        ImageError
            It is no .v86 file, holds no image, is damaged or was cut short.
        StoreError
            A blob cannot be kept.
        """
        store = Store() if store is None else store
        if isinstance(source, str | os.PathLike):
            with v86file.opened(source) as file:
                return cls.load(file, store)
        reader = v86file.Reader(source)
        if reader.kind != KIND:
            raise ImageError(
                "this .v86 file holds no image",
                expected=f'the kind "{KIND}"',
                seen=reprlib.repr(reader.kind),
                hint="a newer release of v86lab may read it: pip install --upgrade v86lab",
            )
        image = cls.from_json(reader.description)
        image._check_blobs(reader.blobs)
        reader.unpack(store)
        if stray := image.digests(store) ^ reader.blobs.keys():
            raise ImageError(
                "this .v86 file is not whole",
                expected="the blobs that its image refers to",
                seen=f"{len(stray)} of them missing, or others",
            )
        return image

    def _check_blobs(self, sizes: Mapping[str, int]) -> None:
        """Refuse blobs that lack what the description itself names, before any of them is read."""
        disks = {disk.digest: disk.size for disk in (self.fda, self.fdb, self.hda, self.hdb, self.cdrom) if disk}
        for digest in sorted(self.digests()):
            size = sizes.get(digest)
            if size is None or size != disks.get(digest, size):
                raise ImageError(
                    "this .v86 file is not whole",
                    expected=f"blob {digest[:12]}…" + (f" of {disks[digest]} bytes" if digest in disks else ""),
                    seen="none" if size is None else f"{size} bytes",
                )


# A field's permitted types, from its annotation: int does not admit bool.
_KINDS: dict[str, tuple[type, ...]] = {
    field: get_args(hint) if type(None) in get_args(hint) else ((tuple,) if hint == tuple[str, ...] else (hint,))
    for field, hint in get_type_hints(Image).items()
}
_FIELDS = tuple(_KINDS)


def _check_digest(what: str, value: object) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ImageError(f"cannot use this as {what}", expected="a sha256 in 64 hex digits", seen=reprlib.repr(value))


def _check_keys(what: str, values: Mapping[Any, Any], wanted: Iterable[str]) -> None:
    missing, unknown = set(wanted) - set(values), set(values) - set(wanted)
    if missing:
        raise ImageError(f"{what} is incomplete", expected="every key", seen="no " + ", ".join(sorted(missing)))
    if unknown:
        names = ", ".join(sorted(reprlib.repr(key) for key in unknown)[:5])
        raise ImageError(f"{what} has keys of no meaning", expected=", ".join(wanted), seen=names)
