"""How a page gets in: a ticket, good once and for a minute, becomes a session of one origin."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from v86lab.hub import Hub
from v86lab.store import Store

ORIGIN = "http://127.0.0.1:8888"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(Store(tmp_path / "store", shared=[]))
    yield hub
    hub.close()


class Echo:
    """Says back what it hears, and notes what happens to it."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def connected(self, send: Callable[[list[bytes | str]], None]) -> None:
        self.log.append("connected")
        self.send = send

    def received(self, data: bytes | str) -> None:
        self.send([data])

    def disconnected(self) -> None:
        self.log.append("disconnected")


def ask(hub: Hub, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", hub.port)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


def exchange(hub: Hub, ticket: str, origin: str = ORIGIN) -> tuple[int, dict[str, str]]:
    status, body, headers = ask(hub, "POST", f"/{hub.id}/session", ticket, Origin=origin)
    assert headers["Access-Control-Allow-Origin"] == "*"
    return status, json.loads(body)


def session(hub: Hub, origin: str = ORIGIN) -> str:
    status, answer = exchange(hub, hub.make_ticket(), origin)
    assert status == 200
    return answer["secret"]


async def dial(hub: Hub, path: str) -> Any:
    return await websocket_connect(HTTPRequest(f"ws://127.0.0.1:{hub.port}{path}", headers={"Origin": ORIGIN}))


def answer(hub: Hub, path: str, origin: str | None = ORIGIN) -> int:
    """The status that a WebSocket's handshake gets."""
    return ask(hub, "GET", path, **UPGRADE, **({} if origin is None else {"Origin": origin}))[0]


def test_a_page_learns_that_it_found_the_hub_without_a_secret(hub: Hub) -> None:
    status, body, headers = ask(hub, "GET", f"/{hub.id}")
    assert (status, json.loads(body), headers["Access-Control-Allow-Origin"]) == (200, {"hub": hub.id}, "*")
    assert ask(hub, "GET", f"/{hub.id[:-1]}")[0] == 404


def test_a_ticket_is_good_once(hub: Hub) -> None:
    used: list[int] = []
    ticket = hub.make_ticket(lambda: used.append(1))
    status, answer = exchange(hub, ticket)
    assert status == 200 and len(answer["secret"]) >= 43
    assert ask(hub, "GET", f"/{answer['secret']}/blob/{'0' * 64}")[0] == 404
    assert exchange(hub, ticket) == (403, {"error": "ticket"})
    assert used == [1]


def test_a_ticket_whose_answer_was_lost_is_exchanged_again_by_the_same_origin_alone(hub: Hub) -> None:
    used: list[int] = []
    ticket, digest = hub.make_ticket(lambda: used.append(1)), hub.store.put(b"data")
    lost = exchange(hub, ticket)[1]["secret"]
    assert exchange(hub, ticket, "http://evil.example")[0] == 403
    status, answer = exchange(hub, ticket)
    assert status == 200 and used == [1]
    assert ask(hub, "GET", f"/{lost}/blob/{digest}")[0] == 404
    assert ask(hub, "GET", f"/{answer['secret']}/blob/{digest}")[0] == 200
    assert exchange(hub, ticket)[0] == 403


def test_a_ticket_is_good_for_a_minute(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, other, now = hub.make_ticket(), hub.make_ticket(), time.monotonic()
    monkeypatch.setattr("v86lab.hub.time.monotonic", lambda: now + 59)
    assert exchange(hub, other)[0] == 200
    monkeypatch.setattr("v86lab.hub.time.monotonic", lambda: now + 61)
    assert exchange(hub, ticket)[0] == 403


@pytest.mark.parametrize("ticket", ["", "x", "\xff" * 8, "None"])
def test_a_wrong_ticket_is_refused(hub: Hub, ticket: str) -> None:
    assert exchange(hub, ticket)[0] == 403


def test_the_token_is_no_ticket_and_the_hubs_id_no_secret(hub: Hub) -> None:
    digest = hub.store.put(b"data")
    assert exchange(hub, hub.url.split("/")[3])[0] == 403
    assert ask(hub, "GET", f"/{hub.id}/blob/{digest}")[0] == 404


def test_a_session_opens_blobs(hub: Hub) -> None:
    digest, secret = hub.store.put(b"data"), session(hub)
    assert ask(hub, "GET", f"/{secret}/blob/{digest}")[:2] == (200, "data")
    assert ask(hub, "GET", f"/{secret[:-1]}/blob/{digest}")[0] == 404


def test_a_session_opens_sockets_to_pages_of_its_own_origin_only(hub: Hub) -> None:
    hub.show("m", Echo)
    secret = session(hub)
    assert answer(hub, f"/{secret}/view/m") == 101
    for origin in ("http://evil.example", "null", ORIGIN + "9", None):
        assert answer(hub, f"/{secret}/view/m", origin) == 403
    assert answer(hub, f"/{secret}/view/other") == 404
    assert answer(hub, f"/{secret[:-1]}/view/m") == 404


def test_every_page_has_a_listener_of_its_own_and_messages_of_both_kinds_pass(hub: Hub) -> None:
    made: list[Echo] = []

    def listener() -> Echo:
        made.append(Echo())
        return made[-1]

    async def talk() -> None:
        path = f"/{session(hub)}/view/m"
        one, two = await dial(hub, path), await dial(hub, path)
        await one.write_message(b"\x00bytes", binary=True)
        await two.write_message("text")
        assert (await one.read_message(), await two.read_message()) == (b"\x00bytes", "text")
        one.close()
        await two.write_message("still here")
        assert await two.read_message() == "still here"
        two.close()

    hub.show("m", listener)
    asyncio.run(talk())
    assert len(made) == 2


def test_an_engine_that_dials_again_takes_the_place_of_its_lost_socket(hub: Hub) -> None:
    echo = Echo()
    key, _ = hub.expect_engine(echo, redial=True)
    path = f"/{session(hub)}/engine/{key}"

    async def talk() -> None:
        one = await dial(hub, path)
        two = await dial(hub, path)
        assert await one.read_message() is None
        await two.write_message("new")
        assert await two.read_message() == "new"
        assert echo.log == ["connected", "disconnected", "connected"]
        hub.forget_engine(key)
        assert await two.read_message() is None
        assert two.close_code == 4000
        one.close()
        two.close()

    asyncio.run(talk())
    assert answer(hub, path) == 404
    assert echo.log[-1] == "disconnected"


def test_a_machine_that_is_hidden_is_not_found_and_its_pages_are_told(hub: Hub) -> None:
    hub.show("m", Echo)
    path = f"/{session(hub)}/view/m"

    async def talk() -> int | None:
        socket = await dial(hub, path)
        hub.hide("m")
        assert await socket.read_message() is None
        socket.close()
        code: int | None = socket.close_code
        return code

    assert asyncio.run(talk()) == 4000
    assert answer(hub, path) == 404
