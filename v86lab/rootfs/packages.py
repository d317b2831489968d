"""The packages of a Debian tree: names, versions, and the digests of the .debs that they came from.

What is installed is what dpkg's status file says (deb822, dpkg-query(1)). Digests are not in there: a build writes them
to `PLACE` in the tree, where they travel with saved images and can be read in the guest::

    {"format": "v86lab-packages", "version": 1, "suite": "bookworm", "mirrors": ["deb http://..."],
     "packages": [["gcc", "4:12.2.0-3", "i386", "<sha256 of its .deb, or null>"], ...]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .tree import RootFS

PLACE = "/usr/share/v86lab/packages.json"
STATUS = "/var/lib/dpkg/status"
FORMAT, VERSION = "v86lab-packages", 1

_FIELD = re.compile(r"^(Package|Version|Architecture|Status): *(\S.*?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """An installed package.

    Attributes
    ----------
    name, version, architecture : str
    sha256 : str, optional
        Digest of its .deb.
    """

    name: str
    version: str
    architecture: str
    sha256: str | None = None


def packages(tree: RootFS) -> tuple[Package, ...]:
    """The packages that are installed in a tree, by name; none where there is no dpkg.

    Examples
    --------
    >>> from v86lab import rootfs
    >>> status = "Package: hello\\nStatus: install ok installed\\nArchitecture: i386\\nVersion: 2.10-3\\n"
    >>> packages(rootfs.of({STATUS: status}))
    (Package(name='hello', version='2.10-3', architecture='i386', sha256=None),)
    """
    inode = tree.follow(STATUS)
    if inode is None or not inode.is_file:
        return ()
    digests = _digests(tree)
    found = []
    for stanza in tree.read(STATUS).decode("utf-8", "replace").split("\n\n"):
        fields = dict(_FIELD.findall(stanza))
        if "Package" in fields and fields.get("Status", "").endswith(" installed"):
            name, version, architecture = (fields.get(key, "") for key in ("Package", "Version", "Architecture"))
            found.append(Package(name, version, architecture, digests.get((name, version, architecture))))
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def record(
    installed: Iterable[Package], digests: Mapping[tuple[str, str, str], str], suite: str, mirrors: Iterable[str]
) -> str:
    """What to write to `PLACE`; `digests` is by name, version and architecture."""
    rows = [[one.name, one.version, one.architecture] for one in installed]
    lines = ",\n".join(json.dumps([*row, digests.get((row[0], row[1], row[2]))]) for row in rows)
    head = {"format": FORMAT, "version": VERSION, "suite": suite, "mirrors": list(mirrors)}
    return f'{json.dumps(head)[:-1]}, "packages": [\n{lines}\n]}}\n'


def _digests(tree: RootFS) -> dict[tuple[str, str, str], str]:
    inode = tree.follow(PLACE)
    if inode is None or not inode.is_file:
        return {}
    try:
        plain = json.loads(tree.read(PLACE))
    except (ValueError, RecursionError):
        return {}  # a guest may have written anything there
    rows = plain.get("packages") if isinstance(plain, dict) else None
    return {
        (row[0], row[1], row[2]): row[3]
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, list) and len(row) == 4 and all(isinstance(part, str) for part in row)
    }
