"""Awaitable twins of a machine's blocking calls.

Each call runs on a thread of its own and queues on the machine's lock like any other. Cancelling the await interrupts
what runs in the guest, as Ctrl-C would, and waits until the machine is usable again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

from .session import Interrupted, Session


class Aio:
    """Stands for a machine or a part of it; what is called here is to be awaited.

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

    def __init__(self, target: object, session: Session) -> None:
        self._target = target
        self._session = session

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(type(self._target), name, None)
        if isinstance(found, property) or found is None:
            part = getattr(self._target, name)
            return Aio(part, self._session)
        call = getattr(self._target, name)

        @functools.wraps(call)
        async def twin(*args: Any, **kwargs: Any) -> Any:
            work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                self._session.interrupt()
                with contextlib.suppress(Interrupted):
                    await work
                raise

        return twin
