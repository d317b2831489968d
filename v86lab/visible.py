"""Console bytes as text that is safe and useful to print: in error messages, in reprs.

Rules: nothing a terminal or a notebook would act on survives (control characters, escape sequences, characters that
turn the direction of writing round), and nothing is lost silently: what was cut is marked by an ellipsis.
"""

from __future__ import annotations

WIDTH = 200
"""Characters shown of a line; of a longer one the last ones, which are what a pattern was waiting at."""


def visible(data: bytes, lines: int = 20) -> str:
    """The last lines of what a console printed, control characters made visible.

    Parameters
    ----------
    data : bytes
        Console output; read as UTF-8, ill-formed bytes shown as U+FFFD.
    lines : int
        How many lines to keep. A line feed at the very end begins no further line.

    Returns
    -------
    str
        Lines separated by ``\\n``. C0 controls and DEL are shown by Unicode's control pictures, others that cannot be
        printed by their escapes. The carriage return of CR LF is not shown.

    Examples
    --------
    >>> print(visible(b"login: root\\r\\n\\x1b[1mWelcome\\x1b[m\\r\\n$"))
    login: root
    ␛[1mWelcome␛[m
    $
    """
    rows = data.removesuffix(b"\n").rsplit(b"\n", lines)
    return "\n".join(_row(row.removesuffix(b"\r")) for row in rows[-lines:])


def _row(row: bytes) -> str:
    text = row[-4 * (WIDTH + 1) :].decode("utf-8", "replace")  # a character takes at most four bytes
    return ("…" if len(text) > WIDTH else "") + "".join(map(_character, text[-WIDTH:]))


def _character(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
