"""What `expect` waits for: literals and compiled regexes, and their translation for the engine.

Theory of operation. The engine does the waiting, so it must match as output arrives, stop at the exact point and never
get stuck. A pattern is therefore translated into a program for the small machine in ``js/src/core/matcher.js``, which
follows all alternatives at once: one pass over the output, time linear in it whatever the pattern, no JavaScript
regex with rules of its own. A pattern outside the subset is not translated; Python matches it, in a process that can
be ended (`v86lab.searcher`), while the engine holds the guest. Rules:

* Meaning of a list: the match that begins earliest in the unconsumed output wins; of several, the pattern that comes
  first in the list (pexpect's rule). The list is tried again whenever output arrives, against all that is unconsumed.
* A literal is matched as bytes (str: its UTF-8). A regex of bytes sees bytes; a regex of str sees characters, each
  ill-formed piece of UTF-8 as one U+FFFD, a character that has not arrived completely not at all.
* Exact or not at all. Characters, classes, ``.``, ``\\w`` and friends, with IGNORECASE, ASCII, DOTALL, VERBOSE and
  inline flags become sets of characters, and *re itself* says which: it is asked for every character there is. Groups,
  alternation, greedy and lazy repeats (expanded when bounded), ``\\A``, ``^`` (MULTILINE too) are translated.
* Left to Python: what depends on where the output ends at this moment (``$ \\Z \\b \\B``, lookahead), lookbehind,
  backreferences, conditionals, atomic groups, possessive repeats, ``(?a:...)`` and ``(?u:...)``, a repeat of something
  that can be empty (re's rule for ending such a loop is its own), and what takes more than `MAX_CODE` instructions.
* One such pattern in a list leaves the whole list to Python, as what begins earliest needs all of them.
* Refused: a pattern that can match nothing at all (it would match at once), and ``re.LOCALE``.
* Where output was cut off because too much was unconsumed, the first byte kept is context: no match begins there, and
  ``^`` is not there.
* A match the engine reports is redone with the user's own pattern on the same bytes; when the two disagree that is an
  `EngineError`, never a silent difference.

Examples
--------
>>> patterns = compile(["login: ", re.compile(r"[#$] ")])
>>> patterns.held
False
>>> patterns.confirm(1, b"/root# ", 5, 7).match
<re.Match object; span=(5, 7), match='# '>
>>> compile(re.compile(r"[#$] $")).held
True
"""

from __future__ import annotations

import re

# Private, and the only parser that agrees with re on octal escapes, VERBOSE, inline flags and the rest. Nodes are
# allowed by name: one that a later Python brings is left to Python.
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as sre_parser  # type: ignore[import-not-found]
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any, TypeAlias

from v86lab import spans
from v86lab.errors import EngineError, ImageError

Source: TypeAlias = "str | bytes | re.Pattern[str] | re.Pattern[bytes]"
"""What a user may wait for."""

MAX_CODE = 1000
"""Instructions of a program. What the engine does for one character is at most proportional to this."""

CHEAP = 10_000_000
"""Steps of backtracking, a fraction of a second, that re may be given in this process (see `Pattern.steps`)."""


@dataclass(frozen=True)
class Program:
    """A regex for the engine: instructions that run on bytes, or with `text` on characters.

    `code` holds ``("set", s)``: go on if the next character is in set `s`; ``("split", a, b)``: try `a`, then `b`;
    ``("jump", a)``; ``("start",)`` and ``("line",)``: go on at the start of the output, or of a line; ``("match",)``.
    A set is the first and last character of its first range, of its second, and so on.
    """

    text: bool
    sets: tuple[tuple[int, ...], ...]
    code: tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True)
