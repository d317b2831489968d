from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from v86lab import deadline
from v86lab.deadline import Budget, Deadline, checked_timeout
from v86lab.errors import ImageError


def test_a_deadline_counts_down_from_when_it_was_made_and_never_below_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))
    budget = Deadline(2.5)
    assert (budget.remaining, budget.passed) == (2.5, False)
    now[0] += 2
    assert (budget.remaining, budget.passed) == (0.5, False)
    now[0] += 1
    assert (budget.remaining, budget.passed) == (0.0, True)


def test_without_seconds_there_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: math.inf))
    budget = Deadline(None)
    assert (budget.remaining, budget.passed) == (None, False)


@pytest.mark.parametrize("seconds", [0, -1, 0.0])
def test_no_time_or_less_is_over_at_once(seconds: float) -> None:
    assert Deadline(seconds).passed
    assert Deadline(seconds).remaining == 0.0


@pytest.mark.parametrize(
    ("given", "sent"), [(None, None), (0, 0.0), (5, 5.0), (1e6, 1e6), (1e300, None), (math.inf, None)]
)
def test_a_callers_timeout_becomes_one_that_an_engine_can_count(given: float | None, sent: float | None) -> None:
    assert checked_timeout(given) == sent


@pytest.mark.parametrize("given", [-0.1, math.nan, -math.inf, True, "5", [5]])
def test_what_is_no_timeout_is_the_callers_error(given: float) -> None:
    with pytest.raises(ImageError, match="expected seconds from 0 on, or None"):
        checked_timeout(given)


def test_an_int_beyond_all_floats_is_for_ever_or_less_than_nothing() -> None:
    assert checked_timeout(10**400) is None
    with pytest.raises(ImageError):
        checked_timeout(-(10**400))


# ---- budgets ----


def test_a_budget_is_whole_until_it_begins_and_counts_guest_time_on_a_seeded_machine() -> None:
    now = {"seconds": 100.0, "instructions": 1000}
    budget = Budget(5, 300, seeded=True)
    assert budget.left() == {"timeout": 5.0, "instructions": 300, "wall_timeout": None}
    budget.begin(lambda: dict(now))
    now |= {"seconds": 103.0, "instructions": 1100}
    assert budget.left() == {"timeout": 2.0, "instructions": 200, "wall_timeout": None}
    assert budget.used_up() is None
    now |= {"seconds": 999.0}
    assert budget.left() == {"timeout": 0.0, "instructions": 200, "wall_timeout": None}
    assert budget.used_up() == "timeout"
    now |= {"seconds": 103.0, "instructions": 5000}
    assert budget.used_up() == "instructions"


def test_a_budget_counts_wall_time_without_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))
    budget = Budget(5, wall_timeout=3)
    budget.begin(lambda: pytest.fail("nothing of the guest's counts"))
    now[0] += 2
    assert budget.left() == {"timeout": 3.0, "instructions": None, "wall_timeout": 1.0}
    assert (budget.patience(), budget.used_up()) == (1.0, None)
    now[0] += 1
    assert budget.used_up() == "wall_timeout"


def test_wall_time_beside_guest_time_is_counted_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))
    budget = Budget(5, wall_timeout=3, seeded=True)
    budget.begin(lambda: {"seconds": 0.0, "instructions": 0})
    now[0] += 1
    assert budget.left() == {"timeout": 5.0, "instructions": None, "wall_timeout": 2.0}


@pytest.mark.parametrize(
    ("budget", "patience"),
    [
        (Budget(5), 5.0),
        (Budget(5, wall_timeout=2), 2.0),
        (Budget(5, seeded=True), None),
        (Budget(5, wall_timeout=2, seeded=True), 2.0),
        (Budget(instructions=5), None),
        (Budget(), None),
    ],
)
def test_the_host_waits_as_long_as_wall_time_is_bounded(budget: Budget, patience: float | None) -> None:
    assert budget.patience() == patience


def test_guest_time_may_be_longer_than_anybody_lives() -> None:
    assert Budget(3e9, seeded=True).timeout == 3e9
    assert Budget(math.inf, seeded=True).timeout is None
    assert Budget(3e9).timeout is None


@pytest.mark.parametrize(
    ("budget", "which", "words"),
    [
        (Budget(5), "timeout", "within 5 s"),
        (Budget(0.25, seeded=True), "timeout", "within 0.25 s of guest time"),
        (Budget(1234567, seeded=True), "timeout", "within 1234567 s of guest time"),
        (Budget(instructions=1000000), "instructions", "within 1000000 instructions"),
        (Budget(wall_timeout=10), "wall_timeout", "within 10 s of wall time"),
    ],
)
def test_a_budget_is_named_in_words(budget: Budget, which: str, words: str) -> None:
    assert budget.within(which) == words


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"timeout": -1}, "seconds from 0 on, or None"),
        ({"timeout": math.nan}, "seconds from 0 on, or None"),
        ({"timeout": "5"}, "seconds from 0 on, or None"),
        ({"instructions": 0}, "a whole number, more than 0, or None"),
        ({"instructions": -5}, "a whole number, more than 0, or None"),
        ({"instructions": 1e6}, "a whole number, more than 0, or None"),
        ({"instructions": True}, "a whole number, more than 0, or None"),
        ({"wall_timeout": 0}, "seconds, more than 0, or None"),
        ({"wall_timeout": -0.5}, "seconds, more than 0, or None"),
        ({"wall_timeout": math.nan}, "seconds, more than 0, or None"),
    ],
)
def test_a_budget_of_no_use_is_the_callers_error(seeded: bool, given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ImageError) as caught:
        Budget(**given, seeded=seeded)
    assert caught.value.expected == expected


def test_no_time_at_all_is_a_timeout_and_no_distance() -> None:
    assert Budget(0, seeded=True).timeout == 0.0
    with pytest.raises(ImageError, match="cannot be used: expected seconds, more than 0"):
        Budget(0, seeded=True, name="seconds")
