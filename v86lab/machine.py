"""The machine that a user holds: a façade over an image on an engine. Its parts are nouns on it."""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from . import images, snapshot
from .aio import Aio
from .command import LIMIT, CommandResult, run
from .console import Console
from .errors import EngineError, ImageError
from .files import Files
from .hub import Hub, shared_hub
from .image import Disk, Image
from .inspect import Cpu, Memory
from .keyboard import Keyboard
from .protocol import ChangeMedium, Pause, Request, Reset, RestoreSnapshot, Resume, StartHere, TakeSnapshot
from .screen import Screen
from .session import Session
from .snapshot import Snapshot, Snapshots
from .views import Page

_RESET_PATIENCE = 60.0
_DRIVES = ("fda", "fdb", "cdrom")
_ENGINES = ("auto", "node", "browser")


@dataclass(frozen=True)
class EngineInfo:
    """Where a machine runs: `kind` is "node", "browser" or "none", `why` the reason, `pid` the process."""

    kind: str
    why: str
    pid: int | None = field(default=None, repr=False)


class Machine:
    """A PC.

    Nothing starts until the machine is used. It is a context manager; one that is forgotten is closed when it is
    collected and when Python exits. Calls from several threads queue; different machines run at the same time.

    Parameters
    ----------
    what : str, path, Image or Snapshot
        ``"linux"`` is the default guest; or a saved image or snapshot, a disk, ISO or floppy image, a URL of one.
    memory : int or str, optional
        Instead of the image's: bytes, or such as ``"256 MiB"``.
    engine : str
        "auto", or to insist "node" or "browser"; ``V86LAB_ENGINE`` overrides. "auto" is the browser that shows the
        machine when it is first needed, if there is one, and a Node process otherwise.

    Raises
    ------
    ImageError
        `what` cannot be used.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.run("echo hello").stdout
    'hello\\n'
    """

    def __init__(
        self,
        what: str | os.PathLike[str] | Image | Snapshot = "linux",
        *,
        memory: int | str | None = None,
        engine: str = "auto",
    ) -> None:
        where = os.environ.get("V86LAB_ENGINE") or engine
        if where not in _ENGINES:
            raise ImageError("no such engine", expected=" or ".join(map(repr, _ENGINES)), seen=repr(where))
        hub = shared_hub()
        start = Snapshot.found(what)
        if start is not None and memory is not None:
            raise ImageError("a snapshot's memory cannot be changed", seen=f"memory={memory!r}")
        if start is not None:
            session = Session(start.image, hub, start.state, start.check_engine, where=where)
        else:
            assert not isinstance(what, Snapshot)
            session = Session(images.resolve(what, memory=memory, store=hub.store), hub, where=where)
        self._session = session
        self.id = secrets.token_urlsafe(8)
        self.console = Console(session)
        self._finalizer = weakref.finalize(self, _forget, self.id, session, self.console)
        self.screen = Screen(session)
        self.keyboard = Keyboard(session)
        self.files = Files(session)
        self.cpu = Cpu(session)
        self.memory = Memory(session)
        self.snapshots = Snapshots()
        if start is not None:
            self.snapshots.add(start)
        session.views.snapshots = self.snapshots
        session.views.act = partial(_act, weakref.ref(self))
        hub.show(self.id, session.views.page)

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def image(self) -> Image:
        """The description it was made from."""
        return self._session.image

    @property
    def status(self) -> str:
        """One of "new", "starting", "running", "paused", "off", "faulted", "closed"."""
        return self._session.status

    @property
    def engine(self) -> EngineInfo:
        """Where it runs, and why there."""
        engine = self._session.engine
        return (
            EngineInfo("none", self._session.why)
            if engine is None
            else EngineInfo(engine.kind, self._session.why, engine.pid)
        )

    @property
    def hub(self) -> Hub:
        """The server that its engine dials."""
        return self._session.hub

    @property
    def instructions(self) -> int:
        """Instructions retired since power-on."""
        return int(self._session.statistics()["instructions"])

    @property
    def statistics(self) -> dict[str, object]:
        """Instructions, guest seconds, and what its disks and shared folder have fetched."""
        return self._session.statistics()

    @property
    def aio(self) -> Aio:
        """The same calls, to be awaited."""
        return Aio(self)

    def __repr__(self) -> str:
        return f"<Machine {self.image.name!r}: {self.status}>"

    # -- commands --------------------------------------------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        timeout: float | None = None,
        check: bool = False,
        *,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: bool = True,
        stream: bool = False,
        limit: int = LIMIT,
    ) -> CommandResult:
        """Run a command in the guest, in a fresh shell, and wait for it.

        Parameters
        ----------
        command : str or sequence of str
            A shell command, or a program and its arguments.
        timeout : float, optional
            Seconds, after which the command and all that it started in its process group are killed.
        check : bool
            Raise `GuestCommandError` when the exit status is not 0.
        input : str or bytes, optional
            Standard input; empty without.
        env : mapping, optional
            Added to the agent's environment.
        cwd : str, optional
            Working directory; /root without.
        text : bool
            False gives bytes, exactly as printed.
        stream : bool
            Print the output as it comes, besides keeping it; with ``text=False`` byte for byte.
        limit : int
            Bytes kept of each of standard output and standard error; ``cut`` says how many were not.

        Returns
        -------
        CommandResult

        Raises
        ------
        GuestTimeout
            With what was printed so far in `stdout` and `stderr`; the machine stays usable.
        GuestCommandError, GuestFault, GuestOff, GuestError

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine() as vm:
        ...     vm.run(["wc", "-c"], input="four").stdout
        '4\\n'
        """
        return run(
            self._session,
            command,
            timeout,
            check,
            input=input,
            env=env,
            cwd=cwd,
            text=text,
            stream=stream,
            limit=limit,
        )

    # -- states ----------------------------------------------------------------------------------------------------

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Save the whole machine: memory, processor, devices, disks, shared files, clock.

        Parameters
        ----------
        name : str, optional
            Without one, "snapshot-1" and so on.
        """
        with self._session.lock:
            name = name or self.snapshots.free_name()
            taken = snapshot.take(self._session, name, self.snapshots.current)
            self.snapshots.add(taken)
        self._session.views.announce()
        return taken

    def restore(self, which: Snapshot | str) -> None:
        """Put the machine back to a snapshot, of which the name is enough if it was taken here; it goes on from there.

        On wall-clock time the guest's clock is then set to now, and its random pool is stirred afresh.

        Raises
        ------
        ImageError
            The snapshot belongs to another machine; nothing was touched.
        """
        chosen = self.snapshots[which] if isinstance(which, str) else which
        session = self._session
        with session.lock:
            chosen.check_fits(session.image)
            session.boot_from(chosen.image, chosen.state)
            self.snapshots.add(chosen)
        session.views.announce()

    # -- power -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Switch it on now, instead of when it is first used."""
        self._session.start()

    def pause(self) -> None:
        """Stop guest time."""
        self._session.call(Pause)

    def resume(self) -> None:
        """Let guest time go on."""
        self._session.call(Resume)

    def reset(self) -> None:
        """Power-cycle: boots afresh; what is on its disks, in its drives and in its shared folder stays.

        After the engine itself has died there is nothing to keep: the machine then boots as it was described.
        """
        with self._session.lock:
            if self._session.status != "new" and self._session.engine is None:
                self._session.restart()
            else:
                self._session.call(Reset, allow=_RESET_PATIENCE)

    def wait(self, timeout: float | None = None) -> str:
        """Wait until it powers off, faults or is closed; gives the status.

        Raises
        ------
        GuestTimeout
            It still runs after `timeout` seconds.
        """
        if self.status == "new":
            self._session.start()
        return self._session.wait_until(lambda status: status in ("off", "faulted", "closed"), timeout)

    def insert(self, drive: str, medium: str | bytes | os.PathLike[str] | Disk) -> None:
        """Put a medium into "cdrom", "fda" or "fdb": a path, bytes, or a Disk of the Store."""
        disk = medium if isinstance(medium, Disk) else images.medium(_drive(drive), medium, self.hub.store)
        medium_json = {"digest": disk.digest, "size": disk.size}
        self._session.call(ChangeMedium, allow=60.0, drive=_drive(drive), medium=medium_json)

    def eject(self, drive: str) -> None:
        """Take the medium out of a drive."""
        self._session.call(ChangeMedium, drive=_drive(drive), medium=None)

    def close(self) -> None:
        """End the engine. May be called again."""
        self.console.close()
        self._session.close()
        self.hub.hide(self.id)
        self._finalizer.detach()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _act(this: weakref.ref[Machine], page: Page, request: Request) -> dict[str, Any]:
    """Do what a page asks of Python; pages do not keep a machine alive."""
    vm = this()
    if vm is None:
        raise EngineError("the machine is no more: nothing in Python refers to it")
    match request:
        case TakeSnapshot():
            return {"name": vm.snapshot().name}
        case RestoreSnapshot():
            vm.restore(request.name)
        case StartHere():
            vm._session.restart(page, request.checkpoint)
        case Reset():
            vm.reset()
    return {}


def _forget(id: str, session: Session, console: Console) -> None:
    session.hub.hide(id)
    session.release()
    console.close()


def _drive(drive: str) -> str:
    if drive not in _DRIVES:
        raise ImageError("no such drive for a medium", expected="one of " + ", ".join(_DRIVES), seen=repr(drive))
    return drive