class Pattern:
    """One thing to wait for. Made by `compile`.

    Attributes
    ----------
    source : str, bytes or re.Pattern
        As the user gave it.
    regex : re.Pattern
        The same as a regex; of a literal, one of bytes.
    program : Program or None
        What the engine runs; None for a literal, and for what Python has to match.
    paths : tuple[int, int] or None
        ``(factor, degree)``: backtracking from one start over n characters tries at most factor * n**degree ways; None
        when there is no such bound.
    """

    source: Source
    regex: re.Pattern[str] | re.Pattern[bytes]
    program: Program | None
    paths: tuple[int, int] | None

    def __str__(self) -> str:
        return repr(self.source)

    def wire(self) -> dict[str, Any] | None:
        """JSON for ``Matcher.fromWire``; None when Python has to match.

        Examples
        --------
        >>> compile("login: ").items[0].wire()
        {'literal': 'login: '}
        """
        if self.program is not None:
            return {"text": self.program.text, "sets": self.program.sets, "code": self.program.code}
        literal = _literal(self.source)
        return {"literal": literal.decode("latin-1")} if literal is not None and len(literal) < MAX_CODE else None

    def steps(self, length: int) -> float:
        """A bound on what re may have to do to match from one start over `length` bytes."""
        if self.paths is None:
            return float("inf")
        factor, degree = self.paths
        return float(factor) * (len(self.program.code) if self.program else 1) * float(length + 1) ** degree


@dataclass(frozen=True)
class Found:
    """A match.

    Attributes
    ----------
    index : int
        Which pattern of the list.
    start, end : int
        Where in the unconsumed output, in bytes.
    before, matched : bytes
        What was unconsumed before the match, and the match.
    match : re.Match
        The user's own regex matched on all of it (positions count characters for a regex of str); of a literal, bytes.
    """

    index: int
    start: int
    end: int
    before: bytes
    matched: bytes
    match: re.Match[str] | re.Match[bytes]


@dataclass(frozen=True)
class Patterns:
    """A list of patterns to wait for, in the order that decides ties. Made by `compile`."""

    items: tuple[Pattern, ...]

    def __str__(self) -> str:
        return str(self.items[0]) if len(self.items) == 1 else "[" + ", ".join(map(str, self.items)) + "]"

    def wire(self) -> list[dict[str, Any] | None]:
        """For the engine: what each is, None where Python has to match."""
        return [item.wire() for item in self.items]

    @property
    def held(self) -> bool:
        """Whether Python has to match, so that the engine must hold the guest at each block of output."""
        return None in self.wire()

    def confirm(self, index: int, window: bytes, start: int, end: int, cut: bool = False) -> Found:
        """Redo a match that was found elsewhere, with the user's own pattern on the same bytes.

        This may take long for a pattern that backtracks; `v86lab.searcher.Searcher.confirm` guards it.

        Parameters
        ----------
        index : int
            Which pattern is said to match.
        window : bytes
            The unconsumed output as it was when the match was found; up to `end` is enough if the engine found it.
        start, end : int
            Where it is said to match, in bytes.
        cut : bool
            Whether output before the window was cut off.

        Raises
        ------
        EngineError
            The pattern matches elsewhere, or not at all.
        """
        if not (0 <= index < len(self.items) and 0 <= start < end <= len(window)):
            raise EngineError(
                "a reported match makes no sense",
                expected=f"one of {len(self.items)} patterns, within {len(window)} bytes",
                seen=f"pattern {index} at {start} to {end}",
                hint=_REPORT,
            )
        item = self.items[index]
        final = item.program is not None and end == len(window)  # the engine knows that a character ends there
        seen: tuple[int, int] | None = (start, end)
        if item.steps(len(window)) * len(window) <= CHEAP:
            seen = spans.search(item.regex, window, int(cut), final)
        at = spans.match_at(item.regex, window, start, final)
        if at is None or seen != (start, at[1]) or at[1] != end:
            raise EngineError(
                f"re and the engine disagree on {item}",
                expected=f"a match at bytes {start} to {end}",
                seen="none there" if at is None else f"one at {start} to {at[1]}, the first at {seen}",
                hint=_REPORT,
            )
        return Found(index, start, end, window[:start], window[start:end], at[0])


_REPORT = "this is a defect of v86lab: please report it with the pattern"


def compile(patterns: Source | Sequence[Source]) -> Patterns:
    """Check and translate what a user wants to wait for.

    Parameters
    ----------
    patterns : str, bytes, re.Pattern, or a sequence of them
        str and bytes are literals, compiled patterns are regexes.

    Returns
    -------
    Patterns

    Raises
    ------
    ImageError
        Nothing to wait for, something else than a pattern, or a pattern that can match nothing at all.

    Examples
    --------
    >>> str(compile(["login: ", b"# "]))
    "['login: ', b'# ']"
    >>> compile(re.compile("x*"))
    Traceback (most recent call last):
    v86lab.errors.ImageError: the pattern re.compile('x*') can match nothing at all, so it would match at once: ...
    """
    given: Sequence[Any] = [patterns] if isinstance(patterns, str | bytes | re.Pattern) else _listed(patterns)
    if not given:
        raise ImageError("there is no pattern to wait for", expected=_EXPECTED, seen="an empty list")
    return Patterns(tuple(_pattern(source) for source in given))


