"""What mmdebstrap and apt said when they failed, made an error that says what to do.

Neither has exit statuses that tell causes apart; what they print (in the C locale) is stable and known.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from v86lab.errors import ImageError
from v86lab.formats import quoted

from .recipe import Recipe

_NO_PACKAGE = re.compile(
    r"E: (?:Unable to locate package|Couldn't find any package by (?:glob|regex)) '?([^\s']+)'?"
    r"|E: Package '([^']+)' has no installation candidate"
    r"|E: (?:Version|Release) '[^']*' for '([^']+)' was not found"
)
_OUT_OF_STEP = ("File has unexpected size", "Hash Sum mismatch", "Mirror sync in progress")
_UNSIGNED = ("NO_PUBKEY", "is not signed", "public key is not available", "EXPKEYSIG", "REVKEYSIG", "BADSIG")
_NO_ROOM = ("No space left on device", "don't have enough free space", "Disk quota exceeded")
_EXPIRED = re.compile(r"Release file for (\S+) is (expired|not valid yet)")
_NOISE = re.compile(
    r"^(I: |W: |Get:|Hit:|Ign:|Fetched |Reading |Building |Preparing |Unpacking |Selecting |Setting up |Inst |Conf "
    r"|E: command failed: )"
)


class OutOfStep(ImageError):
    """A mirror's files do not fit together for the moment: it is being updated."""


def fault(log: str, recipe: Recipe, mirror_faults: Sequence[str], names: Callable[[], Iterable[str]]) -> ImageError:
    """The error that a log tells of.

    Parameters
    ----------
    log : str
        What mmdebstrap printed, or its end.
    recipe : Recipe
    mirror_faults : sequence of str
        What went wrong with mirrors.
    names : callable
        The names of all packages that there are; only called for suggestions.
    """
    what = f"cannot build {recipe.name}"
    for match in _NO_PACKAGE.finditer(log):
        wanted = next(group for group in match.groups() if group)
        return _no_package(wanted, match[0], recipe, names)
    if any(sign in log for sign in _NO_ROOM):
        return ImageError(
            what,
            expected="room for the tree, twice: a Debian takes 200 MiB and more",
            seen=_told(log, _NO_ROOM),
            hint="free some room, or set TMPDIR to a folder on another disk",
        )
    if any(sign in log for sign in _OUT_OF_STEP):
        return OutOfStep(
            f"{what}: a mirror is out of step with itself",
            expected="files that its Release file names",
            seen=_told(log, _OUT_OF_STEP),
            hint='try again in some minutes, name another with mirror=, or take a fixed state: snapshot="2026-03-01"',
        )
    if mirror_faults:
        return ImageError(
            f"{what}: a mirror failed",
            expected="all files; what has come is kept, and a second try goes on from there",
            seen=mirror_faults[-1][:400],
            hint="try again, or name another with mirror=",
        )
    if expired := _EXPIRED.search(log):
        return ImageError(
            f"{what}: the state of {quoted(expired[1])} is {expired[2]}",
            expected="a Release file that is valid today",
            seen=_told(log, (expired[0],)),
            hint="check this computer's clock; old states want snapshot=, or [check-valid-until=no] in a mirror's line",
        )
    if any(sign in log for sign in _UNSIGNED):
        return ImageError(
            f"{what}: its signature cannot be checked",
            expected="a Release file signed by a key of the keyring",
            seen=_told(log, _UNSIGNED),
            hint="keyring= names the file with the archive's key; apt install debian-archive-keyring has Debian's;"
            ' for an archive of your own: mirror="deb [trusted=yes] http://... suite main"',
        )
    if "unmet dependencies" in log:
        lines = [line.strip() for line in log.splitlines() if re.match(r"^ \S+ : |^ {10,}", line)]
        return ImageError(
            f"{what}: the packages do not fit together",
            expected="packages whose dependencies can all be installed",
            seen="; ".join(lines[:6])[:500] or _told(log, ("unmet dependencies",)),
            hint="leave out one of those named, or add the component that has what is missing (components=)",
        )
    said = [line for line in log.splitlines() if line.strip() and not _NOISE.match(line)]
    return ImageError(
        f"{what}: mmdebstrap failed",
        expected="a root file system",
        seen=" | ".join(said[-6:])[-900:] or "no word from it",
        hint="mode= tries another way; if a package's own script failed, leave the package out",
    )


def _no_package(wanted: str, said: str, recipe: Recipe, names: Callable[[], Iterable[str]]) -> ImageError:
    name = re.split(r"[:=/]", wanted)[0]
    near = difflib.get_close_matches(name, sorted(set(names())), n=3, cutoff=0.75)
    where = f"{recipe.suite} ({', '.join(sorted({part for one in recipe.mirrors for part in one.components}))})"
    if name in near:  # it is there, but not this version of it, or only as a name that others provide
        return ImageError(
            f"no package {quoted(wanted)} in Debian {where}", expected="one that can be installed", seen=said[3:]
        )
    hint = f"did you mean {' or '.join(near)}?" if near else "packages.debian.org finds names and who has which file"
    return ImageError(f"no package {quoted(wanted)} in Debian {where}", hint=hint)


def _told(log: str, signs: Sequence[str]) -> str:
    """The first line that has one of these."""
    return next((line.strip()[:300] for line in log.splitlines() if any(sign in line for sign in signs)), "")
