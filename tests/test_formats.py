from __future__ import annotations

import doctest
import gzip
import importlib
import lzma
import struct
from collections.abc import Callable
from typing import Any

import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

from v86lab import firmware, formats
from v86lab.errors import ImageError

MIB = 1 << 20


@pytest.mark.parametrize("name", ["sizes", "recognition", "kernels", "media"])
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"v86lab.formats.{name}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0 and result.failed == 0


# ---- sizes ----


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128 MiB", 128 * MIB),
        ("128MiB", 128 * MIB),
        ("64M", 64 * MIB),
        ("1 gib", 1 << 30),
        (" 1.5 GiB ", 3 << 29),
        ("512 k", 512 << 10),
        ("4096", 4096),
        (4096, 4096),
        ("0.000001 GiB", None),
        ("128 MB", None),
        ("128 parsecs", None),
        ("", None),
        ("-1 MiB", None),
        ("1e3", None),
        ("1_000", None),
        ("\u0661 MiB", None),
        pytest.param("9" * 5000, None, id="long"),
        (-1, None),
        pytest.param(10**5000, None, id="huge"),
        (True, None),
        (1.5, None),
        (None, None),
    ],
)
def test_a_size_is_read_as_people_write_it_or_refused(text: Any, size: int | None) -> None:
    if size is None:
        with pytest.raises(ImageError):
            formats.parse_size(text)
    else:
        assert formats.parse_size(text) == size


def test_decimal_units_are_refused_with_the_binary_one_as_hint() -> None:
    with pytest.raises(ImageError, match="MiB, a power of two"):
        formats.parse_size("128 MB")


@given(st.integers(0, 1 << 50))
def test_a_size_written_out_reads_back_as_itself(size: int) -> None:
    assert formats.parse_size(formats.size_text(size)) == size


@pytest.mark.parametrize("size", [MIB, 64 * MIB + 128 * 1024, "2047 MiB", 2**31 - 2**17])
def test_memory_that_v86_holds_as_it_is_passes(size: int | str) -> None:
    assert formats.memory(size) == formats.parse_size(size)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (MIB - 131072, "gives every machine more"),
        (0, "gives every machine more"),
        (2**31 - 2**17 + 1, "cannot hold"),
        ("2 GiB", "cannot hold"),
        ("4 GiB", "cannot hold"),
        (128 * MIB + 1, r'would round.*multiple of 128 KiB.*"128 MiB" is the nearest'),
        ("100000 KiB", "would round"),
    ],
)
def test_memory_that_v86_would_change_is_refused(size: int | str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.memory(size)


@pytest.mark.parametrize("size", ["8 MiB", "512 KiB", "256 MiB"])
def test_video_memory_that_v86_keeps_passes(size: str) -> None:
    assert formats.video_memory(size) == formats.parse_size(size)


@pytest.mark.parametrize("size", ["12 MiB", "256 KiB", "512 MiB", 0])
def test_video_memory_that_v86_would_change_is_refused(size: int | str) -> None:
    with pytest.raises(ImageError, match="power of two"):
        formats.video_memory(size)


@pytest.mark.parametrize("line", ["caf\xe9", "a\nb", "a\x00b", "tab\t", 5, b"quiet"])
def test_a_command_line_that_would_not_arrive_as_written_is_refused(line: Any) -> None:
    with pytest.raises(ImageError, match="command line"):
        formats.command_line(line)


def test_a_command_line_may_be_as_long_as_the_kernel_says_and_no_longer() -> None:
    assert formats.command_line("x" * 253, 255)
    with pytest.raises(ImageError, match="at most 253 characters, saw 254"):
        formats.command_line("x" * 254, 255)


# ---- kernels ----


def test_the_shipped_kernel_and_initramfs_are_recognised() -> None:
    kernel = firmware.path("bzimage").read_bytes()
    header = formats.bzimage(kernel)
    assert header.version >= (2, 12) and MIB < header.memory < 64 * MIB and header.cmdline_size > 255
    assert formats.initrd(firmware.path("initramfs").read_bytes()) in ("cpio", "gzip", "xz", "zstd", "lzma", "lz4")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_kernel_cut_short_is_called_truncated(part: float) -> None:
    kernel = firmware.path("bzimage").read_bytes()
    with pytest.raises(ImageError, match="truncated") as caught:
        formats.bzimage(kernel[: int(len(kernel) * part)])
    assert caught.value.expected and caught.value.seen and caught.value.hint


def test_a_kernel_may_end_within_its_last_paragraph_and_go_on_behind_it() -> None:
    kernel = samples.bzimage()
    formats.bzimage(kernel[:-15])
    formats.bzimage(kernel + b"a signature")
    with pytest.raises(ImageError, match="truncated"):
        formats.bzimage(kernel[:-16])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (samples.elf(), "saw an i386 ELF file.*arch/x86/boot/bzImage"),
        (gzip.compress(bytes(5000)), "gzip-compressed data.*gunzip"),
        (b"MZ" + bytes(2000), "EFI program.*need EFI"),
        (b"#!/bin/sh\necho no kernel\n" * 40, "saw text"),
        (b"<!DOCTYPE html><title>404</title>", "HTML page.*check the link"),
        (samples.bootable_disk(), "disk image"),
        (samples.bzimage(xloadflags=1), "an x86-64 kernel.*ARCH=i386"),
        (samples.bzimage(version=0x201), "boot protocol 2.02"),
        (samples.bzimage(loadflags=0), "zImage"),
        (samples.bzimage(size=0), "truncated|no kernel behind"),
        (samples.bzimage()[:0x240], "truncated"),
    ],
)
def test_what_is_no_i386_bzimage_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.bzimage(data)


