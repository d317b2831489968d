"""What a console has shown, bounded."""

from __future__ import annotations

import threading

LIMIT = 1 << 20
"""Bytes kept; what is older is dropped, and counted."""


class Transcript:
    """The last bytes of a console.

    Attributes
    ----------
    dropped : int
        Bytes that were shown earlier and are no longer kept.

    Examples
    --------
    >>> shown = Transcript()
    >>> shown.append(b"login: ")
    >>> shown.text
    'login: '
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._lock = threading.Lock()
        self.dropped = 0

    def append(self, data: bytes) -> None:
        """Add what was just shown."""
        with self._lock:
            self._data += data
            excess = len(self._data) - LIMIT
            if excess > LIMIT // 8:  # cut now and then, not at each byte
                del self._data[:excess]
                self.dropped += excess

    @property
    def data(self) -> bytes:
        """The bytes as they came."""
        with self._lock:
            return bytes(self._data[-LIMIT:])

    @property
    def text(self) -> str:
        """The bytes as UTF-8; says at its beginning when older output was dropped."""
        shown = self.data.decode(errors="replace")
        return f"[{self.dropped} earlier bytes are not kept]\n{shown}" if self.dropped else shown
