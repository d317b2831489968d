"""What a Debian root file system is to be: checked decisions, and nothing that depends on this computer.

Two recipes with the same `key` mean the same tree, as far as the mirrors have not changed meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime

from v86lab.errors import ImageError
from v86lab.formats import quoted

from .mirror import DEBIAN, SNAPSHOT, Mirror

VERSION = 1
"""Raised when the same recipe begins to mean another tree."""

VARIANTS = ("essential", "apt", "required", "minbase", "buildd", "important", "standard")
INIT = ("systemd-sysv", "udev", "dbus", "kmod", "login")
"""What it takes from the kernel's start of ``/sbin/init`` to a login prompt."""

# A name, and what apt lets one add: an architecture, a version or a suite (apt-get(8), install).
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+|/[A-Za-z0-9.~+-]+)?")
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/~-]*")
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)  # RFC 1123, 2.1
_FIRST = datetime(2005, 3, 12, tzinfo=UTC)  # of what snapshot.debian.org keeps
_TIMESTAMP = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):?(\d\d):?(\d\d)Z?)?")


@dataclass(frozen=True)
class Recipe:
    """A Debian root file system.

    Attributes
    ----------
    packages : tuple of str
        Sorted.
    suite, variant, hostname : str
    mirrors : tuple of Mirror
    snapshot : datetime, optional
        When the archive is to be as it was.
    init, documentation : bool
    """

    packages: tuple[str, ...]
    suite: str
    variant: str
    mirrors: tuple[Mirror, ...]
    snapshot: datetime | None
    hostname: str
    init: bool
    documentation: bool

    @property
    def key(self) -> str:
        """A digest of all of it."""
        plain = {
            "version": VERSION,
            "packages": self.packages,
            "suite": self.suite,
            "variant": self.variant,
            "mirrors": [mirror.line() for mirror in self.mirrors],
            "snapshot": None if self.snapshot is None else self.snapshot.isoformat(),
            "hostname": self.hostname,
            "init": self.init,
            "documentation": self.documentation,
        }
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()

    @property
    def name(self) -> str:
        """For people."""
        return f"Debian {self.suite}"

    @property
    def included(self) -> tuple[str, ...]:
        """The packages that are asked for by name."""
        return tuple(dict.fromkeys((*(INIT if self.init else ()), *self.packages)))


def recipe(
    packages: Sequence[str] = (),
    suite: str = "bookworm",
    *,
    variant: str = "minbase",
    mirror: str | Sequence[str] | None = None,
    snapshot: str | date | None = None,
    components: Sequence[str] = ("main",),
    hostname: str = "debian",
    init: bool = True,
    documentation: bool = False,
) -> Recipe:
    """Check what `v86lab.rootfs.debian` is given.

    Raises
    ------
    ImageError

    Examples
    --------
    >>> recipe(["gdb", "gcc"], snapshot="2026-03-01").mirrors[0].url
    'http://snapshot.debian.org/archive/debian/20260301T000000Z'
    """
    for what, given in (("packages", packages), ("components", components)):
        if isinstance(given, str) or not all(isinstance(name, str) for name in given):
            raise _unusable(what, 'a list of names, ["gcc", "gdb"]', repr(given))
    for name in packages:
        if not _PACKAGE.fullmatch(name):
            raise _unusable("the package " + quoted(name), "a name such as gcc or libc6-dev", repr(name))
    if not _SUITE.fullmatch(suite):
        raise _unusable("the suite", 'a release such as "bookworm"', repr(suite))
    for name in components:
        if not _SUITE.fullmatch(name):
            raise _unusable("the component " + quoted(name), "main, contrib, non-free, non-free-firmware", repr(name))
    if variant not in VARIANTS:
        raise _unusable("the variant", ", ".join(VARIANTS), repr(variant))
    if not _HOSTNAME.fullmatch(hostname):
        raise _unusable("the host name", "letters, digits and hyphens, at most 63", repr(hostname))
    when = None if snapshot is None else _when(snapshot)
    if when is not None and mirror is not None:
        raise _unusable("snapshot= and mirror= together", "one of them", "both")
    if when is not None:
        mirror = SNAPSHOT.format(timestamp=when.strftime("%Y%m%dT%H%M%SZ"))
    given_mirrors = [DEBIAN] if mirror is None else [mirror] if isinstance(mirror, str) else list(mirror)
    if not given_mirrors:
        raise _unusable("the mirrors", "at least one", "none")
    return Recipe(
        packages=tuple(sorted(set(packages))),
        suite=suite,
        variant="minbase" if variant == "required" else variant,
        mirrors=tuple(Mirror.parse(text, suite, components) for text in given_mirrors),
        snapshot=when,
        hostname=hostname,
        init=bool(init),
        documentation=bool(documentation),
    )


def _when(snapshot: str | date) -> datetime:
    text = str(snapshot)
    if isinstance(snapshot, datetime):
        text = snapshot.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    match = _TIMESTAMP.fullmatch(text)
    if match is not None:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        with suppress(ValueError):
            found = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            if _FIRST <= found <= datetime.now(UTC):
                return found
    raise _unusable("the snapshot", 'a date since 2005-03-12, such as "2026-03-01"', repr(snapshot))


def _unusable(what: str, expected: str, seen: str) -> ImageError:
    return ImageError(f"cannot build a Debian: {what} cannot be used", expected=expected, seen=f"{seen:.200}")