_EXPECTED = "a str, bytes or re.Pattern, or a list of them"


def _listed(patterns: Any) -> Sequence[Any]:
    if not isinstance(patterns, Sequence) or isinstance(patterns, bytearray | memoryview):
        raise ImageError("cannot wait for this", expected=_EXPECTED, seen=repr(patterns))
    return patterns


def _pattern(source: Any) -> Pattern:
    if isinstance(source, re.Pattern):
        return _from_regex(source)
    if not isinstance(source, str | bytes):
        raise ImageError("cannot wait for this", expected=_EXPECTED, seen=repr(source))
    if not source:
        raise ImageError(
            f"the literal {source!r} is empty, so it would match at once", hint="wait for what the guest prints"
        )
    try:
        literal = _literal(source)
    except UnicodeEncodeError as error:
        raise ImageError(
            f"the literal {source!r} cannot be sent by a guest",
            expected="characters that UTF-8 can encode",
            seen=f"U+{ord(error.object[error.start]):04X}, half of a surrogate pair",
        ) from None
    assert literal is not None
    return Pattern(source, re.compile(re.escape(literal)), None, (len(literal), 0))


def _literal(source: Source) -> bytes | None:
    if isinstance(source, re.Pattern):
        return None
    return source.encode() if isinstance(source, str) else source


@lru_cache(maxsize=256)
def _from_regex(regex: re.Pattern[Any]) -> Pattern:
    if regex.flags & re.LOCALE:
        raise ImageError(
            f"the pattern {regex} depends on this process's locale", hint="leave out re.LOCALE; a guest has its own"
        )
    tree = sre_parser.parse(regex.pattern, regex.flags)
    if tree.getwidth()[0] == 0:
        raise ImageError(
            f"the pattern {regex} can match nothing at all, so it would match at once",
            expected="at least one character",
            hint="use + instead of *, or add what comes before or after",
        )
    translator = _Translator(isinstance(regex.pattern, str))
    try:
        paths = translator.sequence(tree, regex.flags)
        translator.emit("match")
    except _Untranslatable:
        return Pattern(regex, regex, None, None)
    program = Program(translator.text, tuple(translator.sets), tuple(translator.code))
    return Pattern(regex, regex, program, paths)


class _Untranslatable(Exception):
    """Not in the subset: Python has to match."""


_Paths: TypeAlias = "tuple[int, int] | None"  # as Pattern.paths
_ONE: _Paths = (1, 0)

_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_SET_FLAGS = re.ASCII | re.IGNORECASE | re.DOTALL  # the flags that decide which characters a set holds


