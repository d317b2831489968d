"""The messages between the Hub and an engine, and how they look on the wire. No I/O happens here.

Every message is a frozen dataclass; its wire name is its class name in snake case. Requests (`Request`) go to the
engine, each is answered by exactly one `Reply` or `Failure` with its id; the rest are notices from the engine. A
message may carry bytes in `payload`.

On the wire a message is one or more WebSocket frames, little-endian::

    u8 more | u32 header length | header (JSON, UTF-8) | payload

A payload longer than 4 MiB goes ahead in frames with ``more = 1`` and an empty header, because jupyter-server-proxy
closes a connection on messages over 10 MiB; the frame with ``more = 0`` carries the header and what is left. Frames of
one direction are never interleaved. Both ends write the same bytes for the same message: the type first, then the
fields in the order of the dataclass, compact, as UTF-8. ``js/src/core/protocol.js`` is the other end;
``tests/golden/messages.json`` tests both.
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .errors import EngineError, ImageError

CHUNK = 4 << 20
MOST_BYTES = 1 << 30
MOST_HEADER = 8 << 20
_PREFIX = struct.Struct("<BI")


@dataclass(frozen=True, kw_only=True)
class Message:
    """What both directions share: a body of plain JSON values, and bytes."""

    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class Request(Message):
    """Asks the engine for something; answered once."""

    id: int


@dataclass(frozen=True, kw_only=True)
class Boot(Request):
    """Make the machine that `image` describes and run it, from `state` (the digest of a state) where there is one.

    With a `seed` the machine stands still outside of the requests that drive it (`Spawn`, `Expect`, `ReadScreen`,
    `Advance`, `Replay`). `fresh` gives the state the seed's own time and entropy; otherwise a state of that seed goes
    on as it would have. The reply's value is that of `ReadStatistics`.
    """

    image: Mapping[str, Any]
    state: str | None = None
    seed: int | None = None
    fresh: bool = False


@dataclass(frozen=True, kw_only=True)
class Pause(Request):
    """Stop guest time; a seeded machine no longer goes live."""


@dataclass(frozen=True, kw_only=True)
class Resume(Request):
    """Let guest time go on; a seeded machine goes live: its clock follows the wall clock until `Pause`."""


@dataclass(frozen=True, kw_only=True)
class Reset(Request):
    """Power-cycle: a fresh instance that keeps disks, shared files and media."""


@dataclass(frozen=True, kw_only=True)
class Spawn(Request):
    """Run a program through the guest's agent; `payload` is its standard input.

    The reply's value has ``returncode``, ``stdout`` (bytes of the payload that are standard output, the rest is
    standard error), ``cut`` and ``instructions``.

    `timeout` is in seconds, of guest time on a seeded machine; `wall_timeout` is in seconds of the host,
    `instructions` are the guest's. The value of the `Failure` for one that is used up says which, as ``budget``.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    timeout: float | None
    stream: bool
    limit: int
    instructions: int | None = None
    wall_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cancel(Request):
    """End another request early: a command is interrupted, a wait given up."""

    target: int


@dataclass(frozen=True, kw_only=True)
class Send(Request):
    """Type `payload` into the serial console."""


@dataclass(frozen=True, kw_only=True)
class Expect(Request):
    """Wait until one of `patterns` (see ``matcher.js``) matches what the serial console shows.

    With `seen` the engine does not match: it stops the guest once more than `seen` bytes have come since something was
    last consumed, and answers with all that is unconsumed, because Python has patterns of its own to try; `Consume` or
    the next `Expect` lets the guest go on.
    """

    patterns: Sequence[Mapping[str, Any] | None]
    timeout: float | None
    seen: int | None = None
    instructions: int | None = None
    wall_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Consume(Request):
    """Python matched: drop the first `count` unconsumed bytes and let the guest go on."""

    count: int


@dataclass(frozen=True, kw_only=True)
class ReadScreen(Request):
    """The VGA's text; with `since`, once it has changed from that version."""

    since: int | None = None
    timeout: float | None = None
    instructions: int | None = None
    wall_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Advance(Request):
    """Let a seeded machine run until one of these is used up, or it has ended; the reply's value: `ReadStatistics`."""

    seconds: float | None = None
    instructions: int | None = None
    wall_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class HashState(Request):
    """What the machine is, in one digest: the reply's value has ``hash`` and those of its ``sections`` by name."""


@dataclass(frozen=True, kw_only=True)
class DescribeState(Request):
    """What the machine is, in parts that two machines can be compared by; the reply's payload is JSON."""


@dataclass(frozen=True, kw_only=True)
class ReadRecording(Request):
    """What came into a seeded machine since its course began; the reply's payload is JSON.

    An object with ``seed``, ``image``, ``state`` and ``fresh`` (as in the `Boot` with which it began: a state of the
    same seed brings its course along), ``events`` (``[step, instructions, kind, ...]`` each), and how far it has come:
    ``steps``, ``instructions``, ``seconds``.
    """


