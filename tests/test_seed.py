from __future__ import annotations

from typing import Any

import pytest

from v86lab.errors import ImageError
from v86lab.seed import checked_seed


class Index:
    """As NumPy's integers are."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(("given", "seed"), [(0, 0), (2**32 - 1, 2**32 - 1), (Index(), 7), (None, None)])
def test_a_seed_is_a_whole_number_of_32_bits(given: Any, seed: int | None) -> None:
    assert checked_seed(given) == seed
    assert type(checked_seed(given)) in (int, type(None))


@pytest.mark.parametrize("given", [-1, 2**32, 10**400, 7.0, "7", True, [7], float("nan")])
def test_anything_else_is_the_callers_error(given: object) -> None:
    with pytest.raises(ImageError, match="expected a whole number from 0 to 4294967295"):
        checked_seed(given)
