"""A tree being put together: what every reader fills, entry by entry, as an extracting program would.

The rules:

* a later entry replaces an earlier one of the same path, as in a tar that was appended to; a directory keeps its own;
* parents that nobody named are made, 0755 and root's, and are known as implied;
* a parent that is a symbolic link leads where it leads inside the tree, as for a process that is chrooted there; links
  that go round in circles are an `ImageError`;
* nothing grows without bounds: entries, bytes of the files together, bytes of names, targets and attributes together.
"""

from __future__ import annotations

from v86lab.errors import ImageError
from v86lab.formats import GIB, MIB, size_text

from .inode import Inode
from .names import MOST_PATH, as_text, parent, split

MAX_ENTRIES = 1_000_000
MAX_BYTES = 64 * GIB
_MOST_WORDS = 512 * MIB  # names, targets and attributes are held in memory
_MOST_LINKS = 40  # Linux: MAXSYMLINKS

_ROOT: tuple[tuple[bytes, ...], bytes] = ((), b"")


class Draft:
    """Names and inodes; two names of one inode are hard links.

    Parameters
    ----------
    what : str
        What is being read, for errors: "the tar 'base.tar'".
    max_bytes : int
        Bound on the sum of the files' sizes.
    max_entries : int
        Bound on the names.
    hint : str, optional
        What to do when a bound is passed.

    Attributes
    ----------
    names : dict of bytes to int
        Number of the inode at each path.
    inodes : dict of int to Inode
    implied : set of bytes
        Directories that nobody named: they are there for what lies in them.

    Examples
    --------
    >>> draft = Draft("an example")
    >>> draft.add(b"./usr/bin/true", Inode.file(b"", 0o755))
    >>> draft.hard_link(b"usr/bin/false", b"usr/bin/true")
    >>> sorted(draft.names)
    [b'', b'usr', b'usr/bin', b'usr/bin/false', b'usr/bin/true']
    """

    def __init__(
        self, what: str, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES, hint: str | None = None
    ) -> None:
        self.what = what
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.hint = hint
        self.names: dict[bytes, int] = {b"": 0}
        self.inodes: dict[int, Inode] = {0: Inode.directory()}
        self.implied = {b""}
        self._children: dict[bytes, set[bytes]] = {b"": set()}
        self._links: dict[int, int] = {0: 1}
        self._next = 1
        self._bytes = 0
        self._words = 0
        self._last = _ROOT  # the directory of the last entry: the next one's is most often the same

    def add(self, path: str | bytes, inode: Inode) -> None:
        """Make an entry, or replace one.

        Raises
        ------
        ImageError
            The path leads out of the tree or through something that is no directory, a directory that is not empty
            would be replaced, or a bound is passed.
        """
        parts = split(path, f"an entry of {self.what}")
        if not parts:
            if not inode.is_directory:
                raise ImageError(f"{self.what} replaces its root", expected="a directory", seen=f"a {inode.type}")
            self._set(0, inode, b"")
            return
        where = self._place(parts)
        old = self.names.get(where)
        if old is not None and inode.is_directory and self.inodes[old].is_directory:
            self._set(old, inode, where)
        else:
            self._make(where, inode)

    def imply(self, path: str | bytes) -> None:
        """Make a directory with its parents, if they are not there; links on the way and at its end are followed.

        Raises
        ------
        ImageError
            As of `add`.
        """
        parts = split(path, f"an entry of {self.what}")
        self._resolved(parts, parts, make=True)

    def hard_link(self, path: str | bytes, target: str | bytes) -> None:
        """Give an entry another name.

        Raises
        ------
        ImageError
            There is no such entry, or it is a directory.
        """
        where = self._place(split(path, f"an entry of {self.what}"))
        aim = split(target, f"the target of a hard link of {self.what}")
        there = self.find(target)
        if there is None:
            raise ImageError(
                f"{self.what} has a hard link to nothing",
                expected="the name of an earlier entry",
                seen=f"{as_text(where)!a} -> {as_text(b'/'.join(aim))!a}",
            )
        found = self.names[there]
        if self.inodes[found].is_directory:
            raise ImageError(
                f"{self.what} has a hard link to a directory", expected="a file", seen=as_text(b"/".join(aim))
            )
        if self.names.get(where) != found:
            self._clear(where)
            self._name(where, found)

    def remove(self, path: str | bytes) -> bool:
        """Take an entry away, with all that lies in it; whether there was one."""
        parts = split(path)
        if not parts:
            for child in list(self._children[b""]):
                self._drop(child)
            return True
        try:
            folder = self._resolved(parts[:-1], parts)
        except ImageError:
            return False
        where = _joined(folder, parts[-1])
        if where not in self.names:
            return False
        self._drop(where)
        return True

    def replace(self, path: str | bytes, inode: Inode) -> None:
        """Change an entry's inode for all its names.

        Raises
        ------
        ImageError
            There is none, or a directory would become something else.
        """
        where = self.find(path)
        number = None if where is None else self.names[where]
        if where is None or number is None or inode.is_directory != self.inodes[number].is_directory:
            raise ImageError(f"{self.what} has no such entry", expected="an entry of this type", seen=f"{path!r:.80}")
        self._set(number, inode, where)
        self._last = _ROOT

    def find(self, path: str | bytes) -> bytes | None:
        """Where a path leads: its directories' links are followed, its last name is not; None for nowhere."""
        parts = split(path)
        if not parts:
            return b""
        try:
            folder = self._resolved(parts[:-1], parts)
        except ImageError:
            return None
        where = _joined(folder, parts[-1])
        return where if where in self.names else None

    def follow(self, path: str | bytes) -> bytes | None:
        """Where a path leads, links at its end followed too; None for nowhere."""
        at = self.find(path)
        for _ in range(_MOST_LINKS):
            if at is None:
                return None
            inode = self.inodes[self.names[at]]
            if not inode.is_link:
                return at
            parts = tuple(inode.target.split(b"/"))
            start = b"" if inode.target.startswith(b"/") else parent(at)
            try:
                if parts[-1] in (b"", b".", b".."):
                    return self._resolved(parts, parts, start)
                at = _joined(self._resolved(parts[:-1], parts, start), parts[-1])
            except ImageError:
                return None
            at = at if at in self.names else None
        return None

    def children(self, path: bytes) -> list[bytes]:
        """Paths of a directory's entries, sorted."""
        return sorted(self._children.get(path, ()))

    def __contains__(self, path: str | bytes) -> bool:
        return self.find(path) is not None

    # ---- the inside ----

    def _place(self, parts: tuple[bytes, ...]) -> bytes:
        """Where an entry goes; its parents are made."""
        if not parts:
            raise ImageError(f"{self.what} replaces its root", expected="a name", seen="none")
        folder = parts[:-1]
        if folder != self._last[0]:
            self._last = folder, self._resolved(folder, parts, make=True)
        return _joined(self._last[1], parts[-1])

    def _resolved(
        self, parts: tuple[bytes, ...], whole: tuple[bytes, ...], start: bytes = b"", make: bool = False
    ) -> bytes:
        """The directory that these names lead to, links followed inside the tree."""
        ahead = list(reversed(parts))
        at = start
        followed = 0
        while ahead:
            name = ahead.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                at = parent(at)
                continue
            here = _joined(at, name)
            number = self.names.get(here)
            if number is None:
                if not make:
                    raise self._no_directory(here, whole, "nothing")
                number = self._make(here, Inode.directory())
                self.implied.add(here)
            inode = self.inodes[number]
            if inode.is_link:
                followed += 1
                if followed > _MOST_LINKS:
                    raise self._no_directory(here, whole, "links that go round in circles")
                if inode.target.startswith(b"/"):
                    at = b""
                ahead += reversed(inode.target.split(b"/"))
                continue
            if not inode.is_directory:
                raise self._no_directory(here, whole, f"a {inode.type}")
            at = here
        return at

    def _no_directory(self, here: bytes, whole: tuple[bytes, ...], seen: str) -> ImageError:
        return ImageError(
            f"{self.what} has no place for {as_text(b'/'.join(whole))!a}",
            expected=f"a directory at {as_text(here)!a}",
            seen=seen,
        )

    def _make(self, where: bytes, inode: Inode) -> int:
        self._clear(where)
        number = self._next
        self._next += 1
        self._set(number, inode, where)
        self._name(where, number)
        return number

    def _set(self, number: int, inode: Inode, where: bytes) -> None:
        old = self.inodes.get(number)
        if old is not None:
            self._account(old, -1)
            self.implied.discard(where)
        self._account(inode, 1)
        self.inodes[number] = inode
        self._check(where)

    def _account(self, inode: Inode, sign: int) -> None:
        self._bytes += sign * inode.content.size if inode.is_file else 0
        self._words += sign * (len(inode.target) + sum(len(name) + len(value) for name, value in inode.xattrs))

    def _name(self, where: bytes, number: int) -> None:
        self.names[where] = number
        self._words += len(where)
        self._links[number] = self._links.get(number, 0) + 1
        self._children[parent(where)].add(where)
        if self.inodes[number].is_directory:
            self._children.setdefault(where, set())
        self._check(where)

    def _clear(self, where: bytes) -> None:
        if where not in self.names:
            return
        if self._children.get(where):
            raise ImageError(
                f"{self.what} replaces a directory that is not empty", expected="a directory", seen=as_text(where)
            )
        self._drop(where)

    def _drop(self, where: bytes) -> None:
        self._last = _ROOT
        doomed = [where]
        for path in doomed:
            doomed += self._children.pop(path, ())
        self._children[parent(where)].discard(where)
        for path in doomed:
            self.implied.discard(path)
            self._words -= len(path)
            number = self.names.pop(path)
            self._links[number] -= 1
            if not self._links[number]:
                self._account(self.inodes.pop(number), -1)
                del self._links[number]

    def _check(self, where: bytes) -> None:
        if self._bytes > self.max_bytes:
            expected = f"files of at most {size_text(self.max_bytes)}"
        elif self._words > _MOST_WORDS:
            expected = f"names, targets and attributes of at most {size_text(_MOST_WORDS)}"
        elif len(self.names) > self.max_entries:
            expected = f"at most {self.max_entries} entries"
        elif len(where) > MOST_PATH:
            expected = f"paths of at most {MOST_PATH} bytes, links followed"
        else:
            return
        seen = as_text(where)
        raise ImageError(
            f"{self.what} is too big",
            expected=expected,
            seen=f"more, at {seen[:80]!a}" + ("..." if len(seen) > 80 else ""),
            hint=self.hint,
        )


def _joined(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