def test_a_kernel_needs_the_memory_it_unpacks_into() -> None:
    assert formats.bzimage(samples.bzimage(pref_address=16 * MIB, init_size=5 * MIB)).memory == 21 * MIB
    assert formats.bzimage(samples.bzimage(size=MIB, version=0x209)).memory == 2 * MIB


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"070701" + bytes(200), "cpio"),
        (bytes(512) + b"070701" + bytes(200), "cpio"),
        (gzip.compress(b"x"), "gzip"),
        (lzma.compress(b"x"), "xz"),
        (lzma.compress(b"x", lzma.FORMAT_ALONE), "lzma"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd"),
        (b"\x02\x21\x4c\x18" + bytes(9), "lz4"),
        (bytes(1080) + b"\x53\xef" + bytes(1000), "ext2"),
        (b"hsqs" + bytes(100), "squashfs"),
    ],
)
def test_an_initrd_is_named_by_its_format(data: bytes, name: str) -> None:
    assert formats.initrd(data) == name


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x04\x22\x4d\x18" + bytes(9), "lz4 -l"),
        (b"070707" + bytes(100), "-H newc"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (bytes(8192), "unknown data"),
        (samples.bzimage(), "Linux bzImage"),
    ],
)
def test_what_no_kernel_unpacks_is_refused_as_initrd(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.initrd(data)


# ---- multiboot ----


def test_an_i386_elf_kernel_says_where_it_lies() -> None:
    kernel = formats.multiboot(samples.elf(samples.multiboot_header(3)))
    assert kernel.memory == 0x103000 and 0x100000 < kernel.entry < 0x101000 and not kernel.wants_video
    assert formats.multiboot(samples.elf(samples.multiboot_header(4))).wants_video


def test_a_flat_kernel_with_an_address_table_passes_in_any_format() -> None:
    kernel = formats.multiboot(samples.a_out(bytes(100)))
    assert kernel.entry == 0x100020 and kernel.memory == 0x100000 + 132
    shifted = bytes(64) + samples.a_out()  # the header is found, and the file begins before it
    struct.pack_into("<I", bytearray(shifted), 0, 0)
    assert formats.multiboot(shifted).entry == 0x100020


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (samples.elf(b"\xd6\x50\x52\xe8" + bytes(12)), "multiboot 2 header"),
        (samples.elf(bytes(12)), "saw an i386 ELF file.*0x1BADB002"),
        (samples.elf(struct.pack("<3I", 0x1BADB002, 0, 1)), "0x1BADB002"),
        (samples.elf(b"\0" + samples.multiboot_header()), "aligned to 4"),
        (samples.elf(bytes(8192) + samples.multiboot_header(), in_memory=0x9000), "first 8192 bytes"),
        (samples.elf(machine=62, bits=2), "expected an i386 ELF file, saw an x86-64 ELF.*-m32"),
        (samples.elf(machine=40), "an ARM ELF"),
        (samples.elf(samples.multiboot_header(8)), "bits 0, 1, 2 and 16"),
        (samples.elf(entry=0x5000), "starts outside its segments.*ENTRY"),
        (samples.elf(in_memory=4), "impossible segment"),
        (samples.elf(address=0xFFFFF000, in_memory=0x2000), "impossible segment"),
        (samples.elf(code=bytes(5000), in_memory=0x3000)[:-1], "truncated"),
        (samples.elf()[:80], "1 header|truncated"),
        (samples.multiboot_header() + bytes(100), "an ELF file, or a header with an address table"),
        (samples.a_out(entry=0x5000), "starts outside itself"),
        (samples.a_out()[:-1], "truncated"),
        (samples.multiboot_header(0x10000), "truncated"),
        (samples.bzimage(), "images.kernel"),
    ],
)
def test_what_v86_would_not_start_as_multiboot_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.multiboot(data)


