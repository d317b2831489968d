"""What differs between two trees: packages by name, files by path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .packages import Package, packages
from .tree import RootFS

_MOST = 20  # packages in text


@dataclass(frozen=True)
class Comparison:
    """What differs between two trees; false when nothing does.

    Attributes
    ----------
    upgraded : tuple of (str, str, str)
        Packages whose version differs: name, old and new version.
    rebuilt : tuple of str
        Packages of the same version from another .deb.
    installed, removed : tuple of (str, str)
        Packages of only one tree: name and version.
    added, changed, gone : tuple of str
        Paths of files.

    Examples
    --------
    >>> from v86lab import rootfs
    >>> old = rootfs.of({"/etc/motd": "hello", "/etc/issue": "1"})
    >>> new = old.with_file("/etc/motd", "hello!").with_file("/root/a.c", "").without("/etc/issue")
    >>> compare(old, new)
    Comparison(2 files added, 1 changed, 1 gone)
    >>> bool(compare(old, old))
    False
    """

    upgraded: tuple[tuple[str, str, str], ...]
    rebuilt: tuple[str, ...]
    installed: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __repr__(self) -> str:
        words = [*_listed(list(self._of_packages()), 3), self._of_files()]
        return f"Comparison({'; '.join(word for word in words if word) or 'nothing differs'})"

    def __str__(self) -> str:
        words = _listed(list(self._of_packages()), _MOST)
        if self._of_files():
            words.append(self._of_files())
        return "\n".join(words) or "nothing differs"

    def _of_packages(self) -> Iterator[str]:
        yield from (f"{name} {old} -> {new}" for name, old, new in self.upgraded)
        yield from (f"{name} of the same version was built anew" for name in self.rebuilt)
        yield from (f"added {name} {version}" for name, version in self.installed)
        yield from (f"removed {name} {version}" for name, version in self.removed)

    def _of_files(self) -> str:
        counts = ((self.added, "added"), (self.changed, "changed"), (self.gone, "gone"))
        words = [f"{len(paths)} {word}" for paths, word in counts if paths]
        if words:
            count, _, rest = words[0].partition(" ")
            words[0] = f"{count} file{'' if count == '1' else 's'} {rest}"
        return ", ".join(words)


def compare(old: RootFS, new: RootFS) -> Comparison:
    """Say what differs between two trees.

    Packages are those of dpkg, when the trees have it. Files are compared by content, permissions, owner, time and
    extended attributes; two names of one file (hard links) as well.

    Parameters
    ----------
    old, new : RootFS

    Examples
    --------
    >>> from v86lab import rootfs
    >>> print(compare(rootfs.of({"/a": ""}), rootfs.of({"/b": ""})))
    1 file added, 1 gone
    """
    one, two = ({_name(package): package for package in packages(tree)} for tree in (old, new))
    both = sorted(one.keys() & two.keys())
    before, after = old._lines(), new._lines()
    return Comparison(
        upgraded=tuple(
            (name, one[name].version, two[name].version) for name in both if one[name].version != two[name].version
        ),
        rebuilt=tuple(name for name in both if _is_rebuilt(one[name], two[name])),
        installed=tuple((name, two[name].version) for name in sorted(two.keys() - one.keys())),
        removed=tuple((name, one[name].version) for name in sorted(one.keys() - two.keys())),
        added=tuple(path for path in after if path not in before),
        changed=tuple(path for path, line in after.items() if path in before and before[path] != line),
        gone=tuple(path for path in before if path not in after),
    )


def _name(package: Package) -> str:
    return package.name if package.architecture in ("i386", "all") else f"{package.name}:{package.architecture}"


def _is_rebuilt(old: Package, new: Package) -> bool:
    return old.version == new.version and None not in (old.sha256, new.sha256) and old.sha256 != new.sha256


def _listed(words: list[str], most: int) -> list[str]:
    return words if len(words) <= most else [*words[:most], f"{len(words) - most} more packages"]
