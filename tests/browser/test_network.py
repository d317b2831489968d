"""A network that fails, servers that forbid, browsers that lack: no cell stays dead, and the view says what and why."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from .conftest import FLAGS, chromium
from .jupyter import BASE_URL, Complaints, JupyterServer, Notebook
from .relay import Relay
from .test_pages import keep_a_checkpoint, state, terminal, view

Open = Callable[..., Notebook]
START = "import v86lab as lab\nvm = lab.Machine()"
SECURE, INSECURE = "jupyter.test", "plain.test"  # no loopback names: pages go by way of jupyter-server-proxy
PARTS = ("/session", "/view/", "/engine/", "/blob/")  # of the Hub's addresses
UNREACHED = r"ERR_|status of 50\d|WebSocket connection to|Failed to fetch|NetworkError|WebSocket is already in CL"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What has all servers here share a Store, in which the guest was booted once."""
    environment = {"V86LAB_HOME": str(tmp_path_factory.mktemp("store"))}
    subprocess.run([sys.executable, "-m", "v86lab", "warm"], env=os.environ | environment, check=True)
    return environment


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[JupyterServer]:
    """A server for the world, as it is reached beside it."""
    arguments = ["--ServerApp.allow_remote_access=True"]
    with JupyterServer.start(tmp_path_factory.mktemp("jupyter"), arguments=arguments, environment=store) as started:
        yield started


