"""An engine: where a machine's CPU runs, seen from Python.

`NodeEngine` is the one without a browser (`v86lab.browser` has the other kind): a Node process of its own that dials
the Hub. It ends with this Python process, however that ends: it watches its standard input, its parent and its socket.
When the process dies, everything under way fails with `EngineError` that says what it printed last.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Protocol

from .channel import Channel, Pending
from .errors import EngineError
from .hub import Hub
from .node import find_node
from .protocol import Hello, Message, Request

_EXIT_PATIENCE = 5.0
# Optimising v86.wasm costs V8 seconds of processor time after a start. One thread for it, without inlining (which
# node.js sets: Node 22 refuses the option), leaves the guest a core of its own: the first hundred commands take a third
# of the time, and a busy guest is no slower. Functions are validated when they are first compiled, not at the start.
_NODE_OPTIONS = ("--no-warnings", "--v8-pool-size=1", "--wasm-lazy-validation")
_STDERR_KEPT = 4000  # characters


class Engine(Protocol):
    """What a session needs of an engine, wherever it runs."""

    kind: str

    @property
    def pid(self) -> int | None:
        """Process id, of an engine that is a process."""

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        """Send a request; see `Channel.request`."""

    def poke(self) -> None:
        """Somebody waits for an answer: see whether the engine is alive. Called every half second."""

    def release(self) -> None:
        """Let it end, without waiting for it."""

    def close(self) -> None:
        """End it. May be called again, and on any thread."""


class NodeEngine:
    """A Node process that runs one machine.

    Parameters
    ----------
    hub : Hub
        The Hub it dials and takes blobs from.
    notice : callable
        Hears every message that is not an answer, on the Hub's thread.
    ended : callable
        Told when the process has ended without having been asked to, on a thread of its own.

    Raises
    ------
    EngineError
        No usable Node, or a process that did not come up.
    """

    kind = "node"

    def __init__(self, hub: Hub, notice: Callable[[Message], None], ended: Callable[[EngineError], None]) -> None:
        self._notice = notice
        self._ended = ended
        self._released = False
        self._hub = hub
        self._stderr = ""
        self._channel = Channel(self._send, self._heard)
        self._line = threading.Lock()
        self._early: list[bytes] | None = None
        self._sender: Callable[[list[bytes | str]], None] | None = None
        node = find_node()
        self._key, self._address = hub.expect_engine(self)
        script = str(files("v86lab") / "static" / "node.mjs")
        try:
            self._process = subprocess.Popen(
                [node, *_NODE_OPTIONS, script],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is Python's to handle
            )
        except OSError as error:
            hub.forget_engine(self._key)
            raise EngineError("the engine's process cannot be started", seen=str(error)) from error
        self._reader = threading.Thread(target=self._read_stderr, name="v86lab engine stderr", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the Node process."""
        return self._process.pid

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        """Send a request; see `Channel.request`."""
        return self._channel.request(kind, **fields)

    def poke(self) -> None:
        """A process that died says so by itself."""

    def release(self) -> None:
        """Let the process end, without waiting for it."""
        self._released = True
        self._channel.lose(EngineError("the machine was closed"))
        self._hub.forget_engine(self._key)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def close(self) -> None:
        """End the process. May be called again, and on any thread."""
        self.release()
        try:
            self._process.wait(_EXIT_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_EXIT_PATIENCE)

    def connected(self, send: Callable[[list[bytes | str]], None]) -> None:
        with self._line:
            self._sender = send
            send([*(self._early or [])])

    def received(self, data: bytes | str) -> None:
        if isinstance(data, str):
            return  # a process of ours on this computer needs no `Line`
        try:
            self._channel.receive(data)
        except EngineError as error:
            self._channel.lose(error)

    def disconnected(self) -> None:
        """The process is about to end, or has ended; its last words come through `_read_stderr`."""

    def _send(self, frames: list[bytes]) -> None:
        """Until the socket is up frames wait; the first ones go along with the address, so that work begins at once."""
        with self._line:
            if self._sender is not None:
                self._sender([*frames])
            elif self._early is None:
                self._early = []
                self._tell_address(frames)
            else:
                self._early += frames

    def _tell_address(self, frames: list[bytes]) -> None:
        line = {"hub": self._hub.url, "socket": self._address, "frames": [b64encode(one).decode() for one in frames]}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died already: `_read_stderr` tells
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()

    def _heard(self, message: Message) -> None:
        if not isinstance(message, Hello):  # the bundle is this package's own: nothing to learn from a greeting
            self._notice(message)

    def _read_stderr(self) -> None:
        """Keep the last words; when they end, so has the process."""
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._stderr = (self._stderr + line.decode(errors="replace"))[-_STDERR_KEPT:]
        self._process.wait()
        error = EngineError(
            "the engine's process ended",
            seen=self._last_words(),
            hint="vm.reset() starts the machine on a new engine; what it had written to its disks is lost",
        )
        self._channel.lose(error)
        if not self._released:
            self.release()
            self._ended(error)

    def _last_words(self) -> str:
        status = self._process.poll()
        how = "still running" if status is None else f"exit status {status}"
        return f"{how}, {self._stderr.strip()[-500:]}" if self._stderr.strip() else how
