"""A folder as a 9p tree: an fs.json that v86 loads, and the files' bytes in the Store.

The format is v86's (`lib/filesystem.js`, `load_from_json`), version 3: ``{"version": 3, "size": bytes, "fsroot":
entries}`` where an entry is ``[name, size, mtime, mode, uid, gid, x]`` and x is a folder's entries, a link's target or
a file's blob name. The rules here:

* A blob is named by its whole sha256, 64 hex digits, so that names cannot collide.
* The same folder gives the same bytes: entries are sorted, times are whole seconds, everything belongs to root.
* Symbolic links stay links and are never followed, so nothing outside the folder gets in.
* Sockets, pipes and devices are left out with a warning: v86 cannot load them, and a home folder often has some.
* What cannot be represented (names that are no UTF-8, unreadable files, a tree too big) is an `ImageError`.

An fs.json may come from a stranger: `digests_of` checks all of it without recursion.
"""

from __future__ import annotations

import io
import json
import os
import reprlib
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from v86lab.errors import ImageError, StoreError
from v86lab.formats import GIB, MIB, size_text
from v86lab.store import Store

VERSION = 3
MAX_BYTES = 2 * GIB
MAX_ENTRIES = 200_000
_MAX_JSON = 128 * MIB
_MAX_DEPTH = 100  # v86's loader and JSON parsers recurse
_MOUNT_POINT = 0xA0000003  # Windows' IO_REPARSE_TAG_MOUNT_POINT: a junction leads out of the tree like a link

_HEX = frozenset("0123456789abcdef")


@dataclass
class _Node:
    """An entry being built; `children` is None except for folders."""

    mode: int
    mtime: int = 0
    size: int = 0
    target: str = ""
    children: dict[str, _Node] | None = None


@dataclass
class _Tree:
    """What has been gathered so far, and the bounds it keeps."""

    store: Store
    max_bytes: int
    root: _Node = field(default_factory=lambda: _Node(stat.S_IFDIR | 0o755, children={}))
    bytes: int = 0
    entries: int = 0

    def count(self, where: str, size: int = 0) -> None:
        self.entries += 1
        self.bytes += size
        hint = "share a smaller folder, or put the files on a disk image"
        if self.entries > MAX_ENTRIES:
            raise ImageError(
                "this folder is too big for a 9p share",
                expected=f"at most {MAX_ENTRIES} entries",
                seen=f"more, at {where!r}",
                hint=hint,
            )
        if self.bytes > self.max_bytes:
            raise ImageError(
                "this folder is too big for a 9p share",
                expected=f"at most {size_text(self.max_bytes)}",
                seen=f"more, at {where!r}",
                hint=hint,
            )

    def file(self, where: str, source: BinaryIO, mode: int, mtime: int) -> _Node:
        digest = self.store.put(source)
        size = self.store.size(digest)
        self.count(where, size)
        return _Node(stat.S_IFREG | mode, mtime, size, digest)

    def write(self) -> str:
        plain = {"fsroot": _entries(self.root), "size": self.bytes, "version": VERSION}
        return self.store.put(
            json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        )


def _entries(folder: _Node) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name, node in sorted((folder.children or {}).items(), key=lambda item: item[0].encode("utf-8")):
        last = node.target if node.children is None else _entries(node)
        rows.append([name, node.size, node.mtime, node.mode, 0, 0, last])
    return rows


# ---- writing --------------------------------------------------------------------------------------------------------


