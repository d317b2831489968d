"""Media: boot sectors, floppies, hard disks and ISO 9660 images."""

from __future__ import annotations

from dataclasses import dataclass

from v86lab.errors import ImageError

from .recognition import CD_SECTOR, DISK_MAX, SECTOR, Bytes, describe, has_iso, refuse_wrapped, truncated, u16, u32
from .sizes import size_text

FLOPPY = 2880 * SECTOR

# Tracks, heads, sectors per track: DISK_FORMATS of src/floppy.js. Where two share a size, the one an empty drive takes.
_FLOPPIES = {
    tracks * heads * sectors * SECTOR: (tracks, heads, sectors)
    for tracks, heads, counts in (
        (80, 2, (8, 9, 10, 11, 13, 14, 15, 18, 20, 21, 22, 23, 24, 36, 39, 40, 44, 48)),
        (82, 2, (10, 18, 21)),
        (83, 2, (10, 18, 21)),
        (42, 2, (10,)),
        (41, 2, (10,)),
        (40, 2, (8, 9, 10)),
        (40, 1, (8, 9, 10)),
    )
    for sectors in counts
}


def boot_sector(data: bytes) -> bytes:
    """Complete a boot sector to its 512 bytes: zeros, then the signature 0x55 0xAA.

    Raises
    ------
    ImageError
        It is empty, longer than 512 bytes, exactly as long without the signature, or leaves no room for one.

    Examples
    --------
    >>> sector = boot_sector(b"\\xf4")
    >>> len(sector), sector[0], sector[-2:].hex()
    (512, 244, '55aa')
    """
    size = len(data)
    if size == 0:
        raise ImageError("cannot use this boot sector", expected="1 to 510 bytes of code", seen="no bytes")
    if size > SECTOR:
        raise ImageError(
            "this boot sector is too long",
            expected="at most 512 bytes",
            seen=f"{size} bytes",
            hint="the BIOS loads one sector; code that loads the rest goes on a floppy: "
            f"images.floppy(code.ljust({FLOPPY:_}, b'\\0'))",
        )
    if size == SECTOR and data[510:] == b"\x55\xaa":
        return bytes(data)
    if size > SECTOR - 2:
        raise ImageError(
            "this boot sector has no signature",
            expected="55 aa as bytes 511 and 512, or at most 510 bytes of code",
            seen=data[510:].hex(" "),
            hint="end it with: times 510-($-$$) db 0, then: dw 0xAA55",
        )
    return bytes(data).ljust(SECTOR - 2, b"\x00") + b"\x55\xaa"


def floppy_geometry(size: int) -> tuple[int, int, int] | None:
    """Give (tracks, heads, sectors per track) of a floppy of so many bytes, or None when there is no such floppy.

    Examples
    --------
    >>> floppy_geometry(1474560), floppy_geometry(1000)
    ((80, 2, 18), None)
    """
    return _FLOPPIES.get(size)


def floppy(data: Bytes) -> tuple[int, int, int]:
    """Check that these bytes are a floppy of a size v86's drives know; give its geometry.

    Examples
    --------
    >>> floppy(bytes(1474560))
    (80, 2, 18)
    """
    expected = f"a floppy's size, such as {FLOPPY} bytes (1440 KiB)"
    refuse_wrapped(data, "floppy", expected)
    size = len(data)
    geometry = floppy_geometry(size)
    if geometry is None:
        hint = "what is larger than 3840 KiB goes on a hard disk: images.disk"
        if size < max(_FLOPPIES):
            pad = FLOPPY if size < FLOPPY else min(known for known in _FLOPPIES if known > size)
            hint = f"fill it up: images.floppy(data.ljust({pad:_}, b'\\0')), or truncate -s {pad} FILE"
        raise ImageError("cannot use this floppy", expected=expected, seen=f"{size} bytes", hint=hint)
    return geometry


