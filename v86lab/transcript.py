"""What a console has shown, bounded."""

from __future__ import annotations

import threading

LIMIT = 1 << 20
"""Bytes kept; what is older is dropped, and counted."""


class Transcript:
    """The last bytes of a console.

    Examples
    --------
    >>> shown = Transcript()
    >>> shown.append(b"login: ")
    >>> shown.text
    'login: '
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._lock = threading.Condition()
        self._total = 0

    def append(self, data: bytes) -> None:
        """Add what was just shown."""
        with self._lock:
            self._data += data
            self._total += len(data)
            excess = len(self._data) - LIMIT
            if excess > LIMIT // 8:  # cut now and then, not at each byte
                del self._data[:excess]
            self._lock.notify_all()

    @property
    def data(self) -> bytes:
        """The bytes as they came."""
        with self._lock:
            return bytes(self._data[-LIMIT:])

    @property
    def dropped(self) -> int:
        """Bytes that were shown earlier and are no longer kept."""
        return max(0, self._total - LIMIT)

    def since(self, position: int, timeout: float = 0.0) -> tuple[bytes, int]:
        """What was shown after a position, once there is any or `timeout` seconds have passed; and the new position.

        Positions count bytes from the beginning. Of what is no longer kept nothing is given.

        Examples
        --------
        >>> shown = Transcript()
        >>> shown.append(b"login: ")
        >>> shown.since(2)
        (b'gin: ', 7)
        """
        with self._lock:
            self._lock.wait_for(lambda: self._total > position, timeout)
            first = self._total - len(self._data)
            return bytes(self._data[max(0, position - first) :]), self._total

    @property
    def text(self) -> str:
        """The bytes as UTF-8; says at its beginning when older output was dropped."""
        shown = self.data.decode(errors="replace")
        return f"[{self.dropped} earlier bytes are not kept]\n{shown}" if self.dropped else shown