@pytest.fixture(scope="module")
def relay(near: JupyterServer) -> Iterator[Relay]:
    with Relay(int(near.origin.rpartition(":")[2])) as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium that knows the server by two names, and trusts one of them as it would https."""
    names = f"--host-resolver-rules=MAP {SECURE} 127.0.0.1, MAP {INSECURE} 127.0.0.1"
    trust = f"--unsafely-treat-insecure-origin-as-secure=http://{SECURE}:{relay.port}"
    home = str(tmp_path_factory.mktemp("chromium"))
    started = playwright.chromium.launch(
        executable_path=chromium(playwright), args=[*FLAGS, names, trust], env={**os.environ, "HOME": home}
    )
    yield started
    started.close()


def far(server: JupyterServer, host: str, port: int | str) -> JupyterServer:
    """The same server, as a page elsewhere reaches it."""
    return dataclasses.replace(server, origin=f"http://{host}:{port}")


@pytest.fixture
def open_notebook(near: JupyterServer, relay: Relay, page: Page) -> Iterator[Open]:
    """Opens notebooks at the far end of the relay."""

    def opened(*cells: str, host: str = SECURE, page: Page = page) -> Notebook:
        return Notebook.open(far(near, host, relay.port), page, cells)

    yield opened
    for shown in page.context.pages:
        shown.close()
    near.end_kernels()


def started(open_notebook: Open, *cells: str, **options: Any) -> Notebook:
    notebook = open_notebook(START, "vm", "vm.run('echo kept > /root/f').returncode, vm.engine.kind", *cells, **options)
    for n in range(3):
        notebook.run(n)
    assert notebook.text(2) == "(0, 'browser')"
    state(notebook, 1, "Running")
    return notebook


def said(notebook: Notebook, n: int) -> Any:
    """What the view says beside the machine."""
    return view(notebook, n).locator('[data-v86lab="notices"]')


# -- another host ------------------------------------------------------------------------------------------------------


def test_a_page_elsewhere_runs_the_machine_and_reaches_python_by_the_proxy_alone(
    open_notebook: Open, relay: Relay, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    notebook = started(open_notebook, "vm.run('cat /root/f').stdout")
    notebook.run(3)
    assert notebook.text(3) == r"'kept\n'"
    view(notebook, 1).get_by_text("in this browser").first.wait_for()
    elsewhere = [url for url in asked if not re.match(rf"(blob:)?(http|ws)://{SECURE}:{relay.port}/", url)]
    assert not elsewhere
    proxied = [url for url in asked if f":{relay.port}{BASE_URL}proxy/127.0.0.1:" in url]
    assert set(PARTS) == {part for url in proxied for part in PARTS if part in url}


def test_a_page_that_is_not_secure_runs_the_machine_and_says_that_nothing_is_kept(open_notebook: Open) -> None:
    notebook = started(open_notebook, "vm.run('cat /root/f').stdout", host=INSECURE)
    assert not notebook.page.evaluate("isSecureContext")
    notebook.run(3)
    assert notebook.text(3) == r"'kept\n'"
    expect(said(notebook, 1).get_by_text("keeps nothing")).to_have_count(1)


# -- a network that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "received"), [("/session$", 0), ("/view/", 300), ("/blob/", 50_000), ("/engine/", 300), ("/engine/", 600)]
)
def test_a_machine_starts_though_every_connection_to_python_is_cut_meanwhile(
    open_notebook: Open, relay: Relay, complaints: Complaints, path: str, received: int
) -> None:
    complaints.allow(UNREACHED)
    notebook = open_notebook(START, "vm", "vm.run('echo once').stdout, vm.engine.kind")
    notebook.run(0)
    cut = relay.cut_when(path, received)
    notebook.run(1)
    notebook.run(2)
    assert cut.is_set()
    assert notebook.text(2) == r"('once\n', 'browser')"
    state(notebook, 1, "Running")
    terminal(notebook, 1).get_by_text("You are root").wait_for()


def outage(relay: Relay, kind: str) -> AbstractContextManager[None]:
    outages: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "refused": relay.refused,
        "502": lambda: relay.bad_gateway("/proxy/"),
        "silent": relay.silent,
        "cut": nullcontext,
    }
    return outages[kind]()


@pytest.mark.parametrize("kind", ["cut", "refused", "502"])
def test_a_call_that_waits_outlives_an_interruption_and_nothing_happens_twice(
    open_notebook: Open, relay: Relay, complaints: Complaints, kind: str
) -> None:
    complaints.allow(UNREACHED)
    count = "vm.run('echo x >> /root/n; sleep 3; wc -l < /root/n').stdout"
    notebook = started(open_notebook, count, count)
    notebook.run(3, wait=False)
    for _ in range(2):
        notebook.page.wait_for_timeout(500)  # whenever it comes, the result is the same
        relay.cut()
        with outage(relay, kind):
            notebook.page.wait_for_timeout(1000)
    notebook.wait(3)
    with notebook.reconnection():
        relay.cut()
    notebook.run(4)
    assert notebook.text(3) + notebook.text(4) == r"'1\n''2\n'"
    state(notebook, 1, "Running")


@pytest.mark.parametrize("kind", ["refused", "502"])
def test_a_machine_is_started_while_nothing_gets_through(
    open_notebook: Open, relay: Relay, complaints: Complaints, kind: str
) -> None:
    complaints.allow(UNREACHED)
    notebook = open_notebook(START + "\ndisplay(vm)\nvm.run('echo once').stdout", "vm.run('echo twice').stdout")
    with notebook.reconnection(expected=kind == "refused") as interrupted, outage(relay, kind):
        interrupted()
        notebook.run(0, wait=False)
        notebook.page.wait_for_timeout(3000)
    notebook.wait(0)
    assert notebook.text(0).endswith(r"'once\n'")
    notebook.run(1)
    assert notebook.text(1) == r"'twice\n'"
    state(notebook, 0, "Running")
    terminal(notebook, 0).get_by_text("You are root").wait_for()


def test_a_slow_network_is_only_slow(open_notebook: Open, relay: Relay) -> None:
    notebook = open_notebook(START, "vm", "[vm.run(f'echo {n}').stdout for n in range(3)], vm.engine.kind")
    relay.delay = 0.1
    try:
        notebook.run_all()
        assert notebook.text(2) == r"(['0\n', '1\n', '2\n'], 'browser')"
        terminal(notebook, 1).get_by_text("You are root").wait_for()
    finally:
        relay.delay = 0.0


HASTE = (
    "from v86lab import browser\nbrowser._QUIET, browser._DEAD, browser._AWAY = 0.5, 2.0, 2.0"  # patience of seconds
)
WAIT = """
import pathlib, threading
def wait():
    try:
        vm.run('echo x >> /root/n; sleep 1000')
    except lab.errors.EngineError as error:
        pathlib.Path('said').write_text(str(error))
