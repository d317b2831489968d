"""What pages are told and what they may ask, with an engine that answers when the test says so."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from v86lab.channel import Pending, RequestFailed
from v86lab.errors import EngineError
from v86lab.protocol import (
    Activity,
    Capture,
    ConsoleOutput,
    Decoder,
    Download,
    Failure,
    Frame,
    Join,
    Log,
    Message,
    Offer,
    Pause,
    ReadStatistics,
    Reply,
    Request,
    Reset,
    Send,
    Spawn,
    Standing,
    StartHere,
    TakeSnapshot,
    Watch,
    encode,
)
from v86lab.views import Page, Views

STANDING = Standing(
    name="linux", status="running", reason=None, engine="node", why="", here=False, snapshots=[], current=None
)
FRAME = Frame(size=[2, 1], rect=[0, 0, 2, 1], graphical=False, payload=bytes(8))
ACTIVITY = Activity(
    instructions=1, seconds=1, mips=1, busy=1, disk_requests=0, disk_bytes=0, share_requests=0, share_bytes=0
)


class Engine:
    """Notes what it is asked; `answer` is what it says next."""

    def __init__(self) -> None:
        self.asked: list[tuple[type[Request], dict[str, Any]]] = []
        self.pending: list[Pending] = []

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        self.asked.append((kind, fields))
        self.pending.append(Pending(len(self.pending) + 1))
        return self.pending[-1]

    def answer(self, **fields: Any) -> None:
        waiting = next(one for one in self.pending if not one.reply.done())
        waiting.reply.set_result(Reply(id=waiting.id, **fields))


class Reader:
    """A page, and all that it was told."""

    def __init__(self, views: Views) -> None:
        self.page: Page = views.page()
        self.told: list[Message] = []
        self.changed = threading.Condition()
        self._decoder = Decoder()
        self.page.connected(self._take)

    def _take(self, frames: list[bytes | str]) -> None:
        with self.changed:
            for frame in frames:
                assert isinstance(frame, bytes)
                message = self._decoder.push(frame)
                assert message is not None
                self.told.append(message)
            self.changed.notify_all()

    def ask(self, request: Request) -> None:
        for frame in encode(request):
            self.page.received(frame)

    def join(self, able: bool = True, **more: Any) -> None:
        self.ask(Join(id=1, page="p", able=able, **more))

    def news(self, *kinds: type[Message]) -> list[Message]:
        """What came since the last call, of these kinds."""
        told, self.told = self.told, []
        return [message for message in told if isinstance(message, kinds)]

    def wait_for(self, kind: type[Message]) -> Any:
        with self.changed:
            assert self.changed.wait_for(lambda: any(isinstance(one, kind) for one in self.told), 20)
        return next(one for one in self.told if isinstance(one, kind))


@pytest.fixture
def views() -> Views:
    return Views(lambda: STANDING)


def test_a_page_that_joins_is_told_how_things_stand_and_again_when_that_changes(views: Views) -> None:
    reader = Reader(views)
    views.announce()
    assert reader.told == []
    reader.join()
    assert reader.news(Reply, Standing) == [Reply(id=1), STANDING]
    views.announce("look here")
    assert reader.news(Standing, Log) == [STANDING, Log(text="look here")]
    reader.page.disconnected()
    views.announce()
    assert reader.told == []


def test_what_a_person_does_goes_to_the_engine_and_its_answer_comes_back_under_the_pages_own_id(views: Views) -> None:
    reader, engine = Reader(views), Engine()
    reader.join()
    views.attach(engine)
    reader.news()
    reader.ask(Send(id=77, payload=b"ls\n"))
    assert engine.asked == [(Send, {"payload": b"ls\n"})]
    engine.answer(value={"x": 1})
    assert reader.news(Reply) == [Reply(id=77, value={"x": 1})]
    reader.ask(Pause(id=78))
    engine.pending[-1].reply.set_exception(RequestFailed(Failure(id=5, code="off", message="it is off")))
    assert reader.news(Failure) == [Failure(id=78, code="off", message="it is off")]
    reader.ask(Pause(id=79))
    engine.pending[-1].reply.set_exception(EngineError("gone"))
    assert reader.news(Failure) == [Failure(id=79, code="engine", message="gone")]


def test_a_page_is_told_whether_a_machine_with_a_seed_is_live(views: Views) -> None:
    reader, engine = Reader(views), Engine()
    reader.join()
    views.attach(engine)
    reader.news()
    reader.ask(ReadStatistics(id=5))
    assert [kind for kind, _ in engine.asked] == [ReadStatistics]
    engine.answer(value={"live": True})
    assert reader.news(Reply) == [Reply(id=5, value={"live": True})]


@pytest.mark.parametrize(
    "request_",
    [
        Capture(id=9),
        Spawn(id=9, argv=["sh"], env={}, cwd="", timeout=None, stream=False, limit=1),
    ],
)
def test_a_page_may_not_ask_everything(views: Views, request_: Request) -> None:
    reader, engine = Reader(views), Engine()
    reader.join()
    views.attach(engine)
    reader.ask(request_)
    assert engine.asked == []
    assert [one.id for one in reader.news(Failure) if isinstance(one, Failure)] == [9]


def test_a_page_that_is_asked_before_anything_runs_is_told_so(views: Views) -> None:
    reader = Reader(views)
    reader.join()
    reader.ask(Pause(id=3))
    assert reader.news(Failure) == [Failure(id=3, code="engine", message="the machine does not run")]


def test_a_page_sees_the_whole_console_and_then_what_follows_nothing_twice(views: Views) -> None:
    reader, engine = Reader(views), Engine()
    reader.join()
    reader.ask(Watch(id=2, console=True))  # nothing runs yet: the answer waits
    assert reader.news(Failure) == []
    views.attach(engine)
    views.notice(ConsoleOutput(payload=b"old"))  # the history that is coming has it
    engine.answer(payload=b"boot old")
    views.notice(ConsoleOutput(payload=b"new"))
    assert reader.news(Reply, ConsoleOutput) == [Reply(id=2, payload=b"boot old"), ConsoleOutput(payload=b"new")]


def test_a_page_goes_on_seeing_the_console_when_another_engine_takes_over(views: Views) -> None:
    reader, first, second = Reader(views), Engine(), Engine()
    reader.join()
    views.attach(first)
    reader.ask(Watch(id=2, console=True))
    first.answer(payload=b"one")
    views.attach(None)
    views.attach(second)
    reader.news()
    second.answer(payload=b"two")
    views.notice(ConsoleOutput(payload=b"three"))
    assert reader.news(Reply, ConsoleOutput) == [ConsoleOutput(payload=b"\x1bctwo"), ConsoleOutput(payload=b"three")]


def test_the_engine_is_asked_for_what_any_page_watches_and_each_page_gets_its_own(views: Views) -> None:
    one, two, engine = Reader(views), Reader(views), Engine()
    views.attach(engine)
    one.join()
    two.join()
    one.ask(Watch(id=2, screen=True))
    two.ask(Watch(id=2, activity=True))
    assert engine.asked[-1] == (Watch, {"payload": b"", "console": False, "screen": True, "activity": True})
    views.notice(FRAME)
    views.notice(ACTIVITY)
    assert (one.news(Frame, Activity), two.news(Frame, Activity)) == ([FRAME], [ACTIVITY])
    one.page.disconnected()
    assert engine.asked[-1] == (Watch, {"console": False, "screen": False, "activity": True})


def test_a_machine_is_offered_to_the_page_that_came_last_and_is_able(views: Views) -> None:
    old, new, unable = Reader(views), Reader(views), Reader(views)
    old.join()
    new.join()
    unable.join(able=False)
    offer = Offer(key="k", worker="w", wasm="v")
    assert views.wait_for_page(0, 0)
    views.offer(offer)
    assert [reader.news(Offer) for reader in (old, new, unable)] == [[], [offer], []]
    assert views.hosts("k")
    standing = [one.here for one in new.told if isinstance(one, Standing)]
    new.join(able=False)  # it could not
    assert not views.hosts("k")
    assert standing == []


def test_only_the_page_that_runs_it_is_told_that_it_does(views: Views) -> None:
    one, two = Reader(views), Reader(views)
    one.join()
    two.join()
    one.news()
    two.news()
    views.offer(Offer(key="k", worker="w", wasm="v"))
    assert [
        [message.here for message in reader.news(Standing) if isinstance(message, Standing)] for reader in (one, two)
    ] == [
        [False],
        [True],
    ]
    views.notice(Download(name="kernel", loaded=1))
    assert (one.news(Download) != [], two.news(Download) != []) == (True, False)


def test_a_page_is_reminded_of_what_it_keeps_only_when_the_engine_is_lost(views: Views) -> None:
    reader = Reader(views)
    kept = {"digest": "d", "size": 1, "instructions": 2, "at": 3.0}
    reader.join(kept=kept)
    assert [one.kept for one in reader.news(Standing) if isinstance(one, Standing)] == [None]
    views.attach(Engine())
    views.lose()
    last = reader.news(Standing)[-1]
    assert isinstance(last, Standing) and (last.status, last.kept) == ("lost", kept)


def test_what_takes_long_is_done_elsewhere_and_answered(views: Views) -> None:
    here = threading.current_thread()
    done: list[tuple[bool, Request]] = []

    def act(page: Page, request: Request) -> dict[str, Any]:
        done.append((threading.current_thread() is not here and page is reader.page, request))
        if isinstance(request, StartHere):
            raise EngineError("no")
        return {"name": "snapshot-1"}

    views.act = act
    reader = Reader(views)
    reader.join()
    reader.news()
    reader.ask(TakeSnapshot(id=4))
    assert reader.wait_for(Reply) == Reply(id=4, value={"name": "snapshot-1"})
    reader.ask(StartHere(id=5))
    assert reader.wait_for(Failure).message == "no"
    assert done == [(True, TakeSnapshot(id=4)), (True, StartHere(id=5))]


def test_a_reset_goes_to_the_engine_or_where_that_is_gone_to_python(views: Views) -> None:
    acted: list[Request] = []

    def act(_: Page, request: Request) -> dict[str, Any]:
        acted.append(request)
        return {}

    views.act = act
    reader, engine = Reader(views), Engine()
    reader.join()
    views.attach(engine)
    reader.ask(Reset(id=2))
    assert engine.asked == [(Reset, {"payload": b""})]
    views.lose()
    reader.news()
    reader.ask(Reset(id=3))
    assert reader.wait_for(Reply) == Reply(id=3)
    assert acted == [Reset(id=3)]


def test_a_page_that_does_not_follow_the_protocol_is_told_and_harms_nobody(views: Views) -> None:
    reader, other = Reader(views), Reader(views)
    reader.join()
    other.join()
    reader.news()
    reader.page.received(b"\xff\xff")
    reader.page.received("text")
    assert len(reader.news(Log)) == 1
    views.announce()
    assert other.news(Standing)


def test_a_page_is_waited_for_only_when_it_has_found_the_hub(views: Views) -> None:
    assert not views.wait_for_page(0, 20)
    views.approach()
    assert not views.wait_for_page(0, 0)
    views.approach()
    threading.Timer(0.1, Reader(views).join).start()
    assert views.wait_for_page(0, 20)


def test_a_page_that_cannot_run_the_machine_is_not_waited_for(views: Views) -> None:
    Reader(views).join(able=False)
    assert not views.wait_for_page(20, 20)


def test_it_is_told_when_the_page_that_ran_the_machine_runs_it_no_more(views: Views) -> None:
    gone: list[int] = []
    views.on_abandoned = lambda: gone.append(1)
    reader = Reader(views)
    reader.join()
    views.offer(Offer(key="k", worker="w", wasm="v"))
    reader.join(hosts="k")
    assert gone == []
    reader.page.disconnected()
    again = Reader(views)
    again.join()
    again.join()
    assert gone == [1]


def test_a_page_that_was_cut_off_is_waited_for_and_made_the_offer_again(views: Views) -> None:
    reader, offer = Reader(views), Offer(key="k", worker="w", wasm="v")
    reader.join()
    views.offer(offer)
    reader.page.disconnected()
    assert views.hosts("k")
    again = Reader(views)
    again.join()
    assert again.news(Offer) == [offer]
    assert views.hosts("k")


def test_a_page_that_comes_while_the_engine_is_away_sees_the_console_when_it_is_back(views: Views) -> None:
    reader, engine = Reader(views), Engine()
    views.attach(engine)
    views.lose()
    reader.join()
    reader.ask(Watch(id=2, console=True))
    assert reader.news(Failure) == [] and engine.asked == []
    views.attach(engine)
    engine.answer(payload=b"all of it")
    assert reader.news(Reply) == [Reply(id=2, payload=b"all of it")]


def test_a_page_that_cannot_be_told_harms_nobody(views: Views) -> None:
    broken, reader = views.page(), Reader(views)

    def fail(_: list[bytes | str]) -> None:
        raise OSError("the comm is gone")

    broken.connected(fail)
    for frame in encode(Join(id=1, page="b", able=False)):
        broken.received(frame)
    reader.join()
    reader.news()
    views.announce()
    assert reader.news(Standing)


def test_whatever_goes_wrong_in_python_a_person_is_answered(views: Views) -> None:
    def act(_: Page, __: Request) -> dict[str, Any]:
        raise ZeroDivisionError("a defect")

    views.act = act
    reader = Reader(views)
    reader.join()
    reader.ask(TakeSnapshot(id=9))
    assert reader.wait_for(Failure) == Failure(id=9, code="engine", message="a defect")