@dataclass(frozen=True, kw_only=True)
class Replay(Request):
    """Let a seeded machine that was just booted run again what `payload`, the JSON of the events, says.

    It ends where the recording did, at that many `steps` and `instructions`. The reply's value is that of
    `ReadStatistics`.
    """

    steps: int
    instructions: int


@dataclass(frozen=True, kw_only=True)
class Press(Request):
    """Deliver scancodes (``{"codes": [...]}``) and rests (``{"wait": milliseconds}``)."""

    steps: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ReadRegisters(Request):
    """The CPU's registers."""


@dataclass(frozen=True, kw_only=True)
class ReadMemory(Request):
    """Physical memory from `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class WriteMemory(Request):
    """Write `payload` into physical memory at `start`."""

    start: int


@dataclass(frozen=True, kw_only=True)
class Capture(Request):
    """The whole machine as bytes (zstd), with the media that are in its drives.

    With `start` it is what other machines are to start from: its history is left out.
    """

    start: bool = False


@dataclass(frozen=True, kw_only=True)
class ChangeMedium(Request):
    """Put a medium into a drive, or take it out."""

    drive: str
    medium: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ExportTree(Request):
    """What the guest has over 9p, as it is now.

    The reply's payload is a manifest (`v86lab.tree9p`) and then the chunks that the guest has changed, which it names
    ``n0``, ``n1``...; the value has the lengths: ``manifest``, and ``parts``, a list.
    """


@dataclass(frozen=True, kw_only=True)
class ReadFetches(Request):
    """What was fetched for the files that the guest has over 9p; the reply's payload is JSON.

    A list of objects with ``seconds`` (of the guest's clock), ``path`` and ``bytes`` (as they travelled); the value has
    ``forgotten``, how many older ones are left out.
    """


@dataclass(frozen=True, kw_only=True)
class ReadStatistics(Request):
    """Instructions, guest time, steps, whether it is live, its seed, bytes and requests of disks and share."""


@dataclass(frozen=True, kw_only=True)
class ReadPixels(Request):
    """What the screen shows, as RGBA, row by row; the reply's value has ``width`` and ``height``."""


@dataclass(frozen=True, kw_only=True)
class Watch(Request):
    """Say which notices the sender wants from now on; each `Watch` replaces the sender's last.

    With `console` the reply's payload is what the serial console has shown until now (its end, bounded), and
    `ConsoleOutput` follows it; with `screen` a `Frame` of the whole screen comes first. The reply's value has
    ``status``, ``code`` and ``reason``.
    """

    console: bool = False
    screen: bool = False
    activity: bool = False


@dataclass(frozen=True, kw_only=True)
class Join(Request):
    """A page's first request to the Hub: the page shows this machine.

    `able` says whether the page could run it (workers, WebAssembly), `hosts` is the key of the engine that it runs for
    it, `kept` what `Checkpoint` said of the state that it kept of an earlier run.
    """

    page: str
    able: bool
    hosts: str | None = None
    kept: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StartHere(Request):
    """Run the machine in the page that asks: from the checkpoint that it keeps, or afresh (None)."""

    checkpoint: str | None = None


@dataclass(frozen=True, kw_only=True)
class TakeSnapshot(Request):
    """A person asks Python for a snapshot; the reply's value has its ``name``."""


@dataclass(frozen=True, kw_only=True)
class RestoreSnapshot(Request):
    """A person asks Python to go back to the snapshot of this name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """An engine is there."""

    kind: str
    abi: int
    version: str
    wasm: str


@dataclass(frozen=True, kw_only=True)
class Reply(Message):
    """The answer to a request."""

    id: int
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Failure(Message):
    """A request that could not be served; `code` says whose fault it is."""

    id: int
    code: str
    message: str
    expected: str | None = None
    seen: str | None = None
    hint: str | None = None
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Status(Message):
    """The machine's status changed."""

    status: str
    code: str | None = None
    reason: str | None = None
    registers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Output(Message):
    """Part of what a streaming command prints; `fd` is 1 or 2."""

    id: int
    fd: int


@dataclass(frozen=True, kw_only=True)
class ConsoleOutput(Message):
    """What the serial console showed."""


@dataclass(frozen=True, kw_only=True)
class Frame(Message):
    """Part of the screen changed: RGBA of the rectangle `rect` (x, y, width, height) of a screen of `size` pixels.

    With `packed` the payload is a zlib stream.
    """

    size: Sequence[int]
    rect: Sequence[int]
    graphical: bool
    packed: bool = False


@dataclass(frozen=True, kw_only=True)
class Activity(Message):
    """What the machine did in the last second: `mips` and `busy` (0 to 1) are of that second, the rest are totals."""

    instructions: int
    seconds: float
    mips: float
    busy: float
    disk_requests: int
    disk_bytes: int
    share_requests: int
    share_bytes: int


@dataclass(frozen=True, kw_only=True)
class Download(Message):
    """Bytes of `name` are on their way: `loaded` of `total`, if that is known."""

    name: str
    loaded: int
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Message):
    """The engine's host kept the machine as it was at `at` (seconds since 1970), under the digest of the state."""

    digest: str
    size: int
    instructions: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Standing(Message):
    """Python to a page: how things stand with the machine.

    `status` is the machine's, or "lost" when the page that ran it is gone. `engine` is "node", "browser" or "none",
    `why` the reason; `here`: the page that is told runs it. `kept` is the checkpoint of this page that `StartHere` may
    name when it is lost. `seed` is None on wall-clock time.
    """

    name: str
    status: str
    reason: str | None
    engine: str
    why: str
    here: bool
    snapshots: Sequence[str]
    current: str | None
    kept: Mapping[str, Any] | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Offer(Message):
    """Python to a page: run this machine. `key` is the engine's address at the Hub, the others digests of its code."""

    key: str
    worker: str
    wasm: str


