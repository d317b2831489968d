"""An engine without a guest: it answers as a script says, over the real wire format, and keeps what it was asked."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any

from v86lab.channel import Channel, Pending
from v86lab.errors import EngineError
from v86lab.hub import Hub
from v86lab.protocol import (
    Advance,
    Boot,
    Cancel,
    Capture,
    Decoder,
    DescribeState,
    Failure,
    HashState,
    Message,
    ReadMemory,
    ReadScreen,
    ReadStatistics,
    Reply,
    Request,
    Reset,
    Spawn,
    Status,
    encode,
)

Answer = Message | list[Message]


class Script:
    """What the guest does: a clock, a status, and answers by the type of a request.

    An answer is a message, or several: notices go ahead. `delay` holds it back, in seconds.
    """

    def __init__(self) -> None:
        self.seconds, self.instructions = 0.0, 0
        self.seed: int | None = None
        self.memory = bytearray(1 << 20)
        self.asked: list[Request] = []
        self.engines: list[ScriptedEngine] = []
        self.answers: dict[type[Request], Callable[[Any], Answer]] = {}
        self.delay: dict[type[Request], float] = {}

    def engine(self, _hub: Hub, notice: Callable[[Message], None], _ended: object) -> ScriptedEngine:
        """To be put in place of `NodeEngine`."""
        self.engines.append(ScriptedEngine(self, notice))
        return self.engines[-1]

    def of(self, kind: type[Request]) -> list[Any]:
        """The requests of a type, without their ids."""
        return [dataclasses.replace(one, id=0) for one in self.asked if type(one) is kind]

    def spend(self, seconds: float, instructions: int = 0) -> None:
        """Let guest time pass."""
        self.seconds += seconds
        self.instructions += instructions

    def statistics(self) -> dict[str, Any]:
        return {
            "instructions": self.instructions,
            "seconds": self.seconds,
            "seed": self.seed,
            "live": False,
            "steps": 0,
        }

    def answer(self, request: Any) -> Answer:
        """What the engine says to a request."""
        self.asked.append(request)
        if type(request) in self.answers:
            return self.answers[type(request)](request)
        match request:
            case Boot():
                self.seed, self.seconds, self.instructions = request.seed, 0.0, 0
                return [self.status("running" if self.seed is None else "paused"), self.reply(request)]
            case Advance():
                self.spend(request.seconds or 0.0, request.instructions or 0)
                return self.reply(request)
            case Capture():
                return Reply(
                    id=request.id,
                    value={"instructions": self.instructions, "media": {"fda": None, "fdb": None, "cdrom": None}},
                    payload=f"state of seed {self.seed}".encode(),
                )
            case Spawn():
                return Reply(id=request.id, value={"returncode": 0, "stdout": 0, "cut": [0, 0], "instructions": 1})
            case ReadScreen():
                value = {"graphical": False, "columns": 2, "rows": 1, "cursor": None, "version": 1}
                return Reply(id=request.id, value=value, payload=b"hi")
            case HashState():
                return Reply(id=request.id, value={"hash": "0" * 64, "sections": {}})
            case DescribeState():
                return Reply(id=request.id, payload=json.dumps({"version": 1, "sections": self.sections()}).encode())
            case ReadMemory():
                return Reply(id=request.id, payload=bytes(self.memory[request.start : request.end]))
            case ReadStatistics() | Reset():
                return self.reply(request)
        return Reply(id=request.id)

    def sections(self) -> list[dict[str, Any]]:
        """What a description says: a register, and the memory."""
        blocks = {f"0x{at:08x}": self.memory[at : at + 4096].hex()[:8] for at in range(0, 16384, 4096)}
        cpu = {"name": "cpu", "fields": [["eax", f"{self.instructions:08x}"]], "blocks": {}}
        return [cpu, {"name": "ram", "fields": [], "blocks": blocks}]

    def reply(self, request: Request) -> Reply:
        """The answer that is the statistics."""
        return Reply(id=request.id, value=self.statistics())

    @staticmethod
    def status(status: str) -> Status:
        return Status(status=status)

    @staticmethod
    def late(request: Request, budget: str) -> Failure:
        """The answer to a request whose budget is used up."""
        return Failure(id=request.id, code="timeout", message="it came too late", value={"budget": budget})


class ScriptedEngine:
    """One end of a wire of which the script is the other."""

    kind = "node"
    pid = 0

    def __init__(self, script: Script, notice: Callable[[Message], None]) -> None:
        self._script = script
        self._decoder = Decoder()
        self._channel = Channel(self._send, notice)
        self.closed = False

    def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            request = self._decoder.push(frame)
            if isinstance(request, Request):
                timer = threading.Timer(self._script.delay.get(type(request), 0.0), self._answer, (request,))
                timer.daemon = True
                timer.start()

    def _answer(self, request: Request) -> None:
        if isinstance(request, Cancel):
            self._script.asked.append(request)
            self._receive(Failure(id=request.target, code="cancelled", message="cancelled"))
            self._receive(Reply(id=request.id))
            return
        answer = self._script.answer(request)
        for message in answer if isinstance(answer, list) else [answer]:
            self._receive(message)

    def _receive(self, message: Message) -> None:
        for frame in encode(message):
            self._channel.receive(frame)

    def request(self, kind: type[Request], **fields: Any) -> Pending:
        return self._channel.request(kind, **fields)

    def poke(self) -> None:
        """It never dies."""

    def release(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True
        self._channel.lose(EngineError("the engine was closed"))
