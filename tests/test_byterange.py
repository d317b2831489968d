"""The Range arithmetic against a naive model that handles one byte at a time."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab.byterange import (
    JOIN_GAP,
    MAX_RANGES,
    Decision,
    Multipart,
    NotModified,
    Partial,
    PreconditionFailed,
    Span,
    Unsatisfiable,
    Whole,
    decide,
)

ETAG = '"0123"'
FAR = 10 * JOIN_GAP


def ranged(field: str, size: int = 1000) -> Decision:
    return decide("GET", size, ETAG, range=field)


def spans_of(decision: Decision) -> list[Span]:
    match decision:
        case Partial(span):
            return [span]
        case Multipart(spans):
            return list(spans)
        case _:
            return []


# --- §14.1.2: what a range means ---


@pytest.mark.parametrize(
    ("field", "start", "stop"),
    [
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 1000),
        ("bytes=-500", 500, 1000),
        ("bytes=500-", 500, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=-1", 999, 1000),
        ("bytes=999-5000", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=0-999", 0, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=000-0009", 0, 10),
        ("BYTES=0-9", 0, 10),
        ("  bytes=0-9\t", 0, 10),
        ("bytes= 0-9 ", 0, 10),
        ("bytes=,, 0-9 ,\t,", 0, 10),
        ("bytes=0-" + "9" * 50_000, 0, 1000),
        ("bytes=-" + "9" * 50_000, 0, 1000),
        ("bytes=" + "0" * 50_000 + "7-7", 7, 8),
        ("bytes=2000-, 5-6", 5, 7),
    ],
)
def test_a_single_satisfiable_range_is_partial_even_when_it_is_everything(field: str, start: int, stop: int) -> None:
    assert ranged(field) == Partial(Span(start, stop))


@pytest.mark.parametrize(
    "field", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=" + "9" * 50_000 + "-", "bytes=-0, 1000-1001"]
)
def test_a_range_beyond_the_end_is_unsatisfiable(field: str) -> None:
    assert ranged(field) == Unsatisfiable()


@pytest.mark.parametrize(
    "field",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-9,5-4",
        "bytes=2" + "0" * 30 + "-1" + "9" * 30,
        "bytes=1" + "0" * 30 + "-" + "9" * 30,
        "bytes=--5",
        "bytes=0-9-",
        "bytes=0 - 9",
        "bytes=0-9 20-29",
        "bytes=0-9" + " " * 200 + "20-29",
        "bytes=0-9;",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1_0-20",
        "bytes=\u0660-\u0669",
        "bytes=1.0-2",
        "bytes=0-9\n",
        "bytes 0-9",
        "bytes =0-9",
        "items=0-9",
        "bytes=0-1,bytes=4-5",
        "seconds=0-9",
    ],
)
def test_a_field_that_is_not_a_valid_byte_range_is_ignored(field: str) -> None:
    assert ranged(field) == Whole()


def test_nothing_has_no_first_byte_but_a_suffix() -> None:
    assert ranged("bytes=0-0", 0) == Unsatisfiable()
    assert ranged("bytes=0-", 0) == Unsatisfiable()
    assert ranged("bytes=-0", 0) == Unsatisfiable()
    assert ranged("bytes=-5", 0) == Whole()
    assert decide("GET", 0, ETAG) == Whole()


def test_positions_beyond_32_and_53_bits_are_exact() -> None:
    size = 2**63
    assert ranged(f"bytes={2**53 + 1}-{2**53 + 1}", size) == Partial(Span(2**53 + 1, 2**53 + 2))
    assert ranged(f"bytes=-{2**62 + 1}", size) == Partial(Span(2**62 - 1, size))
    assert ranged(f"bytes={size}-", size) == Unsatisfiable()


def test_huge_numbers_do_not_depend_on_the_interpreters_limit_for_digits() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert ranged("bytes=1-" + "9" * 3000) == Partial(Span(1, 1000))
    finally:
        sys.set_int_max_str_digits(before)


def test_range_is_defined_for_get_alone() -> None:
    assert decide("HEAD", 1000, ETAG, range="bytes=0-9") == Whole()


# --- several ranges ---


def test_ranges_far_apart_keep_the_order_asked_for() -> None:
    assert ranged("bytes=5000-5009, 0-9, -10", 10_000) == Multipart((Span(5000, 5010), Span(0, 10), Span(9990, 10_000)))


def test_ranges_that_overlap_or_nearly_touch_become_one() -> None:
    assert ranged("bytes=0-9,5-20,21-30") == Partial(Span(0, 31))
    assert ranged(f"bytes=0-9,{10 + JOIN_GAP}-{20 + JOIN_GAP}") == Partial(Span(0, 21 + JOIN_GAP))
    assert ranged(f"bytes=0-9,{11 + JOIN_GAP}-{20 + JOIN_GAP}") == Multipart(
        (Span(0, 10), Span(11 + JOIN_GAP, 21 + JOIN_GAP))
    )


def test_a_part_inside_another_does_not_shorten_it() -> None:
    assert ranged("bytes=0-999,10-20") == Partial(Span(0, 1000))


def test_a_joined_range_stands_where_its_first_member_stood() -> None:
    assert ranged("bytes=5000-5009,0-9,5010-5019", 10_000) == Multipart((Span(5000, 5020), Span(0, 10)))


def test_too_many_ranges_are_refused_and_the_limit_itself_is_not() -> None:
    def field(count: int) -> str:
        return "bytes=" + ",".join(f"{n * FAR}-{n * FAR}" for n in range(count))

    assert len(spans_of(ranged(field(MAX_RANGES), 10**9))) == MAX_RANGES
    assert ranged(field(MAX_RANGES + 1), 10**9) == Unsatisfiable()
    assert ranged("bytes=" + ",".join(["0-"] * (MAX_RANGES + 1))) == Unsatisfiable()


# --- §13: preconditions ---


@pytest.mark.parametrize("field", ["*", " * ", ETAG, "W/" + ETAG, f'"a", {ETAG}', f',"a,b" ,, W/{ETAG},', f'"",{ETAG}'])
def test_if_none_match_that_names_the_tag_means_not_modified(field: str) -> None:
    assert decide("GET", 10, ETAG, if_none_match=field) == NotModified()
    assert decide("HEAD", 10, ETAG, if_none_match=field) == NotModified()
    assert decide("GET", 10, ETAG, if_none_match=field, range="bytes=0-1") == NotModified()


@pytest.mark.parametrize(
    "field",
    ["", '"other"', "0123", f"w/{ETAG}", f'{ETAG} "b"', f'"a" {ETAG}', f"{ETAG};", '"a,0123"', "**", f"*, {ETAG}"],
)
def test_if_none_match_that_does_not_name_the_tag_changes_nothing(field: str) -> None:
    assert decide("GET", 10, ETAG, if_none_match=field) == Whole()
    assert decide("GET", 10, ETAG, if_none_match=field, range="bytes=0-1") == Partial(Span(0, 2))


def test_if_match_is_strong_and_comes_first() -> None:
    assert decide("GET", 10, ETAG, if_match="*") == Whole()
    assert decide("GET", 10, ETAG, if_match=f'"b", {ETAG}', range="bytes=0-1") == Partial(Span(0, 2))
    assert decide("GET", 10, ETAG, if_match="W/" + ETAG) == PreconditionFailed()
    assert decide("GET", 10, ETAG, if_match='"b"', if_none_match=ETAG) == PreconditionFailed()


@pytest.mark.parametrize("validator", [ETAG, " " + ETAG + "\t"])
def test_if_range_with_the_strong_tag_lets_the_range_through(validator: str) -> None:
    assert decide("GET", 10, ETAG, range="bytes=0-1", if_range=validator) == Partial(Span(0, 2))
    assert decide("GET", 10, ETAG, range="bytes=10-", if_range=validator) == Unsatisfiable()


@pytest.mark.parametrize(
    "validator", ["", "W/" + ETAG, '"b"', "0123", "*", f'{ETAG}, "b"', "Sun, 22 Nov 2026 08:49:37 GMT"]
)
def test_if_range_with_anything_else_gives_the_whole(validator: str) -> None:
    assert decide("GET", 10, ETAG, range="bytes=0-1", if_range=validator) == Whole()
    assert decide("GET", 10, ETAG, range="bytes=10-", if_range=validator) == Whole()


# --- the model ---

number = st.integers(0, 3 * FAR) | st.integers(0, 2**70)
spec = st.one_of(
    st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    number.map("{}-".format),
    number.map("-{}".format),
)
gap = st.text(" \t", max_size=3)
listing = st.lists(st.tuples(gap, spec, gap).map("".join), min_size=1, max_size=6).map(",".join)


def model(specs: list[str], size: int) -> set[int]:
    """The bytes meant, found by asking each specification about each byte."""
    wanted = set()
    for text in specs:
        first, _, last = text.strip(" \t").partition("-")
        for byte in range(size):
            if first == "":
                wanted |= {byte} if byte >= size - int(last) else set()
            elif int(first) <= byte and (last == "" or byte <= int(last)):
                wanted.add(byte)
    return wanted


@given(listing, st.integers(1, 2 * FAR))
def test_every_byte_asked_for_is_sent_once_and_little_else(specs: str, size: int) -> None:
    wanted = model(specs.split(","), size)
    decision = ranged("bytes=" + specs, size)
    spans = spans_of(decision)
    sent = [byte for span in spans for byte in range(span.start, span.stop)]
    assert len(sent) == len(set(sent)) <= size
    assert wanted <= set(sent)
    assert (decision == Unsatisfiable()) == (not wanted)
    for span in spans:
        assert 0 <= span.start < span.stop <= size
        assert span.start in wanted and span.stop - 1 in wanted
        holes = re.findall("0+", "".join("1" if byte in wanted else "0" for byte in range(span.start, span.stop)))
        assert all(len(hole) <= JOIN_GAP for hole in holes)
    for before in spans:
        for after in spans:
            assert before is after or after.start - before.stop > JOIN_GAP or before.start - after.stop > JOIN_GAP


@given(spec, st.integers(1, 2 * FAR))
def test_a_single_range_is_never_widened(text: str, size: int) -> None:
    wanted = model([text], size)
    assert ranged("bytes=" + text, size) == (Partial(Span(min(wanted), max(wanted) + 1)) if wanted else Unsatisfiable())


@given(st.text(st.sampled_from('0123456789-,=bytes \tW/"*x'), max_size=40), st.integers(0, 2000))
def test_any_text_gets_an_answer_within_bounds(text: str, size: int) -> None:
    for field in (text, "bytes=" + text):
        for span in spans_of(decide("GET", size, ETAG, range=field, if_range=None, if_none_match=text)):
            assert 0 <= span.start < span.stop <= size


def test_content_range_counts_inclusively() -> None:
    assert Span(0, 500).content_range(1234) == "bytes 0-499/1234"
    assert len(Span(10, 12)) == 2
