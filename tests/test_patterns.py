"""Patterns: what the engine makes of them is what re makes of them, in a real Node; and what is refused.

`golden/patterns.json` is read by ``js/test/matcher.test.js`` too: patterns, their wire form, output as it arrives, and
what is found in it. Write it anew with ``python tests/test_patterns.py``, then look at what changed.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from v86lab import patterns as lab_patterns
from v86lab import spans
from v86lab.errors import EngineError, ImageError
from v86lab.node import find_node
from v86lab.patterns import CHEAP, MAX_CODE, Patterns

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "patterns.json"

Run = Callable[[Patterns, list[bytes], int], list[Any]]

# Reads {patterns, chunks, limit}; for each chunk of output, match by match: what was kept, and what was found.
DRIVER = """
import { createInterface } from "node:readline";
const { Matcher, Unconsumed } = await import(process.argv[1]);
for await (const line of createInterface({ input: process.stdin })) {
    const { patterns, chunks, limit } = JSON.parse(line), unconsumed = new Unconsumed(limit);
    const matcher = Matcher.fromWire(patterns);
    const answer = matcher instanceof Matcher ? chunks.map(chunk => {
        const steps = [];
        unconsumed.append(Buffer.from(chunk, "latin1"));
        for (;;) {
            const found = matcher.search(unconsumed), kept = Buffer.from(unconsumed.bytes).toString("latin1");
            steps.push({ kept, dropped: unconsumed.dropped, found: found && [found.index, found.start, found.end] });
            if (!found) return steps;
            unconsumed.consume(found.end);
        }
    }) : String(matcher);
    console.log(JSON.stringify(answer));
}
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    matcher = (ROOT / "js" / "src" / "core" / "matcher.js").as_uri()
    command = [str(find_node()), "--input-type=module", "-e", DRIVER, matcher]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as node:
        assert node.stdin
        assert node.stdout
        sink, source = node.stdin, node.stdout

        def ask(patterns: Patterns, chunks: list[bytes], limit: int = 1 << 20) -> list[Any]:
            request = {"patterns": patterns.wire(), "chunks": [c.decode("latin-1") for c in chunks], "limit": limit}
            sink.write(json.dumps(request) + "\n")
            sink.flush()
            answer = json.loads(source.readline())
            assert isinstance(answer, list), answer
            return answer

        yield ask


ANY = ["a", "b", "_", "1", r"\n", ".", "[ab]", "[^a]", "[^a-b1]", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S"]
ANY += [r"[\w-]", r"[^\s\d]", r"\x61", r"\141", r"[]a]", r"[\S]", "k", "s", "[a-zé]", "é"]
TEXT_ONLY = [
    "€",
    "[é-€]",
    "[^é]",
    "\u017f",
    "\u212a",
    "ß",
    "𝄞",
    "[𝄀-𝇿]",
    "\ufffd",
    r"\u00e9",
    "[\u0130\u0131]",
    "\ud800",
]


def sources(text: bool) -> st.SearchStrategy[str]:
    repeat = st.sampled_from(["?", "*", "+", "{2}", "{0,2}", "{1,3}", "{2,}", "??", "*?", "+?", "{0,2}?", "{1,}?"])
    wrap = st.sampled_from(["({})", "(?:{})", "(?i:{})", "(?s:{})", "(?m:{})", "(?-i:{})"])
    atoms = st.sampled_from(ANY + (TEXT_ONLY if text else []))
    return st.recursive(
        atoms | st.sampled_from(["^", r"\A"]),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=4).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(?:" + "|".join(parts) + ")"),
            st.tuples(atoms, repeat).map("".join),
            st.tuples(inner, wrap, repeat | st.just("")).map(lambda t: t[1].format(t[0]) + t[2]),
        ),
        max_leaves=8,
    )


@st.composite
def regexes(draw: st.DrawFn) -> re.Pattern[Any]:
    text = draw(st.booleans())
    source = draw(sources(text))
    flags = 0
    for flag in draw(st.sets(st.sampled_from([re.I, re.S, re.M, re.X] + [re.A] * text))):
        flags |= flag
    return re.compile(source if text else source.encode("latin-1"), flags)


