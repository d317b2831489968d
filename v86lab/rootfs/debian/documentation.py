"""Documentation and translations that a small guest goes without.

The rules are dpkg's own (path-exclude and path-include, dpkg(1)) and stay in the tree's configuration, so that packages
which the guest installs follow them too. On the built tree they are applied here: mmdebstrap would start a filter
for every package, which takes longer than all the rest of unpacking.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from v86lab.rootfs.names import as_text, parent
from v86lab.rootfs.tree import RootFS

CONFIGURATION = "/etc/dpkg/dpkg.cfg.d/v86lab"

RULES = (
    ("path-exclude", "/usr/share/doc/*"),
    ("path-include", "/usr/share/doc/*/copyright"),
    ("path-exclude", "/usr/share/info/*"),
    ("path-exclude", "/usr/share/locale/*"),
    ("path-include", "/usr/share/locale/locale.alias"),
    ("path-exclude", "/usr/share/man/*"),
    ("path-include", "/usr/share/man/man[1-9]/*"),
)
"""In order: the last one that matches decides. A star also stands for slashes."""

_COMPILED = tuple((kind == "path-exclude", re.compile(fnmatch.translate(pattern))) for kind, pattern in RULES)


def configuration() -> str:
    """The rules as dpkg reads them."""
    return "".join(f"{kind}={pattern}\n" for kind, pattern in RULES)


def left_out(tree: RootFS) -> Iterator[bytes]:
    """Paths that the rules leave out, each before the directory that it lies in.

    Examples
    --------
    >>> from v86lab import rootfs
    >>> names = ("doc/a/README", "doc/a/copyright", "doc/b/README", "man/man1/a.1.gz", "man/de/man1/a.1.gz")
    >>> [path.decode() for path in left_out(rootfs.of({f"/usr/share/{name}": "" for name in names}))]
    ['usr/share/man/de/man1/a.1.gz', 'usr/share/man/de/man1', 'usr/share/man/de', 'usr/share/doc/b/README', \
'usr/share/doc/b', 'usr/share/doc/a/README']
    """
    kept: set[bytes] = set()
    for entry in reversed(list(tree.entries())):
        if entry.path in kept or not _excluded(as_text(entry.path)):
            kept.add(parent(entry.path))
        else:
            yield entry.path


def _excluded(path: str) -> bool:
    verdict = False
    if path.startswith("/usr/share/"):
        for excludes, pattern in _COMPILED:
            if pattern.match(path):
                verdict = excludes
    return verdict