pathlib.Path('said').unlink(missing_ok=True)
threading.Thread(target=wait, daemon=True).start()
"""


@pytest.mark.parametrize("kind", ["502", "silent"])
def test_a_closed_laptop_ends_the_call_and_the_same_machine_goes_on_when_it_is_opened(
    open_notebook: Open, near: JupyterServer, relay: Relay, complaints: Complaints, kind: str
) -> None:
    complaints.allow(UNREACHED)
    notebook = started(
        open_notebook,
        HASTE,
        WAIT,
        "import time\nwhile vm.status == 'faulted':\n    time.sleep(0.1)\n"
        "vm.run('cat /root/f /root/n').stdout, vm.engine.kind",
    )
    keep_a_checkpoint(notebook)
    notebook.run(3)
    notebook.run(4)
    notebook.page.wait_for_timeout(500)
    with outage(relay, kind):
        for _ in range(300):
            if (near.root / "said").exists():
                break
            notebook.page.wait_for_timeout(100)
    assert re.search(
        r"cannot reach this Python.*its last checkpoint is of \d\d:", (near.root / "said").read_text(), re.S
    )
    state(notebook, 1, "Running")
    notebook.run(5)
    assert notebook.text(5) == r"('kept\nx\n', 'browser')"


ON_NODE = (START, "vm.run('echo kept > /root/f').returncode, vm.engine.kind", "vm")


def shown_from_node(open_notebook: Open, *cells: str) -> Notebook:
    notebook = open_notebook(*ON_NODE, *cells)
    for n in range(3):
        notebook.run(n)
    assert notebook.text(1) == "(0, 'node')"
    state(notebook, 2, "Running")
    return notebook


def test_a_view_whose_connection_falls_silent_notices_and_comes_back(
    open_notebook: Open, relay: Relay, page: Page, complaints: Complaints
) -> None:
    complaints.allow(UNREACHED)
    page.add_init_script(
        "const slow = setInterval; setInterval = (call, ms, ...rest) => slow(call, ms === 20000 ? 1000 : ms, ...rest)"
    )
    notebook = shown_from_node(open_notebook)
    with relay.silent("/proxy/"):
        state(notebook, 2, "Disconnected")
    state(notebook, 2, "Running")
    terminal(notebook, 2).get_by_text("You are root").wait_for()


def test_a_view_gives_up_looking_for_a_python_that_is_gone_for_long(
    open_notebook: Open, page: Page, complaints: Complaints
) -> None:
    complaints.allow(UNREACHED)
    notebook = shown_from_node(open_notebook)
    notebook.restart_kernel()
    # Each has it look again at once: ten minutes are over in seconds.
    page.evaluate("globalThis.hurrying = setInterval(() => dispatchEvent(new Event('online')), 20)")
    state(notebook, 2, "Ended")
    view(notebook, 2).get_by_text("stopped looking for it: run the cell again").first.wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(500)
    assert not [url for url in asked if "/proxy/" in url]
    page.evaluate("clearInterval(hurrying)")
    for n in range(3):
        notebook.run(n)
    state(notebook, 2, "Running")


# -- what is missing, forbidden or wrong -------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory, page: Page, store: dict[str, str]) -> Iterator[Open]:
    """Opens notebooks on a server of the test's own, given the arguments for it."""
    with ExitStack() as stack:

        def opened(*cells: str, host: str = "127.0.0.1", arguments: Sequence[str] = ()) -> Notebook:
            folder = tmp_path_factory.mktemp("jupyter")
            options = {"arguments": ["--ServerApp.allow_remote_access=True", *arguments], "environment": store}
            server = stack.enter_context(JupyterServer.start(folder, **options))  # type: ignore[arg-type]
            return Notebook.open(far(server, host, server.origin.rpartition(":")[2]), page, cells)

        yield opened
        page.close()


def test_without_a_way_to_the_hub_the_machine_runs_on_the_server_and_the_view_is_live(
    serve: Open, complaints: Complaints
) -> None:
    complaints.allow("status of 404")
    notebook = serve(
        START,
        "vm",
        "vm.run('echo kept > /root/f').returncode, vm.engine.kind",
        "vm.console.sendline('echo written $((6*7)); sleep 6; echo written $((7*7))'); vm.console.expect('written 49')",
        "vm.run('cat /root/f /root/g').stdout",
        host=SECURE,
        arguments=["--ServerApp.jpserver_extensions={'jupyter_server_proxy': False}"],
    )
    for n in range(3):
        notebook.run(n)
    assert notebook.text(2) == "(0, 'node')"
    state(notebook, 1, "Running")
    expect(said(notebook, 1).get_by_text("jupyter-server-proxy")).to_have_count(1)
    terminal(notebook, 1).get_by_text("You are root").wait_for()
    notebook.run(3, wait=False)
    terminal(notebook, 1).get_by_text("written 42").wait_for()
    assert "written 49" not in terminal(notebook, 1).inner_text()  # the cell still waits for it
    notebook.wait(3)
    view(notebook, 1).locator('[data-v86lab="terminal"]').click()
    notebook.page.keyboard.type("echo typed > /root/g; echo over $((6*7))\n")
    terminal(notebook, 1).get_by_text("over 42").wait_for()
    notebook.run(4)
    assert notebook.text(4) == r"'kept\ntyped\n'"
    expect(said(notebook, 1).get_by_text("jupyter-server-proxy")).to_have_count(1)
    notebook.restart_kernel()
    state(notebook, 1, "Disconnected")
    for n in range(3):
        notebook.run(n)
    state(notebook, 1, "Running")


