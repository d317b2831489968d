"""Awaitable twins of a machine's blocking calls.

Each call runs on a thread of its own and queues on the machine's lock like any other. Cancelling the await interrupts
what the call runs in the guest, as Ctrl-C would, and waits until the machine is usable again; a call that is still in
the queue never begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from .session import Cancellation, Interrupted


class Aio:
    """Stands for a machine or a part of it; what is called here is to be awaited, and so is a property.

    Examples
    --------
    >>> import asyncio
    >>> import v86lab as lab
    >>> async def main():
    ...     with lab.Machine() as vm:
    ...         return (await vm.aio.run("echo hi")).stdout
    >>> asyncio.run(main())
    'hi\\n'
    """

    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if isinstance(getattr(type(self._target), name, None), property):
            return _twin(getattr, self._target, name)
        found = getattr(self._target, name)
        return functools.wraps(found)(functools.partial(_twin, found)) if callable(found) else Aio(found)


async def _twin(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with Cancellation() as cancellation:  # the thread gets a copy of the context
        work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancellation.ask()
        with contextlib.suppress(Interrupted):
            await work
        raise
