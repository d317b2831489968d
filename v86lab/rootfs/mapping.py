"""A tree of a few files given by name and content."""

from __future__ import annotations

from collections.abc import Mapping

from .draft import Draft
from .inode import Inode
from .names import as_bytes
from .tree import RootFS


def of(files: Mapping[str, bytes | str], name: str = "files") -> RootFS:
    """A tree of files given by name and content.

    Parameters
    ----------
    files : Mapping[str, bytes or str]
        Path to content; a str is written as UTF-8. Owners are root, times 0, so that equal mappings give equal trees.
    name : str

    Examples
    --------
    >>> of({"src/hello.c": "int main(void) { return 0; }"}).read("/src/hello.c")[:8]
    b'int main'
    """
    draft = Draft(name)
    for path, content in files.items():
        draft.add(path, Inode.file(as_bytes(content)))
    return RootFS(draft, name)
