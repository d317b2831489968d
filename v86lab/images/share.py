"""What a guest sees of the host: a folder, files given by name, or a tree, as the digest of a 9p tree."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from v86lab import board, rootfs, tree9p
from v86lab.errors import ImageError
from v86lab.rootfs import RootFS, ninep
from v86lab.store import Store

Share: TypeAlias = str | os.PathLike[str] | Mapping[str, bytes | str] | RootFS


class Options(board.Common, total=False):
    """Options of every constructor: those of `board.Common`, and two that `linux` has as parameters.

    ``memory`` is a size ("128 MiB", or bytes); ``share`` is a folder, a mapping of names to contents, a `RootFS`, or
    the digest of a 9p tree.
    """

    memory: int | str
    share: Share


def prepare(options: Any) -> Store:
    """`board.prepare`, with what is shared put into the Store."""
    store = board.prepare(options)
    if options.get("share") is not None:
        options["share"] = shared(options["share"], store)
    return store


def shared(share: Share, store: Store) -> str:
    """Put what is shared into the Store.

    Parameters
    ----------
    share : folder, Mapping, RootFS or digest
    store : Store

    Returns
    -------
    str
        Digest of the 9p tree's manifest.

    Raises
    ------
    ImageError
        It cannot be shared.

    Examples
    --------
    >>> len(shared({"hello.c": "int main(void) { return 0; }"}, Store()))
    64
    """
    if isinstance(share, str) and re.fullmatch(r"[0-9a-f]{64}", share) and share in store:
        tree9p.Manifest.load(share, store)
        return share
    if isinstance(share, Mapping):
        tree = rootfs.of(share)
    elif isinstance(share, str | os.PathLike):
        tree = rootfs.directory(share, shared=True)
    elif isinstance(share, RootFS):
        tree = share
    else:
        raise ImageError(
            "cannot share this",
            expected="a folder, a mapping of names to contents, a RootFS or a tree's digest",
            seen=type(share).__name__,
        )
    return ninep.write(tree, store)
