"""Building in a guest: a command that changes a tree runs in a machine whose root is that tree.

Registered with `v86lab.rootfs.builder`, for `RootFS.run`. The machine has a seed and v86lab's own init, and is asked
for its files over 9p: nothing is copied but what the command wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .machine import Machine
from .rootfs import RootFS, builder
from .rootfs.equipment import PLACE

MEMORY = "512 MiB"


class GuestBuilder:
    """Runs commands in machines of their own."""

    def run(
        self,
        tree: RootFS,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        memory: int | str = MEMORY,
        seed: int = 0,
        **options: Any,
    ) -> RootFS:
        """The tree after the command; see `RootFS.run`."""
        with Machine(tree.as_9p(init="v86lab", memory=memory), seed=seed, engine="node") as vm:
            vm.run(command, timeout, check=True, **options)
            changed = vm.files.tree("/")
        if PLACE not in tree and PLACE in changed:
            changed = changed.without(PLACE)
        return changed.named(tree.name)


builder.register(GuestBuilder())
