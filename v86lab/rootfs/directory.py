"""A folder of this computer as a tree: as a root file system, or as what a user shares with the guest.

The rules:

* symbolic links stay links and are never followed, not even one that somebody puts in place of a folder or a file while
  we look: folders are walked by their descriptors, and a file is opened only if it still is what it was;
* the bytes of the files stay where they are, with their holes;
* the same folder gives the same tree, in whatever order it was made.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from pathlib import Path

from v86lab.atomic import stamp_of
from v86lab.errors import ImageError
from v86lab.formats import GIB, quoted

from . import draft as drafts
from .content import Extents, Source
from .draft import Draft
from .inode import Inode
from .names import located
from .tree import RootFS

SHARED_BYTES = 2 * GIB
SHARED_ENTRIES = 200_000
_MOUNT_POINT = 0xA0000003  # Windows' IO_REPARSE_TAG_MOUNT_POINT: a junction leads out of the tree like a link
_BY_DESCRIPTOR = os.scandir in os.supports_fd and os.stat in os.supports_dir_fd and os.readlink in os.supports_dir_fd


def directory(
    path: str | os.PathLike[str], *, shared: bool = False, max_bytes: int | None = None, name: str | None = None
) -> RootFS:
    """A folder of this computer as a tree.

    Parameters
    ----------
    path : path
        The folder; the tree is what it contains at this moment.
    shared : bool
        Whether the files are somebody's own and the guest is to see them, rather than a root file system: then
        everything belongs to root, nothing is set-user-id or set-group-id, extended attributes stay behind, and so do
        sockets, pipes and devices, with a warning. Otherwise all of it is kept, which takes root to read.
    max_bytes : int, optional
        Bound on the sum of the file sizes; 2 GiB for a shared folder.
    name : str, optional
        What the tree is called; the folder's own name.

    Returns
    -------
    RootFS

    Raises
    ------
    ImageError
        No folder, something that may not be read, or too many bytes or files.

    Notes
    -----
    Files on Windows get the permissions that Python reports there; junctions are left out.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "hello.c").write_text("int main(void) { return 0; }")
    ...     tree = directory(folder, shared=True)
    ...     tree.paths(), tree["/hello.c"].uid, tree.read("/hello.c")[:8]
    (['/', '/hello.c'], 0, b'int main')
    """
    given = os.fspath(path)
    try:
        root = Path(path).resolve(strict=True)
        top = root.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(given, "a folder", error) from error
    if not stat.S_ISDIR(top.st_mode):
        raise ImageError(
            f"cannot use the folder {quoted(given)}",
            expected="a folder",
            seen="a file",
            hint="give the folder it is in; an archive is read by rootfs.tar",
        )
    draft = Draft(
        f"the folder {quoted(given)}",
        max_bytes if max_bytes is not None else SHARED_BYTES if shared else drafts.MAX_BYTES,
        SHARED_ENTRIES if shared else drafts.MAX_ENTRIES,
        "share a smaller folder, or put the files on a disk image" if shared else "give max_bytes, or a smaller folder",
    )
    walk = _Walk(draft, shared)
    walk.all(root, top)
    if walk.left_out:
        names = ", ".join(quoted(os.fsdecode(inside)) for inside in walk.left_out[:5])
        names += ", ..." if len(walk.left_out) > 5 else ""
        warnings.warn(f"left out of the folder {quoted(given)}, neither file, folder nor link: {names}", stacklevel=2)
    return RootFS(draft, name or root.name or given)


class _Walk:
    """A folder on its way into a draft."""

    def __init__(self, draft: Draft, shared: bool) -> None:
        self.draft = draft
        self.shared = shared
        self.left_out: list[bytes] = []
        self.firsts: dict[tuple[int, int], bytes] = {}

    def all(self, root: Path, top: os.stat_result) -> None:
        """Read all of it."""
        whole = self._inode(top, root)
        if self.shared:  # a guest's other users may look in, as into any mount point
            whole = Inode.directory(mtime=whole.mtime)
        self.draft.add(b"", whole)
        ahead: list[tuple[Path, bytes, os.stat_result]] = [(root, b"", top)]
        while ahead:
            host, inside, seen = ahead.pop()
            for name, info, target in _listing(host, seen):
                where = inside + b"/" + os.fsencode(name) if inside else os.fsencode(name)
                full = host / name
                if not self._holds(info):
                    self.left_out.append(where)
                    continue
                self._add(where, full, info, target)
                if stat.S_ISDIR(info.st_mode):
                    ahead.append((full, where, info))

    def _holds(self, info: os.stat_result) -> bool:
        if getattr(info, "st_reparse_tag", 0) == _MOUNT_POINT:
            return False
        kind = stat.S_IFMT(info.st_mode)
        if self.shared:
            return kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        return kind not in (0, getattr(stat, "S_IFDOOR", 0), getattr(stat, "S_IFWHT", 0))

    def _add(self, where: bytes, full: Path, info: os.stat_result, target: bytes) -> None:
        again = (info.st_dev, info.st_ino)
        linked = info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode)
        if linked and again in self.firsts:
            self.draft.hard_link(where, self.firsts[again])
            return
        if linked:
            self.firsts[again] = where
        try:
            inode = self._inode(info, full, target)
        except ImageError as error:
            raise located(error, where, self.draft.what) from error
        self.draft.add(where, inode)

    def _inode(self, info: os.stat_result, full: Path, target: bytes = b"") -> Inode:
        content = Inode.file().content
        if stat.S_ISREG(info.st_mode):
            if not os.access(full, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
                raise ImageError("cannot read a file", expected="one that this user may read", seen="Permission denied")
            content = Extents.all_of(Source(full, stamp_of(info)))
        device = stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)
        return Inode(
            info.st_mode & (0o171777 if self.shared else 0o177777),
            0 if self.shared else info.st_uid,
            0 if self.shared else info.st_gid,
            info.st_mtime_ns,
            content,
            target,
            (os.major(info.st_rdev), os.minor(info.st_rdev)) if device else (0, 0),
            () if self.shared else _xattrs(full),
        )


def _listing(host: Path, seen: os.stat_result) -> list[tuple[str, os.stat_result, bytes]]:
    """Names in a folder with their status and, of links, their targets; sorted by their bytes."""
    descriptor = -1
    try:
        if _BY_DESCRIPTOR:
            descriptor = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            now = os.fstat(descriptor)
            if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino):
                raise ImageError(
                    f"cannot read {str(host)!a}", expected="the folder that was there a moment ago", seen="another"
                )
        place = {"dir_fd": descriptor} if _BY_DESCRIPTOR else {}
        with os.scandir(descriptor if _BY_DESCRIPTOR else host) as found:
            names = sorted((entry.name for entry in found), key=os.fsencode)
        rows = []
        for name in names:
            at = name if _BY_DESCRIPTOR else os.fspath(host / name)
            info = os.stat(at, follow_symlinks=False, **place)  # noqa: PTH116
            rows.append((name, info, _target(os.readlink(at, **place)) if stat.S_ISLNK(info.st_mode) else b""))
        return rows
    except OSError as error:
        raise _unreadable(os.fspath(host), "a folder one may read, that nobody changes", error) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _target(text: str) -> bytes:
    if os.sep == "\\":
        text = text.removeprefix("\\\\?\\").replace("\\", "/")
    return os.fsencode(text)


def _xattrs(full: Path) -> tuple[tuple[bytes, bytes], ...]:
    if not hasattr(os, "listxattr"):
        return ()
    try:
        names = sorted(os.fsencode(name) for name in os.listxattr(full, follow_symlinks=False))
        return tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise _unreadable(os.fspath(full), "extended attributes", error) from error


def _unreadable(path: str, expected: str, error: OSError | ValueError) -> ImageError:
    seen = getattr(error, "strerror", None) or str(error)
    return ImageError(f"cannot read {path!a}", expected=expected, seen=seen)
