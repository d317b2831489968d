"""A machine's engine and what is known about it: the piece that every part of a `Machine` stands on.

Rules:

- the engine is started when something first needs it, never earlier; where it runs is decided then;
- one lock per session: calls from several threads queue; only a `Cancellation`, `close` and what a person does in a
  view go past it;
- when the engine has died the machine is "faulted", and stays so until it is reset or restored, or the engine's page
  comes back;
- with a seed it stands still except during `drive`; without, it runs on wall-clock time. Both start from the same
  state, which a seeded boot has made: it has the same bytes everywhere;
- what the engine answers or announces becomes a typed error here, with the last console lines and a fault's registers.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from . import bundle, firmware
from .abi import ABI
from .browser import BrowserEngine
from .channel import Pending, RequestFailed
from .deadline import Budget, Deadline
from .engine import Engine, NodeEngine
from .errors import EngineError, GuestError, GuestFault, GuestOff, GuestTimeout, ImageError, StoreError
from .hub import Hub
from .image import Image
from .progress import Progress
from .protocol import (
    Boot,
    Cancel,
    Capture,
    ConsoleOutput,
    Failure,
    Message,
    Offer,
    Output,
    ReadStatistics,
    Reply,
    Request,
    Spawn,
    Standing,
    Status,
)
from .transcript import Transcript
from .views import Page, Views
from .visible import visible

_ANSWER_PATIENCE = 60.0  # s on top of what a request may take; an engine that needs longer is broken
_BOOT_PATIENCE = 180.0
_PAGE_PATIENCE = 3.0  # s until a page that was told to show the machine has found the Hub
_JOIN_PATIENCE = 30.0  # s until it has fetched the view and joined
_WORKER_PATIENCE = 60.0  # s until a page that was asked to run it has fetched and started the engine
START_SEED = 0  # of the boot that makes a start state
_STATUSES = ("running", "paused", "off", "faulted")  # that an engine may say
_SETTLE = "sync; echo 3 > /proc/sys/vm/drop_caches"


class Interrupted(Exception):
    """Another thread ended what this one was waiting for (`Cancellation.ask`)."""


class Cancellation:
    """Lets another thread end the request that a call waits for, or the one that it is about to make.

    What is called within the ``with`` block, or in a copy of its context, can be cancelled. Only one request is: what a
    call then does to leave the machine in order goes through.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._under_way: tuple[Engine, Pending] | None = None

    def __enter__(self) -> Cancellation:
        self._token = _cancellation.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _cancellation.reset(self._token)

    def ask(self) -> None:
        """End it."""
        with self._lock:
            self._asked, under_way = True, self._under_way
        if under_way is not None:
            engine, pending = under_way
            engine.request(Cancel, target=pending.id)

    def begin(self, engine: Engine, kind: type[Request], fields: dict[str, Any]) -> Pending:
        """Make the request, unless the call was to end before it."""
        with self._lock:
            if self._asked:
                self._asked = False
                raise Interrupted("the call was cancelled before it began")
            pending = engine.request(kind, **fields)
            self._under_way = engine, pending
        return pending

    def done(self, heard: bool) -> None:
        """The request was answered; `heard` when it ended because it was cancelled, so that nothing more is to be."""
        with self._lock:
            self._asked, self._under_way = self._asked and not heard, None


_cancellation: ContextVar[Cancellation | None] = ContextVar("v86lab cancellation", default=None)


