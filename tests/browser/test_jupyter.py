"""The harness keeps its word: without a widget in sight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import BrowserContext, Error, Page

from .jupyter import Application, Complaints, JupyterServer, Notebook, browser_context

Open = Callable[..., Notebook]

HEADING = "%%markdown\n# Heading"


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_notebook_runs_saves_and_survives_a_reload(open_notebook: Open, app: Application) -> None:
    notebook = open_notebook(["x = 6", HEADING, "print(x)\nx * 7", "nowhere"], app=app)
    x, heading, printed, error = notebook.run_all()
    assert (x, heading) == ([], [])
    assert printed[0] == {"output_type": "stream", "name": "stdout", "text": "6\n"}
    assert printed[1]["data"] == {"text/plain": "42"}
    assert notebook.text(2) == "6\n42"
    assert error[0]["ename"] == "NameError" and notebook.text(3).startswith("NameError: ")
    assert "42" in notebook.output(2).inner_text()
    saved = notebook.save()
    assert [cell["cell_type"] for cell in saved["cells"]] == ["code", "markdown", "code", "code"]
    assert saved["cells"][2]["outputs"][1]["data"] == {"text/plain": ["42"]}
    notebook.reload()
    assert notebook.text(2) == "6\n42"
    notebook.rewrite(["print(x + 1)"])
    assert (len(notebook), notebook.text(0), notebook.run(0)[0]["text"]) == (1, "", "7\n")  # the kernel stayed
    notebook.restart_kernel()
    assert notebook.run(0)[0]["ename"] == "NameError"


def test_a_cell_that_runs_can_be_watched_and_interrupted(open_notebook: Open) -> None:
    notebook = open_notebook(["import time\nprint('begun', flush=True)\ntime.sleep(600)", "print('after')"])
    notebook.run(0, wait=False)
    notebook.output(0).get_by_text("begun").wait_for()
    with pytest.raises(Error, match=r"cell 0 took over 0.2 s"):
        notebook.wait(0, timeout=0.2)
    notebook.interrupt()
    assert notebook.wait(0)[-1]["ename"] == "KeyboardInterrupt"
    assert notebook.run(1)[0]["text"] == "after\n"


def test_a_file_is_opened_as_it_is_and_by_two_browsers(
    open_notebook: Open, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    source = open_notebook(["print(1)"])
    source.run(0)
    source.save()
    (tmp_path / "copy.ipynb").write_bytes(source.file.read_bytes())
    first = open_notebook(tmp_path / "copy.ipynb", name="copied")
    assert first.text(0) == "1\n"
    first.rewrite(["y = 1", "print(y)"])
    first.run(0)
    first.save()
    second = open_notebook(name="copied", page=new_context().new_page())
    assert second.run(1)[0]["text"] == "1\n"  # the same kernel


def test_an_error_on_the_console_fails_a_test_unless_it_is_allowed(page: Page, complaints: Complaints) -> None:
    browser = page.context.browser
    assert browser is not None
    script = "() => { console.error('of a kind'); setTimeout(() => { throw new Error('uncaught kind'); }); }"
    other = Complaints()
    with (
        pytest.raises(AssertionError, match="errors on the console"),
        browser_context(browser, other) as context,
    ):
        second = context.new_page()
        second.evaluate(script)
        second.wait_for_timeout(100)
    assert [text.split(" (")[0].splitlines()[0] for text in other.seen] == [
        "of a kind",
        "uncaught: Error: uncaught kind",
    ]
    complaints.allow("of a kind")
    page.evaluate("() => console.error('of a kind')")


def test_a_server_of_ones_own_has_other_options_and_ends_with_its_kernels(tmp_path: Path, page: Page) -> None:
    arguments = ["--ServerApp.jpserver_extensions={'jupyter_server_proxy': False}"]
    with JupyterServer.start(
        tmp_path / "own", "notebook", base_url="/", arguments=arguments, environment={"COLOUR": "blue"}
    ) as server:
        assert "jupyter_server_proxy | extension was successfully loaded" not in server.log.read_text()
        notebook = Notebook.open(server, page, ["import os; os.environ['COLOUR'], os.environ['HOME'], os.getpid()"])
        assert "/notebooks/" in page.url
        colour, home, pid = eval(notebook.run(0)[0]["data"]["text/plain"])
        assert (colour, home) == ("blue", str(tmp_path / "own" / "home"))
        assert psutil.pid_exists(pid)
        page.close()
    assert server.process.poll() is not None
    assert not psutil.pid_exists(pid)


def test_the_shared_server_is_below_a_base_url_and_proxies(server: JupyterServer) -> None:
    assert server.url.endswith("/some/base/")
    assert "jupyter_server_proxy | extension was successfully loaded" in server.log.read_text()
    assert server.call("GET", "api/status")["kernels"] == 0


def test_the_theme_can_be_changed(open_notebook: Open) -> None:
    notebook = open_notebook(["1"])
    notebook.theme("JupyterLab Dark")
    assert notebook.page.evaluate("() => document.body.dataset.jpThemeLight") == "false"
