"""The Hub as other users and web pages of this computer see it: the same 404 everywhere, and no trace of the token."""

from __future__ import annotations

import http.client
import logging
import urllib.parse
from collections.abc import Callable

import pytest

import v86lab as lab
from v86lab.engine import NodeEngine

pytestmark = pytest.mark.boot


def ask(vm: lab.Machine, method: str, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", vm.hub.port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        fields = {name: value for name, value in answer.getheaders() if name not in ("Date", "Content-Length")}
        return answer.status, answer.read(), fields
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def token_of(vm: lab.Machine) -> str:
    return urllib.parse.urlsplit(vm.hub.url).path.strip("/")


class Nobody:
    """An engine's owner whose engine never dials."""

    def connected(self, send: Callable[[list[bytes | str]], None]) -> None:
        raise AssertionError(f"somebody dialled: {send}")

    def received(self, data: bytes | str) -> None:
        raise AssertionError(f"somebody said {data!r}")

    def disconnected(self) -> None:
        pass


def waiting(vm: lab.Machine) -> str:
    """The key of an address that an engine is to dial."""
    key, _ = vm.hub.expect_engine(Nobody())
    return key


def test_without_the_token_every_path_is_the_same_404(vm: lab.Machine) -> None:
    token, digest = token_of(vm), vm.image.bios
    wrong = [token[:-1], token + "x", "", "x", token.lower(), "%00", "..", "ž".encode().hex()]
    key = waiting(vm)
    paths = ["/", "/favicon.ico", "/engine/" + key, f"/{token[:-1]}/engine/{key}"]
    paths += [f"/{one}/blob/{digest}" for one in wrong] + [f"/{one}/" for one in wrong] + [f"/{one}" for one in wrong]
    seen = {ask(vm, "GET", path)[:2] for path in paths}
    assert len(seen) == 1 and next(iter(seen))[0] == 404
    assert {tuple(sorted(ask(vm, "GET", path)[2])) for path in paths} == {tuple(sorted(ask(vm, "GET", "/")[2]))}
    assert {ask(vm, method, path)[0] for method in ("POST", "PUT", "OPTIONS", "DELETE") for path in paths} == {404}
    assert {ask(vm, "GET", path, **UPGRADE)[0] for path in paths} == {404}
    assert ask(vm, "GET", f"/{token}/blob/{digest}")[0] == 200


def test_with_the_token_what_is_not_there_is_a_404(vm: lab.Machine) -> None:
    token = token_of(vm)
    for path in ("", "blob/", "blob/" + "0" * 64, "blob/../../etc/passwd", "engine/none", "engine/"):
        assert ask(vm, "GET", f"/{token}/{path}")[0] == 404


def test_a_page_of_any_origin_cannot_open_an_engines_socket(vm: lab.Machine) -> None:
    key = waiting(vm)
    path = f"/{token_of(vm)}/engine/{key}"
    for origin in ("http://evil.example", f"http://127.0.0.1:{vm.hub.port}", "null", "http://localhost:8888"):
        assert ask(vm, "GET", path, Origin=origin, **UPGRADE)[0] == 403
    assert vm.run("echo undisturbed").stdout == "undisturbed\n"


def test_an_engines_socket_cannot_be_taken_by_a_second_one(vm: lab.Machine) -> None:
    engine = vm._session.engine
    assert isinstance(engine, NodeEngine)
    key = engine._key
    status, _, _ = ask(vm, "GET", f"/{token_of(vm)}/engine/{key}", **UPGRADE)
    assert status == 404
    assert vm.run("echo undisturbed").stdout == "undisturbed\n"


def test_the_token_is_in_no_repr_and_no_log(vm: lab.Machine, caplog: pytest.LogCaptureFixture) -> None:
    token = token_of(vm)
    with caplog.at_level(logging.DEBUG):
        vm.run("true")
        for path in (f"/{token}/blob/{vm.image.bios}", f"/{token}/nothing", f"/{token}/engine/none", "/wrong"):
            ask(vm, "GET", path)
            ask(vm, "POST", path)
            ask(vm, "GET", path, **UPGRADE)
    shown = [repr(vm), repr(vm.hub), repr(vm.engine), repr(vm._session), str(vars(vm.engine)), caplog.text]
    assert not [text for text in shown if token in text]
