"""The board that every machine is put together on: the options that all constructors have, made into an Image."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from v86lab import firmware, formats
from v86lab.errors import ImageError
from v86lab.image import BOOT_DEVICES, EPOCH, MIPS, Disk, Image
from v86lab.store import Store

from .given import Data, Medium, checked, opened

VIDEO_MEMORY = 8 * formats.MIB


class Common(TypedDict, total=False):
    """Options of everything that makes an Image.

    ``video_memory`` is a size ("8 MiB", or bytes); ``hda``, ``hdb``, ``fda``, ``fdb`` and ``cdrom`` are media: a path,
    bytes or a `Disk` that the Store has; ``agent`` says that the guest runs v86lab's agent; ``store`` is where bytes go
    (default: the user's). ``epoch`` is when a seeded machine is switched on (seconds since 1970), ``mips`` how many
    million instructions its second has, ``jit=False`` has the guest interpreted. The others are fields of `Image`.
    """

    name: str
    video_memory: int | str
    acpi: bool
    uarts: int
    consoles: int
    boot_order: Sequence[str]
    fda: Medium
    fdb: Medium
    hda: Medium
    hdb: Medium
    cdrom: Medium
    agent: bool
    epoch: int
    mips: int
    jit: bool
    store: Store


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "fda": formats.floppy,
    "fdb": formats.floppy,
    "hda": formats.hard_disk,
    "hdb": formats.hard_disk,
    "cdrom": formats.iso9660,
}


def medium(drive: str, given: Medium, store: Store) -> Disk:
    """Put a medium for a drive into the Store; it need not be one that boots.

    Parameters
    ----------
    drive : str
        ``"fda"``, ``"fdb"``, ``"hda"``, ``"hdb"`` or ``"cdrom"``.
    given : path, bytes or Disk
    store : Store

    Raises
    ------
    ImageError
        It is no floppy, disk or ISO that v86 takes as it is.

    Examples
    --------
    >>> medium("fda", bytes(1474560), Store()).size
    1474560
    """
    if drive not in _CHECKS:
        raise ImageError("there is no such drive", expected=", ".join(_CHECKS), seen=formats.quoted(drive))
    with opened(given, drive, store) as data:
        checked(_CHECKS[drive], data)
        return data.disk(store)


def prepare(options: Common) -> Store:
    """Refuse misspelt options, and fill in the Store."""
    known = Common.__optional_keys__ | {"memory", "share"}
    unknown = sorted(set(options) - known)
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise TypeError(f"unknown option {unknown[0]!r}" + (f", did you mean {close[0]!r}?" if close else ""))
    if options.get("store") is None:
        options["store"] = Store()
    return options["store"]


def build(default_name: str, options: Mapping[str, Any], boots: str | None = None, **fields: Any) -> Image:
    """Make the Image of a constructor's own fields and of prepared options; ``share`` is the digest of a 9p tree."""
    store: Store = options["store"]
    fields["memory"] = formats.memory(options.get("memory", "128 MiB"))
    fields["video_memory"] = formats.video_memory(options.get("video_memory", VIDEO_MEMORY))
    for drive in _CHECKS:
        if options.get(drive) is not None:
            fields[drive] = medium(drive, options[drive], store)
    if options.get("share") is not None:
        fields["share"] = options["share"]
    order = options.get("boot_order")
    if order is None:
        order = ([boots] if boots else []) + [device for device in BOOT_DEVICES if device != boots]
    bios = firmware.ensure(store, "bios.bin", "vgabios.bin")
    agent = options.get("agent", False)
    image = Image(
        name=options.get("name", default_name),
        bios=bios["bios.bin"],
        vga_bios=bios["vgabios.bin"],
        boot_order=tuple(order) if isinstance(order, list) else order,
        acpi=options.get("acpi", False),
        uarts=options.get("uarts", 1),
        consoles=options.get("consoles", 2 if agent else 0),
        agent=agent,
        epoch=options.get("epoch", EPOCH),
        mips=options.get("mips", MIPS),
        jit=options.get("jit", True),
        **fields,
    )
    check_memory(image, store)
    return image


def check_memory(image: Image, store: Store) -> None:
    """Refuse a kernel or initrd that does not fit: v86 would throw, or start without it."""
    needs = 0
    if image.kernel is not None:
        with store.open(image.kernel) as file:
            needs = formats.bzimage(Data(file, "kernel", image.kernel)).memory
    elif image.multiboot is not None:
        with store.open(image.multiboot) as file:
            needs = formats.multiboot(Data(file, "kernel", image.multiboot)).memory
    if image.initrd is not None:
        size = store.size(image.initrd)
        # A bzImage's initrd lies at 64 MiB, a multiboot module right behind the kernel (src/cpu.js).
        needs = max(needs, formats.INITRD_ADDRESS + size) if image.kernel else (needs + 4095) // 4096 * 4096 + size
    # src/cpu.js loads a multiboot segment, or a module, only when it ends below the top.
    if needs > image.memory or (image.multiboot is not None and needs == image.memory):
        enough = (needs // formats.MIB + 1) * formats.MIB
        raise ImageError(
            "this guest does not fit into its memory",
            expected=f"more than {needs} bytes for kernel and initrd",
            seen=formats.size_text(image.memory),
            hint=f'memory="{formats.size_text(enough)}", or more',
        )


def claim(options: Any, drive: str, given: Medium | None) -> None:
    """Put what the machine boots from into its drive, unless an option has filled that."""
    if given is None:
        raise ImageError(f"cannot use this {drive}", expected="a path, bytes or a Disk", seen="NoneType")
    if options.get(drive) is not None:
        raise ImageError(
            f"{drive} is taken", expected=f"no {drive}=, it holds what the machine boots from", seen=f"{drive}= too"
        )
    options[drive] = given


def name_after(options: Common, source: object) -> None:
    """Call the image after its file, unless it was given a name."""
    if isinstance(source, (str, os.PathLike)) and "name" not in options:
        name = printable(Path(os.fspath(source)).name)
        if name:
            options["name"] = name


def printable(name: str) -> str:
    """Make a file's name one that an Image may have."""
    return "".join(c if c.isprintable() else "?" for c in name)[:200]


def with_memory(image: Image, memory: int | str, store: Store) -> Image:
    """Give an Image another memory size, when what it starts fits."""
    changed = dataclasses.replace(image, memory=formats.memory(memory))
    check_memory(changed, store)
    return changed
