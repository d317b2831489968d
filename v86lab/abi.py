"""The machine's ABI: the number of its rules (engine, v86, firmware), by which a machine can be had again.

Rules:

- equal seeds, images and inputs give equal state hashes wherever the number is the same; a change that moves any hash
  raises it;
- states, images and recordings carry it, and are refused where it differs;
- ``js/src/core/protocol.js`` has the same number.
"""

from __future__ import annotations

import reprlib
from types import MappingProxyType

from .errors import ImageError

ABI = 2

RELEASES = MappingProxyType({1: "0.1", 2: "0.2"})
"""The first release of v86lab that has each machine ABI."""


def require(*, abi: int) -> None:
    """Refuse to go on where machines follow other rules than those a notebook was written for.

    Parameters
    ----------
    abi : int
        The machine ABI, as `v86lab.versions` told it when the notebook's hashes were made.

    Raises
    ------
    ImageError
        This installation has another one. The hint names the release to install.

    Examples
    --------
    >>> require(abi=2)
    """
    if type(abi) is not int or abi not in RELEASES:
        known = ", ".join(f"{number} (v86lab {release})" for number, release in RELEASES.items())
        newer = type(abi) is int and abi > ABI
        raise ImageError(
            "this v86lab does not know that machine ABI",
            expected=f"one of {known}",
            seen=f"abi={reprlib.repr(abi)}",
            hint=release_hint(abi) if newer else f'v86lab.versions()["abi"] is that of this installation: {ABI}',
        )
    check("this notebook", abi)


def check(what: str, abi: int) -> None:
    """Refuse what was made with another machine ABI.

    Parameters
    ----------
    what : str
        Such as "this recording".
    abi : int

    Raises
    ------
    ImageError

    Examples
    --------
    >>> check("this recording", ABI)
    """
    if abi != ABI:
        raise mismatch(what, abi)


def mismatch(what: str, abi: int) -> ImageError:
    """The error for what was made with another machine ABI.

    Examples
    --------
    >>> mismatch("this recording", 1).hint
    "pip install 'v86lab==0.1'"
    """
    return ImageError(
        f"{what} needs another machine ABI",
        expected=f"machine ABI {ABI}, which is installed",
        seen=f"machine ABI {reprlib.repr(abi)}",
        hint=release_hint(abi),
    )


def release_hint(abi: int) -> str:
    """How to get a release with this machine ABI.

    Examples
    --------
    >>> release_hint(1)
    "pip install 'v86lab==0.1'"
    """
    if abi in RELEASES:
        return f"pip install 'v86lab=={RELEASES[abi]}'"
    return "a newer release may have it: pip install --upgrade v86lab"
