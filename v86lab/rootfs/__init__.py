"""Root file systems: trees of files from everywhere, made into machines that boot."""

from __future__ import annotations

from .inode import Inode
from .mapping import of
from .tree import Entry, RootFS

__all__ = ["Entry", "Inode", "RootFS", "of"]
