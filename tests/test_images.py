from __future__ import annotations

import dataclasses
import doctest
import gzip
import importlib
import io
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import samples

from v86lab import firmware, formats, images, rootfs
from v86lab.errors import ImageError, StoreError
from v86lab.image import Disk, Image
from v86lab.store import Store

MIB = 1 << 20
CONSTRUCTORS: list[Callable[..., Image]] = [images.iso, images.floppy, images.disk, images.kernel, images.multiboot]
needs_nasm = pytest.mark.skipif(shutil.which("nasm") is None, reason="nasm is not installed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("name", ["constructors", "share", "lookup", "nasm"])
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"v86lab.images.{name}")).failed == 0


# ---- the default guest ----


def test_the_default_guest_is_made_of_the_shipped_files(store: Store) -> None:
    image = images.linux(store=store)
    assert (image.name, image.memory, image.consoles, image.agent, image.resume) == ("linux", 128 * MIB, 2, True, True)
    assert image.kernel == firmware.digest("bzimage") and image.initrd == firmware.digest("initramfs")
    assert image.bios == firmware.digest("bios.bin") and image.vga_bios == firmware.digest("vgabios.bin")
    assert image.cmdline.startswith("console=ttyS0") and image.cmdline == image.cmdline.strip()
    assert all(digest in store for digest in image.digests())
    assert images.linux(store=store) == image
    assert images.linux(cmdline="debug", store=store).cmdline == image.cmdline + " debug"


def test_the_default_guest_shares_a_folder_a_mapping_or_a_tree(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"shared")
    for share in (folder, str(folder)):
        image = images.linux(share=share, store=store)
        assert image.share is not None and store.put(b"shared") in image.digests(store)
    tree = rootfs.of({"a": b"shared"})
    digest = images.shared(tree, store)
    shares = ({"a": b"shared"}, tree, digest)
    assert {images.linux(share, store=store).share for share in shares} == {digest}
    for wrong in (tmp_path / "none", 5, "f" * 64):
        with pytest.raises(ImageError, match=r"cannot (share|read)"):
            images.linux(wrong, store=store)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="no 9p tree"):
        images.linux(store.put(b"{}"), store=store)


def test_the_default_guest_needs_more_than_64_mib(store: Store) -> None:
    with pytest.raises(ImageError, match="64 MiB"):
        images.linux(memory="64 MiB", store=store)
    with pytest.raises(ImageError, match=r'does not fit.*memory="\d+ MiB"'):
        images.linux(memory=64 * MIB + 128 * 1024, store=store)


# ---- what exists as files or bytes ----


def test_a_boot_sector_becomes_a_floppy(store: Store) -> None:
    image = images.boot_sector(b"\xfa\xf4", store=store)
    assert image.fda is not None and image.boot_order[0] == "floppy"
    floppy = store.get(image.fda.digest)
    assert len(floppy) == 1474560 and floppy[:2] == b"\xfa\xf4" and floppy[510:512] == b"\x55\xaa"
    with pytest.raises(ImageError, match="too long"):
        images.boot_sector(bytes(513), store=store)
    with pytest.raises(ImageError, match="saw int"):
        images.boot_sector(5, store=store)  # type: ignore[arg-type]


@needs_nasm
def test_a_boot_sector_is_assembled_from_source(store: Store, file: Callable[[str, bytes], Path]) -> None:
    source = "bits 16\norg 0x7c00\ncli\nhlt\n"
    image = images.boot_sector(source, store=store)
    assert image == images.boot_sector(b"\xfa\xf4", store=store)
    file("part.inc", b"cli\n")
    path = file("boot.asm", b'bits 16\n%include "part.inc"\nhlt')
    assert images.boot_sector(path, store=store) == dataclasses.replace(image, name="boot.asm")
    assert images.boot_sector(file("boot.bin", b"\xfa\xf4"), store=store).fda == image.fda


@needs_nasm
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bits 16\nmov ax, frobnicate\n", r"source.asm:2: error: .*frobnicate"),
        ("times 513 db 0", "too long"),
        ("; nothing", "no bytes"),
        ("boot.asm", r"looks like a file name.*pathlib.Path\('boot.asm'\)"),
    ],
)
def test_an_error_in_the_source_is_told_in_nasms_words(store: Store, source: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        images.boot_sector(source, store=store)


def test_without_nasm_source_is_refused_with_the_way_to_install_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match=r"the program nasm.*apt install nasm"):
        images.boot_sector("hlt", store=store)


def test_a_kernel_comes_with_initrd_and_command_line(store: Store) -> None:
    paths = firmware.path("bzimage"), firmware.path("initramfs")
    image = images.kernel(*paths, cmdline="console=ttyS0", store=store)
    assert (image.name, image.kernel, image.initrd) == (
        "bzimage",
        firmware.digest("bzimage"),
        firmware.digest("initramfs"),
    )
    assert image.cmdline == "console=ttyS0" and not image.agent and image.consoles == 0
    assert images.kernel(paths[0].read_bytes(), store=store).name == "kernel"
    assert images.kernel(str(paths[0]), agent=True, store=store).consoles == 2


