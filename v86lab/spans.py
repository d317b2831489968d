"""Where a compiled regex matches in bytes; and, run as a script, the same in a process that can be ended.

Rules:

* A pattern of bytes sees the bytes. A pattern of str sees them as UTF-8, each ill-formed piece as one U+FFFD, which is
  what ``bytes.decode(errors="replace")`` gives. A character whose last bytes have not arrived is held back.
* Positions that leave this module count bytes, however many of them were ill-formed.
* Nothing of the package is imported: `v86lab.searcher` runs this file by its path, with ``python -IS``, because that
  starts in a few hundredths of a second. CPython's `re` holds the GIL until it is done and can be interrupted from the
  main thread only, so a pattern that backtracks for ever must not run in the process of the notebook.

The script reads requests and writes answers, one line of JSON each; a request is followed by the bytes to search. It
ends itself when a search takes too long: `faulthandler`'s watchdog needs no GIL, is there on every system, and works
as well when the parent has been killed.
"""

from __future__ import annotations

import codecs
import faulthandler
import json
import os
import re
import signal
import sys
from typing import Any, BinaryIO

# Ill-formed pieces are marked by their length, 1 to 3 bytes, with a lone surrogate, which decoding never yields.
_MARK = 0xDC00
_PLAIN = {_MARK + size: "\N{REPLACEMENT CHARACTER}" for size in (1, 2, 3)}


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return chr(_MARK + error.end - error.start), error.end


codecs.register_error("v86lab.mark", _mark)


def decode(data: bytes, final: bool = False) -> str:
    """`data` as text in which each ill-formed piece is a mark; unless `final`, a character cut off at the end waits."""
    text, used = codecs.utf_8_decode(data, "v86lab.mark", final)
    # CPython keeps half of an encoded surrogate waiting too, though no third byte makes it a character.
    if data[used : used + 1] == b"\xed" and data[used + 1 : used + 2] >= b"\xa0":
        text += codecs.utf_8_decode(data[used:], "v86lab.mark", True)[0]
    return text


def plain(marked: str) -> str:
    """What users see: every mark is a U+FFFD. Positions stay the same."""
    return marked if marked.isascii() else marked.translate(_PLAIN)


def size(marked: str) -> int:
    """The number of bytes that `decode` made this text of.

    Examples
    --------
    >>> size(decode(b"caf\\xc3\\xa9 \\xff\\xe2\\x82!"))
    10
    """
    if marked.isascii():
        return len(marked)
    # "surrogatepass" writes a mark in three bytes.
    return len(marked.encode("utf-8", "surrogatepass")) - 2 * marked.count("\udc01") - marked.count("\udc02")


def search(pattern: re.Pattern[Any], data: bytes, first: int = 0, final: bool = False) -> tuple[int, int] | None:
    """The first match that begins at `first` or later, as a span of bytes. `first`: 0, or 1 after a cut."""
    match: re.Match[Any] | None
    if isinstance(pattern.pattern, bytes):
        match = pattern.search(data, first)
        return match.span() if match else None
    marked = decode(data, final)
    match = pattern.search(plain(marked), first)
    return (size(marked[: match.start()]), size(marked[: match.end()])) if match else None


def match_at(
    pattern: re.Pattern[Any], data: bytes, start: int, final: bool = False
) -> tuple[re.Match[Any], int] | None:
    """The match that begins at byte `start`, and the byte where it ends."""
    match: re.Match[Any] | None
    if isinstance(pattern.pattern, bytes):
        match = pattern.match(data, start)
        return (match, match.end()) if match else None
    marked = decode(data, final)
    match = pattern.match(plain(marked), len(decode(data[:start], True)))
    if match is None or size(marked[: match.start()]) != start:
        return None
    return match, size(marked[: match.end()])


def earliest(patterns: list[re.Pattern[Any]], data: bytes, first: int = 0) -> tuple[int, int, int] | None:
    """Index and span of the match that begins earliest; of several, the one whose pattern comes first in the list."""
    spans = [(span[0], index, span[1]) for index, p in enumerate(patterns) if (span := search(p, data, first))]
    if not spans:
        return None
    start, index, end = min(spans)
    return index, start, end


def describe(patterns: list[re.Pattern[Any]]) -> list[list[Any]]:
    """The patterns as JSON; `restore` gives them back."""
    return [
        ["bytes", p.pattern.decode("latin-1"), p.flags] if isinstance(p.pattern, bytes) else ["str", p.pattern, p.flags]
        for p in patterns
    ]


def restore(described: list[list[Any]]) -> list[re.Pattern[Any]]:
    """The patterns that `describe` described. ``re.DEBUG`` prints while it compiles: left out."""
    return [
        re.compile(source.encode("latin-1") if kind == "bytes" else source, flags & ~re.DEBUG)
        for kind, source, flags in described
    ]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other side closes; end the process, with status 1, when a search takes too long."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (pathlib would double the time this script needs to start)
        answers.write(b"ready\n")
        answers.flush()
        while line := requests.readline():
            request = json.loads(line)
            data = requests.read(request["size"])
            faulthandler.dump_traceback_later(request["limit"], exit=True, file=nowhere)
            patterns = restore(request["patterns"])
            if request["at"] is None:
                found: Any = earliest(patterns, data, request["first"])
            else:
                matched = match_at(patterns[0], data, request["at"])
                found = matched and (0, request["at"], matched[1])
            faulthandler.cancel_dump_traceback_later()
            answers.write(json.dumps(found).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent
    serve(sys.stdin.buffer, sys.stdout.buffer)
