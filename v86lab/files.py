"""Files in the running guest, through its agent: bytes in and out, files and folders copied."""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import rootfs, tree9p
from .command import run
from .errors import GuestError, ImageError
from .protocol import ExportTree, ReadFetches
from .rootfs import RootFS, ninep
from .session import Session

_MOST = 1 << 30  # bytes of one file or folder that are read into memory


@dataclass(frozen=True)
class Fetch:
    """A part of a file that was fetched because the guest read it.

    Attributes
    ----------
    seconds : float
        When, on the guest's clock since power-on.
    path : str
        Of the file at that time; one of its names.
    bytes : int
        As they travelled: compressed, most often.
    """

    seconds: float
    path: str
    bytes: int


# The one directory, links followed; busybox's realpath and coreutils' agree on this.
_REAL = 'cd -- "$0" && pwd -P'
_PACK = """\
if tar --version 2>/dev/null | grep -q GNU; then
    tar -C "$0" --one-file-system --xattrs --xattrs-include='*' --numeric-owner --format=posix -cf - .
    [ $? -le 1 ]  # 1: a file changed meanwhile
else
    b=/usr/lib/v86lab/busybox; [ -x $b ] || b=busybox
    cd "$0" && $b find . -xdev -print0 | $b cpio -0 -o -H newc
fi
"""


@dataclass(frozen=True)
class _Mount:
    root: str
    place: str
    type: str


def _mount(line: bytes) -> _Mount:
    """A line of /proc/self/mountinfo (proc(5)): spaces and such are octal escapes in it."""
    fields = line.decode(errors="surrogateescape").split(" ")
    root, place = (re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field) for field in fields[3:5])
    return _Mount(root, place, fields[fields.index("-") + 1])