@pytest.mark.parametrize(
    ("kernel", "initrd", "options", "message"),
    [
        (samples.bzimage(init_size=49 * MIB), b"070701", {}, "overwrites its initrd"),
        (samples.bzimage(init_size=200 * MIB), None, {}, r'does not fit.*memory="217 MiB"'),
        (samples.bzimage(), b"070701", {"memory": "64 MiB"}, "64 MiB"),
        (samples.bzimage(), b"070701" + bytes(2 * MIB), {"memory": "65 MiB"}, r'memory="67 MiB"'),
        (samples.bzimage(cmdline_size=100), None, {"cmdline": "x" * 99}, "at most 98 characters"),
        (samples.bzimage(), b"no archive", {}, "the initrd.*cannot use this initrd.*text"),
        (samples.bzimage(xloadflags=1), None, {}, "the kernel.*32-bit CPU"),
        (samples.elf(), None, {}, "vmlinux"),
    ],
)
def test_a_kernel_that_cannot_start_is_refused(
    store: Store, kernel: bytes, initrd: bytes | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        images.kernel(kernel, initrd, store=store, **options)


def test_a_multiboot_kernel_may_have_a_module(store: Store) -> None:
    image = images.multiboot(samples.elf(), b"any module", "arguments", memory="64 MiB", store=store)
    assert image.multiboot is not None and store.get(image.multiboot) == samples.elf()
    assert image.initrd is not None and store.get(image.initrd) == b"any module" and image.cmdline == "arguments"
    with pytest.raises(ImageError, match="at least 64 MiB"):
        images.multiboot(samples.elf(), b"any module", memory="63 MiB", store=store)


def test_a_multiboot_kernel_must_fit_into_memory_because_v86_drops_what_does_not(store: Store) -> None:
    elf = samples.elf(in_memory=3 * MIB)  # from 1 MiB to 4 MiB
    with pytest.raises(ImageError, match="does not fit"):
        images.multiboot(elf, memory="4 MiB", store=store)
    assert images.multiboot(elf, memory="5 MiB", store=store).memory == 5 * MIB


def test_a_multiboot_kernel_that_asks_for_graphics_is_warned_about(store: Store) -> None:
    with pytest.warns(UserWarning, match="graphics mode"):
        images.multiboot(samples.elf(samples.multiboot_header(7)), store=store)


def test_floppies_disks_and_isos_boot_first_from_themselves(store: Store, file: Callable[[str, bytes], Path]) -> None:
    floppy = images.floppy(file("dos.img", bytes(1474560)), store=store)
    assert (floppy.name, floppy.boot_order[0]) == ("dos.img", "floppy") and floppy.fda is not None
    disk = images.disk(file("hd.img", samples.bootable_disk()), bytes(1024), store=store)
    assert disk.boot_order[0] == "disk" and disk.hda is not None and disk.hdb is not None
    assert (disk.hda.size, disk.hdb.size) == (2048, 1024)
    iso = images.iso(str(file("cd.iso", samples.iso())), store=store)
    assert iso.boot_order[0] == "cdrom" and iso.cdrom is not None and store.get(iso.cdrom.digest) == samples.iso()
    assert images.iso(iso.cdrom, name="cd.iso", store=store) == iso


def test_all_options_reach_the_image(store: Store) -> None:
    image = images.floppy(
        bytes(737280),
        name="all",
        memory="32 MiB",
        video_memory="4 MiB",
        acpi=True,
        uarts=4,
        consoles=3,
        boot_order=["cdrom", "disk"],
        fdb=bytes(1474560),
        hda=bytes(512),
        hdb=bytes(1024),
        cdrom=samples.iso(platform=None),
        share={"a": b"b"},
        agent=True,
        epoch=0,
        mips=50,
        jit=False,
        store=store,
    )
    assert (image.epoch, image.mips, image.jit) == (0, 50, False)
    assert (image.name, image.memory, image.video_memory) == ("all", 32 * MIB, 4 * MIB)
    assert (image.acpi, image.uarts, image.consoles, image.agent, image.resume) == (True, 4, 3, True, False)
    assert image.boot_order == ("cdrom", "disk")
    sizes = [disk.size for disk in (image.fda, image.fdb, image.hda, image.hdb, image.cdrom) if disk is not None]
    assert sizes == [737280, 1474560, 512, 1024, 49152]
    assert all(digest in store for digest in image.digests(store)) and image.share in image.digests()


def test_a_third_hard_disk_is_refused(store: Store) -> None:
    disk = samples.bootable_disk()
    with pytest.raises(ImageError, match=r"v86 has two IDE hard disks.*saw 3.*cdrom="):
        images.disk(disk, disk, disk, store=store)
    with pytest.raises(ImageError, match="hdb is taken"):
        images.disk(disk, disk, hdb=disk, store=store)
    with pytest.raises(ImageError, match="no hard disk was given"):
        images.disk(store=store)
    with pytest.raises(ImageError, match="without a first"):
        images.linux(hdb=disk, store=store)


def test_what_the_bios_cannot_boot_is_refused_alone_and_welcome_beside_something_else(store: Store) -> None:
    data, disc = bytes(4096), samples.iso(platform=None)
    with pytest.raises(ImageError, match=r"cannot boot the disk.*saw 00 00.*hda=DISK"):
        images.disk(data, store=store)
    with pytest.raises(ImageError, match=r"cannot boot the ISO.*El Torito.*cdrom="):
        images.iso(disc, store=store)
    assert images.disk(data, cdrom=samples.iso(), store=store).hda == images.linux(hda=data, store=store).hda
    assert images.linux(cdrom=disc, store=store).cdrom is not None


def test_a_misspelt_option_is_a_type_error_with_the_right_one(store: Store) -> None:
    with pytest.raises(TypeError, match="'memroy', did you mean 'memory'"):
        images.floppy(bytes(1474560), memroy="1 GiB", store=store)  # type: ignore[call-arg]
    constructors: list[Callable[..., Image]] = [*CONSTRUCTORS, images.boot_sector]
    for constructor in constructors:
        with pytest.raises(TypeError, match="unknown option"):
            constructor(b"", nonsense=1, store=store)
    with pytest.raises(TypeError, match="unknown option"):
        images.linux(nonsense=1, store=store)  # type: ignore[call-arg]


def test_wrong_options_are_image_errors(store: Store) -> None:
    for options in (
        {"uarts": 9},
        {"boot_order": "disk"},
        {"boot_order": 3},
        {"memory": "1 TiB"},
        {"agent": "yes"},
        {"mips": 0},
        {"epoch": "2026"},
    ):
        with pytest.raises(ImageError):
            images.floppy(bytes(1474560), store=store, **options)


# ---- wrong input ----


@pytest.mark.parametrize("constructor", CONSTRUCTORS)
def test_every_wrong_input_is_an_image_error_that_names_it(
    constructor: Callable[..., Image], store: Store, tmp_path: Path, file: Callable[[str, bytes], Path]
) -> None:
    cases: list[tuple[Any, str]] = [
        (tmp_path / "none.img", r"none\.img.*No such file|cannot find"),
        ("none.img", "relative paths start in"),
        (tmp_path, "saw a folder.*share="),
        (file("empty.img", b""), r"empty\.img.*an empty file"),
        (b"", "an empty file"),
        (file("text.img", b"no image at all\n" * 33), r"text\.img"),
        (file("disk.qcow2", b"QFI\xfb".ljust(4096, b"\0")), "qcow2.*qemu-img convert"),
        (file("packed.gz", gzip.compress(bytes(5000))), "gunzip"),
        (os.fsencode(file("small", b"x")), "a path as bytes.*without b"),
        ("", "empty str"),
        ("a\0b", "null"),
        ("x" * 10_000, "too long|No such file|cannot find"),
        (None, "saw NoneType"),
        (io.BytesIO(b"x"), "saw BytesIO"),
    ]
    for given, message in cases:
        with pytest.raises(ImageError, match=message) as caught:
            constructor(given, store=store)
        assert caught.value.expected and caught.value.seen and len(str(caught.value)) < 1000
    assert list(store.digests()) == [], "nothing wrong reaches the Store"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_refused_without_waiting_for_its_writer(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", os.devnull):
        with pytest.raises(ImageError, match="a pipe, socket or device"):
            images.iso(path, store=store)


def test_truncated_files_are_called_so(store: Store, file: Callable[[str, bytes], Path]) -> None:
    bzimage = firmware.path("bzimage").read_bytes()
    for constructor, data in (
        (images.iso, samples.iso()[:-2048]),
        (images.kernel, bzimage[: len(bzimage) // 2]),
        (images.multiboot, samples.elf(code=bytes(5000), in_memory=9000)[:-1]),
    ):
        with pytest.raises(ImageError, match=r"cut\.img'.*truncated: expected at least \d+ bytes, saw \d+ bytes"):
            constructor(file("cut.img", data), store=store)


def test_a_medium_for_a_drive_need_not_boot(store: Store) -> None:
    assert images.medium("cdrom", samples.iso(platform=None), store).size == len(samples.iso())
    assert images.medium("hdb", bytes(512), store) == Disk(store.put(bytes(512)), 512)
    for drive, given in (("fda", bytes(512)), ("cdrom", bytes(4096)), ("tape", bytes(512))):
        with pytest.raises(ImageError):
            images.medium(drive, given, store)


def test_a_disk_that_the_store_does_not_have_is_the_stores_error(store: Store) -> None:
    with pytest.raises(StoreError):
        images.disk(Disk("a" * 64, 512), store=store)


def test_a_large_file_is_streamed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large.img"
    with path.open("wb") as file:
        file.write(samples.bootable_disk())
        file.truncate(256 * MIB)
    tracemalloc.start()
    try:
        image = images.disk(path, store=store)
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()
    assert image.hda is not None and image.hda.size == 256 * MIB


# ---- resolve ----


def test_an_image_resolves_to_itself_and_linux_to_the_default_guest(store: Store) -> None:
    linux = images.linux(store=store)
    assert images.resolve(linux, store=store) is linux
    assert images.resolve("linux", store=store) == linux
    assert images.resolve("linux", memory="256 MiB", store=store).memory == 256 * MIB
    assert images.resolve(linux, memory=256 * MIB, store=store) == dataclasses.replace(linux, memory=256 * MIB)
    with pytest.raises(ImageError, match=r"does not fit|64 MiB"):
        images.resolve(linux, memory="64 MiB", store=store)
    with pytest.raises(ImageError, match="round"):
        images.resolve(linux, memory=128 * MIB + 1, store=store)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (samples.iso(), "cdrom"),
        (samples.bootable_disk(1) + samples.iso()[512:], "cdrom"),
        (bytes(1474560), "fda"),
        (samples.bootable_disk(1), "fda"),
        (samples.bootable_disk(9), "hda"),
        (samples.bzimage(), "kernel"),
        (samples.elf(), "multiboot"),
    ],
)
def test_a_file_is_recognised_by_its_content(
    store: Store, file: Callable[[str, bytes], Path], data: bytes, field: str
) -> None:
    path = file("misleading.txt", data)
    image = images.resolve(path, memory="64 MiB", store=store)
    assert getattr(image, field) is not None and image.name == "misleading.txt" and image.memory == 64 * MIB
    assert images.resolve(str(path), memory="64 MiB", store=store) == image


def test_a_saved_image_resolves_with_its_own_memory_or_another(store: Store, tmp_path: Path) -> None:
    image = images.linux(store=store)
    image.save(tmp_path / "saved", store)
    other = Store(tmp_path / "other")
    assert images.resolve(tmp_path / "saved", store=other) == image
    assert image.digests(store) <= set(other.digests())
    assert images.resolve(tmp_path / "saved", memory="192 MiB", store=other).memory == 192 * MIB


def test_a_file_that_changed_is_read_anew(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "lab.v86"
    for text in (b"first", b"second"):
        image = images.boot_sector(text, store=store)
        image.save(path, store)
        assert images.resolve(path, store=store) == image


def test_json_is_no_image_and_that_of_an_earlier_release_is_told_why(store: Store, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text("{}")
    with pytest.raises(ImageError, match=r"saved.json': this is no .v86 file.*saw text$"):
        images.resolve(tmp_path / "saved.json", store=store)
    image = images.linux(store=store)
    (tmp_path / "saved.json").write_text(json.dumps(image.to_json(), indent=2))
    with pytest.raises(
        ImageError, match=r"earlier releases .* hold no blobs.*lab.Image.from_json\(json.load\(file\)\)"
    ):
        images.resolve(tmp_path / "saved.json", store=store)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("linus", r'known name \("linux"\).*did you mean "linux"'),
        ("no-such-thing.iso", "relative paths start in"),
        ("", "there is no image"),
        ("a\0b", "there is no image"),
        ("ftp://example.org/a.iso", "http or https"),
        ("file:///etc/passwd", "http or https"),
        (b"bytes", "images.iso"),
        (None, "saw NoneType"),
        (5, "saw int"),
    ],
)
def test_what_names_no_image_is_refused_with_what_there_is(store: Store, what: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        images.resolve(what, store=store)


def test_a_file_of_no_known_kind_is_described(store: Store, file: Callable[[str, bytes], Path], tmp_path: Path) -> None:
    for data, message in (
        (b"hello\n" * 99, "saw text"),
        (bytes(10_000), "unknown data"),
        (b"", "an empty file"),
        (gzip.compress(b"x"), "gunzip"),
        (b"\x76\x86\x76\x86" + bytes(100), "a saved state of v86"),
        (samples.elf(machine=62, bits=2), "x86-64"),
    ):
        with pytest.raises(ImageError, match=message):
            images.resolve(file("odd", data), store=store)
    with pytest.raises(ImageError, match="saw a folder"):
        images.resolve(tmp_path, store=store)


def test_the_names_are_those_that_resolve(store: Store) -> None:
    for name in images.NAMES:
        assert images.resolve(name, store=store).memory >= formats.MIB