def from_directory(path: str | os.PathLike[str], store: Store, max_bytes: int = MAX_BYTES) -> str:
    """Put a folder of this computer into the Store as a 9p tree.

    Parameters
    ----------
    path : path
        The folder; the guest sees what it contains at this moment.
    store : Store
    max_bytes : int
        Bound on the sum of the file sizes.

    Returns
    -------
    str
        Digest of the fs.json.

    Raises
    ------
    ImageError
        No folder, a file that cannot be read, a name that is no UTF-8, or too many bytes, files or levels.

    Notes
    -----
    Permissions are the files' own without set-user-id and set-group-id; the owner is root. Files on Windows get what
    Python reports there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "hello.c").write_text("int main(void) { return 0; }")
    ...     digest = from_directory(folder, Store())
    >>> len(digest)
    64
    """
    try:
        root = Path(path)
        top = root.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(os.fspath(path), "a folder", error) from error
    if not stat.S_ISDIR(top.st_mode):
        raise ImageError(
            f"cannot share {os.fspath(path)!r}", expected="a folder", seen="a file", hint="share the folder it is in"
        )
    tree = _Tree(store, max_bytes)
    skipped: list[str] = []
    open_folders: list[tuple[_Node, str, str, int]] = [(tree.root, os.fspath(root), "", 1)]
    while open_folders:
        folder, host, inside, depth = open_folders.pop()
        if depth > _MAX_DEPTH:
            raise ImageError(
                "this folder is too deep for a 9p share",
                expected=f"at most {_MAX_DEPTH} levels",
                seen=f"more, at {inside[:80]!r}...",
            )
        for name, full in _listing(host):
            where = inside + name
            node = _host_node(tree, full, where)
            if node is None:
                skipped.append(where)
                continue
            assert folder.children is not None
            folder.children[name] = node
            if node.children is not None:
                open_folders.append((node, full, where + "/", depth + 1))
    if skipped:
        names = ", ".join(repr(name) for name in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        warnings.warn(
            f"left out of the 9p share {os.fspath(path)!r}, neither file, folder nor link: {names}", stacklevel=2
        )
    return tree.write()


def from_mapping(files: Mapping[str, bytes | str], store: Store, max_bytes: int = MAX_BYTES) -> str:
    """Put files given by name and content into the Store as a 9p tree.

    Parameters
    ----------
    files : Mapping[str, bytes or str]
        Relative path with ``/`` between folders, to content; a str is written as UTF-8. Times are 0, so that equal
        mappings give equal trees.
    store : Store
    max_bytes : int

    Returns
    -------
    str
        Digest of the fs.json.

    Examples
    --------
    >>> store = Store()
    >>> tree = from_mapping({"src/hello.c": "int main(void) { return 0; }"}, store)
    >>> len(digests_of(load(tree, store)))
    1
    """
    tree = _Tree(store, max_bytes)
    for path, content in files.items():
        parts = _relative_parts(path)
        if not isinstance(content, bytes) and not (isinstance(content, str) and _utf8(content)):
            raise ImageError(
                f"cannot share {path!r}", expected="bytes, or a str that UTF-8 can write", seen=reprlib.repr(content)
            )
        folder = tree.root
        for part in parts[:-1]:
            assert folder.children is not None
            if part not in folder.children:
                tree.count(path)
                folder.children[part] = _Node(stat.S_IFDIR | 0o755, children={})
            folder = folder.children[part]
            if folder.children is None:
                raise ImageError(
                    f"cannot share {path!r}", expected=f"{part!r} to be a folder", seen="a file of that name"
                )
        assert folder.children is not None
        if parts[-1] in folder.children:
            raise ImageError(f"cannot share {path!r}", expected="each name once", seen="a file or folder of that name")
        raw = content.encode("utf-8") if isinstance(content, str) else content
        folder.children[parts[-1]] = tree.file(path, io.BytesIO(raw), 0o644, 0)
    return tree.write()


def _relative_parts(path: object) -> tuple[str, ...]:
    if isinstance(path, str):
        parts = PurePosixPath(path).parts
        whole = not path.endswith("/") and "\x00" not in path and 0 < len(parts) <= _MAX_DEPTH
        if whole and not {"/", "//", ".."} & set(parts) and _utf8(path):
            return parts
    raise ImageError(
        f"cannot share a file as {reprlib.repr(path)}", expected="a relative path without ..", seen=type(path).__name__
    )


def _listing(host: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(host))  # noqa: PTH208  (names, not paths)
    except OSError as error:
        raise _unreadable(host, "a folder one may read", error) from error
    for name in names:
        if not _utf8(name):
            raise ImageError(
                f"a name in {host!a} is no UTF-8",
                expected="UTF-8, which is what v86's 9p has",
                seen=f"{os.fsencode(name)!r}",
                hint="rename it",
            )
        yield name, str(Path(host, name))


def _host_node(tree: _Tree, full: str, where: str) -> _Node | None:
    """Read one entry; None for what a 9p tree cannot hold."""
    try:
        info = os.lstat(full)
        mode, mtime = stat.S_IMODE(info.st_mode) & 0o1777, max(0, int(info.st_mtime))
        if stat.S_ISLNK(info.st_mode):
            target = str(os.readlink(full))  # noqa: PTH115  (pathlib would normalise the target)
            if os.sep == "\\":
                target = target.removeprefix("\\\\?\\").replace("\\", "/")
            if not _utf8(target):
                raise ImageError(
                    f"the target of the link {where!r} is no UTF-8", expected="UTF-8", seen=f"{os.fsencode(target)!r}"
                )
            tree.count(where)
            return _Node(stat.S_IFLNK | 0o777, mtime, len(target.encode("utf-8")), target)
        if getattr(info, "st_reparse_tag", 0) == _MOUNT_POINT:
            return None
        if stat.S_ISDIR(info.st_mode):
            tree.count(where)
            return _Node(stat.S_IFDIR | mode, mtime, children={})
        if not stat.S_ISREG(info.st_mode):
            return None
        if tree.bytes + info.st_size > tree.max_bytes:
            tree.count(where, info.st_size)
        with open(full, "rb", opener=_open_no_follow) as file:
            return tree.file(where, file, mode, mtime)
    except StoreError:  # an OSError too, but not about this file
        raise
    except OSError as error:
        raise _unreadable(full, "a file one may read", error) from error


def _open_no_follow(path: str, flags: int) -> int:
    # Somebody may replace the file by a link after lstat: O_NOFOLLOW then fails. O_NONBLOCK: or by a pipe.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _unreadable(path: str, expected: str, error: OSError | ValueError) -> ImageError:
    seen = getattr(error, "strerror", None) or str(error)
    return ImageError(f"cannot share {path!a}", expected=expected, seen=seen)


def _utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# ---- reading --------------------------------------------------------------------------------------------------------


def load(digest: str, store: Store) -> Any:
    """Read an fs.json from the Store, as plain JSON values; `digests_of` checks them.

    Raises
    ------
    ImageError
        It is no JSON, or larger than any tree this module writes.
    StoreError
        It is not in the Store.
    """
    size = store.size(digest)
    if size > _MAX_JSON:
        raise ImageError("this 9p tree is too big", expected=f"at most {size_text(_MAX_JSON)}", seen=size_text(size))
    try:
        return json.loads(store.get(digest).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ImageError("this is no 9p tree", expected="JSON", seen=f"{error!s:.80}") from error


def digests_of(fs_json: object) -> frozenset[str]:
    """List the blobs a 9p tree's files are, and check the tree on the way.

    Parameters
    ----------
    fs_json : object
        What `load` gave.

    Returns
    -------
    frozenset[str]

    Raises
    ------
    ImageError
        Not version 3, or an entry v86 would fail on or could be led out of the tree by.

    Examples
    --------
    >>> entry = ["a", 5, 0, 0o100644, 0, 0, "d" * 64]
    >>> digests_of({"version": 3, "size": 5, "fsroot": [entry]}) == {"d" * 64}
    True
    """
    if not isinstance(fs_json, Mapping) or fs_json.get("version") != VERSION:
        raise ImageError("this is no 9p tree", expected="an object with version 3", seen=f"{type(fs_json).__name__}")
    found: set[str] = set()
    folders: list[tuple[object, int]] = [(fs_json.get("fsroot"), 1)]
    while folders:
        entries, depth = folders.pop()
        if not isinstance(entries, list) or depth > _MAX_DEPTH:
            raise ImageError(
                "this 9p tree is damaged", expected=f"lists, at most {_MAX_DEPTH} deep", seen=reprlib.repr(entries)
            )
        names: set[str] = set()
        for entry in entries:
            name, kind, last = _checked(entry)
            if name in names:
                raise ImageError(
                    "this 9p tree is damaged", expected="each name once in a folder", seen=f"{reprlib.repr(name)} twice"
                )
            names.add(name)
            if kind == stat.S_IFDIR:
                folders.append((last, depth + 1))
            elif kind == stat.S_IFREG:
                found.add(last)
    return frozenset(found)


def _checked(entry: object) -> tuple[str, int, Any]:
    """Take an entry apart: its name, the type bits of its mode, its last member."""
    if isinstance(entry, list) and len(entry) == 7:
        name, *numbers, last = entry
        kind = numbers[2] & 0o170000 if all(type(n) is int and 0 <= n < 1 << 53 for n in numbers) else 0
        named = isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\x00"} & set(name) and _utf8(name)
        digest = isinstance(last, str) and len(last) == 64 and _HEX.issuperset(last)
        if named and (
            (kind == stat.S_IFDIR and isinstance(last, list))
            or (kind == stat.S_IFLNK and isinstance(last, str))
            or (kind == stat.S_IFREG and digest)
        ):
            return name, kind, last
    raise ImageError(
        "this 9p tree is damaged",
        expected="[name, size, mtime, mode, uid, gid, entries or link target or sha256]",
        seen=reprlib.repr(entry),
    )