LITERALS: list[str | bytes] = ["a", "ab", "é", "aa", b"\xff", b"a\n", "1 "]
PIECES = [b"a", b"b", b"a", b"ab", b"\n", b"1", b" ", b"_", b"K", b"k", b"S", b"A"]
PIECES += [c.encode() for c in "éÉ€\u017f\u212aẞ𝄞\ufffd\u0131\u0130"] + [
    b"\xff",
    b"\xe2\x82",
    b"\xc3",
    b"\xa9",
    b"\xed\xa0\x80",
    b"\xf0\x9d",
]
chunks = st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join), max_size=4)


@settings(max_examples=600, suppress_health_check=list(HealthCheck))
@given(st.lists(regexes() | st.sampled_from(LITERALS), min_size=1, max_size=3), chunks, st.sampled_from([8, 1 << 20]))
@example([re.compile("^ab|a"), re.compile("(?m)^b")], [b"aaaaaaaa", b"ab\nb"], 8)
@example([re.compile("...")], [b"\xf0\x9d", b"\x84\x9e\xe2\x82", b"\xf0x", b"\xac\x80\x80"], 8)
@example([re.compile("(?m)(?:^a)*?^b")], [b"a\nb"], 8)
@example([re.compile(r".")], [b"\xed\xa0"], 8)
@example([re.compile("(?s)a.*b")], [b"a12345", b"a1", b"b"], 8)
def test_the_engine_finds_what_re_finds_in_the_same_bytes(
    run: Run, sources: list[Any], arriving: list[bytes], limit: int
) -> None:
    try:
        patterns = lab_patterns.compile(sources)
    except ImageError:
        assume(False)
    assume(not patterns.held)
    regexes = [item.regex for item in patterns.items]
    pending, dropped = b"", 0
    for chunk, steps in zip(arriving, run(patterns, arriving, limit), strict=True):
        pending += chunk
        for step in steps:
            kept = step["kept"].encode("latin-1")
            assert kept == pending or (len(pending) > limit and pending.endswith(kept))
            dropped += len(pending) - len(kept)
            assert step["dropped"] == dropped
            expected = spans.earliest(regexes, kept, int(dropped > 0))
            assert step["found"] == (expected and list(expected))
            pending = kept
            if expected:
                index, start, end = expected
                found = patterns.confirm(index, kept[:end], start, end, dropped > 0)
                assert (found.before, found.matched) == (kept[:start], kept[start:end])
                assert found.match.re == regexes[index]
                pending, dropped = kept[end:], 0


@settings(max_examples=300)
@given(chunks)
def test_every_piece_of_utf8_is_one_character_to_the_engine_as_to_python(run: Run, arriving: list[bytes]) -> None:
    data = b"".join(arriving)
    steps = chain.from_iterable(run(EACH, arriving, 1 << 20))
    matched = [tuple(step["found"][1:]) for step in steps if step["found"]]
    text = spans.decode(data)
    assert [end - start for start, end in matched] == [spans.size(char) for char in text]


EACH = lab_patterns.compile(re.compile("(?s)."))


@pytest.mark.parametrize(
    "source",
    [
        r"a$",
        r"a\Z",
        r"\ba",
        r"a\B",
        r"a(?=b)",
        r"a(?!b)",
        r"(?<=b)a",
        r"(?<!b)a",
        r"(a)\1",
        r"(?P<x>a)(?P=x)",
        r"(a)?(?(1)b|c)",
        r"(?>a+)b",
        r"a++b",
        r"(?a:\w)",
        r"(a*)*b",
        r"(?:a|)+b",
        r"(?:^)*a",
        r"a{600}b{600}",
        r"a{5000}",
        r"(?:a{40}){40}",
    ],
)
def test_what_cannot_be_translated_exactly_is_left_to_python(source: str) -> None:
    patterns = lab_patterns.compile([re.compile(source), "login: "])
    assert patterns.wire() == [None, {"literal": "login: "}]
    assert patterns.held


def test_a_literal_too_long_for_the_engine_is_left_to_python() -> None:
    assert not lab_patterns.compile("a" * (MAX_CODE - 1)).held
    assert lab_patterns.compile("a" * MAX_CODE).held


@pytest.mark.parametrize(
    "source", ["x*", "x?", "(?:a|b*)", "^", "$", r"\b", "(?=x)", "(x)?(?(1)y|)", b"x*", "", r"\A", "()*"]
)
def test_a_pattern_that_can_match_nothing_at_all_is_refused(source: str | bytes) -> None:
    with pytest.raises(ImageError, match="nothing at all"):
        lab_patterns.compile(re.compile(source))