class Files:
    """The guest's file system.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.files.write("/tmp/greeting", b"hello")
    ...     vm.files.read("/tmp/greeting")
    b'hello'
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises
        ------
        GuestError
            There is no such file, or it cannot be read.
        """
        return self._run(["cat", _absolute(path)], f"cannot read {path}")

    def write(self, path: str, data: str | bytes) -> None:
        """Make a file of these bytes, or replace one; folders above it are made.

        Raises
        ------
        GuestError
            The guest cannot write there.
        """
        if not isinstance(data, str | bytes):
            raise ImageError("only bytes can be written", expected="bytes or str", seen=type(data).__name__)
        script = 'mkdir -p -- "$(dirname -- "$0")" && cat > "$0"'
        self._run(["/bin/sh", "-c", script, _absolute(path)], f"cannot write {path}", data)

    def listdir(self, path: str = "/") -> list[str]:
        """Names in a folder, sorted."""
        script = 'cd -- "$0" && find . -mindepth 1 -maxdepth 1 -print0'
        names = self._run(["/bin/sh", "-c", script, _absolute(path)], f"cannot list {path}")
        return sorted(name.removeprefix(b"./").decode(errors="surrogateescape") for name in names.split(b"\0") if name)

    def put(self, source: str | os.PathLike[str], target: str) -> None:
        """Copy a file or a folder of the host to `target` in the guest."""
        source = Path(source)
        if not source.exists():
            raise ImageError("there is nothing to copy", expected="a file or folder", seen=str(source))
        if source.is_file():
            self.write(target, source.read_bytes())
            mode = f"{source.stat().st_mode & 0o777:o}"
            self._run(["chmod", mode, _absolute(target)], f"cannot set the mode of {target}")
            return
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=".", filter=_as_root)
        script = 'mkdir -p -- "$0" && cd -- "$0" && tar xf -'
        self._run(["/bin/sh", "-c", script, _absolute(target)], f"cannot write {target}", packed.getvalue())

    def get(self, source: str, target: str | os.PathLike[str]) -> None:
        """Copy a file or a folder of the guest to `target` on the host; nothing is written outside of it."""
        target = Path(target)
        source = _absolute(source)
        if run(self._session, ["test", "-d", source]).returncode != 0:
            data = self.read(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            return
        packed = self._run(["tar", "cf", "-", "-C", source, "."], f"cannot read {source}")
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            _extract(archive, target)

    def tree(self, path: str = "/") -> RootFS:
        """A directory of the guest as a `RootFS`, so that a guest that was changed becomes a new image.

        What is mounted below it is left out (``/proc``, ``/dev``...). Where the files come over 9p, only what the guest
        has changed is copied and all is kept to the nanosecond; elsewhere the guest packs them with ``tar``, or with
        ``cpio``, which keeps neither extended attributes nor fractions of seconds.

        Raises
        ------
        GuestError
            There is no such directory, or the guest cannot pack it.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine() as vm:
        ...     vm.files.write("/tmp/made/here", "hello")
        ...     vm.files.tree("/tmp/made").paths()
        ['/', '/here']
        """
        where = _absolute(path)
        real = self._run(["/bin/sh", "-c", _REAL, where], f"cannot find the directory {path}").decode().rstrip("\n")
        mounts = [
            _mount(line) for line in self._run(["cat", "/proc/self/mountinfo"], "cannot list mounts").splitlines()
        ]
        above = [mount for mount in mounts if posixpath.commonpath([mount.place, real]) == mount.place]
        mount = max(enumerate(above), key=lambda pair: (len(pair[1].place), pair[0]))[1]  # later ones hide earlier ones
        if mount.type == "9p" and self._session.image.share is not None:
            return self._shared().at(mount.root + "/" + posixpath.relpath(real, mount.place))
        packed = io.BytesIO(self._run(["/bin/sh", "-c", _PACK, real], f"cannot pack {path}"))
        name, store = f"{self._session.image.name}:{where}", self._session.hub.store
        is_cpio = packed.getvalue().startswith(b"070701")
        return rootfs.cpio(packed, store=store, name=name) if is_cpio else rootfs.tar(packed, store=store, name=name)

    @property
    def fetched(self) -> list[Fetch]:
        """What has travelled so far for files that the guest has over 9p, in order; see `Fetch`."""
        rows = json.loads(self._session.call(ReadFetches).payload)
        return [Fetch(row["seconds"], row["path"], row["bytes"]) for row in rows]

    def _shared(self) -> RootFS:
        """All that the guest has over 9p, as it is now."""
        self._run(["sync"], "cannot write out what is in memory")
        reply = self._session.call(ExportTree)
        store, payload, at = self._session.hub.store, reply.payload, int(reply.value["manifest"])
        manifest = tree9p.Manifest.parse(payload[:at], len(reply.value["parts"]))
        parts = []
        for length in reply.value["parts"]:
            parts.append(payload[at : at + length])
            at += length
        return ninep.tree_of(manifest, store, self._session.image.name, ninep.pack(parts, store))

    def _run(self, command: list[str], problem: str, data: str | bytes = b"") -> bytes:
        result = run(self._session, command, input=data, text=False, limit=_MOST)
        if result.returncode != 0:
            assert isinstance(result.stderr, bytes)
            raise GuestError(problem, seen=result.stderr.decode(errors="replace").strip())
        if result.cut[0]:
            raise GuestError(problem, expected=f"at most {_MOST} bytes", seen=f"{_MOST + result.cut[0]}")
        assert isinstance(result.stdout, bytes)
        return result.stdout


def _extract(archive: tarfile.TarFile, target: Path) -> None:
    """Write what a guest packed; it is untrusted, so nothing may land outside of `target`.

    Links come last, so that nothing is written through one. (`TarFile.extractall` has a filter for this only since
    Python 3.11.4.)
    """
    root = target.resolve()
    links = []
    for entry in archive:
        path = root / entry.name
        if ".." in Path(entry.name).parts or not path.is_relative_to(root):
            raise GuestError("the guest packed a path that leads out of the folder", seen=repr(entry.name))
        if entry.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif entry.isfile():
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(entry)
            assert content is not None
            path.write_bytes(content.read())
            path.chmod(0o600 | entry.mode & 0o777)
        elif entry.issym() or entry.islnk():
            links.append(entry)
    for entry in links:
        base = root if entry.islnk() else (root / entry.name).parent
        if not (base / entry.linkname).resolve().is_relative_to(root):
            raise GuestError(
                "the guest packed a link that leads out of the folder", seen=f"{entry.name} -> {entry.linkname}"
            )
        if entry.issym():
            (root / entry.name).symlink_to(entry.linkname)
        else:
            shutil.copy2(root / entry.linkname, root / entry.name)


def _absolute(path: str) -> str:
    """Paths are absolute in the guest: a relative one would depend on who asks."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise ImageError("not a path in the guest", expected='an absolute path such as "/root/a.c"', seen=repr(path))
    return posixpath.normpath(path)


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
