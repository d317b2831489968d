"""Who runs commands in a tree: a seam, because machines stand above trees.

A tree is data, and a machine is made of data; `RootFS.run` needs a machine all the same. `v86lab.guestbuild` gives
itself here when the package is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from v86lab.errors import EngineError

if TYPE_CHECKING:
    from .tree import RootFS


class Builder(Protocol):
    """Runs commands in guests whose root is a tree."""

    def run(self, tree: RootFS, command: str | Sequence[str], **options: Any) -> RootFS:
        """The tree after the command; see `RootFS.run`."""


_builders: list[Builder] = []


def register(builder: Builder) -> None:
    """Have this one run commands from now on."""
    _builders[:] = [builder]


def current() -> Builder:
    """The one that runs commands.

    Raises
    ------
    EngineError
        None has been registered.
    """
    if not _builders:
        raise EngineError("nothing here can run a guest", expected="import v86lab", seen="parts of it only")
    return _builders[0]