class _Translator:
    """Nodes of re's parser in, instructions out. Each method gives the ways in which re could match the part."""

    def __init__(self, text: bool) -> None:
        self.text = text
        self.sets: list[tuple[int, ...]] = []
        self.code: list[tuple[str | int, ...]] = []

    def emit(self, *instruction: str | int) -> int:
        if len(self.code) == MAX_CODE:
            raise _Untranslatable
        self.code.append(instruction)
        return len(self.code) - 1

    def sequence(self, nodes: Any, flags: int) -> _Paths:
        return _product(self.node(op, value, flags) for op, value in nodes)

    def node(self, op: Any, value: Any, flags: int) -> _Paths:
        if op is sre.SUBPATTERN:
            _, added, removed, nodes = value
            if added & sre_parser.TYPE_FLAGS:
                raise _Untranslatable  # CPython's search skips by the outer flag what its match takes by the inner
            return self.sequence(nodes, (flags | added) & ~removed)
        if op is sre.BRANCH:
            return self.branch(value[1], flags)
        if op is sre.MAX_REPEAT or op is sre.MIN_REPEAT:
            least, most, body = value
            return self.repeat(least, most, body, flags, lazy=op is sre.MIN_REPEAT)
        if op is sre.AT and value in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
            self.emit("line" if value is sre.AT_BEGINNING and flags & re.MULTILINE else "start")
            return _ONE
        if op is sre.LITERAL and not flags & re.IGNORECASE:
            return self.one((value, value))
        return self.one(_ranges(_character(op, value, self.text), self.text, int(flags & _SET_FLAGS)))

    def one(self, ranges: tuple[int, ...]) -> _Paths:
        if ranges not in self.sets:
            self.sets.append(ranges)
        self.emit("set", self.sets.index(ranges))
        return _ONE

    def branch(self, alternatives: Sequence[Any], flags: int) -> _Paths:
        ends, paths = [], []
        for nodes in alternatives[:-1]:
            split = self.emit("split")
            paths.append(self.sequence(nodes, flags))
            ends.append(self.emit("jump"))
            self.code[split] = ("split", split + 1, len(self.code))
        paths.append(self.sequence(alternatives[-1], flags))
        for end in ends:
            self.code[end] = ("jump", len(self.code))
        return _sum(paths)

    def repeat(self, least: int, most: int, nodes: Any, flags: int, lazy: bool) -> _Paths:
        if nodes.getwidth()[0] == 0:
            raise _Untranslatable
        unbounded = most is sre.MAXREPEAT
        if max(least, 0 if unbounded else most) > MAX_CODE:
            raise _Untranslatable
        body = self.required(least, nodes, flags)
        if unbounded:
            split = self.emit("split")
            body = self.sequence(nodes, flags)
            self.emit("jump", split)
            self.split(split, lazy)
        else:
            splits = []
            for _ in range(most - least):
                splits.append(self.emit("split"))
                body = self.sequence(nodes, flags)
            for split in splits:
                self.split(split, lazy)
        if most == least:
            return _product([body] * least)
        if most == 1:
            return _sum([body, _ONE])
        if body != _ONE:
            return None  # like (a+)+ or (a|ab)*: the ways multiply with every turn
        return (1, 1) if unbounded else (most - least + 1, 0)

    def required(self, count: int, nodes: Any, flags: int) -> _Paths:
        body = _ONE
        for _ in range(count):
            body = self.sequence(nodes, flags)
        return body

    def split(self, at: int, lazy: bool) -> None:
        inside, after = at + 1, len(self.code)
        self.code[at] = ("split", after, inside) if lazy else ("split", inside, after)


def _product(parts: Any) -> _Paths:
    factor, degree, bounded = 1, 0, True
    for part in parts:
        if part is None:
            bounded = False
        else:
            factor, degree = factor * part[0], degree + part[1]
    return (factor, degree) if bounded else None


def _sum(parts: Sequence[_Paths]) -> _Paths:
    bounded = [part for part in parts if part is not None]
    if len(bounded) < len(parts):
        return None
    return sum(factor for factor, _ in bounded), max(degree for _, degree in bounded)


def _character(op: Any, value: Any, text: bool) -> str:
    """Regex source that means the same as a node for one character."""
    if op is sre.LITERAL:
        return _escape(value, text)
    if op is sre.NOT_LITERAL:
        return f"[^{_escape(value, text)}]"
    if op is sre.ANY:
        return "."
    if op is not sre.IN:
        raise _Untranslatable
    return "[" + "".join(_member(kind, item, text) for kind, item in value) + "]"


def _member(op: Any, value: Any, text: bool) -> str:
    if op is sre.NEGATE:
        return "^"
    if op is sre.LITERAL:
        return _escape(value, text)
    if op is sre.RANGE:
        return f"{_escape(value[0], text)}-{_escape(value[1], text)}"
    if op is sre.CATEGORY and value in _CATEGORIES:
        return _CATEGORIES[value]
    raise _Untranslatable


def _escape(code: int, text: bool) -> str:
    return f"\\U{code:08x}" if text else f"\\x{code:02x}"


@cache
def _alphabet(text: bool) -> str | bytes:
    return "".join(map(chr, range(0x110000))) if text else bytes(range(256))


@lru_cache(maxsize=1024)
def _ranges(source: str, text: bool, flags: int) -> tuple[int, ...]:
    """The characters that `source` matches, asked of re for every one there is (10 ms for a set of characters)."""
    pattern: re.Pattern[Any] = re.compile(f"(?:{source})+" if text else f"(?:{source})+".encode("ascii"), flags)
    runs: Iterator[re.Match[Any]] = pattern.finditer(_alphabet(text))
    return tuple(chain.from_iterable((run.start(), run.end() - 1) for run in runs))
