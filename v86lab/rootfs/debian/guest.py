"""What a Debian root file system needs besides its packages to be a good guest, and what must go to make it the same
every time.

* root logs in without a password, on the serial console and on the screen;
* names, fstab, apt's sources and the rest of what a host would leave its traces in are the recipe's;
* units that cost an emulated machine more than they give are masked, among them timers that would download or scrub;
* nothing is left of the build: logs, caches, lists, identities. The machine's identity is made at its first start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from v86lab.rootfs.draft import Draft
from v86lab.rootfs.inode import Inode
from v86lab.rootfs.packages import PLACE
from v86lab.rootfs.tree import RootFS

from .documentation import CONFIGURATION, configuration, left_out
from .mirror import DEBIAN, Mirror
from .recipe import Recipe

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "man-db.timer",
    "modprobe@.service",  # the kernel loads what it is asked for by itself
    "motd-news.timer",
    "systemd-networkd-wait-online.service",
    "systemd-random-seed.service",  # the host gives entropy, and a seed in an image is nobody's secret
    "systemd-timesyncd.service",  # the host sets the clock
    "NetworkManager-wait-online.service",
)

_EMPTIED = ("/run", "/tmp", "/var/tmp", "/var/lib/apt/lists", "/var/cache/apt", "/var/log/apt", "/var/backups")
_TRACES = (
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
    "/var/cache/debconf/config.dat-old",
    "/var/cache/debconf/templates.dat-old",
    "/var/cache/ldconfig/aux-cache",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/available",
    "/var/lib/dpkg/diversions-old",
    "/var/lib/dpkg/lock",
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/statoverride-old",
    "/var/lib/dpkg/status-old",
    "/var/lib/dpkg/triggers/Lock",
    "/var/lib/systemd/random-seed",
    "/var/log/alternatives.log",
    "/var/log/bootstrap.log",
    "/var/log/dpkg.log",
    "/var/log/fontconfig.log",
)

_FSTAB = """\
# The kernel mounts the root as its command line says, over 9p or from a disk.
"""
_HOSTS = """\
127.0.0.1 localhost
127.0.1.1 {hostname}
::1 localhost ip6-localhost ip6-loopback
"""
_RESOLV = """\
# Written by v86lab; whatever configures the network fills it.
"""
_JOURNALD = """\
# Written by v86lab: a journal in memory keeps the start from waiting for the disk.
[Journal]
Storage=volatile
"""
_UPDATED = """\
# Written by v86lab, as systemd-update-done.service(8) would, so that the first start rebuilds nothing.
TIMESTAMP_NSEC={nanoseconds}
"""


def furnished(tree: RootFS, recipe: Recipe, record: str, epoch: int) -> RootFS:
    """A built tree, made a guest.

    Parameters
    ----------
    tree : RootFS
    recipe : Recipe
    record : str
        The packages, as `v86lab.rootfs.debian.packages.record` writes them.
    epoch : int
        The time of what is written, in seconds since 1970.
    """
    lean = tree.without(*_traces(tree))
    if not recipe.documentation:
        lean = lean.without(*left_out(lean))
    return (lean + _additions(lean, recipe, record, epoch * 10**9)).named(recipe.name)


def _traces(tree: RootFS) -> Iterator[bytes]:
    for folder in _EMPTIED:
        if folder in tree and tree[folder].is_directory:
            yield from (f"{folder}/{name}".encode("utf-8", "surrogateescape") for name in tree.listdir(folder))
    yield from (path.encode() for path in _TRACES if path in tree)


def _additions(tree: RootFS, recipe: Recipe, record: str, mtime: int) -> RootFS:
    draft = Draft("what v86lab adds to a Debian")

    def write(path: str, text: str, mode: int = 0o644, gid: int = 0) -> None:
        draft.add(path, Inode.file(text.encode("utf-8", "surrogateescape"), mode, gid=gid, mtime=mtime))

    write("/etc/hostname", recipe.hostname + "\n")
    write("/etc/hosts", _HOSTS.format(hostname=recipe.hostname))
    write("/etc/resolv.conf", _RESOLV)
    write("/etc/fstab", _FSTAB)
    write("/etc/machine-id", "", 0o444)
    write("/etc/apt/sources.list", "".join(line + "\n" for line in sources(recipe)))
    write(PLACE, record)
    if not recipe.documentation and "/etc/dpkg" in tree:
        write(CONFIGURATION, configuration())
    if "/etc/default/locale" not in tree:
        write("/etc/default/locale", "LANG=C.UTF-8\n")
    for path in ("/etc/passwd", "/etc/shadow"):
        if path in tree:
            inode = tree[path]
            write(path, _without_password(tree.read(path)), inode.mode & 0o7777, inode.gid)
    if any(path in tree for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")):
        for unit in MASKED:
            draft.add(f"/etc/systemd/system/{unit}", Inode.link(b"/dev/null", mtime=mtime))
        write("/etc/systemd/journald.conf.d/v86lab.conf", _JOURNALD)
        for folder in ("etc", "var"):
            # ConditionNeedsUpdate= compares with /usr (systemd.unit(5))
            write(f"/{folder}/.updated", _UPDATED.format(nanoseconds=mtime))
    return RootFS(draft, draft.what)


def sources(recipe: Recipe) -> list[str]:
    """apt's sources in the guest: the mirrors that it can reach, or Debian's own."""
    lines = [mirror.line() for mirror in recipe.mirrors if not mirror.is_local]
    return lines or [Mirror(DEBIAN, recipe.suite, ("main",)).line()]


def _without_password(accounts: bytes) -> str:
    """passwd(5) or shadow(5) without a password for root: login(1) then asks for none. An "x" stands for the other."""
    text = accounts.decode("utf-8", "surrogateescape")
    return re.sub(r"^root:(?!x:)[^:]*:", "root::", text, flags=re.MULTILINE)
