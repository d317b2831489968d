"""The pages that show a machine: what they are told, what they may ask, and which of them runs it.

A page dials the Hub, or speaks over the widget's comm where it cannot; either way `Page` is its end here. Rules:

- nothing here blocks, for it happens on the Hub's thread: what takes long (`Views.act`) gets a thread of its own;
- what a person does to the guest (typing, pausing) goes straight to the engine, past a cell that waits;
- a page gets what it watches, and first all that the console has shown; a page that runs the machine watches at home.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from tornado.log import app_log

from .channel import Pending, RequestFailed
from .errors import EngineError
from .protocol import (
    Activity,
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
    Press,
    ReadPixels,
    ReadScreen,
    ReadStatistics,
    Reply,
    Request,
    Reset,
    RestoreSnapshot,
    Resume,
    Send,
    Standing,
    StartHere,
    TakeSnapshot,
    Watch,
    encode,
)

ACTED = (RestoreSnapshot, StartHere, TakeSnapshot)
_CLEAR = b"\x1bc"  # ECMA-48's RIS, as `js/src/core/engine.js` sends to the pages that it serves itself
_RETURN = 5.0  # s in which a page whose socket was cut may come back
FORWARDED = (Pause, Press, ReadPixels, ReadScreen, ReadStatistics, Reset, Resume, Send)


class Asked(Protocol):
    """What answers requests: an engine."""

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        """Send a request."""


class Named(Protocol):
    """What has a name: a snapshot."""

    @property
    def name(self) -> str:
        """By which a person chooses it."""


class Tree(Protocol):
    """The snapshots that there are."""

    current: str | None

    def __iter__(self) -> Iterator[Named]: ...


class Page:
    """A page at the other end of a socket, or of a comm."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._decoder = Decoder()
        self._send: Callable[[list[bytes | str]], None] | None = None
        self.id = ""
        self.able = False
        self.hosts: str | None = None
        self.kept: Mapping[str, Any] | None = None
        self.wants = Watch(id=0)
        self.waits: Watch | None = None  # not answered yet: there is no engine
        self.sees_console = False

    def connected(self, send: Callable[[list[bytes | str]], None]) -> None:
        self._send = send

    def received(self, data: bytes | str) -> None:
        try:
            message = self._decoder.push(data) if isinstance(data, bytes) else None
        except EngineError as error:
            self.tell(Log(text=str(error)))
            return
        if isinstance(message, Request):
            self._views.asked(self, message)

    def disconnected(self) -> None:
        self._send = None
        self._views.left(self)

    def tell(self, message: Message) -> None:
        """Send a message, if the page is still there. A page's fault is no other's: nothing is raised."""
        send = self._send
        if send is None:
            return
        try:
            send([*encode(message)])
        except Exception as error:  # a message that cannot be written, or a comm that is gone
            app_log.warning("a page could not be told: %s", error)


