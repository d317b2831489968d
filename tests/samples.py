"""Small boot files made of bytes: an ISO, multiboot kernels, a bzImage header."""

from __future__ import annotations

import struct


def iso(blocks: int = 24, platform: int | None = 0, label: str = "SAMPLE", block_size: int = 2048) -> bytes:
    """An ISO 9660 image; with `platform`, an El Torito boot record for that platform (0 BIOS, 0xEF EFI)."""
    image = bytearray(blocks * 2048)

    def put(sector: int, offset: int, data: bytes) -> None:
        image[sector * 2048 + offset : sector * 2048 + offset + len(data)] = data

    put(16, 0, b"\x01CD001\x01")
    put(16, 40, label.encode().ljust(32))
    put(16, 80, struct.pack("<I", blocks) + struct.pack(">I", blocks))
    put(16, 128, struct.pack("<H", block_size) + struct.pack(">H", block_size))
    end = 17
    if platform is not None:
        put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION")
        put(17, 71, struct.pack("<I", 20))
        put(20, 0, bytes([1, platform]))
        put(20, 30, b"\x55\xaa\x88\x00")
        put(20, 38, struct.pack("<HI", 1, 21))  # one sector, at 21
        put(21, 0, b"\xf4")
        end = 18
    put(end, 0, b"\xffCD001\x01")
    return bytes(image)


def multiboot_header(flags: int = 0) -> bytes:
    return struct.pack("<3I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)


def elf(
    header: bytes | None = None,
    address: int = 0x100000,
    in_memory: int = 0x3000,
    entry: int | None = None,
    machine: int = 3,
    bits: int = 1,
    code: bytes = b"\xfa\xf4",
) -> bytes:
    """An ELF executable of one segment that holds the whole file: headers, multiboot header, code."""
    content = (multiboot_header() if header is None else header) + code
    size = 52 + 32 + len(content)
    start = address + size - len(code) if entry is None else entry
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    head = ident + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack("<8I", 1, 0, address, address, size, in_memory, 7, 4096) + content


def a_out(code: bytes = b"\xfa\xf4", load: int = 0x100000, entry: int | None = None) -> bytes:
    """A flat multiboot kernel whose header holds its addresses."""
    size = 32 + len(code)
    table = struct.pack("<5I", load, load, load + size, load + size, load + 32 if entry is None else entry)
    return multiboot_header(0x10000) + table + code


def bzimage(
    size: int = 64 * 1024,
    version: int = 0x20F,
    xloadflags: int = 0,
    loadflags: int = 1,
    init_size: int = 0x200000,
    pref_address: int = 0x1000000,
    cmdline_size: int = 2047,
) -> bytes:
    """A bzImage's setup header before `size` bytes of nothing."""
    image = bytearray(2 * 512 + size)
    image[0x1F1] = 1
    struct.pack_into("<I", image, 0x1F4, size // 16)
    image[0x1FE:0x206] = b"\x55\xaa\xeb\x66HdrS"
    struct.pack_into("<H", image, 0x206, version)
    image[0x211] = loadflags
    struct.pack_into("<I", image, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<H", image, 0x236, xloadflags)
    struct.pack_into("<I", image, 0x238, cmdline_size)
    struct.pack_into("<QI", image, 0x258, pref_address, init_size)
    return bytes(image)


def bootable_disk(sectors: int = 4) -> bytes:
    return (bytes(510) + b"\x55\xaa").ljust(512 * sectors, b"\x00")
