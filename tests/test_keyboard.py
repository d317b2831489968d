"""Scancodes for text and for Packer's notation."""

from __future__ import annotations

import string
from typing import Any, cast

import pytest

from v86lab.errors import ImageError
from v86lab.keyboard import Keyboard
from v86lab.protocol import Press, Request
from v86lab.session import Session

CTRL, ALT, SHIFT = 0x1D, 0x38, 0x2A
UP = 0x80


class Recorder:
    """A session that notes the steps it is asked to press."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self.steps: list[dict[str, Any]] = []
        self.allowed: list[float | None] = []

    def call(self, kind: type[Request], *, allow: float | None, steps: list[dict[str, Any]]) -> None:
        assert kind is Press
        self.steps += steps
        self.allowed.append(allow)


def pressed(notation: str) -> list[dict[str, Any]]:
    recorder = Recorder()
    Keyboard(cast(Session, recorder)).keys(notation)
    return recorder.steps


def typed(text: str) -> list[dict[str, Any]]:
    recorder = Recorder()
    Keyboard(cast(Session, recorder)).type(text)
    return recorder.steps


@pytest.mark.parametrize(
    ("character", "codes"),
    [
        ("a", [0x1E, 0x9E]),
        ("A", [SHIFT, 0x1E, 0x9E, SHIFT | UP]),
        ("1", [0x02, 0x82]),
        ("0", [0x0B, 0x8B]),
        ("!", [SHIFT, 0x02, 0x82, SHIFT | UP]),
        ("=", [0x0D, 0x8D]),
        ("]", [0x1B, 0x9B]),
        ("l", [0x26, 0xA6]),
        ("`", [0x29, 0xA9]),
        ("~", [SHIFT, 0x29, 0xA9, SHIFT | UP]),
        ("\\", [0x2B, 0xAB]),
        ("|", [SHIFT, 0x2B, 0xAB, SHIFT | UP]),
        ("m", [0x32, 0xB2]),
        ("/", [0x35, 0xB5]),
        ("<", [SHIFT, 0x33, 0xB3, SHIFT | UP]),
        (" ", [0x39, 0xB9]),
        ("\n", [0x1C, 0x9C]),
        ("\t", [0x0F, 0x8F]),
        ("\b", [0x0E, 0x8E]),
        ("\x1b", [0x01, 0x81]),
    ],
)
def test_a_character_is_the_key_of_a_us_keyboard(character: str, codes: list[int]) -> None:
    assert typed(character) == [{"codes": codes}]


def test_every_printable_ascii_character_can_be_typed_each_in_its_own_way() -> None:
    printable = [chr(code) for code in range(0x20, 0x7F)]
    ways = {tuple(typed(character)[0]["codes"]) for character in printable}
    assert len(ways) == len(printable)


def test_text_is_literal_also_where_it_looks_like_a_key() -> None:
    assert typed("<f2>") == [step for character in "<f2>" for step in typed(character)]


@pytest.mark.parametrize("character", ["é", "€", "\x00", "\x7f", "\r", "𝄞"])
def test_a_character_that_is_not_on_the_keyboard_is_refused_before_anything_is_typed(character: str) -> None:
    recorder = Recorder()
    with pytest.raises(ImageError, match="a US keyboard cannot type this character") as caught:
        Keyboard(cast(Session, recorder)).type("ok" + character)
    assert caught.value.seen == repr(character)
    assert recorder.steps == []


@pytest.mark.parametrize(
    ("notation", "steps"),
    [
        ("ab", [{"codes": [0x1E, 0x9E]}, {"codes": [0x30, 0xB0]}]),
        ("A", [{"codes": [SHIFT, 0x1E, 0x9E, SHIFT | UP]}]),
        ("<enter>", [{"codes": [0x1C, 0x9C]}]),
        ("<return><tab>", [{"codes": [0x1C, 0x9C]}, {"codes": [0x0F, 0x8F]}]),
        ("<a>", [{"codes": [0x1E, 0x9E]}]),
        ("<+>", None),
        ("<f1>", [{"codes": [0x3B, 0xBB]}]),
        ("<f10>", [{"codes": [0x44, 0xC4]}]),
        ("<f11>", [{"codes": [0x57, 0xD7]}]),
        ("<f12>", [{"codes": [0x58, 0xD8]}]),
        ("<del>", [{"codes": [0xE0, 0x53, 0xE0, 0xD3]}]),
        ("<pageUp>", [{"codes": [0xE0, 0x49, 0xE0, 0xC9]}]),
        ("<rightAlt>", [{"codes": [0xE0, 0x38, 0xE0, 0xB8]}]),
        ("<leftCtrlOn>c<leftCtrlOff>", [{"codes": [CTRL]}, {"codes": [0x2E, 0xAE]}, {"codes": [CTRL | UP]}]),
        ("<leftshifton><rightsuperoff>", [{"codes": [SHIFT]}, {"codes": [0xE0, 0xDC]}]),
        ("<aOn><aOff>", [{"codes": [0x1E]}, {"codes": [0x9E]}]),
        ("<ctrl+c>", [{"codes": [CTRL, 0x2E, 0xAE, CTRL | UP]}]),
        ("<ctrl+alt+del>", [{"codes": [CTRL, ALT, 0xE0, 0x53, 0xE0, 0xD3, ALT | UP, CTRL | UP]}]),
        ("<alt+f4>", [{"codes": [ALT, 0x3E, 0xBE, ALT | UP]}]),
        ("<wait>", [{"wait": 1000}]),
        ("<wait5>", [{"wait": 5000}]),
        ("<wait10s>", [{"wait": 10_000}]),
        ("<wait200ms>", [{"wait": 200}]),
        ("<wait1m30s>", [{"wait": 90_000}]),
        ("<wait2h>", [{"wait": 7_200_000}]),
        ("<f2><wait2>x", [{"codes": [0x3C, 0xBC]}, {"wait": 2000}, {"codes": [0x2D, 0xAD]}]),
        (">", [{"codes": [SHIFT, 0x34, 0xB4, SHIFT | UP]}]),
        ("\n", [{"codes": [0x1C, 0x9C]}]),
        ("", []),
    ],
)
def test_keys_in_packers_notation(notation: str, steps: list[dict[str, Any]] | None) -> None:
    if steps is None:
        with pytest.raises(ImageError, match="no such key"):
            pressed(notation)
    else:
        assert pressed(notation) == steps


@pytest.mark.parametrize("name", string.ascii_lowercase)
def test_case_does_not_matter_in_a_keys_name(name: str) -> None:
    assert pressed(f"<{name.upper()}>") == pressed(f"<{name}>") == typed(name)


@pytest.mark.parametrize(
    "notation",
    ["<nokey>", "<ctrl+>", "<ctrl+nokey>", "<waitfor>", "<wait5x>", "<wait-1>", "< >x<on>", "<f13>", "<éon>"],
)
def test_an_unknown_key_is_refused_before_anything_is_pressed(notation: str) -> None:
    recorder = Recorder()
    with pytest.raises(ImageError, match="no such key"):
        Keyboard(cast(Session, recorder)).keys("a" + notation)
    assert recorder.steps == []


@pytest.mark.parametrize("notation", ["<", "<f2", "a<<f2>", "<>"])
def test_a_key_without_an_end_is_refused_with_the_place(notation: str) -> None:
    with pytest.raises(ImageError, match="a key has no end") as caught:
        pressed(notation)
    assert caught.value.seen is not None and caught.value.seen in notation


def test_the_engine_is_given_time_for_every_rest() -> None:
    recorder = Recorder()
    Keyboard(cast(Session, recorder)).keys("<wait30><wait1m>")
    assert recorder.allowed[0] is not None and recorder.allowed[0] >= 90


def test_a_rest_in_guest_time_may_take_any_time_of_the_hosts() -> None:
    recorder = Recorder(seed=7)
    Keyboard(cast(Session, recorder)).keys("<wait30>x")
    assert recorder.allowed == [None]


def test_nothing_to_press_starts_no_machine() -> None:
    recorder = Recorder()
    Keyboard(cast(Session, recorder)).keys("")
    Keyboard(cast(Session, recorder)).type("")
    assert recorder.allowed == []
