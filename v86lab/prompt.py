"""A shell at the serial console's prompt: how commands run in a guest that has no agent.

Theory of operation. A command is typed at the prompt of a POSIX shell on ttyS0, and what it prints is taken from
between two marks, as labgrid's ShellDriver does it. Rules:

- Prompts are not guessed. A *knock*, a line that has the shell print a mark, tells whether a shell is there. It is not
  typed where the console asks for a user or a password, and does no harm when its beginning is lost.
- The echo of a typed line is never taken for output: the shell makes each mark of a variable and the rest.
- Only printable ASCII is typed, in short lines, because line editors complete at tabs, act on control characters and
  cut long lines, and a terminal takes 4096 bytes a line. Other characters are made by the guest's printf.
- The command runs in a subshell, without standard input and with its output in a pipe: the prompt's shell stays as
  it is, and programs print as they do for other programs, without colours, columns and pagers.
- A command that is given up gets ^C (or ^\\, or ^Z), and its process group SIGKILL, until the shell answers again.
- Nothing here depends on the host's time or chance, so that a machine with a seed does the same every time.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from . import patterns
from .deadline import Budget
from .errors import GuestError, GuestTimeout, ImageError
from .protocol import Consume, Expect, Reply, Send
from .session import Interrupted, Session
from .visible import visible

MOST = 256 << 10
"""Bytes of a command and its environment that are typed; guests take some 5 KB a second."""

# Seconds, which are guest time on a machine with a seed.
_KNOCKS = 10
_ANSWER = 5.0  # for a shell to answer a knock
_SETTLE = 1.0  # without output until what looks like a prompt is knocked at; less at first
_SILENCE = 5.0  # without output until a knock is tried where there is no prompt in sight
_BOOT = 180.0  # that a guest may go on printing before a shell answers
_TAKE = 30.0  # without output while the shell reads what is typed
_STOP = 3.0  # between ^C and the prompt
_FREE = 1.0  # between a command's end and the prompt
_SLICE = 0.2  # after which output is fetched; the engine keeps a MiB, of which this is a part however fast it comes

_PATIENCE = 60.0  # s of wall time for the engine to answer what costs it nothing
_PIECE = 80  # bytes of a value that are quoted together; four times that may be typed
_TYPED = 400  # bytes in a typed line: busybox's editor takes 1023 unless it was built otherwise

# The first process of the pipe tells the number of its parent, which leads the process group where there is one.
_RUN = (
    """ { IN (eval "exec /bin/sh -c 'echo \\$1-begin \\$PPID; shift; exec \\"\\$@\\"' sh MARK $v86_c") 2>&1"""
    " && echo MARK-end 0 || echo MARK-end $?; } </dev/null 2>/dev/null | cat;"
    " echo MARK-done; unset v86_k v86_n v86_c v86_d"
)
_IN = 'cd -- "$v86_d" >/dev/null || { echo MARK-end cd; exit; }; '

_PLAIN = re.compile(rb"[\n\x20-\x7e]+")
_ANYTHING = re.compile(rb"[\0-\xff]")
_PARTIAL_MARK = re.compile(rb"(?:v[^\nv]{0,40}|\r)\Z")  # or half of a CR LF
_QUESTIONS = {b"login:": "a login: prompt", b"password:": "a password prompt"}
_LOG_IN = 'log in first: vm.console.expect("login: "), then vm.console.sendline("root"), and so on to the prompt'
_HINT = (
    'bring a POSIX shell to its prompt with vm.console (sendcontrol("c") ends what runs there), '
    "or use an image that has the agent"
)


_Error = TypeVar("_Error", bound=GuestError)


@dataclass(frozen=True)
class Outcome:
    """What a program did: its exit status as the shell tells it, and what it printed, standard error included."""

    status: int
    output: bytes
    cut: int
    instructions: int


class Prompt:
    """A shell at the prompt of a machine's first serial port.

    Parameters
    ----------
    session : Session
    budget : Budget
        For all that is done here.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine(lab.images.linux(agent=False)) as vm:
    ...     vm.run("uname -m; exit 3")
    CommandResult(args='uname -m; exit 3', returncode=3, stdout='i686\\n')
    """

    def __init__(self, session: Session, budget: Budget) -> None:
        self._session = session
        self._budget = budget
        self._mark = ""

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        on_output: Callable[[int, bytes], None] | None,
        raw: bool,
        limit: int,
    ) -> Outcome:
        """Run a program.

        Parameters
        ----------
        argv : sequence of str
            Without NUL, as are the others.
        env : mapping
            Added to the shell's.
        cwd : str
            "" is where the shell is.
        on_output : callable or None
            Told of output as it comes, as of file descriptor 1.
        raw : bool
            Leave the terminal's CR LF in the output.
        limit : int
            Bytes of output kept.

        Raises
        ------
        GuestTimeout
            The budget is used up, before a shell has answered or after; `stdout` holds what had been printed.
        GuestError
            No shell answers, or it cannot run the program.
        ImageError
            The command is too long to be typed.
        """
        command = _command(argv, env)
        if len(command) + len(cwd.encode()) > MOST:
            raise ImageError(
                "the command is too long to be typed at a prompt, and the guest has no agent",
                expected=f"at most {MOST >> 10} KiB",
                seen=f"{len(command) >> 10} KiB",
                hint="put what is long into a file of the image",
            )
        with self._session.lock:
            before = int(self._session.statistics()["instructions"])
            self._budget.begin(self._session.statistics)
            self._mark = "v86lab-" + hashlib.sha256(b"%d %s" % (before, command)).hexdigest()[:8]
            has_printf = self._find()
            made = _PLAIN.sub(b"", command + cwd.encode())
            if made and not has_printf:
                raise GuestError(
                    "the shell at the prompt has no printf, which makes the characters that cannot be typed",
                    expected="printable ASCII and line ends",
                    seen=repr(made.decode()[:40]),
                )
            reading = Reading(self._mark, raw, limit, on_output)
            try:
                self._send(typed(self._mark, command, cwd.encode()))
                self._read(reading)
            except GuestTimeout as error:
                raise self._late(error, reading) from None
            except (KeyboardInterrupt, Interrupted):
                self._stop(f"sleep 1; {reading.kill}")
                raise
            except GuestError as error:
                self._take_rest(reading)
                error.stdout = reading.close()
                raise
            self._free(reading)
            if not reading.began or reading.status is None:
                raise self._refused(reading, cwd)
            after = int(self._session.statistics()["instructions"])
        return Outcome(int(reading.status), reading.close(), reading.cut, after - before)

    # -- finding the shell -----------------------------------------------------------------------------------------

    def _find(self) -> bool:
        """Wait until a shell answers; whether it has printf."""
        bounded = self._budget.timeout is None and self._budget.instructions is None
        booting = self._session.budget(_BOOT if bounded else None)
        booting.begin(self._session.statistics)
        line, knocks, shown, silent, patience = b"", 0, -1, 0.0, _SETTLE / 16
        try:
            while not bounded or (knocks < _KNOCKS and not booting.used_up()):
                first, (line, now) = shown < 0, self._look()
                silent, shown = silent + patience if now == shown else 0.0, now
                if (line and (first or silent)) or silent >= _SILENCE:
                    asked = next((asked for end, asked in _QUESTIONS.items() if line.lower().endswith(end)), None)
                    if asked is not None:
                        raise self._nobody(GuestError, "", asked, _LOG_IN)
                    self._knock()
                    knocks, patience = knocks + 1, _ANSWER
                else:
                    patience = min(2 * patience, _SETTLE)
                answer = self._answer(patience)
                if answer is not None:
                    return bool(answer)
        except GuestTimeout as error:
            late = self._nobody(GuestTimeout, " " + self._budget.within(error.budget), _shown(line), _HINT)
            late.budget = error.budget
            raise late from None
        raise self._nobody(GuestError, "", _shown(line), _HINT)

    def _look(self) -> tuple[bytes, int]:
        """The console's unfinished line, which is the prompt if there is one; and a count of what has been shown."""
        reply = self._peek()
        shown, history = reply.payload, None if reply.payload else self._session.views.history()
        if (
            history is not None
        ):  # somebody has matched the prompt; a restored machine has shown what is no transcript here
            shown = history.result(_PATIENCE).payload
        return shown.rpartition(b"\n")[2].strip(), int(reply.value["received"])

    def _knock(self, first: str = "") -> None:
        """Type a line that a shell answers; ^U before it takes back what was left unfinished."""
        self._send("\x15 " + first + knock(self._mark))

    def _answer(self, patience: float) -> str | None:
        """What a shell that was knocked at says of its printf; None if none answers."""
        reply = self._wait([re.compile(rf"{self._mark}(?: [^\r\n]*)?\r?\n".encode())], patience)
        return None if reply is None else reply.payload.rpartition(self._mark.encode())[2].strip().decode("latin-1")

    def _nobody(self, kind: type[_Error], within: str, seen: str, hint: str) -> _Error:
        what = f"the guest {self._session.image.name!r} has no agent, and no shell answered at its serial console"
        return kind(what + within, expected="a prompt", seen=seen, tail=self._session.tail(), hint=hint)

    # -- running a program -----------------------------------------------------------------------------------------

    def _read(self, reading: Reading) -> None:
        """Follow the console until the command has ended."""
        while not reading.over:
            shown: Reply | None = self._wait(reading.marks[1:], _SLICE) or self._drain()
            if shown is not None and not shown.payload:
                shown = self._wait([_ANYTHING], None if reading.began else _TAKE)
            if shown is None:
                tail = self._session.tail()
                self._stop()
                raise GuestError("the shell at the prompt does not take the command", tail=tail, hint=_HINT)
            reading.feed(shown.payload, int(shown.value["dropped"]))

    def _take_rest(self, reading: Reading) -> None:
        rest = self._drain()
        reading.feed(rest.payload, int(rest.value["dropped"]))

    def _free(self, reading: Reading) -> None:
        """See to it that the shell is at its prompt again after a command that has ended."""
        self._budget = self._session.budget()
        if not reading.done and self._wait(reading.marks[2:], _FREE) is None:
            self._stop()  # what goes on in the background holds the pipe: it ignores ^C, the pipe's reader does not

    def _refused(self, reading: Reading, cwd: str) -> GuestError:
        if reading.status == "cd":
            return GuestError(f"the guest cannot change to the folder {cwd!r}")
        return GuestError("the shell at the prompt could not run the command", tail=self._session.tail(), hint=_HINT)

    def _late(self, error: GuestTimeout, reading: Reading) -> GuestTimeout:
        self._take_rest(reading)
        within = self._budget.within(error.budget)
        stopped, printed = self._stop(reading.kill), reading.close()
        late = GuestTimeout(
            f"the command did not finish {within} and was " + ("killed" if stopped else "not to be interrupted"),
            tail=visible(printed),
            hint=None if stopped else "vm.reset() starts the machine again",
        )
        late.budget, late.stdout = error.budget, printed
        return late

    def _stop(self, then: str = "") -> bool:
        """Interrupt what runs in the foreground, also what ignores ^C; whether the shell is at its prompt then."""
        self._budget = self._session.budget()
        for key in ("\x03", "\x1c", "\x1a"):
            self._send(key)
            self._knock(then)
            if self._answer(_STOP) is not None:
                return True
        return False

    # -- the console -----------------------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        self._session.call(Send, payload=text.encode("ascii"))

    def _peek(self) -> Reply:
        """What nobody has matched yet."""
        reply = self._session.call(Expect, patterns=[], seen=-1, timeout=None)
        self._session.call(Consume, count=0)
        return reply

    def _drain(self) -> Reply:
        reply = self._peek()
        self._session.call(Consume, count=len(reply.payload))
        return reply

    def _wait(self, wanted: Sequence[patterns.Source], patience: float | None) -> Reply | None:
        """What is shown up to a match; None when there is none within `patience`, which the budget may cut short."""
        left, fields = self._budget.left(), {"patterns": patterns.compile(wanted).wire()}
        own = patience is not None and (left["timeout"] is None or patience < left["timeout"])
        if own:
            left["timeout"] = patience
        try:
            return self._session.call(Expect, allow=self._budget.patience(), **fields, **left)
        except GuestTimeout as error:
            if own and error.budget == "timeout":
                return None
            raise


class Reading:
    """What the console shows of one command: the echo of what is typed, then its output between two marks.

    Parameters
    ----------
    mark : str
    raw, limit, on_output
        As of `Prompt.run`.

    Attributes
    ----------
    status : str or None
        What the shell said of the command's end, once it has.
    done : bool
        Whether the shell has nothing more to do.
    kill : str
        Shell source that kills the command's process group.

    Examples
    --------
    >>> reading = Reading("v86lab-1", raw=False, limit=3, on_output=None)
    >>> reading.feed(b"echo $v86_k-1\\r\\nv86lab-1-begin 7\\r\\nhi\\r\\nyou\\r\\nv86lab-1-end 0\\r\\n", 0)
    >>> reading.status, reading.close(), reading.cut
    ('0', b'hi\\n', 4)
    """

    def __init__(self, mark: str, raw: bool, limit: int, on_output: Callable[[int, bytes], None] | None) -> None:
        self.marks = [re.compile(rf"{mark}-{rest}\r?\n".encode()) for rest in (r"begin (\d+)", r"end (\w+)", "done")]
        self.began = False
        self.status: str | None = None
        self.done = False
        self.cut = 0
        self.kill = ""
        self._raw = raw
        self._limit = limit
        self._on_output = on_output
        self._pending = b""  # may be the beginning of a mark
        self._output = bytearray()

    @property
    def over(self) -> bool:
        return self.status is not None or self.done

    def feed(self, data: bytes, dropped: int) -> None:
        """Take what the console has shown; `dropped` bytes before it were not kept."""
        data = self._pending + data
        if self.began:
            self.cut += dropped
        elif (begin := self.marks[0].search(data)) is not None:
            self.began, data = True, data[begin.end() :]
            self.kill = f"kill -9 -{int(begin[1])}; " if int(begin[1]) > 1 else ""
        end, done = (mark.search(data) for mark in self.marks[1:])
        self.status, self.done = end[1].decode() if end else None, done is not None
        stop = end or done or _PARTIAL_MARK.search(data)
        at = stop.start() if stop else len(data)
        if self.began:
            self._emit(data[:at])
        self._pending = b"" if self.over else data[at:]

    def close(self) -> bytes:
        """All of the output: nothing more will come."""
        if self.began:
            self._emit(self._pending)
        self._pending = b""
        return bytes(self._output)

    def _emit(self, data: bytes) -> None:
        if not self._raw:
            data = data.replace(b"\r\n", b"\n")
        if data and self._on_output is not None:
            self._on_output(1, data)
        room = self._limit - len(self._output)
        self._output += data[:room]
        self.cut += max(0, len(data) - room)


def _shown(line: bytes) -> str:
    return repr(line[-60:].decode(errors="replace")) if line else "no prompt"


def _command(argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    added = ["env", "--", *(f"{name}={value}" for name, value in env.items())] if env else []
    return shlex.join([*added, *argv]).encode()


def knock(mark: str) -> str:
    """A line that has a shell print the mark, and where it has printf.

    Examples
    --------
    >>> knock("v86lab-1")
    'v86_k=v86lab; echo $v86_k-1 $(command -v printf)\\n'
    """
    return f"v86_k=v86lab; echo {_typed_mark(mark)} $(command -v printf)\n"


def typed(mark: str, command: bytes, cwd: bytes) -> str:
    """What to type, to a shell that `knock` was typed to, to run a command.

    Parameters
    ----------
    mark : str
        "v86lab-" and what makes it unique.
    command : bytes
        Words, quoted for a shell.
    cwd : bytes
        b"" is where the shell is.

    Examples
    --------
    >>> print(typed("v86lab-1", b"ls", b"").splitlines()[0])
     v86_c='ls'
    """
    newline = [" v86_n='", "'"] if b"\n" in command + cwd else []
    run = _RUN.replace("IN ", _IN if cwd else "").replace("MARK", _typed_mark(mark))
    lines = [*newline, *_assignment("v86_c", command), *_assignment("v86_d", cwd), run]
    return "".join(line + "\n" for line in lines)


def _typed_mark(mark: str) -> str:
    return mark.replace("v86lab", "$v86_k")


def _assignment(name: str, value: bytes) -> list[str]:
    """Lines that make this the value of a variable; ``v86_n`` is to hold a line feed."""
    lines = [f" {name}="]
    for piece in re.findall(rb"\n|[^\n]{1,%d}" % _PIECE, value):
        typed = _typed(piece)
        if len(lines[-1]) + len(typed) > _TYPED:
            lines.append(f" {name}=${name}")
        lines[-1] += typed
    return lines if value else []


def _typed(piece: bytes) -> str:
    if piece == b"\n":
        return "$v86_n"
    if _PLAIN.fullmatch(piece):
        return "'" + piece.decode().replace("'", "'\\''") + "'"
    # "-" may begin an option, and dash looks for "%" after it has replaced what stands for other characters.
    plain = {byte: chr(byte) for byte in range(0x20, 0x7F) if byte not in b"-'\\"} | {ord("%"): "%%"}
    return "$(printf '" + "".join(plain.get(byte, f"\\{byte:03o}") for byte in piece) + "')"
