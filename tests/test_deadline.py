from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from v86lab import deadline
from v86lab.deadline import Deadline, checked_timeout
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
