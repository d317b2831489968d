"""`RootFS`: an immutable tree of files, from wherever, to whatever boots.

A `RootFS` holds names and inodes; the bytes of its files stay where they are (`content`) until a writer asks. Editing
gives another tree. The formats are modules of their own, read into a `Draft` and written from a `RootFS`:

    tar, directory, cpio, ext4, oci  →  RootFS  →  ninep, disk (ext4), cpio, tar
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from v86lab.errors import ImageError
from v86lab.image import Image

from . import builder
from .content import Content, Extents, Inline
from .draft import Draft
from .inode import Inode
from .names import as_bytes, as_text, order


@dataclass(frozen=True)
class Entry:
    """One name in a tree.

    Attributes
    ----------
    path : bytes
        Without a leading slash; the root's is ``b""``.
    number : int
        Of its inode, counted in the order of first names: equal numbers are hard links.
    first : bytes
        The first name of that inode.
    inode : Inode
    """

    path: bytes
    number: int
    first: bytes
    inode: Inode


class RootFS:
    """An immutable tree of files.

    `v86lab.rootfs` makes them: from a distribution, a tar, a folder, an OCI image. Each edit gives another tree;
    `a + b` lays `b` over `a`. `as_9p`, `as_disk` and `as_initramfs` make images that boot.

    Paths are absolute, as the guest would write them; symbolic links of directories on the way are followed inside the
    tree.

    Examples
    --------
    >>> from v86lab import rootfs
    >>> tree = rootfs.of({"/etc/motd": "hello\\n"}).with_file("/root/a.c", "int main(void) { return 0; }")
    >>> tree.paths()
    ['/', '/etc', '/etc/motd', '/root', '/root/a.c']
    >>> tree.read("/etc/motd"), "/etc/shadow" in tree
    (b'hello\\n', False)
    """

    def __init__(self, draft: Draft, name: str) -> None:
        self.name = name
        self._max_bytes = draft.max_bytes
        self._implied = frozenset(draft.implied)
        paths = sorted(draft.names, key=order)
        numbers: dict[int, int] = {}
        for path in paths:
            numbers.setdefault(draft.names[path], len(numbers))
        self._names: Mapping[bytes, int] = MappingProxyType({path: numbers[draft.names[path]] for path in paths})
        self._inodes: tuple[Inode, ...] = tuple(draft.inodes[number] for number in numbers)

    def __repr__(self) -> str:
        return f"RootFS({self.name!r}, {len(self)} entries)"

    # ---- looking ----

    def entries(self) -> Iterator[Entry]:
        """Every name, each directory before what lies in it, by their bytes; the root first."""
        firsts: dict[int, bytes] = {}
        for path, number in self._names.items():
            yield Entry(path, number, firsts.setdefault(number, path), self._inodes[number])

    def paths(self) -> list[str]:
        """Every path, as text."""
        return [as_text(path) for path in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str | bytes) and self._draft.find(path) is not None

    def __getitem__(self, path: str | bytes) -> Inode:
        """What is at a path; a symbolic link at its end is not followed.

        Raises
        ------
        KeyError
        """
        found = self._draft.find(path)
        if found is None:
            raise KeyError(path)
        return self._inodes[self._names[found]]

    def get(self, path: str | bytes) -> Inode | None:
        """What is at a path, or None; a symbolic link at its end is not followed."""
        found = self._draft.find(path)
        return None if found is None else self._inodes[self._names[found]]

    def follow(self, path: str | bytes) -> Inode | None:
        """What a path leads to, links at its end followed inside the tree; None for nowhere."""
        found = self._draft.follow(path)
        return None if found is None else self._inodes[self._names[found]]

    def read(self, path: str | bytes) -> bytes:
        """The bytes of a file; links are followed.

        Raises
        ------
        ImageError
            There is no such file.
        """
        inode = self.follow(path)
        if inode is None or not inode.is_file:
            seen = "nothing" if inode is None else f"a {inode.type}"
            raise ImageError(f"cannot read {path!r:.200} of {self.name}", expected="a file", seen=seen)
        return inode.content.read()

    def listdir(self, path: str | bytes = "/") -> list[str]:
        """Names in a directory, sorted by their bytes; links are followed."""
        found = self._draft.follow(path)
        if found is None or not self._inodes[self._names[found]].is_directory:
            raise ImageError(f"cannot list {path!r:.200} of {self.name}", expected="a directory", seen="none")
        children = self._draft.children(found)
        return [child.rpartition(b"/")[2].decode("utf-8", "surrogateescape") for child in children]

    @cached_property
    def size(self) -> int:
        """Bytes of the files together."""
        return sum(inode.size for inode in self._inodes if inode.is_file)

    @cached_property
    def digest(self) -> str:
        """The sha256, in hex, of all that the tree says: equal trees have equal digests, wherever their bytes lie."""
        hasher = hashlib.sha256()
        for line in self._lines().items():
            hasher.update(json.dumps(line).encode("ascii") + b"\n")
        return hasher.hexdigest()

    def _lines(self) -> dict[str, list[object]]:
        """A line for each path: what `digest` and `difference` compare."""
        digests: dict[int, str] = {}
        lines: dict[str, list[object]] = {}
        for entry in self.entries():
            inode = entry.inode
            if inode.is_file and entry.number not in digests:
                digests[entry.number] = inode.content.digest()
            body: object = None
            if inode.is_file:
                body = [inode.content.size, digests[entry.number]]
            elif inode.is_link:
                body = inode.target.hex()
            elif inode.is_device:
                body = list(inode.device)
            xattrs = [[name.hex(), value.hex()] for name, value in inode.xattrs]
            other = None if entry.first == entry.path else as_text(entry.first)
            lines[as_text(entry.path)] = [inode.mode, inode.uid, inode.gid, inode.mtime, body, xattrs, other]
        return lines

    # ---- writing ----
    # The writers read trees too, so they import this module: hence the late imports.

    def as_9p(self, **options: Any) -> Image:
        """An image whose root is this tree over 9p: files travel when the guest opens them.

        Parameters
        ----------
        init : str
            The program that the kernel starts: a path in the tree; "v86lab" for v86lab's own small init; "auto" (the
            default) for the tree's ``/sbin/init``, or v86lab's own where there is none.
        kernel : path, bytes or Disk
            "own" for the one in the tree's ``/boot``, whose modules mount the root; or an i386 bzImage with 9p and
            virtio built in. Default: the kernel that ships with v86lab, which starts a third faster.
        cmdline : str
            Added to the kernel's command line.
        compress : bool
            Keep files packed with zstd; True by default.
        agent : bool
            Have the guest run v86lab's agent, which is put into the tree; True by default.
        memory : int or str
            "256 MiB" by default.
        resume : bool
            Boot once and keep the state, from which this image then starts at once; False by default. Needs the agent.
        **options
            `v86lab.board.Common`: further disks, ``epoch=``, ``mips=``, and so on.

        Raises
        ------
        ImageError
            The tree is for another processor, or has nothing to start.
        """
        from .boot import as_9p

        return as_9p(self, **options)

    def as_disk(self, size: int | str | None = None, **options: Any) -> Image:
        """An image with this tree on a raw disk: an MBR, one partition, ext4.

        The same bytes every time. Of the disk only travels what the guest reads.

        Parameters
        ----------
        size : int or str, optional
            Of the disk, such as "2 GiB"; default: what the tree needs, and some room.
        **options
            As for `as_9p`; a `kernel` needs ext4 and the IDE driver built in.

        Raises
        ------
        ImageError
            As for `as_9p`, or the tree does not fit.
        """
        from .boot import as_disk

        return as_disk(self, size, **options)

    def as_initramfs(self, **options: Any) -> Image:
        """An image that holds this tree in memory: a cpio archive that the kernel unpacks.

        Parameters
        ----------
        **options
            As for `as_9p`; `memory` is by default what it takes.
        """
        from .boot import as_initramfs

        return as_initramfs(self, **options)

    def write_tar(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write the tree as a tar archive (POSIX 2001, "pax"), the same bytes every time."""
        from .tar import write_tar

        write_tar(self, target)

    def run(self, command: str | Sequence[str], **options: Any) -> RootFS:
        """The tree as it is after a command has run in a guest whose root it is.

        The guest is a machine with a seed, so that equal trees and commands give equal trees, to the time stamps. It
        has no network. It runs v86lab's own small init, none of the tree's services.

        Parameters
        ----------
        command : str or sequence of str
            A shell command, or a list of arguments, for root.
        timeout : float, optional
            Seconds of guest time.
        memory : int or str
            "512 MiB" by default.
        seed : int
            0 by default.
        **options
            `input`, `env`, `cwd`, `stream`: as for `Machine.run`.

        Raises
        ------
        GuestCommandError
            Its exit status is not 0.

        Examples
        --------
        >>> import v86lab as lab
        >>> tree = lab.rootfs.debian().run("useradd student")    # doctest: +SKIP
        """
        return builder.current().run(self, command, **options)

    # ---- editing ----

    def with_file(
        self,
        path: str | bytes,
        data: bytes | str | os.PathLike[str] | Content,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
    ) -> RootFS:
        """The tree with a file put in, or another in place of one.

        Parameters
        ----------
        path : str or bytes
            Directories above it are made.
        data : bytes, str, Path or Content
            What it holds: bytes, text (UTF-8), or a file of this computer.
        mode, uid, gid : int
        mtime : int
            Nanoseconds since 1970.
        """
        return self.with_inode(path, Inode.file(_content(data), mode, uid, gid, mtime))

    def with_directory(self, path: str | bytes, mode: int = 0o755, uid: int = 0, gid: int = 0) -> RootFS:
        """The tree with a directory; one that is there gets these attributes and keeps its entries."""
        return self.with_inode(path, Inode.directory(mode, uid, gid))

    def with_link(self, path: str | bytes, target: str | bytes) -> RootFS:
        """The tree with a symbolic link."""
        return self.with_inode(path, Inode.link(as_bytes(target)))

    def with_inode(self, path: str | bytes, inode: Inode) -> RootFS:
        """The tree with a file of any type."""
        return self._edited(lambda draft: draft.add(path, inode))

    def with_attributes(
        self,
        path: str | bytes,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        mtime: int | None = None,
    ) -> RootFS:
        """The tree with other permission bits, owner or time of a file (of all its names)."""
        inode = self.get(path)
        if inode is None:
            raise ImageError(f"cannot change {path!r:.200} of {self.name}", expected="a file", seen="nothing")
        given = {"uid": uid, "gid": gid, "mtime": mtime}
        changes: dict[str, int] = {key: value for key, value in given.items() if value is not None}
        if mode is not None:
            changes["mode"] = inode.mode & 0o170000 | mode
        changed = replace(inode, **changes)  # type: ignore[arg-type]
        return self._edited(lambda draft: draft.replace(path, changed))

    def without(self, *paths: str | bytes) -> RootFS:
        """The tree without files or whole directories.

        Raises
        ------
        ImageError
            One is not there.
        """

        def edit(draft: Draft) -> None:
            for path in paths:
                if not draft.remove(path):
                    raise ImageError(f"cannot remove {path!r:.200} of {self.name}", expected="a file", seen="nothing")

        return self._edited(edit)

    def __add__(self, other: RootFS) -> RootFS:
        """This tree with another laid over it: what both have is the other's.

        A directory laid over a link to a directory goes where the link leads (as with dpkg: ``/bin`` stays a link to
        ``usr/bin``), and one that the other only has for what lies in it leaves this tree's as it is.
        """
        if not isinstance(other, RootFS):
            return NotImplemented
        return self._edited(lambda draft: lay_over(draft, other))

    def at(self, path: str | bytes) -> RootFS:
        """The tree below one of its directories.

        Raises
        ------
        ImageError
            There is no such directory.
        """
        top = self._draft.follow(path)
        if top is None or not self._inodes[self._names[top]].is_directory:
            raise ImageError(f"cannot take {path!r:.200} out of {self.name}", expected="a directory", seen="none")
        draft = Draft(self.name)
        places: dict[int, bytes] = {}
        for entry in self.entries():
            if entry.path != top and not entry.path.startswith(top + b"/" if top else b""):
                continue
            path = entry.path[len(top) :].lstrip(b"/")
            first = places.setdefault(entry.number, path)
            if first != path:
                draft.hard_link(path, first)
            elif entry.path in self._implied:
                draft.imply(path)
            else:
                draft.add(path, entry.inode)
        return RootFS(draft, self.name)

    def named(self, name: str) -> RootFS:
        """The same tree under another name."""
        return RootFS(self._draft, name)

    @cached_property
    def _draft(self) -> Draft:
        """This tree as a draft; whoever wants to change it copies it."""
        draft = Draft(self.name, self._max_bytes)
        lay_over(draft, self)
        return draft

    def _edited(self, edit: Callable[[Draft], None]) -> RootFS:
        draft = Draft(self.name, self._max_bytes)
        lay_over(draft, self)
        edit(draft)
        return RootFS(draft, self.name)