def test_a_wrong_secret_and_a_used_ticket_are_replaced_by_asking_the_kernel(
    open_notebook: Open, complaints: Complaints
) -> None:
    complaints.allow("status of 40[34]")
    notebook = started(open_notebook, "vm.run('cat /root/f').stdout")
    notebook.save()
    notebook.page.evaluate(
        """() => Object.keys(sessionStorage).filter(key => key.startsWith("v86lab:"))
            .forEach(key => sessionStorage.setItem(key, "wrong"))"""
    )
    notebook.reload()
    view(notebook, 1).get_by_role("button", name="Boot afresh").wait_for()
    state(notebook, 1, "Lost")


def test_a_page_that_may_not_start_workers_says_why_and_shows_the_machine_from_the_server(
    serve: Open, complaints: Complaints
) -> None:
    complaints.allow("Content Security Policy")
    policy = json.dumps({"headers": {"Content-Security-Policy": "worker-src 'none'"}})
    shows_why(serve(*SHOWN, arguments=[f"--ServerApp.tornado_settings={policy}"]), "security policy")


def test_a_page_that_may_not_compile_wasm_says_why_and_shows_the_machine_from_the_server(
    open_notebook: Open, page: Page
) -> None:
    # As Chromium does under a policy without 'wasm-unsafe-eval': a real one would have to forbid 'unsafe-eval' as well,
    # without which JupyterLab does not start.
    page.add_init_script(
        """WebAssembly.compile = async () =>
        {
            throw new WebAssembly.CompileError("'wasm-unsafe-eval' is not allowed");
        }"""
    )
    shows_why(open_notebook(*SHOWN), "wasm-unsafe-eval")


SHOWN = (START, "vm", "vm.run('echo once').stdout, vm.engine.kind")


def shows_why(notebook: Notebook, reason: str) -> None:
    for n in range(3):
        notebook.run(n)
    assert notebook.text(2) == r"('once\n', 'node')"
    state(notebook, 1, "Running")
    expect(said(notebook, 1).get_by_text(re.compile(reason))).to_have_count(1)
    terminal(notebook, 1).get_by_text("You are root").wait_for()


def test_a_full_disk_is_said_once_and_the_machine_runs(open_notebook: Open, relay: Relay, page: Page) -> None:
    session = page.context.new_cdp_session(page)
    origin = f"http://{SECURE}:{relay.port}"
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 200_000})
    notebook = started(open_notebook, "vm.run('cat /root/f').stdout")
    notebook.run(3)
    assert notebook.text(3) == r"'kept\n'"
    expect(said(notebook, 1).get_by_text("keeps nothing")).to_have_count(1)


def test_a_browser_without_offscreen_canvas_shows_the_screen(open_notebook: Open, page: Page) -> None:
    page.add_init_script("delete globalThis.OffscreenCanvas")
    notebook = started(open_notebook, "vm.run('cat /root/f').stdout")
    view(notebook, 1).get_by_role("tab", name="Screen").click()
    view(notebook, 1).locator("canvas:visible").wait_for()
    notebook.run(3)
    assert notebook.text(3) == r"'kept\n'"


@pytest.mark.parametrize("path", ["/view/", "/engine/"])
def test_where_websockets_to_the_hub_are_refused_the_machine_runs_on_the_server_and_the_view_says_why(
    open_notebook: Open, relay: Relay, complaints: Complaints, path: str
) -> None:
    complaints.allow(UNREACHED)
    complaints.allow("status of 403")
    with relay.no_sockets(path):
        shows_why(open_notebook(*SHOWN), "refuses .*WebSocket")
