"""Two real ends over a wire that is cut at random: every frame arrives exactly once and in order."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab.errors import EngineError
from v86lab.line import PING, Line


class Wire:
    """What two lines say to each other, delivered when asked to; a cut loses what is on its way."""

    def __init__(self) -> None:
        self.ends = (Line(), Line())
        self.under_way: tuple[deque[bytes | str], deque[bytes | str]] = (deque(), deque())
        self.arrived: tuple[list[bytes], list[bytes]] = ([], [])

    def connect(self) -> None:
        for way in self.under_way:
            way.clear()
        for end, way in zip(self.ends, self.under_way, strict=True):
            end.opened(way.append)

    def cut(self) -> None:
        for end, way in zip(self.ends, self.under_way, strict=True):
            end.closed()
            way.clear()

    def deliver(self, sender: int, most: int | None = None) -> None:
        way = self.under_way[sender]
        for _ in range(len(way) if most is None else min(most, len(way))):
            frame = self.ends[1 - sender].receive(way.popleft())
            if frame is not None:
                self.arrived[1 - sender].append(frame)

    def settle(self) -> None:
        while any(self.under_way):
            self.deliver(0)
            self.deliver(1)


@given(st.integers(0, 2**32), st.integers(1, 400))
def test_whatever_is_cut_every_frame_arrives_once_and_in_order(seed: int, steps: int) -> None:
    dice, wire = random.Random(seed), Wire()
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    for _ in range(steps):
        match dice.randrange(8):
            case 0:
                wire.connect()
            case 1:
                wire.cut()
            case 2 | 3:
                wire.deliver(dice.randrange(2), dice.randrange(5))
            case 4:
                wire.ends[dice.randrange(2)].acknowledge()
            case _:
                end = dice.randrange(2)
                frames = [f"{end}:{len(sent[end]) + n}".encode() for n in range(dice.randrange(1, 100))]
                sent[end].extend(frames)
                wire.ends[end].send(frames)
    wire.connect()
    wire.settle()
    assert (wire.arrived[1], wire.arrived[0]) == sent


def test_nothing_is_sent_on_a_new_socket_before_the_other_end_has_said_what_it_has() -> None:
    line, wire = Line(), list[bytes | str]()
    line.send([b"a"])
    line.opened(wire.append)
    line.send([b"b"])
    assert wire == ['{"received": 0}']
    line.receive('{"received": 0}')
    assert wire[1:] == [b"a", b"b"]


def test_what_was_acknowledged_is_forgotten() -> None:
    wire = Wire()
    wire.connect()
    for _ in range(64):
        wire.ends[0].send([b"x"])
        wire.settle()
    assert wire.ends[0]._kept == deque()


def test_a_large_frame_is_acknowledged_at_once_and_a_small_one_when_asked() -> None:
    line, wire = Line(), list[bytes | str]()
    line.opened(wire.append)
    line.receive('{"received": 0}')
    line.receive(bytes(1 << 20))
    line.receive(b"small")
    assert wire == ['{"received": 0}', '{"received": 1}']
    line.acknowledge()
    line.acknowledge()
    assert wire[2:] == ['{"received": 2}']


def test_a_ping_is_answered_even_when_there_is_nothing_new() -> None:
    line, wire = Line(), list[bytes | str]()
    line.opened(wire.append)
    line.receive(PING)
    assert wire == ['{"received": 0}'] * 2


@pytest.mark.parametrize(
    "text",
    ['{"received": 1}', '{"received": -1}', '{"received": true}', '{"received": "0"}', "{}", "[]", "no", "[" * 9999],
)
def test_another_end_than_the_one_it_began_with_is_refused(text: str) -> None:
    line = Line()
    line.opened(lambda _: None)
    with pytest.raises(EngineError, match="does not follow the protocol"):
        line.receive(text)


def test_an_end_that_forgot_what_it_had_taken_is_refused() -> None:
    line = Line()
    line.opened(lambda _: None)
    line.send([b"a", b"b"])
    line.receive('{"received": 0}')
    line.receive('{"received": 2}')
    with pytest.raises(EngineError, match="another engine"):
        line.receive('{"received": 1}')
