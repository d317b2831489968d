"""Constructors of Images, from files and bytes, and what `Machine(...)` accepts as one.

Each constructor checks what it is given (`v86lab.formats`), puts it into the Store and returns a frozen `Image`. The
rules: files are streamed, never read whole; nothing wrong is repaired silently; every `ImageError` names the file.

All constructors take the same options (`Options`), such as ``memory="256 MiB"`` or ``cdrom="tools.iso"``.
"""

from __future__ import annotations

from v86lab.board import medium
from v86lab.given import Medium

from .constructors import boot_sector, disk, floppy, iso, kernel, linux, multiboot
from .lookup import NAMES, resolve
from .nasm import assemble
from .share import Options, Share, shared

__all__ = [
    "NAMES",
    "Medium",
    "Options",
    "Share",
    "assemble",
    "boot_sector",
    "disk",
    "floppy",
    "iso",
    "kernel",
    "linux",
    "medium",
    "multiboot",
    "resolve",
    "shared",
]