def lay_over(draft: Draft, tree: RootFS, top: bytes = b"") -> None:
    """Add a tree, or what is below one of its directories, to a draft; `RootFS.__add__` says how.

    Hard links stay hard links.
    """
    places: dict[int, bytes] = {}
    for entry in tree.entries():
        if top and entry.path != top and not entry.path.startswith(top + b"/"):
            continue
        path = entry.path[len(top) :].lstrip(b"/")
        if entry.path in tree._implied:
            draft.imply(path)
        elif entry.inode.is_directory:
            there = draft.follow(path)
            kept = there is not None and draft.inodes[draft.names[there]].is_directory
            draft.add(there if there is not None and kept else path, entry.inode)
        elif entry.number in places:
            draft.hard_link(path, places[entry.number])
        else:
            places[entry.number] = path
            draft.add(path, entry.inode)


def _content(data: bytes | str | os.PathLike[str] | Content) -> Content:
    if isinstance(data, Content):
        return data
    if isinstance(data, str):
        return Inline(as_bytes(data))
    if isinstance(data, bytes | bytearray | memoryview):
        return Inline(bytes(data))
    try:
        return Extents.whole(Path(data))
    except OSError as error:
        raise ImageError(
            f"cannot read {os.fspath(data)!r:.200}", expected="a file", seen=error.strerror or str(error)
        ) from error
