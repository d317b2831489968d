"""An engine that dials as a page's does: what its socket's loss, its return and its silence mean to who waits."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from v86lab import browser
from v86lab.browser import BrowserEngine
from v86lab.errors import EngineError
from v86lab.hub import Hub
from v86lab.line import Line
from v86lab.protocol import Checkpoint, Decoder, Hello, Message, Pause, Reply, Request, Resume, Status, encode
from v86lab.store import Store

ORIGIN = "http://localhost:8888"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(Store(tmp_path / "store", shared=[]))
    yield hub
    hub.close()


class Ears:
    """What the engine's owner is told, in order."""

    def __init__(self) -> None:
        self.heard: queue.Queue[Any] = queue.Queue()

    def engine(self, hub: Hub) -> BrowserEngine:
        return BrowserEngine(
            hub, self.heard.put, lambda error: self.heard.put(error), lambda: self.heard.put("returned")
        )

    def next(self) -> Any:
        return self.heard.get(timeout=20)


class Worker:
    """The other end: a thread that dials, answers requests, and can be cut off."""

    def __init__(self, hub: Hub, key: str) -> None:
        secret = hub._exchange(hub.make_ticket(), ORIGIN)
        self.url = f"ws://127.0.0.1:{hub.port}/{secret}/engine/{key}"
        self.line = Line()
        self.asked: list[type[Message]] = []
        self.answers = True
        self.ended = threading.Event()
        self.say(Hello(kind="browser", abi=1, version="test", wasm=""))

    def say(self, message: Message) -> None:
        self.line.send(encode(message))

    def connect(self) -> Callable[[], None]:
        """Dial; gives what cuts the connection."""
        loop, up = asyncio.new_event_loop(), threading.Event()
        cut = asyncio.Event()

        async def talk() -> None:
            socket = await websocket_connect(HTTPRequest(self.url, headers={"Origin": ORIGIN}))
            decoder = Decoder()

            def transmit(data: bytes | str) -> None:
                loop.call_soon_threadsafe(socket.write_message, data, isinstance(data, bytes))

            self.line.opened(transmit)
            up.set()
            reading = asyncio.ensure_future(self.read(socket, decoder))
            await asyncio.wait([reading, asyncio.ensure_future(cut.wait())], return_when=asyncio.FIRST_COMPLETED)
            self.line.closed()
            socket.close()
            await asyncio.wait([reading])

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(talk())

        thread = threading.Thread(target=run)
        thread.start()
        assert up.wait(20)

        def hang_up() -> None:
            if thread.is_alive():
                loop.call_soon_threadsafe(cut.set)
            thread.join(20)

        return hang_up

    async def read(self, socket: Any, decoder: Decoder) -> None:
        while (data := await socket.read_message()) is not None:
            if data == '{"end": true}':
                self.ended.set()
                continue
            frame = self.line.receive(data)
            message = decoder.push(frame) if frame is not None else None
            if isinstance(message, Request):
                self.asked.append(type(message))
                if self.answers:
                    self.say(Reply(id=message.id, value={"n": len(self.asked)}))


def test_a_request_is_answered_whatever_happens_to_the_socket_meanwhile(hub: Hub) -> None:
    ears = Ears()
    engine = ears.engine(hub)
    worker = Worker(hub, engine.key)
    first = engine.request(Pause)  # before anyone has dialled
    cut = worker.connect()
    assert engine.wait_for_hello(20)
    assert first.reply.result(20).value == {"n": 1}
    cut()
    second = engine.request(Resume)
    cut = worker.connect()
    assert second.reply.result(20).value == {"n": 2}
    engine.close()
    cut()
    assert worker.asked == [Pause, Resume]


def test_an_engine_that_stays_away_fails_what_waits_and_names_its_checkpoint(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "_AWAY", 0.2)
    ears = Ears()
    engine = ears.engine(hub)
    worker = Worker(hub, engine.key)
    worker.answers = False
    kept = Checkpoint(digest="0" * 64, size=10, instructions=12345, at=1_795_000_000.0)
    cut = worker.connect()
    worker.say(kept)
    assert ears.next() == kept
    waiting = engine.request(Pause)
    cut()
    with pytest.raises(EngineError, match=r"last checkpoint is of \d\d:\d\d:\d\d \(12345 instructions\)"):
        waiting.reply.result(20)
    assert isinstance(ears.next(), EngineError)
    with pytest.raises(EngineError):
        engine.request(Resume).reply.result(20)
    engine.close()


def test_an_engine_that_comes_back_after_that_goes_on_and_what_it_said_meanwhile_is_heard(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "_AWAY", 0.2)
    ears = Ears()
    engine = ears.engine(hub)
    worker = Worker(hub, engine.key)
    worker.connect()()
    assert isinstance(ears.next(), EngineError)
    worker.say(Status(status="off"))
    cut = worker.connect()
    assert ears.next() == "returned"
    assert ears.next() == Status(status="off")
    assert engine.request(Pause).reply.result(20).value == {"n": 1}
    engine.close()
    cut()


def test_an_engine_that_is_closed_is_told_to_end_and_cannot_dial_again(hub: Hub) -> None:
    ears = Ears()
    engine = ears.engine(hub)
    worker = Worker(hub, engine.key)
    cut = worker.connect()
    assert engine.wait_for_hello(20)
    engine.close()
    assert worker.ended.wait(20)
    cut()
    assert not hub._engines


def test_a_silent_socket_is_pinged_when_somebody_waits_and_hung_up_when_it_stays_silent(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "_QUIET", 0.0)
    monkeypatch.setattr(browser, "_DEAD", 0.0)
    monkeypatch.setattr(browser, "_AWAY", 0.2)
    ears = Ears()
    engine = ears.engine(hub)
    worker = Worker(hub, engine.key)
    cut = worker.connect()
    assert engine.wait_for_hello(20)
    monkeypatch.setattr(worker.line, "receive", lambda _: None)  # a peer that takes everything and says nothing
    while ears.heard.empty():
        engine.poke()
    assert isinstance(ears.next(), EngineError)
    engine.close()
    cut()


def test_an_engine_that_breaks_the_rules_of_the_line_is_given_up(hub: Hub) -> None:
    ears = Ears()
    engine = ears.engine(hub)
    worker = Worker(hub, engine.key)
    cut = worker.connect()
    assert engine.wait_for_hello(20)
    worker.line.say('{"received": 77}')
    assert "does not follow the protocol" in str(ears.next())
    engine.close()
    cut()


def test_nothing_is_heard_of_an_engine_that_was_closed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "_AWAY", 0.0)
    monkeypatch.setattr(browser, "_LAST_WORDS", 0.0)
    ears = Ears()
    engine, other = ears.engine(hub), ears.engine(hub)
    worker, witness = Worker(hub, engine.key), Worker(hub, other.key)
    cut, cut_witness = worker.connect(), witness.connect()
    assert engine.wait_for_hello(20) and other.wait_for_hello(20)
    engine.close()
    worker.say(Status(status="running"))
    cut()
    hub.call_soon(engine.abandoned)
    hub.call_soon(engine.disconnected)
    witness.say(Status(status="off"))
    assert ears.next() == Status(status="off")  # and nothing before it
    cut_witness()
    assert isinstance(ears.next(), EngineError)
    other.close()
    assert ears.heard.empty()
