"""What a benchmark prints: a ratio measured in one run, beside its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def verdict(what: str, ratio: float, target: float, at_least: bool) -> None:
    """Print one line: what was compared, the ratio, the target, and whether it is met."""
    met = ratio >= target if at_least else ratio <= target
    bound = "at least" if at_least else "at most"
    print(f"{what}: {ratio:.2f}x ({bound} {target:g}x: {'ok' if met else 'missed'})", flush=True)


def spread(times: Sequence[float]) -> str:
    """Median, lowest and highest of some seconds, in milliseconds."""
    low, middle, high = (value * 1000 for value in (min(times), statistics.median(times), max(times)))
    return f"median {middle:.1f} ms ({low:.1f} to {high:.1f})"


def percentile(times: Sequence[float], share: float) -> float:
    """The value that `share` of the times do not exceed."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]
