"""What stays in a notebook's file: a text that never varies, a picture of the machine at rest, and no secret."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib import image
from nbclient import NotebookClient

from .jupyter import JupyterServer, Notebook

Open = Callable[..., Notebook]
CELLS = [
    "import v86lab as lab\nvm = lab.Machine()",
    "vm",
    "vm.run('uname -sr').stdout",
    "%load_ext v86lab",
    "%%guest vm --out result\nfor i in 1 2 3; do echo $i; done",
    "result.returncode, vm.engine.kind",
]
SECRETS = "print('secrets:', vm.hub.url, vm.hub._token, *vm.hub._tickets, *[s for s in vm.hub._origins.values()])"


def texts(cells: list[dict[str, Any]]) -> list[str]:
    """What nbval compares of each cell: streams as one, and each ``text/plain``; not that of a view's picture."""
    found = []
    for cell in cells:
        streams = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
        plain = ["".join(output["data"]["text/plain"]) for output in cell["outputs"] if "data" in output]
        found += [text for text in (streams, *plain) if text and text != "what 'linux' shows"]
    return found


def pictures(cells: list[dict[str, Any]]) -> list[Any]:
    """The pixels of each picture, as an array (rows, columns, ...) of 0 to 1."""
    found = [
        out["data"]["image/png"] for cell in cells for out in cell["outputs"] if "image/png" in out.get("data", {})
    ]
    return [image.imread(io.BytesIO(base64.b64decode(one)), format="png") for one in found]


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def widgets(notebook: dict[str, Any]) -> Iterable[dict[str, Any]]:
    found: dict[str, Any] = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    return found.values()


def executed(tmp_path: Path, cells: list[str]) -> dict[str, Any]:
    """The notebook as nbclient leaves it, widget state and all."""
    made: Any = nbformat.v4
    notebook = made.new_notebook(cells=[made.new_code_cell(source) for source in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    plain: dict[str, Any] = json.loads(made.writes(notebook))
    return plain


def test_nbclient_papermill_and_a_browser_give_the_same_notebook(open_notebook: Open, tmp_path: Path) -> None:
    browser = open_notebook(CELLS)
    browser.run_all(timeout=120)
    headless = executed(tmp_path, CELLS)
    (tmp_path / "in.ipynb").write_text(json.dumps(headless))
    subprocess.run(
        [sys.executable, "-m", "papermill", "--kernel", "python3", "in.ipynb", "out.ipynb"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    papermill = json.loads((tmp_path / "out.ipynb").read_text())
    seen = [texts(code(notebook)) for notebook in (browser.save(), headless, papermill)]
    assert seen[1] == seen[2]
    assert seen[0] == [text.replace("'node'", "'browser'") for text in seen[1]]
    assert seen[1][0] == "<Machine 'linux'>"
    assert seen[1][-2:] == ["1\n2\n3\n", "(0, 'node')"]


def test_a_notebook_that_nbclient_made_shows_the_machine_at_rest_and_no_dead_widget(tmp_path: Path) -> None:
    notebook = executed(tmp_path, CELLS[:2])
    (output,), (drawn,) = code(notebook)[1]["outputs"], pictures(code(notebook))
    assert output["data"].keys() == {"text/plain", "image/png"} and "widgets" not in notebook["metadata"]
    assert drawn.shape[1] == 640 and 0.001 < (drawn[..., 0] > 0.5).mean() < 0.5  # letters, not a black box


def test_a_widgets_state_that_nbclient_saved_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSCODE_PID", "1")  # a front end of another kind would have the widget
    notebook = executed(tmp_path, [*CELLS[:2], "vm.run('true').returncode", SECRETS])
    secrets = texts(code(notebook)[-1:])[0].split()[1:]
    shown = json.dumps(code(notebook)[:-1]) + json.dumps(notebook["metadata"])
    (state,) = [one["state"] for one in widgets(notebook) if "hub_id" in one["state"]]
    assert state["ticket"] == ""
    assert secrets and not [secret for secret in secrets if secret in shown]


def test_a_notebook_that_jupyterlab_saved_holds_nothing_that_lasts(
    start_server: Callable[..., JupyterServer], new_context: Callable[..., Any]
) -> None:
    settings = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}
    server = start_server(settings=settings)
    notebook = Notebook.open(server, new_context().new_page(), [*CELLS[:3], SECRETS])
    notebook.run_all(timeout=120)
    saved = notebook.save()
    secrets = texts(code(saved)[-1:])[0].split()[1:]
    for cell in saved["cells"][-1:]:
        cell["outputs"] = []
    text = json.dumps(saved)
    assert not [secret for secret in secrets if secret in text]
    session = notebook.page.evaluate("Object.values(sessionStorage).concat(Object.values(localStorage))")
    assert session and not [one for one in session if len(one) < 200 and one in text]
    state = next(one["state"] for one in widgets(saved) if "hub_id" in one["state"])
    address = f"http://127.0.0.1:{state['port']}/{state['hub_id']}/session"
    with pytest.raises(urllib.error.HTTPError, match="403"):  # the ticket that is in it has been used
        urllib.request.urlopen(address, data=state["ticket"].encode())


def test_the_saved_picture_is_renewed_when_the_machine_rests_and_hidden_where_the_view_lives(
    open_notebook: Open,
) -> None:
    notebook = open_notebook([*CELLS[:2], "vm.console.sendline('clear; seq 100 120')"])
    notebook.run(0)
    notebook.run(1)
    notebook.output(1).locator(".xterm-rows").get_by_text("You are root").wait_for()
    notebook.run(2)
    notebook.page.wait_for_function(
        """() =>
        {
            const image = document.querySelector('[data-harness="1"] .jp-RenderedImage img');
            return image.naturalWidth === 640 && image.naturalHeight > 16 * 20;
        }"""
    )
    assert len(notebook.outputs(1)) == 2
    assert notebook.output(1).locator(".jp-RenderedImage").count() == 1
    assert not notebook.output(1).locator(".jp-RenderedImage").is_visible()
    drawn = pictures(code(notebook.save()))[-1]
    assert drawn.shape[1] == 640 and drawn.shape[0] > 16 * 20
