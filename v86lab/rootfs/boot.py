"""Trees as images that boot: the root over 9p, on a disk, or in memory.

All three start a kernel directly (v86 loads it, no boot loader runs): the one that ships with v86lab, unless another
is given. So the disk needs no boot loader of its own, whose installation wants root, a mounted disk or its binaries;
and the command line stays the caller's.
"""

from __future__ import annotations

import contextlib
from typing import Any

from v86lab import board, firmware, formats
from v86lab.errors import ImageError
from v86lab.given import Medium, checked, opened
from v86lab.image import Disk, Image
from v86lab.store import Store

from . import ninep
from .cpio import write_cpio
from .disk import write_disk
from .equipment import equipped
from .tree import RootFS

# noapic: of what acpi=True brings, the guest needs the local APIC's timer; its interrupts stay with the PIC.
CMDLINE = "console=ttyS0 tsc=reliable mitigations=off random.trust_cpu=on noapic rw"
MEMORY = "256 MiB"
MSIZE = 512000  # what Linux's virtio transport has room for: 128 pages less some
_OVER_9P = f"root=host9p rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=loose,msize={MSIZE}"


def as_9p(
    tree: RootFS,
    init: str = "auto",
    kernel: Medium | None = None,
    cmdline: str = "",
    compress: bool = True,
    **options: Any,
) -> Image:
    """See `RootFS.as_9p`."""
    store, equipped_tree, line = _prepared(tree, init, options)
    share = ninep.write(equipped_tree, store, compress)
    return _built(tree, store, kernel, f"{CMDLINE} {_OVER_9P} {line} {cmdline}", {**options, "share": share})


def as_disk(
    tree: RootFS,
    size: int | str | None = None,
    init: str = "auto",
    kernel: Medium | None = None,
    cmdline: str = "",
    **options: Any,
) -> Image:
    """See `RootFS.as_disk`."""
    store, equipped_tree, line = _prepared(tree, init, options)
    with store.new_blob() as blob:
        write_disk(equipped_tree, blob.file, None if size is None else formats.parse_size(size, "disk size"))
        digest = blob.keep()
    board.claim(options, "hda", Disk(digest, store.size(digest)))
    line = f"{CMDLINE} root=/dev/sda1 rootfstype=ext4 {line} {cmdline}"
    return _built(tree, store, kernel, line, options)


def as_initramfs(
    tree: RootFS, init: str = "auto", kernel: Medium | None = None, cmdline: str = "", **options: Any
) -> Image:
    """See `RootFS.as_initramfs`."""
    store, equipped_tree, line = _prepared(tree, init, options)
    with store.new_blob() as blob:
        write_cpio(equipped_tree, blob.file)
        digest = blob.keep()
    needed = formats.INITRD_ADDRESS + 2 * store.size(digest) + 64 * formats.MIB  # packed and unpacked, and to work in
    options.setdefault("memory", max(formats.parse_size(MEMORY), needed // formats.MIB * formats.MIB))
    return _built(tree, store, kernel, f"{CMDLINE} rd{line} {cmdline}", options, initrd=digest)


def _prepared(tree: RootFS, init: str, options: Any) -> tuple[Store, RootFS, str]:
    """What all three begin with: the Store, the tree with what v86lab adds to it, and which init the kernel starts."""
    store = board.prepare(options)
    if "share" in options:
        raise TypeError("a tree's image has no share=: lay the files over the tree, tree + rootfs.directory(path)")
    options.setdefault("agent", True)
    options.setdefault("acpi", True)
    options.setdefault("name", board.printable(tree.name) or "tree")
    ready, program = equipped(tree, init, options["agent"])
    return store, ready, f"init={program}"


def _built(
    tree: RootFS, store: Store, kernel: Medium | None, cmdline: str, options: dict[str, Any], initrd: str | None = None
) -> Image:
    options = {"memory": MEMORY, "consoles": 2, **options}
    with contextlib.ExitStack() as stack:
        if kernel is None:
            digest, most = firmware.ensure(store, "bzimage")["bzimage"], None
        else:
            data = stack.enter_context(opened(kernel, "kernel", store))
            most = checked(formats.bzimage, data).cmdline_size
            digest = data.put(store)
    line = " ".join(cmdline.split())
    formats.command_line(line, *(() if most is None else (most,)))
    if initrd is not None and store.size(initrd) + formats.INITRD_ADDRESS > formats.memory(options["memory"]):
        raise ImageError(
            f"{tree.name} does not fit into memory as an initramfs",
            expected=f"more than {formats.size_text(store.size(initrd) + formats.INITRD_ADDRESS)} of memory",
            seen=str(options["memory"]),
            hint="as_9p() or as_disk() need no memory for files",
        )
    return board.build(tree.name, options, kernel=digest, initrd=initrd, cmdline=line)
