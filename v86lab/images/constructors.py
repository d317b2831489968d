"""The constructors: one function for each kind of thing a PC can boot."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Unpack

from v86lab import firmware, formats
from v86lab.board import Common, build, claim, name_after
from v86lab.errors import ImageError
from v86lab.given import Medium, checked, opened
from v86lab.image import Disk, Image

from .nasm import assemble
from .share import Options, Share, prepare, shared

# noapic: of what acpi=True brings, the guest needs the local APIC's timer; its interrupts stay with the PIC.
LINUX_CMDLINE = "console=ttyS0 quiet tsc=reliable mitigations=off random.trust_cpu=on init_on_free=1 noapic"


def linux(
    share: Share | None = None, memory: int | str = "128 MiB", cmdline: str = "", **options: Unpack[Common]
) -> Image:
    """The default guest that ships with v86lab: a small Linux with busybox.

    Parameters
    ----------
    share : folder, Mapping, RootFS or digest, optional
        A folder of this computer, files by name and content, or a tree, that the guest sees at ``/mnt``.
    memory : int or str
    cmdline : str
        Added to the kernel command line.
    **options
        See `Options`.

    Examples
    --------
    >>> image = linux(share={"hello.c": "int main(void) { return 0; }"})
    >>> image.name, image.agent, image.memory
    ('linux', True, 134217728)
    """
    store = prepare(options)
    options.setdefault("agent", True)
    options.setdefault("acpi", True)
    digests = firmware.ensure(store, "bzimage", "initramfs")
    line = f"{LINUX_CMDLINE} {formats.command_line(cmdline)}".rstrip()
    return build(
        "linux",
        {"share": None if share is None else shared(share, store), "memory": memory, "consoles": 2, **options},
        kernel=digests["bzimage"],
        initrd=digests["initramfs"],
        cmdline=line,
        resume=options["agent"],
    )


def kernel(bzimage: Medium, initrd: Medium | None = None, cmdline: str = "", **options: Unpack[Options]) -> Image:
    """A Linux kernel, started by v86 itself without a boot loader.

    Parameters
    ----------
    bzimage : path or bytes
        An i386 bzImage.
    initrd : path or bytes, optional
        An initramfs or initial ramdisk.
    cmdline : str
        The kernel command line, such as ``"console=ttyS0"``.
    **options
        See `Options`.

    Examples
    --------
    >>> image = kernel("bzImage", "initramfs.gz", cmdline="console=ttyS0")    # doctest: +SKIP
    """
    store = prepare(options)
    with opened(bzimage, "kernel", store) as data:
        name_after(options, bzimage)
        header = checked(formats.bzimage, data)
        kernel_digest = data.put(store)
    initrd_digest = None
    if initrd is not None:
        with opened(initrd, "initrd", store) as data:
            checked(formats.initrd, data)
            initrd_digest = data.put(store)
            end = formats.INITRD_ADDRESS + len(data)
            if header.memory > formats.INITRD_ADDRESS:
                raise ImageError(
                    "this kernel overwrites its initrd while it unpacks",
                    expected="a kernel that needs less than 64 MiB, where v86 puts the initrd",
                    seen=formats.size_text(header.memory),
                    hint="build a smaller kernel, or put the root on a disk or a 9p share",
                )
            if end - 1 > header.initrd_max:
                raise ImageError(
                    "this kernel cannot reach so large an initrd",
                    expected=f"an initrd that ends below {header.initrd_max:#x}",
                    seen=f"an end of {end:#x}",
                )
    formats.command_line(cmdline, header.cmdline_size)
    return build("kernel", options, kernel=kernel_digest, initrd=initrd_digest, cmdline=cmdline)


def multiboot(elf: Medium, initrd: Medium | None = None, cmdline: str = "", **options: Unpack[Options]) -> Image:
    """A multiboot 1 kernel, such as a teaching kernel, started by v86 itself.

    Parameters
    ----------
    elf : path or bytes
        An i386 ELF file with a multiboot 1 header.
    initrd : path or bytes, optional
        Given to the kernel as its one boot module.
    cmdline : str
    **options
        See `Options`.

    Examples
    --------
    >>> image = multiboot("kernel.elf", memory="32 MiB")    # doctest: +SKIP
    """
    store = prepare(options)
    with opened(elf, "multiboot kernel", store) as data:
        name_after(options, elf)
        if checked(formats.multiboot, data).wants_video:
            warnings.warn(f"{data.name} asks for a graphics mode, which v86 does not set", stacklevel=2)
        digest = data.put(store)
    module = None
    if initrd is not None:
        with opened(initrd, "boot module", store) as data:
            if not len(data):
                raise ImageError(f"cannot use {data.name}", expected="a boot module", seen="an empty file")
            module = data.put(store)
    return build("multiboot", options, multiboot=digest, initrd=module, cmdline=cmdline)


def boot_sector(code: bytes | str | os.PathLike[str], **options: Unpack[Options]) -> Image:
    """A boot sector, on a floppy of 1440 KiB.

    Parameters
    ----------
    code : bytes, str or Path
        Machine code of at most 512 bytes (filled up and signed when shorter), or its source for NASM as a str. A
        `pathlib.Path` names a file: source when it ends in .asm, .nasm or .s, else code.
    **options
        See `Options`.

    Raises
    ------
    ImageError
        Too long, no signature, NASM not found, or an error in the source, with NASM's own message.

    Examples
    --------
    >>> boot_sector(b"\\xfa\\xf4").fda.size    # cli; hlt
    1474560
    """
    store = prepare(options)
    if isinstance(code, os.PathLike):
        with opened(code, "boot sector", store) as data:
            name_after(options, code)
            whole = data[: formats.MIB + 1]
            if Path(code).suffix.lower() in (".asm", ".nasm", ".s"):
                whole = assemble(_decoded(whole, data.name), folder=Path(code).parent)
    else:
        whole = assemble(code) if isinstance(code, str) else _as_bytes(code, "boot sector")
    sector = formats.boot_sector(whole)
    floppy_bytes = sector.ljust(formats.FLOPPY, b"\x00")
    claim(options, "fda", Disk(store.put(floppy_bytes), len(floppy_bytes)))
    options.setdefault("memory", "16 MiB")
    return build("boot sector", options, boots="floppy")


def floppy(image: Medium, **options: Unpack[Options]) -> Image:
    """A PC that boots a floppy image, of any size that v86's drives know.

    Examples
    --------
    >>> floppy(bytes(1474560)).boot_order
    ('floppy', 'disk', 'cdrom')
    """
    prepare(options)
    name_after(options, image)
    claim(options, "fda", image)
    return build("floppy", options, boots="floppy")


def disk(*disks: Medium, **options: Unpack[Options]) -> Image:
    """A PC that boots from one or two raw hard disk images.

    Examples
    --------
    >>> image = disk(bytes(510) + b"\\x55\\xaa", bytes(1 << 20))
    >>> image.hda.size, image.hdb.size
    (512, 1048576)
    """
    if not 1 <= len(disks) <= 2:
        raise ImageError(
            "v86 has two IDE hard disks" if disks else "no hard disk was given",
            expected="one or two disk images",
            seen=str(len(disks)),
            hint="more data fits on a larger second disk, a CD (cdrom=) or a 9p share (share=)",
        )
    store = prepare(options)
    name_after(options, disks[0])
    if not {"fda", "cdrom"} & set(options):
        with opened(disks[0], "disk", store) as data:
            checked(formats.hard_disk, data)
            if data[510:512] != b"\x55\xaa":
                raise ImageError(
                    f"the BIOS cannot boot {data.name}",
                    expected="a boot sector that ends in 55 aa",
                    seen=data[510:512].hex(" "),
                    hint="boot from something else and attach this: images.iso(CD, hda=DISK), images.linux(hda=DISK)",
                )
    for drive, given in zip(("hda", "hdb"), disks, strict=False):
        claim(options, drive, given)
    return build("disk", options, boots="disk")


def iso(image: Medium, **options: Unpack[Options]) -> Image:
    """A PC that boots from a CD image.

    Examples
    --------
    >>> image = iso("dsl-4.11.iso", memory="256 MiB")    # doctest: +SKIP
    """
    store = prepare(options)
    name_after(options, image)
    with opened(image, "ISO", store) as data:
        if not checked(formats.iso9660, data).bootable:
            raise ImageError(
                f"the BIOS cannot boot {data.name}",
                expected="an El Torito boot record for a BIOS",
                seen="none: a data disc, or one for EFI only",
                hint="attach it to something that boots: images.linux(cdrom=ISO)",
            )
    claim(options, "cdrom", image)
    return build("iso", options, boots="cdrom")


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ImageError(f"cannot assemble {name}", expected="source text in UTF-8", seen="other bytes") from None


def _as_bytes(code: object, what: str) -> bytes:
    if isinstance(code, (bytes, bytearray, memoryview)):
        return bytes(code)
    raise ImageError(f"cannot use this {what}", expected="bytes, source as a str, or a Path", seen=type(code).__name__)
