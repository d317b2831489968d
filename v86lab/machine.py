"""The machine that a user holds: a façade over an image on an engine. Its parts are nouns on it."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from . import images, recording, snapshot
from .advance import advance, wait
from .aio import Aio
from .command import LIMIT, CommandResult, run
from .console import Console
from .difference import Difference, compare
from .errors import EngineError, ImageError
from .files import Files
from .hub import Hub, shared_hub
from .image import Disk, Image
from .inspect import Cpu, Memory
from .keyboard import Keyboard
from .protocol import (
    ChangeMedium,
    DescribeState,
    HashState,
    Pause,
    ReadMemory,
    Request,
    Reset,
    RestoreSnapshot,
    Resume,
    StartHere,
    TakeSnapshot,
)
from .recording import Recording
from .screen import Screen
from .seed import checked_seed
from .session import Session
from .snapshot import Snapshot, Snapshots
from .views import Page

_RESET_PATIENCE = 60.0
_HASH_PATIENCE = 60.0
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

    With a `seed` the same calls make the same machine, bit for bit, on every computer and in every browser. **The guest
    then moves only inside a call**: `run`, `advance`, `wait`, ``console.expect`` and ``screen.expect`` drive it, until
    what they wait for has come true; between calls it stands still (status "paused"), and what is typed or written
    meanwhile waits with it. Its clock counts instructions, not the host's time, and skips the time in which the guest
    only waits: an hour's sleep costs nothing. All that it takes for random comes from the seed, and so does the
    timing of its interrupts within narrow bounds, so that other seeds show other schedules. `recording` keeps what came
    in, and `v86lab.replay` runs it again.

    Parameters
    ----------
    what : str, path, Image or Snapshot
        ``"linux"`` is the default guest; or a saved image or snapshot, a disk, ISO or floppy image, a URL of one.
    seed : int, optional
        0 to 2**32 - 1. Without one the machine runs on wall-clock time, like any other PC; a snapshot of a machine with
        a seed goes on with that one.
    memory : int or str, optional
        Instead of the image's: bytes, or such as ``"256 MiB"``.
    engine : str
        "auto", or to insist "node" or "browser"; ``V86LAB_ENGINE`` overrides. "auto" is the browser that shows the
        machine when it is first needed, if there is one, and a Node process otherwise.
    epoch, mips : int, optional
        Instead of the image's: what a seeded machine's calendar shows at power-on, in seconds since 1970, and how many
        million instructions make a second of it.
    jit : bool, optional
        Instead of the image's: False has the guest interpreted.

    Raises
    ------
    ImageError
        `what`, or an option, cannot be used.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.run("echo hello").stdout
    'hello\\n'

    The same machine twice:

    >>> def what_happens(seed):
    ...     with lab.Machine(seed=seed) as vm:
    ...         printed = vm.run("head -c8 /dev/urandom | od -An -tx1; date; sleep 3600; date").stdout
    ...         return printed, vm.instructions, vm.clock, vm.state_hash()
    >>> what_happens(7) == what_happens(7)
    True
    >>> what_happens(7) == what_happens(8)
    False
    """

    def __init__(
        self,
        what: str | os.PathLike[str] | Image | Snapshot = "linux",
        *,
        seed: int | None = None,
        memory: int | str | None = None,
        engine: str = "auto",
        epoch: int | None = None,
        mips: int | None = None,
        jit: bool | None = None,
    ) -> None:
        where = os.environ.get("V86LAB_ENGINE") or engine
        if where not in _ENGINES:
            raise ImageError("no such engine", expected=" or ".join(map(repr, _ENGINES)), seen=repr(where))
        seed = checked_seed(seed)
        hub = shared_hub()
        start = Snapshot.found(what)
        given = {"epoch": epoch, "mips": mips, "jit": jit}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if start is not None:
            for name, value in {"memory": memory, **given}.items():
                if value is not None:
                    raise ImageError(f"a snapshot's {name} cannot be changed", seen=f"{name}={value!r:.80}")
            seed = start.seed if seed is None else seed
            session = Session(start.image, hub, start.state, start.check_engine, where=where, seed=seed)
        else:
            assert not isinstance(what, Snapshot)
            image = dataclasses.replace(images.resolve(what, memory=memory, store=hub.store), **changes)
            session = Session(image, hub, where=where, seed=seed)
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
        """One of "new", "starting", "running", "paused", "off", "faulted", "closed".

        A machine with a seed is "paused" between calls.
        """
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
    def seed(self) -> int | None:
        """What decides all chance; None on wall-clock time."""
        return self._session.seed

    @property
    def instructions(self) -> int:
        """Instructions retired since power-on."""
        return int(self._session.statistics()["instructions"])

    @property
    def clock(self) -> float:
        """Seconds since power-on, by the guest's clock.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine(seed=7) as vm:
        ...     before = vm.clock
        ...     vm.run("sleep 3600")
        ...     3600 <= vm.clock - before < 3601
        CommandResult(args='sleep 3600', returncode=0)
        True
        """
        return float(self._session.statistics()["seconds"])

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
        instructions: int | None = None,
        wall_timeout: float | None = None,
    ) -> CommandResult:
        """Run a command in the guest, in a fresh shell, and wait for it.

        In a guest without the agent (``vm.image.agent``) the command is typed at the prompt of a POSIX shell on the
        first serial console, which sees it. Log in first where the guest asks for that; what may still be booting is
        waited for, a minute or until the budget is used up. Then

        - `stdout` holds standard error too, as both come by the terminal; what else is printed there, such as kernel
          messages, gets in between. CR LF becomes LF, except with ``text=False``, which gives the terminal's bytes;
        - `returncode` is what the shell tells: 128 + N when signal N killed the command, 127 when there is none;
        - `input` is refused, and standard input is empty; `env` is added to the shell's, `cwd` is the shell's without;
        - a command of more than 256 KiB is refused; characters that are not ASCII need a printf in the guest;
        - a command that the budget or Ctrl-C ends is interrupted, then killed with its process group. Under a shell
          without a controlling terminal that cannot be: `GuestTimeout` says so;
        - the next ``console.expect`` sees what comes after the command.

        Parameters
        ----------
        command : str or sequence of str
            A shell command, or a program and its arguments.
        timeout : float, optional
            Seconds, of guest time on a machine with a seed, after which the command and all that it started in its
            process group are killed.
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
        instructions : int, optional
            How many the guest may retire before the command is killed: a verdict that does not depend on the host.
        wall_timeout : float, optional
            Seconds of the host's time before it is killed, whatever the guest's time is.

        Returns
        -------
        CommandResult

        Raises
        ------
        GuestTimeout
            With what was printed so far in `stdout` and `stderr`, and in `budget` the name of what was used up; the
            machine stays usable.
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
            instructions=instructions,
            wall_timeout=wall_timeout,
        )

    # -- a machine with a seed -------------------------------------------------------------------------------------

    def advance(
        self, seconds: float | None = None, *, instructions: int | None = None, wall_timeout: float | None = None
    ) -> None:
        """Let a machine with a seed run on: for a while of guest time, or for a number of instructions.

        It stops at the first tick (some 100 000 instructions at most) after one of these is used up, or when it has
        powered off or faulted.

        Parameters
        ----------
        seconds : float, optional
            Of guest time.
        instructions : int, optional
        wall_timeout : float, optional
            Seconds of the host's time that it may take.

        Raises
        ------
        ImageError
            Neither `seconds` nor `instructions`, one that is zero or less, or a machine on wall-clock time.
        GuestTimeout
            It did not come so far within `wall_timeout`.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine(seed=7) as vm:
        ...     before = vm.clock
        ...     vm.advance(seconds=2)
        ...     round(vm.clock - before)
        2
        """
        advance(self._session, seconds, instructions, wall_timeout)

    def state_hash(self) -> str:
        """What the machine is, as a sha256 in hex: processor, memory, devices, disks, shared files.

        On a machine with a seed it depends on the seed, the image and the calls made, and on nothing else.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine(seed=7) as one, lab.Machine(seed=7) as other:
        ...     one.run("echo 1 > /tmp/n").returncode + other.run("echo 1 > /tmp/n").returncode
        ...     one.state_hash() == other.state_hash()
        0
        True
        """
        return str(self._session.call(HashState, allow=_HASH_PATIENCE).value["hash"])

    def diff(self, other: Machine) -> Difference:
        """Where another machine is not the same as this one: by device, page of memory, register, file.

        Returns
        -------
        Difference
            False where nothing differs; its repr names the first difference of every part.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine(seed=7) as one, lab.Machine(seed=7) as other:
        ...     one.diff(other)
        ...     other.advance(seconds=1)
        ...     "cpu" in one.diff(other).sections
        no difference
        True
        """
        if not isinstance(other, Machine):
            raise ImageError("cannot compare with this", expected="another Machine", seen=type(other).__name__)
        replies = (one._session.call(DescribeState, allow=_HASH_PATIENCE) for one in (self, other))
        here, there = (json.loads(reply.payload) for reply in replies)
        return compare(here, there).refine(self._read, other._read)

    def _read(self, start: int, end: int) -> bytes:
        return self._session.call(ReadMemory, start=start, end=end).payload

    @property
    def recording(self) -> Recording:
        """What came into a machine with a seed since its start: typed, run, written, put into drives.

        A snapshot of it takes this along: a machine that goes on from there begins where the first one began.
        `v86lab.replay` runs it again, `Recording.save` writes it to a file.

        Raises
        ------
        ImageError
            A machine on wall-clock time: nothing could be had again.
        """
        return recording.take(self._session)

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

        On wall-clock time the guest's clock is then set to now, and its random pool is stirred afresh. A machine with a
        seed goes on as if it had never been saved; from a snapshot of another seed, with its own time and chance.

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
        """Stop guest time. A machine with a seed, which stands still between calls anyway, is no longer live."""
        self._session.call(Pause)

    def resume(self) -> None:
        """Let guest time go on.

        A machine with a seed goes live: its clock follows the host's until `pause`, so that a person can use it. What
        they type is recorded, at the moment when the guest saw it, and replayed like all else.
        """
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

    def wait(
        self, timeout: float | None = None, *, instructions: int | None = None, wall_timeout: float | None = None
    ) -> str:
        """Wait until it powers off, faults or is closed; gives the status. A machine with a seed runs meanwhile.

        Parameters
        ----------
        timeout : float, optional
            Seconds, of guest time on a machine with a seed.
        instructions : int, optional
            How many the guest may retire meanwhile.
        wall_timeout : float, optional
            Seconds of the host's time, whatever the guest's is.

        Raises
        ------
        GuestTimeout
            It still runs when one of these is used up.

        Examples
        --------
        >>> import v86lab as lab
        >>> with lab.Machine(seed=7) as vm:
        ...     vm.console.sendline("poweroff")
        ...     vm.wait(timeout=60)
        'off'
        """
        return wait(self._session, timeout, instructions, wall_timeout)

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