class Session:
    """An image on an engine.

    Parameters
    ----------
    image : Image
    hub : Hub
    state : str, optional
        Digest of a state to start from.
    admit : callable, optional
        Called before the engine is started; raises where the state does not belong to it.
    where : str
        "auto", "node" or "browser".
    seed : int, optional
        None is wall-clock time.
    """

    def __init__(
        self,
        image: Image,
        hub: Hub,
        state: str | None = None,
        admit: Callable[[], None] | None = None,
        where: str = "auto",
        seed: int | None = None,
    ) -> None:
        self.image = image
        self.hub = hub
        self.seed = seed
        self.transcript = Transcript()
        self.lock = threading.RLock()
        self.status = "new"
        self.why = "not needed yet"
        self.views = Views(self._standing)
        self.expects_page = False
        self._where = where
        self._state = state
        self._fresh = False  # that state is to become this seed's own
        self._kept: str | None = None  # digest of a state that only the page has
        self._page: Page | None = None  # that is to run it
        self._admit = admit
        self._engine: Engine | None = None
        self._fault: Status | None = None
        self._changed = threading.Condition()
        self.doing: str | None = None  # what a start takes its time for
        self._died: EngineError | None = None
        self._status_before = "new"
        self._process = os.getpid()
        self._outputs: dict[int, Callable[[int, bytes], None]] = {}

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have the machine run; does nothing when it does."""
        with self.lock:
            self._assert_open()
            if self._process != os.getpid():
                raise EngineError(
                    "this machine belongs to the process that made it", hint="make one here: lab.Machine(...)"
                )
            if self._died is not None:
                raise self._died
            if self._engine is not None:
                return
            self._set_status("starting")
            try:
                if self._admit is not None:
                    self._admit()
                self._engine = self._engage()
                self._assert_open()
                self.views.attach(self._engine)
                self._boot()
                self.views.attach(self._engine)  # whose console has a history now
                self._assert_open()
            except BaseException:
                self._drop_engine()
                self._died = None
                self._set_status("new")
                raise

    def _assert_open(self) -> None:
        """`close` may come at any time, from any thread."""
        if self.status == "closed":
            raise EngineError("the machine was closed", hint="make a new one: lab.Machine(...)")

    def boot_from(self, image: Image, state: str | None, fresh: bool = False) -> None:
        """Go on from a state, in place of what runs now.

        Parameters
        ----------
        image : Image
        state : str or None
            None boots the image.
        fresh : bool
            The state is to get this seed's own time and entropy.
        """
        with self.lock:
            if self._engine is None or self._died is not None:
                self._drop_engine()
                self._state, self._fresh, self._kept, self._died = state, fresh, None, None
                self.image = image
                self.start()
                return
            if state is not None:
                self.hub.store.verify(state)
            fields = {"image": image.to_json(), "state": state, "seed": self.seed, "fresh": fresh}
            self.call(Boot, allow=_BOOT_PATIENCE, **fields)
            self.image = image
            self.views.attach(self._engine)

    def restart(self, page: Page | None = None, kept: str | None = None) -> None:
        """Give up the engine, if there is one, and boot afresh on a new one.

        Parameters
        ----------
        page : Page, optional
            That is to run it.
        kept : str, optional
            Digest of a state to go on from, which that page keeps.
        """
        with self.lock:
            self._drop_engine()
            self._state = self._admit = self._died = None
            self._fresh = False
            self._page, self._kept = page, kept
            self._set_status("new")
            try:
                self.start()
            except BaseException:
                self._page = self._kept = None  # it cannot go on from there: the next start is a plain one
                raise

    def close(self) -> None:
        """End the engine; nothing works afterwards."""
        self._set_status("closed")
        self._drop_engine()
        self.views.attach(None)

    def release(self) -> None:
        """As `close`, without waiting: for a machine that was forgotten, on whatever thread collects it."""
        self._set_status("closed")
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.release()

    @property
    def engine(self) -> Engine | None:
        """The engine, once there is one and unless it has died."""
        return None if self._died is not None else self._engine

    # -- requests --------------------------------------------------------------------------------------------------

    def call(self, kind: type[Request], *, allow: float | None = 0.0, **fields: Any) -> Reply:
        """Send a request and wait for its answer.

        Parameters
        ----------
        kind : type of Request
        allow : float or None
            Seconds that the engine may spend on it by itself; None: for ever.
        **fields
            The fields of the request.
        """
        with self.lock:
            self.start()
            return self._call(kind, allow, fields)

    def drive(
        self,
        kind: type[Request],
        budget: Budget,
        on_output: Callable[[int, bytes], None] | None = None,
        **fields: Any,
    ) -> Reply:
        """As `call`, for a request in which the guest is to move: no further than what is left of `budget`.

        Ctrl-C ends the request in the engine, and with it the guest's command. A machine that counts guest time may
        take any time of the host's, so that only a ``wall_timeout`` bounds the wait.
        """
        with self.lock:
            self.start()
            return self._call(kind, budget.patience(), fields | budget.left(), on_output)

    def budget(
        self, timeout: float | None = None, instructions: int | None = None, wall_timeout: float | None = None
    ) -> Budget:
        """What a call may use up of this machine."""
        return Budget(timeout, instructions, wall_timeout, seeded=self.seed is not None)

    def assert_seeded(self, what: str) -> None:
        """Refuse what only a machine with a seed can do.

        Raises
        ------
        ImageError
        """
        if self.seed is None:
            raise ImageError(
                f"{what} needs a machine with a seed",
                expected="a clock that counts the guest's instructions",
                seen="a machine on wall-clock time",
                hint="give it a seed: lab.Machine(seed=...)",
            )

    def wait_until(self, done: Callable[[str], bool], seconds: float | None) -> str:
        """Wait until the status is one that `done` accepts, or that many seconds; gives the status."""
        deadline = Deadline(seconds)
        with self._changed:
            while not done(self.status) and not deadline.passed:
                self._changed.wait(min(deadline.remaining or 0.5, 0.5))  # Windows: a wait without end ignores Ctrl-C
            return self.status

    def tail(self) -> str:
        """The last console lines, control characters made visible."""
        return visible(self.transcript.data)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _call(
        self,
        kind: type[Request],
        allow: float | None,
        fields: dict[str, Any],
        on_output: Callable[[int, bytes], None] | None = None,
    ) -> Reply:
        engine = self._engine
        assert engine is not None
        queue: deque[tuple[int, bytes]] = deque()
        cancellation = _cancellation.get() or Cancellation()
        pending = cancellation.begin(engine, kind, fields)
        if on_output is not None:
            self._outputs[pending.id] = lambda fd, data: queue.append((fd, data))
        heard = False
        try:
            return self._wait(pending, None if allow is None else allow + _ANSWER_PATIENCE, queue, on_output)
        except RequestFailed as error:
            heard = error.failure.code == "cancelled"
            raise self._error(error.failure) from None
        except EngineError as error:
            self._lost(engine, error)
            raise
        except BaseException as error:  # Ctrl-C, or nowhere to print to: nobody waits for the answer any more
            self._cancel(engine, pending)
            while queue and on_output and isinstance(error, KeyboardInterrupt):  # what it still printed before it ended
                on_output(*queue.popleft())
            raise
        finally:
            cancellation.done(heard)
            self._outputs.pop(pending.id, None)

    def _wait(
        self,
        pending: Pending,
        patience: float | None,
        queue: deque[tuple[int, bytes]],
        on_output: Callable[[int, bytes], None] | None,
    ) -> Reply:
        """Wait in short steps: output is handed on in the caller's thread, and Ctrl-C is heard on Windows as well."""
        deadline = Deadline(patience)
        while True:
            while queue and on_output:
                on_output(*queue.popleft())
            try:
                reply = pending.reply.result(0.02 if on_output else 0.5)
            except FutureTimeout:
                if self._engine is not None:
                    self._engine.poke()
                if pending.reply.done() or not deadline.passed:
                    continue
                raise EngineError(
                    "the engine does not answer", hint="vm.reset() starts the machine on a new engine"
                ) from None
            while queue and on_output:
                on_output(*queue.popleft())
            return reply

    def _cancel(self, engine: Engine, pending: Pending) -> None:
        engine.request(Cancel, target=pending.id)
        try:
            pending.reply.result(_ANSWER_PATIENCE)
        except (RequestFailed, EngineError, FutureTimeout):
            return

    def _engage(self) -> Engine:
        """Decide where it runs; see DESIGN's fourth decision."""
        if self._where == "node":
            self.why = "it was asked for"
        elif not self.expects_page and not self.views.shown:
            self.why = "there is no browser that shows this machine"
        elif not self.views.wait_for_page(_PAGE_PATIENCE, _JOIN_PATIENCE):
            self.why = (
                "the page that shows this machine cannot run it"
                if self.views.shown
                else f"no page that shows it answered within {_PAGE_PATIENCE:.0f} s"
            )
        else:
            engine = BrowserEngine(self.hub, self._notice, self._ended, self._returned)
            taken = False
            try:
                taken = self._offered(engine)
            finally:
                if not taken:
                    engine.close()
                    self.views.attach(None)
            if taken:
                self.why = "a page that shows this machine runs it"
                return engine
            self.why = "the page that shows this machine could not start it"
        if self._where == "browser" or self._kept is not None:
            raise EngineError(
                "no page runs this machine", seen=self.why, hint="show it first: vm as the last line of a cell"
            )
        return NodeEngine(self.hub, self._notice, self._ended)

    def _offered(self, engine: BrowserEngine) -> bool:
        """Offer the engine to a page; whether one runs it."""
        store = self.hub.store
        worker, wasm = (bundle.stored(store, name) for name in ("worker.mjs.gz", "v86.wasm.gz"))
        self.views.on_abandoned = engine.abandoned
        self.views.offer(Offer(key=engine.key, worker=worker, wasm=wasm), self._page)
        deadline = Deadline(_WORKER_PATIENCE)
        while not (greeted := engine.wait_for_hello(0.1)) and self.views.hosts(engine.key) and not deadline.passed:
            continue
        return greeted

    def _boot(self) -> None:
        if self._kept is not None:
            self._boot_with(self._kept, self.seed)
            return
        state, fresh = self._state, self._fresh
        if self.image.resume and (state is None or (fresh and state not in self.hub.store)):
            start = self.kept_start() or self._make_start()
            state, fresh = state or start, True  # a start state that is named has been made anew, if it is this one
        if state is not None:
            self.hub.store.verify(state)
        self._boot_with(state, self.seed, fresh and state is not None)

    def _boot_with(self, state: str | None, seed: int | None, fresh: bool = False) -> None:
        fields = {"image": self.image.to_json(), "state": state, "seed": seed, "fresh": fresh}
        self._call(Boot, _BOOT_PATIENCE, fields)

    def _start_name(self) -> str:
        recipe = f"{self.image.digest} {ABI} {bundle.wasm()}"
        return "start-" + hashlib.sha256(recipe.encode()).hexdigest()

    def kept_start(self) -> str | None:
        """Digest of the state that this image starts from, if it has been made."""
        if not self.image.resume:
            return None
        shipped = firmware.start_name(self.image.digest)
        if shipped in firmware.names():
            return firmware.ensure(self.hub.store, shipped)[shipped]
        pin = self.hub.store.pinned(self._start_name())
        state = pin.value.get("state") if pin is not None and pin.value is not None else None
        return state if isinstance(state, str) and state in self.hub.store else None

    def _make_start(self) -> str | None:
        """Boot until the guest is up and at rest, and keep it as it then is: the state that this image starts from."""
        what = f"booting {self.image.name!r} once; its start state is kept in the Store"
        self.doing = what
        self.views.announce()
        with Progress(what) if not self.views.shown else nullcontext():
            self._boot_with(None, START_SEED)
            made = start_state(self)
        state = None
        try:
            state = self.hub.store.put(made)
            # The user's own folders and disks change often: gc may take such start states once they are a day old.
            own = (self.image.share, self.image.hda, self.image.hdb, self.image.cdrom, self.image.fda, self.image.fdb)
            kept = [state, *self.image.digests()] if own.count(None) == len(own) else []
            self.hub.store.pin(self._start_name(), kept, {"state": state})
        except StoreError as error:
            if state is None and self.seed is not None:
                raise  # booted without it, the machine would not be the one that the seed names
            self.why += f"; its start state could not be kept: {error}"
        return state

    def _notice(self, message: Message) -> None:
        """On the Hub's thread: note it, never run user code."""
        if isinstance(message, ConsoleOutput):
            self.transcript.append(message.payload)
        elif isinstance(message, Output):
            handler = self._outputs.get(message.id)
            if handler is not None:
                handler(message.fd, message.payload)
        elif isinstance(message, Status) and message.status in _STATUSES:
            self._fault = message if message.status == "faulted" else None
            self._set_status(message.status)
        self.views.notice(message)

    def _set_status(self, status: str) -> None:
        with self._changed:
            if self.status != "closed" or status == "closed":
                self.status = status
            self._changed.notify_all()
        self.views.announce()

    def _lost(self, engine: Engine, error: EngineError) -> None:
        """The engine cannot be trusted any more, unless it is one that may come back."""
        if self._engine is engine and self.status != "closed" and self._died is None:
            self._died = error
            self._drop_engine()
            self._set_status("faulted")

    def _ended(self, error: EngineError) -> None:
        """The engine ended by itself, or is away: tell who waits for the status. On a thread of the engine's."""
        if self._engine is not None and self.status != "starting":
            self._died, self._status_before = error, self.status
            if isinstance(self._engine, BrowserEngine):
                self.views.lose()
            self._set_status("faulted")

    def _returned(self) -> None:
        """The engine that was away is there again, and says next what its status became. On the Hub's thread."""
        if self._died is not None and self._engine is not None:
            self._died = None
            self.views.attach(self._engine)
            self._set_status(self._status_before)

    def _drop_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
            self.views.attach(None)

    def _standing(self) -> Standing:
        engine, reason = self.engine, self._died or (self._fault.reason if self._fault is not None else None)
        reason = self.doing if self.status == "starting" else reason
        return Standing(
            name=self.image.name,
            status=self.status,
            reason=None if reason is None else str(reason),
            engine="none" if engine is None else engine.kind,
            why=self.why,
            here=False,
            snapshots=[],
            current=None,
            seed=self.seed,
        )

    def _error(self, failure: Failure) -> Exception:
        """The typed error for what the engine answered."""
        about: dict[str, Any] = {"expected": failure.expected, "seen": failure.seen, "hint": failure.hint}
        if failure.code == "cancelled":
            return Interrupted(failure.message)
        if failure.code == "image":
            return ImageError(failure.message, **about)
        if failure.code == "engine":
            return EngineError(failure.message, **about)
        registers = self._fault.registers if self._fault is not None else None
        kinds = {"timeout": GuestTimeout, "off": GuestOff, "fault": GuestFault}
        error = kinds.get(failure.code, GuestError)(failure.message, **about, tail=self.tail(), registers=registers)
        printed = int(failure.value.get("stdout", 0))
        error.stdout, error.stderr = failure.payload[:printed], failure.payload[printed:]
        if isinstance(error, GuestTimeout):
            error.budget = str(failure.value.get("budget", "timeout"))
        return error

    # -- measurements ----------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """What the engine counts: instructions, guest seconds, steps, requests and bytes of disks and share."""
        return dict(self.call(ReadStatistics).value)


def start_state(session: Session) -> bytes:
    """What a machine with a seed becomes once it has booted and is at rest, for others to start from."""
    settle = {"argv": ["/bin/sh", "-c", _SETTLE], "env": {}, "cwd": "", "stream": False, "limit": 1000}
    session.call(Spawn, allow=None, timeout=_BOOT_PATIENCE, **settle)  # guest time: the host's may be any
    return session.call(Capture, allow=_BOOT_PATIENCE, start=True).payload