def hard_disk(data: Bytes) -> None:
    """Check that these bytes are a raw hard disk: whole sectors of 512 bytes, in no container.

    Examples
    --------
    >>> hard_disk(bytes(1 << 20))
    """
    expected = "a raw disk image, whole sectors of 512 bytes"
    refuse_wrapped(data, "disk", expected)
    size = len(data)
    if has_iso(data) and data[510:512] != b"\x55\xaa":  # an isohybrid image is both
        hint = "use images.iso, or cdrom="
        raise ImageError("cannot use this disk", expected=expected, seen="an ISO 9660 image", hint=hint)
    if size % SECTOR:
        raise ImageError(
            "cannot use this disk",
            expected=expected,
            seen=f"{size} bytes, {size % SECTOR} over whole sectors",
            hint=f"a download cut short? Otherwise fill it up: truncate -s {-(-size // SECTOR) * SECTOR} FILE",
        )
    if size > DISK_MAX:
        raise ImageError("this disk is too large for v86", expected="less than 1 TiB", seen=size_text(size))


@dataclass(frozen=True)
class Iso:
    """What an ISO 9660 image's volume descriptors say (ECMA-119, El Torito 1.0).

    Attributes
    ----------
    label : str
        Its volume identifier.
    bootable : bool
        It has an El Torito entry for a BIOS.
    """

    label: str
    bootable: bool


def iso9660(data: Bytes) -> Iso:
    """Check that these bytes are a whole ISO 9660 image.

    Raises
    ------
    ImageError
        No volume descriptor (CD001 at byte 32769), fewer bytes than the volume says, or no whole 2048-byte sectors.

    Examples
    --------
    >>> iso9660(bytes(1 << 20))
    Traceback (most recent call last):
    ...
    v86lab.errors.ImageError: cannot use this ISO: expected an ISO 9660 image (CD001 at byte 32769), saw ...
    """
    expected = "an ISO 9660 image (CD001 at byte 32769)"
    refuse_wrapped(data, "ISO", expected)
    primary: bytes | None = None
    bootable = False
    for sector in range(16, 16 + 64):
        descriptor = data[sector * CD_SECTOR : (sector + 1) * CD_SECTOR]
        if descriptor[1:6] != b"CD001":
            break
        if len(descriptor) < CD_SECTOR:
            raise truncated("ISO", (sector + 1) * CD_SECTOR, len(data))
        if descriptor[0] == 1 and primary is None:
            primary = descriptor
        elif descriptor[0] == 0 and descriptor[7:30] == b"EL TORITO SPECIFICATION":
            bootable = bootable or _bios_entry(data, u32(descriptor, 71))
        elif descriptor[0] == 255:
            break
    if primary is None:
        hint = "a hard disk image goes to images.disk"
        if data[16 * CD_SECTOR + 1 : 16 * CD_SECTOR + 6] in (b"BEA01", b"NSR02", b"NSR03"):
            hint = "this is a UDF disc without ISO 9660; the BIOS cannot boot it"
        elif len(data) < 17 * CD_SECTOR:
            hint = "an ISO has more than 34816 bytes: a download cut short?"
        raise ImageError("cannot use this ISO", expected=expected, seen=describe(data), hint=hint)
    blocks, block = u32(primary, 80), u16(primary, 128)
    if blocks == 0 or block not in (512, 1024, 2048):
        raise ImageError(
            "this ISO's volume descriptor makes no sense",
            expected="blocks of 512, 1024 or 2048 bytes",
            seen=f"{blocks} blocks of {block} bytes",
        )
    if blocks * block > len(data):
        raise truncated("ISO", blocks * block, len(data))
    if len(data) % CD_SECTOR:
        raise ImageError(
            "cannot use this ISO",
            expected="whole sectors of 2048 bytes",
            seen=f"{len(data)} bytes, {len(data) % CD_SECTOR} over",
            hint=f"drop what follows the volume: truncate -s {len(data) // CD_SECTOR * CD_SECTOR} FILE",
        )
    return Iso(label=primary[40:72].decode("ascii", "replace").rstrip(" \x00"), bootable=bootable)


def _bios_entry(data: Bytes, sector: int) -> bool:
    """Tell whether a boot catalog has a default entry for a PC BIOS."""
    catalog = data[sector * CD_SECTOR : sector * CD_SECTOR + 64]
    # Validation entry: header 1, platform 0 (80x86), key 55 AA; the default entry begins with 0x88 when bootable.
    return catalog[:2] == b"\x01\x00" and catalog[30:33] == b"\x55\xaa\x88"