@dataclass(frozen=True, kw_only=True)
class Log(Message):
    """Python to a page: something that a person should know."""

    text: str


def _wire_name(kind: type[Message]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _kinds(base: type[Message]) -> Iterator[type[Message]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


_BY_NAME: dict[str, type[Message]] = {_wire_name(kind): kind for kind in _kinds(Message) if kind is not Request}
_FIELDS: dict[type[Message], dict[str, Any]] = {
    kind: {name: hint for name, hint in get_type_hints(kind).items() if name != "payload"} for kind in _BY_NAME.values()
}


def encode(message: Message) -> list[bytes]:
    """Turn a message into WebSocket frames.

    Parameters
    ----------
    message : Message

    Returns
    -------
    list of bytes
        One binary WebSocket frame each, to be sent in this order with nothing in between.

    Raises
    ------
    ImageError
        The message is too long, or holds a number that JSON does not know.

    Examples
    --------
    >>> [len(frame) for frame in encode(Send(id=1, payload=bytes(5 << 20)))]
    [4194309, 1048603]
    """
    fields = {item.name: getattr(message, item.name) for item in dataclasses.fields(message) if item.name != "payload"}
    body = {"type": _wire_name(type(message)), **fields}
    try:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ImageError(
            "a number cannot be used", expected="a finite one", seen=str(error), hint="timeout=None waits for ever"
        ) from error
    header = text.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes JSON's own escape of it
    payload = memoryview(message.payload)
    if len(header) > MOST_HEADER or len(header) + len(payload) > MOST_BYTES:
        raise ImageError(
            "a request is too long for the engine",
            expected=f"at most {MOST_HEADER} bytes of arguments and {MOST_BYTES} of data",
            seen=f"{len(header)} and {len(payload)}",
        )
    cut = max(0, (len(payload) - 1) // CHUNK * CHUNK)
    frames = [b"".join((_PREFIX.pack(1, 0), payload[at : at + CHUNK])) for at in range(0, cut, CHUNK)]
    frames.append(b"".join((_PREFIX.pack(0, len(header)), header, payload[cut:])))
    return frames


class Decoder:
    """Puts frames of one direction together to messages.

    Examples
    --------
    >>> decoder = Decoder()
    >>> [decoder.push(frame) for frame in encode(Pause(id=3))]
    [Pause(id=3)]
    """

    def __init__(self) -> None:
        self._parts: list[memoryview] = []
        self._size = 0

    def push(self, frame: bytes) -> Message | None:
        """Take a frame; give the message that it completes.

        Raises
        ------
        EngineError
            The frame does not follow the protocol.
        """
        if len(frame) < _PREFIX.size:
            raise _violation(f"a frame of {len(frame)} bytes")
        more, length = _PREFIX.unpack_from(frame)
        body = memoryview(frame)[_PREFIX.size :]
        if more not in (0, 1) or length > min(len(body), MOST_HEADER) or (more and length):
            raise _violation(f"a frame that begins with {frame[:8].hex()}")
        self._size += len(body)
        if self._size > MOST_BYTES:
            raise _violation(f"a message of more than {MOST_BYTES} bytes")
        self._parts.append(body[length:])
        if more:
            return None
        payload = b"".join(self._parts)
        self._parts, self._size = [], 0
        return _message(bytes(body[:length]), payload)


def _message(header: bytes, payload: bytes) -> Message:
    try:
        body = json.loads(header)
        kind = _BY_NAME[body.pop("type")]
        for name, value in body.items():
            if not _is(value, _FIELDS[kind][name]):
                raise TypeError(f"{name} is {value!r:.80}")
        return kind(payload=payload, **body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _violation(f"{header[:200]!r} ({error!s:.200})") from error


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of the type that a field is annotated with; a bool is no number."""
    if kind is Any:
        return True
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is(value, one) for one in args)
    if origin is Mapping:
        return isinstance(value, dict) and all(_is(one, args[1]) for one in value.values())
    if origin is Sequence:
        return isinstance(value, list) and all(_is(one, args[0]) for one in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _violation(seen: str) -> EngineError:
    return EngineError(
        "a message does not follow the protocol",
        expected="a frame as v86lab.protocol describes",
        seen=seen,
        hint="the page or process and this Python hold different versions of v86lab",
    )
