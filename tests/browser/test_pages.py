"""What becomes of a machine when the page around it changes: reloaded, closed, shown twice, left without a kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page

from .jupyter import Complaints, JupyterServer, Notebook

Open = Callable[..., Notebook]
START = "import v86lab as lab\nvm = lab.Machine()"
USED_TICKET = r"status of 403.*/session"  # the widget's ticket was for the first page
GONE = r"ERR_CONNECTION_REFUSED|status of 50\d|WebSocket connection to .* failed|ERR_EMPTY_RESPONSE"


def view(notebook: Notebook, n: int) -> Locator:
    return notebook.output(n).locator('[data-v86lab="view"]')


def terminal(notebook: Notebook, n: int) -> Locator:
    return view(notebook, n).locator(".xterm-rows")


def state(notebook: Notebook, n: int, word: str) -> None:
    """Wait until the view's status line says a word."""
    view(notebook, n).locator('[data-v86lab="state"]').get_by_text(word).wait_for()


def started(open_notebook: Open, *cells: str, **options: Any) -> Notebook:
    notebook = open_notebook([START, "vm", "vm.run('echo kept > /root/f').returncode", *cells], **options)
    for n in range(3):
        notebook.run(n)
    assert notebook.text(2) == "0"
    state(notebook, 1, "Running")
    return notebook


def keep_a_checkpoint(notebook: Notebook) -> None:
    """Wait until the browser has by itself kept the machine as it is now."""
    notebook.page.evaluate(
        """async () => {
            const cache = await caches.open("v86lab checkpoints"), now = Date.now() / 1000;
            const kept = async () => {
                const note = (await cache.keys()).find(key => key.url.includes("/note/"));
                return note && (await (await cache.match(note)).json()).at > now;
            };
            while(!await kept()) await new Promise(resolve => setTimeout(resolve, 100));
        }"""
    )


def test_after_a_reload_the_machine_goes_on_from_its_checkpoint(open_notebook: Open) -> None:
    notebook = started(open_notebook, "1", "vm.run('cat /root/f').stdout, vm.engine.kind")
    keep_a_checkpoint(notebook)
    notebook.save()
    notebook.reload()
    state(notebook, 1, "Lost")
    view(notebook, 1).get_by_role("button", name=re.compile("Go on from")).click()
    state(notebook, 1, "Running")
    notebook.run(4)
    assert notebook.text(4) == r"('kept\n', 'browser')"
    terminal(notebook, 1).get_by_text("You are root").wait_for()


def test_after_a_reload_the_machine_can_be_booted_afresh(open_notebook: Open) -> None:
    notebook = started(open_notebook, "1", "vm.run('ls /root').stdout, vm.engine.kind")
    notebook.save()
    notebook.reload()
    state(notebook, 1, "Lost")
    view(notebook, 1).get_by_role("button", name="Boot afresh").click()
    state(notebook, 1, "Running")
    notebook.run(4)
    assert notebook.text(4) == "('', 'browser')"


WAIT = """
import threading
def wait():
    global said
    try:
        vm.run('sleep 1000')
    except lab.errors.EngineError as error:
        said = str(error)
waiting = threading.Thread(target=wait)
waiting.start()
"""


def test_a_call_whose_page_is_closed_ends_with_an_error_that_names_the_checkpoint(
    open_notebook: Open, complaints: Complaints
) -> None:
    complaints.allow(USED_TICKET)
    notebook = started(open_notebook, WAIT, "waiting.join()\nsaid", "vm.status")
    keep_a_checkpoint(notebook)
    notebook.run(3)
    notebook.save()
    page = notebook.page.context.new_page()
    notebook.page.close()
    again = Notebook.open(notebook.server, page, name=notebook.path.removesuffix(".ipynb"))
    again.run(4)
    assert re.search(r"its last checkpoint is of \d\d:\d\d:\d\d \(\d+ instructions\)", again.text(4))
    again.run(5)
    assert again.text(5) == "'faulted'"
    view(again, 1).get_by_role("button", name=re.compile("Go on from")).wait_for()  # the same browser keeps it


def test_a_second_view_in_the_page_shows_the_same_machine_with_its_history(open_notebook: Open) -> None:
    notebook = started(open_notebook, "vm.console.sendline('echo written by Python')", "vm")
    notebook.run(3)
    terminal(notebook, 1).get_by_text("written by Python").last.wait_for()
    notebook.run(4)
    for n in (1, 4):
        view(notebook, n).scroll_into_view_if_needed()
        terminal(notebook, n).get_by_text("You are root").wait_for()
        terminal(notebook, n).get_by_text("written by Python").last.wait_for()
    notebook.page.locator('[data-v86lab="terminal"]').last.click()
    notebook.page.keyboard.type("echo typed $((6*7))\n")
    for n in (4, 1):
        view(notebook, n).scroll_into_view_if_needed()  # a view out of sight writes when it is seen again
        terminal(notebook, n).get_by_text("typed 42").wait_for()