class Views:
    """All pages of one machine.

    Parameters
    ----------
    standing : callable
        Gives the `Standing` of the machine, as a page is told that neither runs it nor keeps anything of it.

    Attributes
    ----------
    act : callable
        Does what is done in Python: takes the page and its request, gives the reply's value, and may take its time.
    on_abandoned : callable
        Told when the page that ran the machine says that it does no more: it was reloaded, or its worker ended.
    """

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing
        self._pages: list[Page] = []
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._engine: Asked | None = None
        self._approaching = False
        self._offer: Offer | None = None
        self._host: str | None = None  # the page that was made the offer
        self._taken: str | None = None  # key of the engine that a page has said it runs, or tries to
        self._expected = 0.0  # until then a page that takes the offer may come
        self._lost = False
        self.act: Callable[[Page, Request], dict[str, Any]] | None = None
        self.on_abandoned: Callable[[], object] = lambda: None
        self.snapshots: Tree | None = None

    # -- for the session ---------------------------------------------------------------------------------------------

    def page(self) -> Page:
        """A new page, which is not heard of before it joins."""
        return Page(self)

    def history(self) -> Future[Reply] | None:
        """What the console has shown, as the reply's payload; None where nothing runs."""
        with self._lock:
            engine, watched = self._engine, {**self._watched(), "console": True}
        return engine.request(Watch, **watched).reply if engine is not None else None

    def approach(self) -> None:
        """A page has found the Hub, and will join once it has what it needs for that."""
        with self._arrived:
            self._approaching = True
            self._arrived.notify_all()

    def wait_for_page(self, seconds: float, patience: float) -> bool:
        """Whether there is a page that can run the machine.

        Parameters
        ----------
        seconds : float
            Until one has found the Hub.
        patience : float
            From then until it has joined.
        """
        with self._arrived:
            found = self._arrived.wait_for(lambda: bool(self._pages) or self._approaching, seconds)
            self._approaching = False
            return found and self._arrived.wait_for(lambda: bool(self._pages), patience) and self._able()

    def _able(self) -> bool:
        return any(page.able for page in self._pages)

    def offer(self, offer: Offer, page: Page | None = None) -> None:
        """Have a page run the machine: this one, or the one that came last."""
        with self._lock:
            self._offer = offer
            able = [one for one in self._pages if one.able]
            chosen = page if page in able else able[-1] if able else None
            self._host, self._expected = None, time.monotonic() + _RETURN
            if chosen is not None:
                chosen.hosts, self._host = offer.key, chosen.id
                chosen.tell(offer)
        self.announce()

    def hosts(self, key: str) -> bool:
        """Whether there is a page that runs this engine or tries to, or may come back to do so."""
        with self._lock:
            cut = not any(page.id == self._host for page in self._pages) and time.monotonic() < self._expected
            return cut or any(page.hosts == key and page.able for page in self._pages)

    def attach(self, engine: Asked | None) -> None:
        """The machine runs on this engine from now on, or on none."""
        with self._lock:
            self._engine, self._lost = engine, False
            if engine is None:
                self._offer = self._host = None
                self.on_abandoned = lambda: None
            pages = [page for page in self._pages if page.waits is not None or page.sees_console]
        for page in pages if engine is not None else []:
            self._watch(page, page.waits or page.wants, again=page.waits is None)
        self.announce()

    def lose(self) -> None:
        """The engine that ran in a page is gone: those pages that kept something of it may offer that."""
        self._lost = True
        self.announce()

    def notice(self, message: Message) -> None:
        """An engine's notice, for the pages that watch."""
        with self._lock:
            pages = list(self._pages)
        for page in pages:
            wanted = (
                (isinstance(message, ConsoleOutput) and page.sees_console)
                or (isinstance(message, Frame) and page.wants.screen)
                or (isinstance(message, Activity) and page.wants.activity)
                or (isinstance(message, Download) and page.hosts is None)
            )
            if wanted:
                page.tell(message)

    def announce(self, log: str | None = None) -> None:
        """Tell every page how things stand, and what a person should know."""
        with self._lock:
            pages = list(self._pages)
        for page in pages:
            self._tell_standing(page)
            if log is not None:
                page.tell(Log(text=log))

    @property
    def shown(self) -> bool:
        """Whether a page shows the machine."""
        return bool(self._pages)

    # -- for pages ---------------------------------------------------------------------------------------------------

    def asked(self, page: Page, request: Request) -> None:
        """A page asks."""
        if isinstance(request, Join):
            self._join(page, request)
        elif isinstance(request, Watch):
            self._watch(page, request)
        elif type(request) in ACTED or (type(request) is Reset and (self._engine is None or self._lost)):
            threading.Thread(target=self._act, args=(page, request), name="v86lab view", daemon=True).start()
        elif type(request) in FORWARDED:
            self._forward(page, request, {})
        else:
            page.tell(_failure(request, "engine", "a page may not ask this of a machine"))

    def left(self, page: Page) -> None:
        """A page's socket closed."""
        with self._lock:
            if page not in self._pages:
                return
            self._pages.remove(page)
            if page.id == self._host:
                self._expected = time.monotonic() + _RETURN
            watched, engine = self._watched(), self._engine
        if engine is not None and (page.wants.screen or page.wants.activity):
            engine.request(Watch, **watched)

    def _join(self, page: Page, request: Join) -> None:
        page.id, page.able, page.kept = request.page, request.able, request.kept
        page.hosts = request.hosts
        with self._arrived:
            if page not in self._pages:
                self._pages.append(page)
            self._arrived.notify_all()
        page.tell(Reply(id=request.id))
        if request.hosts is not None:
            self._taken = request.hosts
        elif self._waits_for(page):  # the offer was lost
            assert self._offer is not None
            self.offer(self._offer, page)
        elif request.page == self._host:
            self._host, self._expected = None, 0.0
            self.on_abandoned()
        self._tell_standing(page)

    def _waits_for(self, page: Page) -> bool:
        """Whether an offer was made that no page has taken, and this one may."""
        open_offer = self._offer is not None and self._engine is None and self._taken != self._offer.key
        return open_offer and page.able and self._host in (None, page.id)

    def _watch(self, page: Page, request: Watch, again: bool = False) -> None:
        """Serve a `Watch`; `again`: it was answered by an earlier engine."""
        with self._lock:
            page.wants = request
            page.waits = request if self._engine is None else None
            page.sees_console = page.sees_console and request.console
            if self._lost:
                page.waits = request
            if self._engine is None or self._lost:
                return
            watched = {**self._watched(), "console": request.console}

        def seen(reply: Reply) -> None:
            page.sees_console = page.wants.console
            page.tell(
                ConsoleOutput(payload=_CLEAR + reply.payload) if again else dataclasses.replace(reply, id=request.id)
            )

        self._forward(page, request, watched, seen)

    def _watched(self) -> dict[str, bool]:
        return {
            "console": False,
            "screen": any(page.wants.screen for page in self._pages),
            "activity": any(page.wants.activity for page in self._pages),
        }

    def _forward(
        self, page: Page, request: Request, changed: dict[str, Any], then: Callable[[Reply], None] | None = None
    ) -> None:
        if self._engine is None:
            page.tell(_failure(request, "engine", "the machine does not run"))
            return
        fields = {item.name: getattr(request, item.name) for item in dataclasses.fields(request)} | changed
        del fields["id"]

        def answered(future: Future[Reply]) -> None:
            error = future.exception()
            if isinstance(error, RequestFailed):
                page.tell(dataclasses.replace(error.failure, id=request.id))
            elif error is not None:
                page.tell(_failure(request, "engine", str(error)))
            elif then is not None:
                then(future.result())
            else:
                page.tell(dataclasses.replace(future.result(), id=request.id))

        self._engine.request(type(request), **fields).reply.add_done_callback(answered)

    def _act(self, page: Page, request: Request) -> None:
        assert self.act is not None
        try:
            page.tell(Reply(id=request.id, value=self.act(page, request)))
        except Exception as error:  # whatever it is, a person waits for an answer
            page.tell(_failure(request, "engine", str(error)))
        self.announce()

    def _tell_standing(self, page: Page) -> None:
        here = page.hosts is not None and self._offer is not None and page.hosts == self._offer.key
        kept = page.kept if self._lost and not here else None
        standing = dataclasses.replace(self._standing(), here=here, kept=kept)
        if self._lost:
            standing = dataclasses.replace(standing, status="lost")
        if self.snapshots is not None:
            names = [one.name for one in self.snapshots]
            standing = dataclasses.replace(standing, snapshots=names, current=self.snapshots.current)
        page.tell(standing)


def _failure(request: Request, code: str, message: str) -> Failure:
    return Failure(id=request.id, code=code, message=message)
