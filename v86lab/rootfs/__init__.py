"""Root file systems: trees of files from everywhere, made into machines that boot."""

from __future__ import annotations

from .comparison import Comparison, compare
from .cpio import cpio
from .debian import debian
from .directory import directory
from .ext4 import ext4
from .inode import Inode
from .mapping import of
from .oci import OciConfig, oci, oci_config
from .packages import Package, packages
from .tar import tar
from .tree import Entry, RootFS

__all__ = [
    "Comparison",
    "Entry",
    "Inode",
    "OciConfig",
    "Package",
    "RootFS",
    "compare",
    "cpio",
    "debian",
    "directory",
    "ext4",
    "oci",
    "oci_config",
    "of",
    "packages",
    "tar",
]
