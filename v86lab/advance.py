"""Letting a guest run without asking it for anything: for a while, or until it ends.

A machine with a seed is driven (one `Advance`, in the engine); one on wall-clock time runs by itself and is waited for.
"""

from __future__ import annotations

from .deadline import Budget
from .errors import EngineError, GuestTimeout, ImageError
from .protocol import Advance
from .session import Session

_LOOK_EVERY = 0.5  # s, for how many instructions there were


def advance(
    session: Session,
    seconds: float | None = None,
    instructions: int | None = None,
    wall_timeout: float | None = None,
) -> None:
    """Let a machine with a seed run on; `Machine.advance` documents the parameters."""
    session.assert_seeded("advance")
    budget = Budget(seconds, instructions, wall_timeout, seeded=True, name="seconds")
    if budget.timeout is None and budget.instructions is None:
        raise ImageError(
            "how far is the machine to run?",
            expected="seconds= or instructions=",
            seen="neither",
            hint="vm.wait() lets it run until it powers off",
        )
    try:
        _drive(session, budget)
    except GuestTimeout as error:
        error.what = f"the machine did not come so far {budget.within(error.budget)}"
        raise


def wait(
    session: Session,
    timeout: float | None = None,
    instructions: int | None = None,
    wall_timeout: float | None = None,
) -> str:
    """Wait until the machine ends, and give its status; `Machine.wait` documents the parameters."""
    budget = session.budget(timeout, instructions, wall_timeout)
    if session.status == "new":
        session.start()
    if _has_ended(session.status):
        return session.status
    budget.begin(session.statistics)
    used_up = _wait_for(session, budget) if session.seed is None else _drive_to_the_end(session, budget)
    if not used_up:
        return session.status
    error = GuestTimeout(
        f"the machine did not stop {budget.within(used_up)}", seen=f"status {session.status!r}", tail=session.tail()
    )
    error.budget = used_up
    raise error


def _has_ended(status: str) -> bool:
    return status in ("off", "faulted", "closed")


def _wait_for(session: Session, budget: Budget) -> str | None:
    """The name of what was used up before the machine ended."""
    look_every = [] if budget.instructions is None else [_LOOK_EVERY]
    while True:
        patience = min([*look_every, *[left for left in (budget.patience(),) if left is not None]], default=None)
        if _has_ended(session.wait_until(_has_ended, patience)):
            return None
        if used_up := budget.used_up():
            return used_up


def _drive_to_the_end(session: Session, budget: Budget) -> str | None:
    """The name of what was used up before the machine ended."""
    if budget.timeout == 0:
        return "timeout"
    try:
        _drive(session, budget)
    except GuestTimeout as error:
        return error.budget
    except EngineError:
        if not _has_ended(session.status):  # closed by another thread, or its engine died
            raise
    return None if _has_ended(session.status) else budget.used_up() or "timeout"


def _drive(session: Session, budget: Budget) -> None:
    session.call(
        Advance,
        allow=budget.patience(),
        seconds=budget.timeout,
        instructions=budget.instructions,
        wall_timeout=budget.wall_timeout,
    )
