"""Disks: what sfdisk sees on ours, what we see on sfdisk's, and damaged tables that are errors."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v86lab import formats, rootfs
from v86lab.errors import ImageError, StoreError
from v86lab.rootfs.content import Blob
from v86lab.rootfs.disk import boot_sector, write_disk
from v86lab.rootfs.inode import Inode
from v86lab.rootfs.partitions import Partition, partitions
from v86lab.store import Store

MIB = 1 << 20
TREE = rootfs.of({"/etc/motd": "hello", "/large": "x" * (2 * MIB)})

needs_sfdisk = pytest.mark.skipif(not shutil.which("sfdisk"), reason="sfdisk is not installed")


def parted(path: Path, table: str, size: int = 64 * MIB) -> Path:
    """A disk that sfdisk divided."""
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["sfdisk", "-q", path], input=table, text=True, check=True, capture_output=True)
    return path


def on(path: Path) -> list[Partition]:
    with path.open("rb") as file:
        return partitions(file)


def said(path: Path) -> list[tuple[int, str, int, int, bool]]:
    """What sfdisk says of a disk."""
    table = json.loads(subprocess.run(["sfdisk", "-J", path], check=True, capture_output=True).stdout)
    return [
        (
            int(row["node"].removeprefix(str(path))),
            row["type"].lower().zfill(2),
            row["start"] * 512,
            row["size"] * 512,
            row.get("bootable", False),
        )
        for row in table["partitiontable"].get("partitions", [])
    ]


def as_rows(found: list[Partition]) -> list[tuple[int, str, int, int, bool]]:
    return [(part.number, part.type, part.start, part.size, part.active) for part in found]


def test_a_disk_has_one_linux_partition_that_reads_as_the_tree(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    assert write_disk(TREE, disk, 32 * MIB) == disk.stat().st_size == 32 * MIB
    assert as_rows(on(disk)) == [(1, "83", MIB, 31 * MIB, True)]
    assert rootfs.ext4(disk).digest == TREE.digest
    with disk.open("rb") as file:
        formats.hard_disk(file.read())
    assert list(tmp_path.iterdir()) == [disk]


@needs_sfdisk
def test_sfdisk_agrees_and_has_no_complaint(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    write_disk(TREE, disk, 32 * MIB)
    assert said(disk) == [(1, "83", MIB, 31 * MIB, True)]
    told = subprocess.run(["sfdisk", "--verify", disk], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("e2fsck"), reason="e2fsprogs is not installed")
def test_e2fsck_finds_the_file_system_clean_at_one_mebibyte(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    size = write_disk(TREE, disk)
    assert size >= 64 * MIB
    subprocess.run(["e2fsck", "-fn", f"{disk}?offset={MIB}"], check=True, capture_output=True)


def test_a_disk_is_the_same_every_time_on_a_path_and_in_a_file(tmp_path: Path) -> None:
    write_disk(TREE, tmp_path / "disk", 16 * MIB)
    file = io.BytesIO(b"old" * MIB * 8)
    write_disk(TREE, file, 16 * MIB)
    assert file.getvalue() == (tmp_path / "disk").read_bytes()


def test_a_disk_that_is_too_small_says_what_is_needed_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r'expected at least 4 MiB, saw 3 MiB. Hint: size="4 MiB"'):
        write_disk(TREE, tmp_path / "disk", 3 * MIB)
    assert list(tmp_path.iterdir()) == []
    write_disk(TREE, tmp_path / "disk", 4 * MIB)
    with pytest.raises(ImageError, match="whole sectors"):
        write_disk(TREE, tmp_path / "disk", 4 * MIB + 7)
    with pytest.raises(ImageError, match="too large for v86"):
        write_disk(TREE, tmp_path / "disk", 1 << 40)


def test_a_disk_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a file")
    tree = rootfs.of({}).with_file("/f", source)
    (tmp_path / "disk").write_bytes(b"old")
    source.write_bytes(b"another file")
    with pytest.raises(ImageError, match="as it was when the tree was made"):
        write_disk(tree, tmp_path / "disk", 16 * MIB)
    gone = rootfs.of({}).with_inode("/f", Inode.file(Blob(Store(tmp_path / "store"), "0" * 64, 5)))
    with pytest.raises(StoreError):
        write_disk(gone, tmp_path / "disk", 16 * MIB)
    assert (tmp_path / "disk").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "source"]
    with pytest.raises(ImageError, match="room for it, saw No such file"):
        write_disk(TREE, tmp_path / "no folder" / "disk", 16 * MIB)


@pytest.mark.skipif(not shutil.which("nasm"), reason="nasm is not installed")
def test_the_boot_code_is_what_its_listing_says(tmp_path: Path) -> None:
    source = """
        bits 16
        org 0x7c00
        xor ax, ax
        mov ds, ax
        cld
        mov si, text
    next:
        lodsb
        test al, al
        jz stop
        mov ah, 0x0e
        mov bx, 7
        int 0x10
        jmp next
    stop:
        hlt
        jmp stop
    text:
        db "This disk"
    """
    (tmp_path / "boot.asm").write_text(source)
    subprocess.run(["nasm", "-f", "bin", "-o", tmp_path / "boot", tmp_path / "boot.asm"], check=True)
    code, ours = (tmp_path / "boot").read_bytes(), boot_sector(64 * MIB)

    def plain(data: bytes) -> bytes:  # nasm's other encoding of the same: xor and mov have two
        return data.replace(b"\x33\xc0", b"\x31\xc0")

    assert plain(code) == ours[: len(code)]
    assert ours[510:] == b"\x55\xaa"


LAYOUTS = {
    "mbr": "label: dos\nstart=2048,size=4096,type=c,bootable\nstart=8192,size=16384,type=83\n",
    "logical": "label: dos\nstart=2048,size=4096,type=82\nstart=8192,type=5\n"
    "start=10240,size=4096,type=83\nstart=16384,size=2048,type=7\nstart=20480,type=83\n",
    "gpt": "label: gpt\nstart=2048,size=4096,type=uefi\nstart=8192,size=4096,type=linux\nstart=16384,type=swap\n",
    "empty": "label: dos\n",
}


@needs_sfdisk
@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_partitions_that_sfdisk_makes_are_found(kind: str, tmp_path: Path) -> None:
    disk = parted(tmp_path / "disk", LAYOUTS[kind])
    extended = {"05", "0f"}
    assert as_rows(on(disk)) == [row for row in said(disk) if row[1] not in extended]


def test_partitions_are_told_as_people_know_them() -> None:
    assert str(Partition(1, "83", MIB, 31 * MIB)) == "1: Linux, 31 MiB"
    assert str(Partition(2, "a5", MIB, 512)) == "2: a5, 512 bytes"


def test_a_disk_without_a_table_has_no_partitions() -> None:
    assert partitions(io.BytesIO(bytes(MIB))) == []
    sector = bytearray(random.Random(1).randbytes(MIB))
    sector[446] = 0x12  # code where the table would be
    sector[510:512] = b"\x55\xaa"
    assert partitions(io.BytesIO(sector)) == []


def test_chains_in_circles_and_partitions_beyond_the_end_are_refused() -> None:
    def row(kind: int, start: int, count: int) -> bytes:
        return struct.pack("<B3sB3sII", 0, bytes(3), kind, bytes(3), start, count)

    def sector(*rows: bytes) -> bytes:
        return (bytes(446) + b"".join(rows)).ljust(510, b"\0") + b"\x55\xaa"

    disk = bytearray(MIB)
    disk[:512] = sector(row(5, 10, 100))
    disk[5120:5632] = sector(row(0x83, 1, 1), row(5, 0, 100))
    with pytest.raises(ImageError, match="a chain of more than 256 logical partitions"):
        partitions(io.BytesIO(disk))
    with pytest.raises(ImageError, match="partition 1 ends at"):
        partitions(io.BytesIO(sector(row(0x83, 1, 5000)) + bytes(512)))
    with pytest.raises(ImageError, match="the end of the disk at a table"):
        partitions(io.BytesIO(sector(row(5, 9999, 5))))
    with pytest.raises(ImageError, match="the end of the disk"):
        partitions(io.BytesIO(b"short"))


@needs_sfdisk
def test_a_damaged_gpt_is_refused(tmp_path: Path) -> None:
    whole = parted(tmp_path / "disk", LAYOUTS["gpt"], 8 * MIB + 4 * MIB).read_bytes()
    for at, message in ((512, "without a GPT"), (512 + 40, "header whose checksum"), (1024 + 3, "GPT whose checksum")):
        broken = bytearray(whole)
        broken[at] ^= 0xFF
        with pytest.raises(ImageError, match=message):
            partitions(io.BytesIO(broken))


@needs_sfdisk
@pytest.mark.parametrize("kind", ["logical", "gpt"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_is_an_error_or_other_partitions(kind: str, changes: list[tuple[int, int]], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not disk.exists():
        parted(disk, LAYOUTS[kind])
    with disk.open("r+b") as file:
        fd = file.fileno()
        kept = os.pread(fd, 4096, 0)
        broken = bytearray(kept)
        for at, value in changes:
            broken[at if at < 1024 else 440 + at % 72] = value
        try:
            os.pwrite(fd, broken, 0)
            for part in partitions(file):
                assert 0 <= part.start <= part.start + part.size <= 64 * MIB
        except ImageError:
            pass
        finally:
            os.pwrite(fd, kept, 0)
