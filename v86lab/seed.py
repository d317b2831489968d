"""What a machine's seed may be."""

from __future__ import annotations

import operator
import reprlib

from .errors import ImageError

MOST = 2**32 - 1


def checked_seed(seed: object) -> int | None:
    """A seed that a caller gave, as a plain int; None is none, for a machine on wall-clock time.

    Raises
    ------
    ImageError
        It is no whole number from 0 to 2**32 - 1.

    Examples
    --------
    >>> checked_seed(7), checked_seed(None)
    (7, None)
    """
    if seed is None:
        return None
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number <= MOST:
        raise ImageError(
            "this seed cannot be used", expected=f"a whole number from 0 to {MOST}", seen=reprlib.repr(seed)
        )
    return number
