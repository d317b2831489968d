"""Running commands in the guest: `run` is where ``vm.run`` becomes a guest process.

In a guest without the agent that is a matter of typing at a shell's prompt (`v86lab.prompt`). With it, the way of a
command: `run` here → `Session.drive` → the `Spawn` message → ``js/src/core/engine.js`` ``#spawn`` →
``js/src/core/agent.js`` ``spawn`` → frames on the guest's ``/dev/hvc1`` → ``v86lab/firmware/src/agent/agent.c``.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from .errors import GuestCommandError, GuestError, ImageError
from .prompt import Prompt
from .protocol import Spawn
from .session import Session

LIMIT = 64 << 20
"""Bytes kept of each of standard output and standard error, unless told otherwise."""

_SHOWN = 400  # characters of output in a repr


@dataclass(frozen=True)
class CommandResult:
    """What a command in the guest did.

    Attributes
    ----------
    args : str or list of str
        The command as it was given.
    returncode : int
        Its exit status; -N when signal N killed it.
    stdout, stderr : str or bytes
        What it printed; bytes with ``text=False``.
    cut : tuple[int, int]
        Bytes of standard output and standard error that were over the limit and not kept.
    instructions : int
        How many instructions the machine retired meanwhile. Varies from run to run, so it is not in the repr; on a
        machine with a seed it does not vary.
    """

    args: str | list[str]
    returncode: int
    stdout: str | bytes
    stderr: str | bytes
    cut: tuple[int, int] = (0, 0)
    instructions: int = field(default=0, repr=False, compare=False)

    def __repr__(self) -> str:
        parts = [f"args={self.args!r}", f"returncode={self.returncode}"]
        for name, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            if text:
                parts.append(f"{name}={text[:_SHOWN]!r}" + ("..." if len(text) > _SHOWN else ""))
        if any(self.cut):
            parts.append(f"cut={self.cut}")
        return f"CommandResult({', '.join(parts)})"


def run(
    session: Session,
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
    """Run a command in the guest and wait for it; `Machine.run` documents the parameters."""
    argv, checked_env, folder = _argv(command), _checked_env(env or {}), _without_nul(cwd or "")
    given = input.encode() if isinstance(input, str) else input or b""
    budget = session.budget(timeout, instructions, wall_timeout)
    if given and not session.image.agent:
        raise ImageError(
            f"the guest {session.image.name!r} has no agent that could pass input on",
            hint="have the command make or read it itself: printf 'some text' | command",
        )
    if session.status == "paused" and session.seed is None:
        raise GuestError("the machine is paused", hint="vm.resume() lets it go on")
    printer = _Printer(text) if stream else None
    try:
        if session.image.agent:
            fields = {"argv": argv, "env": checked_env, "cwd": folder, "payload": given}
            reply = session.drive(Spawn, budget, printer, stream=stream, limit=limit, **fields)
            value, printed = reply.value, int(reply.value["stdout"])
            said = reply.payload[:printed], reply.payload[printed:]
            result = _result(command, text, said, value["returncode"], value["cut"], value["instructions"])
        else:
            ended = Prompt(session, budget).run(argv, checked_env, folder, printer, raw=not text, limit=limit)
            result = _result(command, text, (ended.output, b""), ended.status, (ended.cut, 0), ended.instructions)
    except GuestError as error:
        error.stdout, error.stderr = _decoded(error.stdout, text), _decoded(error.stderr, text)
        raise
    finally:
        if printer is not None:
            printer.finish()
    if check and result.returncode != 0:
        raise _failed(result)
    return result


def _argv(command: str | Sequence[str]) -> list[str]:
    if isinstance(command, str):
        return ["/bin/sh", "-c", _without_nul(command)]
    argv = [_without_nul(word) for word in command]
    if not argv or not argv[0]:
        raise ImageError(
            "there is no command to run", expected="a shell command or a list of arguments", seen="nothing"
        )
    return argv


def _checked_env(env: Mapping[str, str]) -> dict[str, str]:
    for name in env:
        if not name or "=" in name:
            raise ImageError("a name in env cannot be used", expected='a name without "="', seen=repr(name))
    return {_without_nul(name): _without_nul(value) for name, value in env.items()}


def _without_nul(word: str) -> str:
    if not isinstance(word, str) or "\0" in word or any("\ud800" <= character <= "\udfff" for character in word):
        raise ImageError("an argument cannot be passed", expected="a str without NUL or surrogates", seen=repr(word))
    return word


def _result(
    command: str | Sequence[str],
    text: bool,
    said: tuple[bytes, bytes],
    returncode: int,
    cut: Sequence[int],
    instructions: int,
) -> CommandResult:
    return CommandResult(
        args=command if isinstance(command, str) else list(command),
        returncode=int(returncode),
        stdout=_decoded(said[0], text),
        stderr=_decoded(said[1], text),
        cut=(int(cut[0]), int(cut[1])),
        instructions=int(instructions),
    )


def _decoded(data: str | bytes, text: bool) -> str | bytes:
    return data.decode(errors="replace") if text and isinstance(data, bytes) else data


def _failed(result: CommandResult) -> GuestCommandError:
    said = result.stderr or result.stdout
    last = (said if isinstance(said, str) else said.decode(errors="replace")).strip()[-_SHOWN:]
    error = GuestCommandError(
        f"the command {result.args!r} failed",
        expected="status 0",
        seen=f"status {result.returncode}" + (f" and {last!r}" if last else ""),
    )
    error.cmd, error.returncode = result.args, result.returncode
    error.stdout, error.stderr = result.stdout, result.stderr
    return error


class _Printer:
    """Prints a command's output as it comes, in the caller's thread; as bytes where these are wanted and can be."""

    def __init__(self, text: bool) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        streams: dict[int, IO[str]] = {1: sys.stdout, 2: sys.stderr}
        self._decoders: dict[int, Callable[[bytes, bool], str]] = {fd: make("replace").decode for fd in streams}
        self._streams = streams
        # A notebook's streams take text only.
        self._buffers = {} if text else {fd: s.buffer for fd, s in streams.items() if hasattr(s, "buffer")}

    def __call__(self, fd: int, data: bytes) -> None:
        if fd in self._buffers:
            self._buffers[fd].write(data)
            self._buffers[fd].flush()
            return
        self._streams[fd].write(self._decoders[fd](data, False))
        self._streams[fd].flush()

    def finish(self) -> None:
        for fd, stream in self._streams.items():
            stream.write(self._decoders[fd](b"", True))
            stream.flush()
