"""Trees as images that boot: the root over 9p, on a disk, or in memory.

All three start a kernel directly (v86 loads it, no boot loader runs): the one that ships with v86lab, unless another
is given. So the disk needs no boot loader of its own, whose installation wants root, a mounted disk or its binaries;
and the command line stays the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from v86lab import board, firmware, formats
from v86lab.given import Medium, checked, opened
from v86lab.image import Disk, Image
from v86lab.store import Store

from . import ninep
from .cpio import write_cpio
from .disk import write_disk
from .distribution_kernel import MODULES_9P, MODULES_DISK, initramfs_of, kernel_of
from .equipment import equipped
from .tree import RootFS

# noapic: of what acpi=True brings, the guest needs the local APIC's timer; its interrupts stay with the PIC.
CMDLINE = "console=ttyS0 tsc=reliable mitigations=off random.trust_cpu=on noapic rw"
MEMORY = "256 MiB"
OWN = "own"
"""As `kernel`: the one that the tree brings."""

MSIZE = 512000  # what Linux's virtio transport has room for: 128 pages less some
_OVER_9P = f"root=host9p rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=loose,msize={MSIZE}"


def as_9p(
    tree: RootFS,
    init: str = "auto",
    kernel: Medium | None = None,
    cmdline: str = "",
    resume: bool = False,
    compress: bool = True,
    **options: Any,
) -> Image:
    """See `RootFS.as_9p`."""
    store, ready, program = _prepared(tree, init, options)
    options["share"] = ninep.write(ready, store, compress)
    line = f"{CMDLINE} {_OVER_9P} init={program} {cmdline}"
    return _built(tree, options, line, resume, *_kernel(tree, kernel, MODULES_9P, store))


def as_disk(
    tree: RootFS,
    size: int | str | None = None,
    init: str = "auto",
    kernel: Medium | None = None,
    cmdline: str = "",
    resume: bool = False,
    **options: Any,
) -> Image:
    """See `RootFS.as_disk`."""
    store, ready, program = _prepared(tree, init, options)
    length = None if size is None else formats.parse_size(size, "disk size")
    digest = _made(store, lambda file: write_disk(ready, file, length))
    board.claim(options, "hda", Disk(digest, store.size(digest)))
    line = f"{CMDLINE} root=/dev/sda1 rootfstype=ext4 init={program} {cmdline}"
    return _built(tree, options, line, resume, *_kernel(tree, kernel, MODULES_DISK, store))


def as_initramfs(
    tree: RootFS,
    init: str = "auto",
    kernel: Medium | None = None,
    cmdline: str = "",
    resume: bool = False,
    **options: Any,
) -> Image:
    """See `RootFS.as_initramfs`."""
    store, ready, program = _prepared(tree, init, options)
    digest = _packed(ready, store)
    needed = formats.INITRD_ADDRESS + 2 * store.size(digest) + 64 * formats.MIB  # packed and unpacked, and to work in
    options.setdefault("memory", max(formats.parse_size(MEMORY), needed // formats.MIB * formats.MIB))
    line = f"{CMDLINE} rdinit={program} {cmdline}"
    return _built(tree, options, line, resume, _kernel(tree, kernel, None, store)[0], digest)


def _prepared(tree: RootFS, init: str, options: Any) -> tuple[Store, RootFS, str]:
    """What all three begin with: the Store, the tree with what v86lab adds to it, and the program its kernel starts."""
    store = board.prepare(options)
    if "share" in options:
        raise TypeError("a tree's image has no share=: lay the files over the tree, tree + rootfs.directory(path)")
    for name, value in {
        "agent": True,
        "acpi": True,
        "consoles": 2,
        "name": board.printable(tree.name) or "tree",
    }.items():
        options.setdefault(name, value)
    return store, *equipped(tree, init, options["agent"])


def _packed(tree: RootFS, store: Store) -> str:
    """A tree as a cpio archive in the Store."""
    return _made(store, lambda file: write_cpio(tree, file))


def _made(store: Store, write: Callable[[BinaryIO], object]) -> str:
    with store.new_blob() as blob:
        write(blob.file)
        return blob.keep()


def _kernel(
    tree: RootFS, given: Medium | None, modules: tuple[str, ...] | None, store: Store
) -> tuple[str, str | None]:
    """Digests of the kernel, and of the initramfs that one of the tree needs for its root."""
    if given is None:
        return firmware.ensure(store, "bzimage")["bzimage"], None
    initrd = None
    if given == OWN:
        release, content = kernel_of(tree)
        given = content.read()
        initrd = None if modules is None else _packed(initramfs_of(tree, release, modules), store)
    with opened(given, "kernel", store) as data:
        checked(formats.bzimage, data)
        return data.put(store), initrd


def _built(
    tree: RootFS, options: dict[str, Any], cmdline: str, resume: bool, kernel: str, initrd: str | None = None
) -> Image:
    line = " ".join(cmdline.split())
    options = {"memory": MEMORY, **options}
    return board.build(tree.name, options, kernel=kernel, initrd=initrd, cmdline=line, resume=resume)
