"""ext2, ext3 and ext4 file systems: read into trees, and written from them, without root and without e2fsprogs."""

from __future__ import annotations

from .reader import ext4
from .writer import Plan, write_ext4

__all__ = ["Plan", "ext4", "write_ext4"]
