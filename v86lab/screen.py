"""The VGA screen, as text and as a picture."""

from __future__ import annotations

import re
import struct
import zlib

from .errors import GuestTimeout, ImageError
from .protocol import ReadPixels, ReadScreen, Reply
from .session import Session

# Code page 437 draws pictures where ASCII has control characters; NUL and 0xFF are blank.
_PICTURES = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
_CP437 = _PICTURES + bytes(range(32, 127)).decode("ascii") + "⌂" + bytes(range(128, 255)).decode("cp437") + " "


class Screen:
    """What the guest's VGA shows.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     "root" in vm.screen.text
    True
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def text(self) -> str:
        """The rows, one line each, without trailing blanks; empty in a graphics mode."""
        return _text(self._session.call(ReadScreen))

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of a text mode, width and height in pixels of a graphics mode."""
        value = self._session.call(ReadScreen).value
        names = ("width", "height") if value["graphical"] else ("columns", "rows")
        return int(value[names[0]]), int(value[names[1]])

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column of the cursor, from 0; None while it is hidden."""
        cursor = self._session.call(ReadScreen).value["cursor"]
        return None if cursor is None else (int(cursor[0]), int(cursor[1]))

    def png(self) -> bytes:
        """What the screen shows, text or graphics, as a PNG: one pixel for each of the VGA's.

        Returns
        -------
        bytes
            8 bits each of red, green and blue. A text mode of 80 by 25 with the usual font has 720 by 400 pixels.

        Raises
        ------
        GuestOff, GuestFault
            Never: what was shown last can still be seen.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine() as vm:
        ...     picture = vm.screen.png()
        >>> picture[:8]
        b'\\x89PNG\\r\\n\\x1a\\n'

        In a notebook, ``IPython.display.Image(vm.screen.png())`` shows it.
        """
        reply = self._session.call(ReadPixels)
        return _png(int(reply.value["width"]), int(reply.value["height"]), reply.payload)

    def expect(
        self,
        pattern: str | re.Pattern[str],
        timeout: float | None = 30.0,
        *,
        instructions: int | None = None,
        wall_timeout: float | None = None,
    ) -> re.Match[str]:
        """Wait until the screen shows `pattern`, a literal str or a compiled regex.

        Parameters
        ----------
        pattern : str or compiled regex
        timeout : float or None
            Seconds, of guest time on a machine with a seed; None waits for ever.
        instructions : int, optional
            How many the guest may retire meanwhile.
        wall_timeout : float, optional
            Seconds of the host's time, whatever the guest's is.

        Raises
        ------
        GuestTimeout
            It did not in time; the message shows the screen.
        GuestFault, GuestOff
            The guest can no longer show anything.
        """
        wanted = re.compile(re.escape(pattern)) if isinstance(pattern, str) else pattern
        if not isinstance(wanted, re.Pattern) or not isinstance(wanted.pattern, str):
            raise ImageError("cannot look for this", expected="a str or a compiled regex of str", seen=repr(pattern))
        budget = self._session.budget(timeout, instructions, wall_timeout)
        reply = self._session.call(ReadScreen)
        budget.begin(self._session.statistics)
        while True:
            found = wanted.search(_text(reply))
            if found is not None:
                return found
            try:
                reply = self._session.drive(ReadScreen, budget, since=int(reply.value["version"]))
            except GuestTimeout as error:
                late = GuestTimeout(
                    f"the screen did not show {pattern!r} {budget.within(error.budget)}",
                    seen=f"machine {self._session.status!r} and this screen:\n{_text(reply)}",
                )
                late.budget = error.budget
                raise late from None


def _png(width: int, height: int, rgba: bytes) -> bytes:
    """W3C PNG, third edition: a header, one stream of rows that each begin with their filter (none), the end."""
    rgb = bytearray(width * height * 3)
    for channel in range(3):
        rgb[channel::3] = rgba[channel::4]
    rows = b"".join(b"\0" + rgb[at : at + width * 3] for at in range(0, len(rgb), width * 3))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _text(reply: Reply) -> str:
    value = reply.value
    if value["graphical"]:
        return ""
    columns = int(value["columns"])
    characters = "".join(_CP437[byte] for byte in reply.payload)
    rows = (characters[at : at + columns].rstrip() for at in range(0, len(characters), columns))
    return "\n".join(rows).rstrip("\n")
