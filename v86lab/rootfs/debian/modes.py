"""How a root file system can be built without being root: which of mmdebstrap's modes work on this computer.

    unshare      user namespaces; wants ranges in /etc/subuid and /etc/subgid
    root         real root
    fakechroot   programs believe that they are root, by preloaded libraries, which must be there for i386 too
    extract      packages are only unpacked here; the guest installs them, in an emulated machine

The first three give the same bytes. "auto" takes the first that works, in this order.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v86lab.errors import ImageError

from .mirror import ARCHITECTURE

MODES = ("unshare", "root", "fakechroot", "extract")
LIBRARIES = (f"/usr/lib/{ARCHITECTURE}-linux-gnu/fakechroot", f"/usr/lib/{ARCHITECTURE}-linux-gnu/libfakeroot")
PATH = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])  # often not in an ordinary user's

_PRELOADED = (f"{LIBRARIES[0]}/libfakechroot.so", f"{LIBRARIES[1]}/libfakeroot-sysv.so", "/lib/ld-linux.so.2")


@dataclass(frozen=True)
class Choice:
    """A mode that works here, and why those before it do not.

    Attributes
    ----------
    mode : str
    others : tuple of str
        ``"unshare: no entry in /etc/subuid for ann"`` and the like.
    """

    mode: str
    others: tuple[str, ...] = ()


def choose(mode: str = "auto") -> Choice:
    """Find a mode that works here.

    Parameters
    ----------
    mode : str
        One of `MODES`, or "auto".

    Raises
    ------
    ImageError
        There is no mmdebstrap, or the mode does not work; says why.
    """
    if mode not in ("auto", *MODES):
        raise ImageError("cannot build a Debian", expected=f"mode= auto, {', '.join(MODES)}", seen=f"{mode!r:.40}")
    if which("mmdebstrap") is None:
        raise ImageError(
            "cannot build a Debian here",
            expected="mmdebstrap, which runs on Debian, Ubuntu and their like",
            seen=f"none on this {platform.system() or sys.platform}",
            hint="apt install mmdebstrap (on Binder: in binder/apt.txt); anywhere, v86lab.rootfs.oci"
            '("debian:bookworm-slim") takes a ready one, and saved images (.v86) need nothing',
        )
    others: list[str] = []
    for candidate in MODES if mode == "auto" else (mode,):
        why = _CHECKS[candidate]()
        if why is None:
            return Choice(candidate, tuple(others))
        others.append(f"{candidate}: {why}")
    raise ImageError(
        "cannot build a Debian here" if mode == "auto" else f"cannot build a Debian in mode {mode!r}",
        expected="user namespaces, root, fakechroot for i386, or fakeroot",
        seen="; ".join(others),
        hint="apt install mmdebstrap uidmap arch-test fakeroot; "
        "fakechroot wants libfakechroot:i386 and libfakeroot:i386 besides; extract wants no privilege at all",
    )


def which(program: str) -> str | None:
    """Where a program is; system administrators' folders are looked into too."""
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + os.pathsep + PATH)


def _unshare() -> str | None:
    if _is_root():
        return _fails("unshare", "--mount", "--propagation", "unchanged", "--", "true") or _cannot_execute()
    return _fails("mmdebstrap", "--unshare-helper", "true") or _cannot_execute()


def _root() -> str | None:
    return _cannot_execute() if _is_root() else "you are not root"


def _fakechroot() -> str | None:
    missing = [name for name in ("fakechroot", "fakeroot") if which(name) is None]
    missing += [path for path in _PRELOADED if not Path(path).exists()]
    return f"there is no {missing[0]}" if missing else _cannot_execute()


def _extract() -> str | None:
    return None if which("fakeroot") else "there is no fakeroot"


_CHECKS: dict[str, Callable[[], str | None]] = {
    "unshare": _unshare,
    "root": _root,
    "fakechroot": _fakechroot,
    "extract": _extract,
}


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _cannot_execute() -> str | None:
    """Why programs for i386 do not run here; most kernels for x86-64 run them."""
    if platform.machine() in ("i386", "i486", "i586", "i686"):
        return None
    if which("arch-test") is None:  # mmdebstrap insists on it
        return "there is no arch-test"
    why = _fails("arch-test", "-n", ARCHITECTURE)
    return None if why is None else f"this kernel does not run programs for i386 ({why})"


def _fails(program: str, *arguments: str) -> str | None:
    """Why a command does not succeed; None when it does."""
    found = which(program)
    if found is None:
        return f"there is no {program}"
    done = subprocess.run(
        [found, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PATH": os.environ.get("PATH", os.defpath) + os.pathsep + PATH, "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    if done.returncode == 0:
        return None
    said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return said[0].removeprefix("W: ").removeprefix("E: ")[:200] if said else f"{program} failed"
