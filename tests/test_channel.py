"""Two real ends over a fake wire: `Channel`, and a peer that speaks the protocol as an engine does."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from v86lab.channel import Channel, Pending, RequestFailed
from v86lab.errors import EngineError, ImageError
from v86lab.protocol import (
    Cancel,
    ConsoleOutput,
    Decoder,
    Expect,
    Failure,
    Hello,
    Message,
    Output,
    Pause,
    Press,
    Reply,
    Request,
    Send,
    encode,
)

PATIENCE = 60  # s; a guard against a hang


class Peer:
    """The other end, on a thread of its own: greets, echoes `Send`, lets `Expect` wait until `Cancel` names it."""

    def __init__(self) -> None:
        self.wire: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.heard: list[Request] = []
        self.notices: list[Message] = []
        self.broken: Future[BaseException] = Future()
        self.channel = Channel(self._send, self.notices.append)
        self._decoder = Decoder()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self.wire.put(None)
        self._thread.join()
        assert not self.broken.done(), self.broken.result()

    def answer(self, message: Message) -> None:
        for frame in encode(message):
            self.channel.receive(frame)

    def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            time.sleep(0)  # let other senders come between, if anything lets them
            self.wire.put(frame)

    def _run(self) -> None:
        try:
            self.answer(Hello(kind="peer", abi=1, version="1", wasm=""))
            while (frame := self.wire.get()) is not None:
                request = self._decoder.push(frame)
                if request is not None:
                    assert isinstance(request, Request)
                    self.heard.append(request)
                    self._serve(request)
        except BaseException as error:
            self.broken.set_result(error)

    def _serve(self, request: Request) -> None:
        if isinstance(request, Expect):
            return
        if isinstance(request, Cancel):
            self.answer(Failure(id=request.target, code="cancelled", message="cancelled"))
        if isinstance(request, Press):
            for n in range(3):
                self.answer(Output(id=request.id, fd=1, payload=b"%d" % n))
        self.answer(Reply(id=request.id, value={"got": len(request.payload)}, payload=request.payload))


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def reply(pending: Pending) -> Reply:
    return pending.reply.result(PATIENCE)


def expect(peer: Peer) -> Pending:
    return peer.channel.request(Expect, patterns=[{"literal": "x"}], timeout=None)


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (9 << 20) + 1])
def test_a_payload_goes_there_and_back(peer: Peer, size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    answer = reply(peer.channel.request(Send, payload=payload))
    assert answer.value == {"got": size}
    assert answer.payload == payload


def test_a_request_that_waits_does_not_hold_up_others_and_ends_when_cancelled(peer: Peer) -> None:
    waiting = expect(peer)
    assert reply(peer.channel.request(Pause)).value == {"got": 0}
    assert not waiting.reply.done()
    reply(peer.channel.request(Cancel, target=waiting.id))
    with pytest.raises(RequestFailed, match="cancelled") as caught:
        reply(waiting)
    assert caught.value.failure.code == "cancelled"


def test_notices_come_in_order_and_before_the_answer_they_precede(peer: Peer) -> None:
    seen = peer.channel.request(Press, steps=[])
    reply(seen)
    greeting, *outputs = peer.notices
    assert isinstance(greeting, Hello)
    assert [(one.id, one.payload) for one in outputs if isinstance(one, Output)] == [
        (seen.id, b"0"),
        (seen.id, b"1"),
        (seen.id, b"2"),
    ]


def test_requests_of_many_threads_have_ids_of_their_own_and_their_frames_are_not_interleaved(peer: Peer) -> None:
    payloads = [bytes([n]) * ((9 << 20) + n) for n in range(8)]
    answers: dict[int, list[Reply]] = {}
    start = threading.Barrier(len(payloads))

    def work(n: int) -> None:
        start.wait(PATIENCE)
        long = peer.channel.request(Send, payload=payloads[n])
        short = [peer.channel.request(Send, payload=b"%d" % n) for _ in range(20)]
        answers[n] = [reply(one) for one in [long, *short]]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(payloads))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for n, payload in enumerate(payloads):
        assert [one.payload for one in answers[n]] == [payload] + [b"%d" % n] * 20
    assert len({request.id for request in peer.heard}) == len(peer.heard) == 8 * 21


def test_a_lost_connection_ends_everything_once_what_is_under_way_and_what_comes_after(peer: Peer) -> None:
    done = peer.channel.request(Pause)
    reply(done)
    waiting = [expect(peer) for _ in range(5)]
    ended: list[Future[Reply]] = []
    for one in waiting:
        one.reply.add_done_callback(ended.append)
    error = EngineError("the engine's process ended")
    threads = [threading.Thread(target=peer.channel.lose, args=(error,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    peer.channel.lose(EngineError("again"))
    assert ended == [one.reply for one in waiting]
    assert [one.reply.exception(PATIENCE) for one in waiting] == [error] * 5
    assert done.reply.exception() is None
    heard = len(peer.heard)
    assert peer.channel.request(Pause).reply.exception(PATIENCE) is error
    assert len(peer.heard) == heard


def test_an_answer_that_comes_too_late_twice_or_to_nobody_is_ignored(peer: Peer) -> None:
    waiting, other = expect(peer), expect(peer)
    peer.answer(Reply(id=waiting.id, value={"n": 1}))
    peer.answer(Reply(id=waiting.id, value={"n": 2}))
    peer.answer(Failure(id=waiting.id, code="engine", message="no"))
    peer.answer(Reply(id=12345))
    assert reply(waiting).value == {"n": 1}
    peer.channel.lose(EngineError("lost"))
    peer.answer(Reply(id=other.id))
    assert isinstance(other.reply.exception(PATIENCE), EngineError)


def test_a_request_that_cannot_be_sent_is_the_callers_error_and_leaves_nothing_behind(peer: Peer) -> None:
    with pytest.raises(ImageError, match="a number cannot be used"):
        peer.channel.request(Expect, patterns=[], timeout=float("inf"))
    assert reply(peer.channel.request(Send, payload=b"next")).payload == b"next"
    assert [type(one) for one in peer.heard] == [Send]


@pytest.mark.parametrize("frame", [b"", b"\2\0\0\0\0", encode(Reply(id=1))[0][:-1]])
def test_a_frame_that_breaks_the_rules_is_an_error_for_whoever_received_it(peer: Peer, frame: bytes) -> None:
    with pytest.raises(EngineError, match="does not follow the protocol"):
        peer.channel.receive(frame)


def test_frames_may_arrive_on_another_thread_than_the_one_that_waits() -> None:
    shown: list[Any] = []
    channel = Channel(lambda frames: threading.Thread(target=answer, args=(frames,)).start(), shown.append)

    def answer(frames: list[bytes]) -> None:
        for frame in encode(ConsoleOutput(payload=b"hello")) + encode(Reply(id=1, payload=b"".join(frames))):
            channel.receive(frame)

    assert channel.request(Pause).reply.result(PATIENCE).payload == encode(Pause(id=1))[0]
    assert shown == [ConsoleOutput(payload=b"hello")]