@pytest.mark.parametrize(
    "given_", ["", b"", [], (), None, 3, ["a", None], [["a"]], {"a"}, bytearray(b"a"), [bytearray(b"a")], "\ud800"]
)
def test_anything_else_than_patterns_is_the_callers_error(given_: Any) -> None:
    with pytest.raises(ImageError):
        lab_patterns.compile(given_)


def test_a_pattern_that_depends_on_the_locale_is_refused() -> None:
    with pytest.raises(ImageError, match="locale"):
        lab_patterns.compile(re.compile(b"a", re.LOCALE))


def test_patterns_show_as_the_user_wrote_them() -> None:
    assert str(lab_patterns.compile("login: ")) == "'login: '"
    assert str(lab_patterns.compile([b"\xff", re.compile("a+", re.I)])) == r"[b'\xff', re.compile('a+', re.IGNORECASE)]"


def test_the_match_is_the_users_own() -> None:
    patterns = lab_patterns.compile(["x", re.compile(r"(?P<user>\w+)@(\w+)")])
    found = patterns.confirm(1, "é: rené@pc".encode(), 4, 12)
    assert (found.index, found.before, found.matched) == (1, "é: ".encode(), "rené@pc".encode())
    assert found.match.groups() == ("rené", "pc")
    assert found.match.groupdict() == {"user": "rené"}
    assert found.match.span() == (3, 10)
    assert lab_patterns.compile("é").confirm(0, "aé".encode(), 1, 3).match.group() == "é".encode()


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (b"..ab", 2, 4),  # not there at all
        (b"aab", 0, 2),  # ends elsewhere
        (b"aabaab", 3, 6),  # an earlier one
        (b"aab", 0, 4),  # not within the bytes
        (b"aab", 3, 3),  # empty
    ],
)
def test_a_report_that_the_users_pattern_does_not_confirm_is_our_error(window: bytes, start: int, end: int) -> None:
    with pytest.raises(EngineError):
        lab_patterns.compile(re.compile("a+ab?")).confirm(0, window, start, end)


def test_a_report_for_a_pattern_that_was_not_asked_for_is_our_error() -> None:
    with pytest.raises(EngineError):
        lab_patterns.compile("a").confirm(1, b"a", 0, 1)


@pytest.mark.parametrize(
    ("source", "cheap"),
    [
        ("[#$] ", True),
        (".*\n.*[#$] ", True),
        ("(?:ab)*c", True),
        ("(a|b)?(?:c|dd){2}", True),
        ("(a+)+b", False),
        ("(?:a|aa)*b", False),
        ("(?:a|b?){0,99}c", False),
        ("a*" * 9 + "b", False),
        ("(?:a|a)" * 40, False),
        ("a?" * 40 + "b", False),
    ],
)
def test_only_what_cannot_backtrack_for_long_is_matched_in_this_process(source: str, cheap: bool) -> None:
    (item,) = lab_patterns.compile(re.compile(source)).items
    assert (item.steps(80) <= CHEAP) == cheap


def golden_cases() -> list[dict[str, Any]]:
    return json.loads(GOLDEN.read_text("utf-8"))  # type: ignore[no-any-return]


def golden_patterns(case: dict[str, Any]) -> Patterns:
    def source(pattern: Any) -> Any:
        if isinstance(pattern, str):
            return pattern
        if "bytes" in pattern:
            literal: bytes = pattern["bytes"].encode("latin-1")
            return literal
        regex = pattern["regex"].encode("latin-1") if pattern.get("of") == "bytes" else pattern["regex"]
        return re.compile(regex, re.RegexFlag(pattern.get("flags", 0)))

    return lab_patterns.compile([source(pattern) for pattern in case["patterns"]])


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case["name"])
def test_the_golden_file_holds_what_is_sent_and_what_is_found(case: dict[str, Any]) -> None:
    patterns = golden_patterns(case)
    assert json.loads(json.dumps(patterns.wire())) == case["wire"]
    data, found = b"", None
    for chunk in case["chunks"]:
        data += chunk.encode("latin-1")
        found = found or spans.earliest([item.regex for item in patterns.items], data)
    assert (found and list(found)) == case["found"]


if __name__ == "__main__":
    cases = golden_cases()
    for case in cases:
        case["wire"] = golden_patterns(case).wire()
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n", "utf-8")
