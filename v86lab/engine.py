"""An engine: where a machine's CPU runs, seen from Python.

`NodeEngine` is a Node process of its own that dials the Hub. It ends with this Python process, however that ends: it
watches its standard input, its parent and its socket. When the process dies, everything under way fails with
`EngineError` that says what it printed last.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib.resources import files
from typing import Any

from .channel import Channel, Pending
from .errors import EngineError
from .hub import Hub
from .node import find_node
from .protocol import Hello, Message, Request

_HELLO_PATIENCE = 60.0  # s; a loaded machine may take long to start a process
_EXIT_PATIENCE = 5.0
_STDERR_KEPT = 4000  # characters


class NodeEngine:
    """A Node process that runs one machine.

    Parameters
    ----------
    hub : Hub
        The Hub it dials and takes blobs from.
    notice : callable
        Hears every message that is not an answer, on the Hub's thread.

    Raises
    ------
    EngineError
        No usable Node, or a process that did not come up.
    """

    kind = "node"

    def __init__(self, hub: Hub, notice: Callable[[Message], None]) -> None:
        self._notice = notice
        self._hub = hub
        self._hello: Future[Hello] = Future()
        self._channel: Channel | None = None
        self._stderr = ""
        self._key, address = hub.expect_engine(self)
        script = str(files("v86lab") / "static" / "node.mjs")
        try:
            self._process = subprocess.Popen(
                [find_node(), "--no-warnings", script],
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
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died already: `hello` says so
            self._process.stdin.write(json.dumps({"hub": hub.url, "socket": address}).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Process id of the Node process."""
        return self._process.pid

    def hello(self) -> Hello:
        """Wait until the engine is there, and say what it is."""
        try:
            return self._hello.result(_HELLO_PATIENCE)
        except TimeoutError as error:
            self.close()
            raise EngineError(
                f"the engine's process did not report within {_HELLO_PATIENCE:.0f} s", seen=self._last_words()
            ) from error

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        """Send a request; see `Channel.request`."""
        self.hello()
        assert self._channel is not None
        return self._channel.request(kind, **fields)

    def release(self) -> None:
        """Let the process end, without waiting for it."""
        if self._channel is not None:
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

    def connected(self, send: Callable[[list[bytes]], None]) -> None:
        self._channel = Channel(send, self._heard)

    def received(self, frame: bytes) -> None:
        assert self._channel is not None
        try:
            self._channel.receive(frame)
        except EngineError as error:
            self._channel.lose(error)

    def disconnected(self) -> None:
        """The process is about to end, or has ended; its last words come through `_read_stderr`."""

    def _heard(self, message: Message) -> None:
        if isinstance(message, Hello):
            self._hello.set_result(message)
        else:
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
        if self._channel is not None:
            self._channel.lose(error)
        if not self._hello.done():
            self._hello.set_exception(error)

    def _last_words(self) -> str:
        status = self._process.poll()
        how = "still running" if status is None else f"exit status {status}"
        return f"{how}, {self._stderr.strip()[-500:]}" if self._stderr.strip() else how