# ---- media ----


@pytest.mark.parametrize("code", [b"\xf4", bytes(510), bytes(510) + b"\x55\xaa"])
def test_a_boot_sector_is_completed_to_512_signed_bytes(code: bytes) -> None:
    sector = formats.boot_sector(code)
    assert len(sector) == 512 and sector.startswith(code) and sector.endswith(b"\x55\xaa")


@pytest.mark.parametrize(
    ("code", "message"),
    [(b"", "no bytes"), (bytes(511), "no signature"), (bytes(512), "00 00"), (bytes(513), "too long")],
)
def test_a_boot_sector_of_the_wrong_length_is_refused(code: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.boot_sector(code)


@pytest.mark.parametrize(
    ("size", "geometry"),
    [(1474560, (80, 2, 18)), (737280, (80, 2, 9)), (368640, (40, 2, 9)), (2949120, (80, 2, 36)), (163840, (40, 1, 8))],
)
def test_a_floppy_has_the_geometry_v86_gives_it(size: int, geometry: tuple[int, int, int]) -> None:
    assert formats.floppy(bytes(size)) == geometry


@pytest.mark.parametrize(
    ("size", "hint"), [(512, "1_474_560"), (1474561, "1511424"), (3932161, "images.disk"), (10 * MIB, "images.disk")]
)
def test_a_floppy_of_another_size_is_refused_with_the_next_one(size: int, hint: str) -> None:
    with pytest.raises(ImageError, match=hint):
        formats.floppy(bytes(size))


CONTAINERS = [
    (b"QFI\xfb\x00\x00\x00\x03", "qcow2"),
    (b"KDMV\x01\x00\x00\x00", "VMDK"),
    (b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\x00") + b"\x7f\x10\xda\xbe", "VDI"),
    (b"vhdxfile", "VHDX"),
    (gzip.compress(b"x"), "gunzip"),
    (lzma.compress(b"x"), "unxz"),
    (b"\x28\xb5\x2f\xfd", "unzstd"),
    (b"PK\x03\x04", "zip archive"),
]


@pytest.mark.parametrize(("magic", "message"), CONTAINERS)
def test_a_compressed_or_wrapped_disk_is_refused_with_the_command_that_unwraps_it(magic: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        formats.hard_disk(magic.ljust(4096, b"\x00"))
    assert caught.value.hint


def test_a_vhd_is_known_by_its_footer() -> None:
    with pytest.raises(ImageError, match=r"VHD.*-f vpc"):
        formats.hard_disk(bytes(1024) + b"conectix".ljust(512, b"\x00"))


def test_a_raw_disk_of_whole_sectors_passes_and_no_other() -> None:
    formats.hard_disk(samples.bootable_disk())
    formats.hard_disk(bytes(1024))
    with pytest.raises(ImageError, match=r"1000 bytes, 488 over.*truncate -s 1024"):
        formats.hard_disk(bytes(1000))
    with pytest.raises(ImageError, match="empty"):
        formats.hard_disk(b"")


def test_an_iso_is_no_hard_disk_unless_it_is_both() -> None:
    image = samples.iso()
    with pytest.raises(ImageError, match=r"images.iso"):
        formats.hard_disk(image)
    formats.hard_disk(samples.bootable_disk(1) + image[512:])


class Sparse:
    """A disk of zeros, of any size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, _ = key.indices(self.size)
        assert stop - start <= 65536, "a check may look at a little, not at all of it"
        return bytes(max(0, stop - start))


def test_a_large_disk_is_judged_by_little_of_it_and_a_terabyte_is_too_much() -> None:
    formats.hard_disk(Sparse(1 << 39))
    with pytest.raises(ImageError, match="less than 1 TiB"):
        formats.hard_disk(Sparse(1 << 40))


def test_an_iso_tells_its_label_and_whether_a_bios_boots_it() -> None:
    assert formats.iso9660(samples.iso(label="TINY")) == formats.Iso("TINY", True)
    assert not formats.iso9660(samples.iso(platform=None)).bootable
    assert not formats.iso9660(samples.iso(platform=0xEF)).bootable


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (samples.iso()[:-2048], "truncated: expected at least 49152 bytes, saw 47104"),
        (samples.iso()[: 17 * 2048 + 100], "truncated"),
        (samples.iso()[:20000], "download cut short"),
        (samples.iso() + b"junk", "4 over"),
        (samples.iso(block_size=0), "makes no sense"),
        (bytes(32768) + b"\x00BEA01" + bytes(4096), "UDF"),
        (samples.bootable_disk(100), "images.disk"),
        (gzip.compress(samples.iso()), "gunzip"),
        (b"\x00" + b"\xff" * 10 + b"\x00" + bytes(100000), "bchunk"),
    ],
)
def test_what_is_no_whole_iso_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        formats.iso9660(data)


# ---- any bytes at all ----

CHECKS: list[Callable[[bytes], Any]] = [
    formats.bzimage,
    formats.initrd,
    formats.multiboot,
    formats.boot_sector,
    formats.floppy,
    formats.hard_disk,
    formats.iso9660,
    formats.describe,
    formats.wrapper,
]


@given(st.binary(max_size=4096))
@example(b"\x7fELF")
@example(b"MZ")
def test_any_bytes_are_answered_or_refused_and_nothing_else(data: bytes) -> None:
    for check in CHECKS:
        try:
            check(data)
        except ImageError as error:
            assert str(error)


@given(
    st.sampled_from([samples.iso(), samples.elf(), samples.a_out(), samples.bzimage(size=4096)]),
    st.lists(st.tuples(st.integers(0, 49151), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 49152),
)
def test_damaged_files_are_answered_or_refused_and_nothing_else(
    sample: bytes, damage: list[tuple[int, bytes]], size: int
) -> None:
    data = bytearray(sample)
    for at, replacement in damage:
        at %= len(data)
        data[at : at + len(replacement)] = replacement
    for check in CHECKS:
        try:
            check(bytes(data[:size]))
        except ImageError as error:
            assert str(error)


def test_every_message_fits_on_a_screen() -> None:
    with pytest.raises(ImageError) as caught:
        formats.parse_size("x" * 100_000)
    assert len(str(caught.value)) < 500
