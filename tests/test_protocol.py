"""The wire, byte for byte: golden messages that `js/test/protocol.test.js` reads and writes as well."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab import protocol
from v86lab.errors import EngineError, ImageError
from v86lab.protocol import (
    Decoder,
    Join,
    Log,
    Message,
    Offer,
    Pause,
    Reply,
    Request,
    RestoreSnapshot,
    Send,
    Spawn,
    Standing,
    StartHere,
    TakeSnapshot,
    encode,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "messages.json").read_text())


def subclasses(base: type[Message]) -> set[type[Message]]:
    found = set(base.__subclasses__())
    return found.union(*map(subclasses, found))


KINDS = {kind.__name__: kind for kind in subclasses(Message) - {Request}}


def named(case: dict[str, Any]) -> str:
    return str(case["name"])


def message_of(case: dict[str, Any]) -> Message:
    return KINDS[case["type"]](payload=base64.b64decode(case["payload"]), **case["fields"])


def sender(kind: type[Message]) -> str:
    if kind in (Join, StartHere, TakeSnapshot, RestoreSnapshot):
        return "page"
    return "hub" if issubclass(kind, Request) or kind in (Standing, Offer, Log) else "engine"


def frame(header: str | bytes, payload: bytes = b"", more: int = 0) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<BI", more, len(text)) + text + payload


@pytest.mark.parametrize("case", GOLDEN["messages"], ids=named)
def test_a_message_is_written_as_its_golden_bytes_and_read_back(case: dict[str, Any]) -> None:
    message = message_of(case)
    assert [one.hex() for one in encode(message)] == [case["wire"]]
    assert Decoder().push(bytes.fromhex(case["wire"])) == message


def test_the_golden_file_has_every_type_of_message_from_the_end_that_sends_it() -> None:
    senders = {(case["type"], case["from"]) for case in GOLDEN["messages"]}
    assert senders == {(name, sender(kind)) for name, kind in KINDS.items()}


@pytest.mark.parametrize("case", GOLDEN["splits"], ids=lambda case: f"{case['size']} bytes")
def test_a_long_payload_travels_in_the_same_frames_from_both_ends(case: dict[str, Any]) -> None:
    payload = (bytes(range(251)) * (case["size"] // 251 + 1))[: case["size"]]
    frames = encode(Send(id=1, payload=payload))
    assert [
        [one[: len(begin) // 2].hex(), len(one)] for one, (begin, _) in zip(frames, case["frames"], strict=True)
    ] == (case["frames"])
    decoder = Decoder()
    *before, last = [decoder.push(one) for one in frames]
    assert before == [None] * (len(frames) - 1)
    assert last == Send(id=1, payload=payload)
    assert decoder.push(encode(Pause(id=2))[0]) == Pause(id=2)


@pytest.mark.parametrize("case", GOLDEN["hostile"], ids=named)
def test_a_hostile_frame_is_an_error_with_a_hint(case: dict[str, Any]) -> None:
    decoder = Decoder()
    with pytest.raises(EngineError, match="does not follow the protocol") as caught:
        for one in case["frames"]:
            decoder.push(bytes.fromhex(one))
    assert caught.value.seen and caught.value.hint
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "header",
    [
        '{"type":"surprise"}',
        '{"type":"request","id":1}',
        '{"type":"message"}',
        '{"type":"reply"}',
        '{"type":"reply","id":1,"value":{},"extra":1}',
        '{"type":"reply","id":1,"payload":"x"}',
        '{"type":"reply","id":true,"value":{}}',
        '{"type":"reply","id":1,"value":[]}',
        '{"type":"reply","id":1,"value":null}',
        '{"type":"output","id":1,"fd":"1"}',
        '{"type":"output","id":1,"fd":1.0}',
        '{"type":"status","status":null}',
        '{"type":"status","status":"off","reason":3}',
        '{"type":"status","status":"off","registers":{"eax":"0"}}',
        '{"type":"log","text":{"a":1}}',
        '{"type":"spawn","id":1,"argv":"ls","env":{},"cwd":"","timeout":1,"stream":false,"limit":1}',
        '{"type":"spawn","id":1,"argv":[1],"env":{},"cwd":"","timeout":1,"stream":false,"limit":1}',
        '{"type":"spawn","id":1,"argv":[],"env":{},"cwd":"","timeout":true,"stream":false,"limit":1}',
        '{"type":"spawn","id":1,"argv":[],"env":{},"cwd":"","timeout":1,"stream":0,"limit":1}',
        '{"type":"log","text":' + "[" * 200_000,
        '{"type":"log","text":' + "1" * 10_000 + "}",
    ],
    ids=lambda header: header[:60],
)
def test_a_message_with_a_wrong_type_or_field_is_an_error(header: str) -> None:
    with pytest.raises(EngineError, match="does not follow the protocol"):
        Decoder().push(frame(header))


@given(st.binary(max_size=40) | st.binary(max_size=40).map(frame) | st.text(max_size=40).map(frame))
def test_whatever_arrives_is_a_message_or_a_typed_error(data: bytes) -> None:
    try:
        message = Decoder().push(data)
    except EngineError:
        return
    assert message is None or isinstance(message, Message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), json_values), st.binary())
def test_every_value_comes_back_as_it_was(value: dict[str, Any], payload: bytes) -> None:
    message = Reply(id=5, value=value, payload=payload)
    assert [Decoder().push(one) for one in encode(message)] == [message]


def test_a_message_without_end_is_refused_before_it_fills_the_memory() -> None:
    decoder, part = Decoder(), frame("", bytes(protocol.CHUNK), more=1)
    decoder.push(part)
    assert decoder.push(encode(Pause(id=1))[0]) == Pause(
        id=1, payload=bytes(protocol.CHUNK)
    )  # what has ended does not count
    for _ in range(protocol.MOST_BYTES // protocol.CHUNK):
        assert decoder.push(part) is None
    with pytest.raises(EngineError, match=f"more than {protocol.MOST_BYTES} bytes"):
        decoder.push(part)


def test_a_header_beyond_its_limit_is_refused_by_both_ends() -> None:
    fits = Log(text="a" * (protocol.MOST_HEADER - len('{"type":"log","text":""}')))
    assert [Decoder().push(one) for one in encode(fits)] == [fits]
    longer = Log(text=fits.text + "a")
    with pytest.raises(ImageError, match="too long for the engine"):
        encode(longer)
    with pytest.raises(EngineError, match="does not follow the protocol"):
        Decoder().push(frame(json.dumps({"type": "log", "text": longer.text}, separators=(",", ":"))))


def test_a_payload_that_the_engine_would_refuse_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_BYTES", 1000)
    with pytest.raises(ImageError, match="at most 8388608 bytes of arguments and 1000 of data"):
        encode(Send(id=1, payload=bytes(1000)))


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_timeout_that_json_does_not_know_is_the_callers_error(number: float) -> None:
    with pytest.raises(ImageError, match="timeout=None waits for ever"):
        encode(Spawn(id=1, argv=["true"], env={}, cwd="", timeout=number, stream=False, limit=1))
