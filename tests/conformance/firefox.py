"""A Firefox without a window, driven over WebDriver BiDi, which it speaks by itself: no driver beside it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE = 60.0  # s for anything that has no limit of its own
_ADDRESS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Firefox:
    """One page of it; `start` makes it and ends it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection) -> None:
        self._loop, self._socket = loop, socket
        self._count = 0
        self._call("session.new", {"capabilities": {}})
        self._page = self._call("browsingContext.getTree", {})["contexts"][0]["context"]

    @classmethod
    @contextmanager
    def start(cls, executable: Path, folder: Path) -> Iterator[Firefox]:
        """Run it with a home and a profile of its own in `folder` until the block ends."""
        profile, log = folder / "profile", folder / "firefox.log"
        profile.mkdir(parents=True)
        command = [str(executable), "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=os.environ | {"HOME": str(folder)}, stdout=output, stderr=subprocess.STDOUT
            )
        loop = asyncio.new_event_loop()
        try:
            address = _wait_for_address(process, log)
            socket = loop.run_until_complete(_connected(address + "/session"))
            yield cls(loop, socket)
            socket.close()
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            loop.run_until_complete(asyncio.sleep(0.1))  # the socket hears of it
            loop.close()

    def goto(self, url: str) -> None:
        self._call("browsingContext.navigate", {"context": self._page, "url": url, "wait": "complete"})

    def evaluate(self, expression: str, timeout: float = PATIENCE) -> Any:
        """The value of an expression in the page, as JSON would have it; a promise is awaited."""
        wrapped = f"(async () => JSON.stringify(await ({expression})) ?? null)()"
        where = {"target": {"context": self._page}, "awaitPromise": True}
        answer = self._call("script.evaluate", {"expression": wrapped, **where}, timeout)
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        text = answer["result"].get("value")
        return None if text is None else json.loads(text)

    def wait_for(self, expression: str) -> None:
        """Until an expression in the page is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.1)

    def _call(self, method: str, parameters: dict[str, Any], timeout: float = PATIENCE) -> dict[str, Any]:
        async def answered() -> dict[str, Any]:
            self._count += 1
            await self._socket.write_message(json.dumps({"id": self._count, "method": method, "params": parameters}))
            while True:
                said = await self._socket.read_message()
                assert said is not None, "Firefox has hung up"
                message: dict[str, Any] = json.loads(said)
                if message.get("id") == self._count:
                    assert message["type"] == "success", message
                    result: dict[str, Any] = message["result"]
                    return result

        return self._loop.run_until_complete(asyncio.wait_for(answered(), timeout))


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=1 << 28)


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if found := _ADDRESS.search(log.read_text("utf-8", "replace")):
                return found[1]
        time.sleep(0.1)
    raise AssertionError(f"Firefox did not start; it said:\n{log.read_text('utf-8', 'replace')[-4000:]}")