def test_a_second_browser_mirrors_the_machine_and_can_type(
    open_notebook: Open, new_context: Callable[..., BrowserContext], complaints: Complaints
) -> None:
    complaints.allow(USED_TICKET)
    notebook = started(open_notebook, "vm.run('cat /root/g').stdout, vm.engine.kind")
    notebook.save()
    page: Page = new_context().new_page()
    other = Notebook.open(notebook.server, page, name=notebook.path.removesuffix(".ipynb"))
    state(other, 1, "Running")
    view(other, 1).get_by_text("another page").wait_for()
    terminal(other, 1).get_by_text("You are root").wait_for()
    view(other, 1).locator('[data-v86lab="terminal"]').click()
    page.keyboard.type("echo from afar > /root/g; echo done $((6*7))\n")
    terminal(notebook, 1).get_by_text("done 42").wait_for()
    notebook.run(3)
    assert notebook.text(3) == r"('from afar\n', 'browser')"
    page.close()


def test_a_machine_goes_on_when_its_last_view_is_closed(open_notebook: Open) -> None:
    notebook = started(open_notebook, "vm.run('cat /root/f').stdout, vm.engine.kind", "vm")
    notebook.page.evaluate("path => harness.panel(path).content.widgets[1].model.outputs.clear()", notebook.path)
    notebook.page.locator('[data-v86lab="view"]').wait_for(state="detached")
    notebook.run(3)
    assert notebook.text(3) == r"('kept\n', 'browser')"
    notebook.run(4)
    terminal(notebook, 4).get_by_text("You are root").wait_for()


def test_a_machine_that_python_closes_or_forgets_leaves_no_worker(open_notebook: Open) -> None:
    notebook = started(open_notebook, "vm.close()", "vm = lab.Machine()\nvm", "del vm\nimport gc; gc.collect(); 1")
    assert len(notebook.page.workers) >= 1
    running = [worker for worker in notebook.page.workers if "blob:" in worker.url]
    assert len(running) == 1
    notebook.run(3)
    state(notebook, 1, "Ended")
    notebook.page.wait_for_function("() => true")
    notebook.run(4)
    state(notebook, 4, "Running")
    assert len([worker for worker in notebook.page.workers if "blob:" in worker.url]) == 1


def test_a_kernel_that_restarts_under_a_living_view_is_said_and_a_new_run_works(
    open_notebook: Open, complaints: Complaints
) -> None:
    complaints.allow(GONE)
    notebook = started(open_notebook, "vm.run('ls /root').stdout, vm.engine.kind")
    notebook.restart_kernel()
    view(notebook, 1).get_by_text(re.compile("cannot reach|connection|Python")).first.wait_for()
    notebook.run(0)
    notebook.run(1)
    notebook.run(3)
    assert notebook.text(3) == "('', 'browser')"
    state(notebook, 1, "Running")


def test_a_kernel_that_is_gone_ends_its_engines_after_a_while(open_notebook: Open, complaints: Complaints) -> None:
    complaints.allow(GONE)
    notebook = started(open_notebook)
    notebook.shut_down_kernel()
    deadline = 120
    while [worker for worker in notebook.page.workers if "blob:" in worker.url] and deadline:
        notebook.page.wait_for_timeout(1000)
        deadline -= 1
    assert deadline


def test_a_node_machine_that_is_shown_is_mirrored_live_and_can_be_typed_into(open_notebook: Open) -> None:
    notebook = open_notebook([START, "vm.run('true').returncode, vm.engine.kind", "vm", "vm.run('cat /root/t').stdout"])
    for n in range(3):
        notebook.run(n)
    assert notebook.text(1) == "(0, 'node')"
    state(notebook, 2, "Running")
    view(notebook, 2).get_by_text("server").first.wait_for()
    view(notebook, 2).locator('[data-v86lab="terminal"]').click()
    notebook.page.keyboard.type("echo typed > /root/t; echo done $((6*7))\n")
    terminal(notebook, 2).get_by_text("done 42").wait_for()
    notebook.run(3)
    assert notebook.text(3) == r"'typed\n'"


def test_the_main_path_in_notebook_7(start_server: Callable[..., JupyterServer], page: Page) -> None:
    server = start_server("notebook")
    notebook = Notebook.open(server, page, [START, "vm", "vm.run('echo seven').stdout, vm.engine.kind"])
    for n in range(3):
        notebook.run(n)
    assert notebook.text(2) == r"('seven\n', 'browser')"
    terminal(notebook, 1).get_by_text("You are root").wait_for()
    page.close()
