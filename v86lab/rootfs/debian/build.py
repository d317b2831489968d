"""`debian`: a recipe, built once and then found in the Store."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import date

from v86lab import tree9p
from v86lab.pins import Pin
from v86lab.progress import Progress
from v86lab.rootfs import ninep
from v86lab.rootfs.comparison import compare
from v86lab.rootfs.packages import packages as installed_packages
from v86lab.rootfs.packages import record
from v86lab.rootfs.tar import tar
from v86lab.rootfs.tree import RootFS
from v86lab.store import Store

from . import mmdebstrap
from .fault import OutOfStep, fault
from .guest import furnished
from .index import Offer
from .mirror import Release, release
from .modes import Choice, choose
from .recipe import Recipe, recipe
from .relay import Relay

PAUSES = (5.0, 20.0)
"""Seconds before another try with a mirror that is out of step with itself."""

EPOCH = 1_672_531_200
"""2023-01-01: the time of a build whose mirrors tell none."""

# As debootstrap's second stage: everything is in its place already, dpkg does it again and runs the packages' scripts.
_SECOND_STAGE = """\
set -e
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
cd /var/cache/apt/archives
dpkg --force-unsafe-io --force-depends --install *.deb >/tmp/dpkg 2>&1 || { tail -n 20 /tmp/dpkg >&2; exit 1; }
dpkg --configure --pending
test -z "$(dpkg --audit)"
rm -f -- *.deb /usr/sbin/policy-rc.d
"""


def debian(
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
    mode: str = "auto",
    keyring: str | os.PathLike[str] | None = None,
    refresh: bool = False,
    store: Store | None = None,
) -> RootFS:
    """A Debian for i386, built by mmdebstrap, without root.

    The first time takes half a minute and some 40 MB from the mirror. The result is kept in the Store under its recipe,
    until ``refresh=True`` builds it anew: a notebook that runs again gets the same tree at once, whatever the mirrors
    have become. It takes about 50 MB there, packed, and shares them with what `RootFS.as_9p` writes; packages that were
    fetched stay for other recipes until `v86lab gc` finds them unused for a day.

    The same recipe and the same state of the mirrors give the same tree, byte for byte, in the modes "unshare", "root"
    and "fakechroot". Times are those of the packages; what the build makes has the date of the suite's last change.
    `v86lab.rootfs.compare` says what differs between two trees.

    In the guest root logs in without a password; timers and services that only cost time are masked; names of packages,
    versions and the digests of their .debs are in ``/usr/share/v86lab/packages.json``. Packages that make secrets when
    they are installed (openssh-server's host keys) make them here: they differ from build to build, and everybody who
    gets the tree has them.

    Parameters
    ----------
    packages : sequence of str
        Besides those of the variant; what they need comes with them, what they recommend does not. ``"gcc"``,
        ``"gcc=4:12.2.0-3"``, ``"gcc/bookworm-backports"``.
    suite : str
        "bookworm" (Debian 12). "trixie" (13) has packages for i386 too, for CPUs with SSE2 as v86's, but no kernel.
    variant : str
        "essential", "apt", "minbase", "buildd", "important" or "standard", as in mmdebstrap.
    mirror : str or sequence of str, optional
        Addresses (http, https, file, copy) or whole ``deb`` lines. Default: Debian's main archive alone, which changes
        with point releases, every two months or so, and has the security fixes up to then. Fixes as they appear, at
        the price of a tree that changes from day to day: ``mirror=["http://deb.debian.org/debian",
        "deb http://deb.debian.org/debian-security bookworm-security main"]``.
    snapshot : str or date, optional
        "2026-03-01": the archive as it was then, from snapshot.debian.org, also for apt in the guest.
    components : sequence of str
        Also "contrib", "non-free", "non-free-firmware".
    hostname : str
    init : bool
        Add what it takes to get to a login prompt: systemd, udev, dbus, kmod, login.
    documentation : bool
        Keep all documentation. Otherwise translations and ``/usr/share/doc`` (but for copyrights) are left out, by
        dpkg, also of packages that the guest installs; manual pages in English stay.
    mode : str
        How to do without root: "unshare" (user namespaces), "fakechroot", "extract" (the guest finishes the
        installation, which takes five minutes and more, and gives other bytes: for where nothing else works, as on
        Binder), or "root"; "auto" takes the first that works, and says which.
    keyring : path, optional
        Keys that the mirrors' signatures are checked with; default: those of the package debian-archive-keyring.
    refresh : bool
        Build, even if the recipe was built before; says on standard error what has changed since.
    store : Store, optional

    Raises
    ------
    ImageError
        Something in the recipe does not exist, a mirror fails, there is no mmdebstrap (macOS, Windows) or no way to run
        it. What has been fetched is kept: a second try goes on from there.
    StoreError

    Examples
    --------
    >>> from v86lab import rootfs
    >>> tree = rootfs.debian(["gcc", "gdb", "strace"])    # doctest: +SKIP
    >>> tree.as_9p()    # doctest: +SKIP
    Image('Debian bookworm', ...)
    """
    wanted = recipe(
        packages,
        suite,
        variant=variant,
        mirror=mirror,
        snapshot=snapshot,
        components=components,
        hostname=hostname,
        init=init,
        documentation=documentation,
    )
    store = Store() if store is None else store
    name = f"debian {wanted.suite} {wanted.key[:32]}"
    before = _kept(store.pinned(name), wanted, store)
    if before is not None and not refresh:
        return before
    manifest = _built(wanted, choose(mode), keyring, store)
    tree = ninep.read(manifest, store, wanted.name)
    store.pin(name, {manifest, *tree9p.digests_of(manifest, store)}, {"manifest": manifest})
    if before is not None and (difference := compare(before, tree)):
        print(f"v86lab: {wanted.name} has changed since it was last built:\n{difference}", file=sys.stderr, flush=True)
    return tree


def _kept(pin: Pin | None, wanted: Recipe, store: Store) -> RootFS | None:
    """The tree of an earlier build, if all of it is still there."""
    manifest = None if pin is None or pin.value is None else pin.value.get("manifest")
    if pin is None or not isinstance(manifest, str) or not all(digest in store for digest in pin.keeps):
        return None
    return ninep.read(manifest, store, wanted.name)


def _built(wanted: Recipe, choice: Choice, keyring: str | os.PathLike[str] | None, store: Store) -> str:
    """Build a tree, with patience for mirrors that are being updated, and put it into the Store; its manifest."""
    releases = [release(mirror) for mirror in wanted.mirrors]
    why = f" ({'; '.join(choice.others)})" if choice.others else ""
    for pause in (*PAUSES, None):
        try:
            with Progress(f"building {wanted.name}, mode {choice.mode}{why}") as progress:
                return _attempt(wanted, choice.mode, keyring, _epoch(wanted, releases), store, progress)
        except OutOfStep:
            if pause is None:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")


def _attempt(
    wanted: Recipe,
    mode: str,
    keyring: str | os.PathLike[str] | None,
    epoch: int,
    store: Store,
    progress: Progress,
) -> str:
    with mmdebstrap.workplace(mode) as folder, Relay(wanted.mirrors, store, progress.advance) as relay:
        keys = mmdebstrap.readable_keyring(keyring, folder)
        archive = folder / "tree.tar"
        log = mmdebstrap.run(
            mmdebstrap.command(wanted, mode, relay.lines(), keys),
            mmdebstrap.environment(mode, epoch, folder / "tmp"),
            archive,
        )
        if log is not None:
            raise fault(log, wanted, relay.faults, lambda: (offer.name for offer in relay.offers()))
        tree = tar(archive, store=store, name=wanted.name)
        if mode == "extract":
            tree = tree.run(["/bin/bash", "-c", _SECOND_STAGE])
        installed = installed_packages(tree)
        text = record(installed, _digests(relay.offers()), wanted.suite, [mirror.line() for mirror in wanted.mirrors])
        return ninep.write(furnished(tree, wanted, text, epoch), store)


def _digests(offers: Iterable[Offer]) -> dict[tuple[str, str, str], str]:
    return {(offer.name, offer.version, offer.architecture): offer.sha256 for offer in offers if offer.sha256}


def _epoch(wanted: Recipe, releases: Sequence[Release | None]) -> int:
    """SOURCE_DATE_EPOCH: the snapshot's time, else that of the suite that changed last."""
    if wanted.snapshot is not None:
        return int(wanted.snapshot.timestamp())
    dates = [one.date.timestamp() for one in releases if one is not None and one.date is not None]
    return int(max(dates, default=EPOCH))
