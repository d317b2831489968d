"""What stays in a notebook's file: a text that never varies, a picture of the machine at rest, and no secret."""

from __future__ import annotations

import base64
import io
import json
import re
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
    """What nbval compares: streams and ``text/plain``."""
    found = []
    for cell in cells:
        for output in cell["outputs"]:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            found.append(text if isinstance(text, str) else "".join(text))
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
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    plain: dict[str, Any] = json.loads(nbformat.writes(notebook))
    return plain


def test_nbclient_papermill_and_a_browser_give_the_same_notebook(open_notebook: Open, tmp_path: Path) -> None:
    browser = open_notebook(CELLS)
    browser.run_all(timeout=120)
    headless = executed(tmp_path, CELLS)
    (tmp_path / "in.ipynb").write_text(nbformat.writes(nbformat.from_dict(headless)))
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


def test_a_notebook_that_nbclient_made_shows_the_machine_at_rest_and_holds_no_secret(tmp_path: Path) -> None:
    notebook = executed(tmp_path, [*CELLS[:2], SECRETS])
    secrets = texts(code(notebook)[-1:])[0].split()[1:]
    shown, (drawn,) = json.dumps(code(notebook)[:-1]) + json.dumps(notebook["metadata"]), pictures(code(notebook))
    assert '"port"' in shown and '"hub_id"' in shown  # the widget's state is there
    assert '"ticket": ""' in shown and not re.search(r'"ticket": "[^"]', shown)
    assert not [secret for secret in secrets if secret in shown]
    assert drawn.shape[1] == 640 and 0.001 < (drawn[..., 0] > 0.5).mean() < 0.5  # letters, not a black box


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
    before = [out["data"]["image/png"] for out in notebook.outputs(1) if "image/png" in out.get("data", {})]
    notebook.run(2)
    notebook.page.wait_for_function(
        "([path, before]) => harness.outputs(path, 1).some(o => o.data['image/png']?.length > before + 500)",
        arg=[notebook.path, len(before[0])],
    )
    assert len(notebook.outputs(1)) == 2
    assert notebook.output(1).locator(".jp-RenderedImage").count() == 1
    assert not notebook.output(1).locator(".jp-RenderedImage").is_visible()
    drawn = pictures(code(notebook.save()))[-1]
    assert drawn.shape[1] == 640 and drawn.shape[0] > 16 * 20


@pytest.mark.parametrize("name", ["01_first_boot.ipynb"])
def test_the_courses_notebook_gives_in_the_browser_what_it_gives_without(open_notebook: Open, name: str) -> None:
    path = Path(__file__).resolve().parent.parent.parent / "notebooks" / name
    kept = code(json.loads(path.read_text("utf-8")))
    notebook = open_notebook(path)
    notebook.run_all(timeout=180)
    ran = code(notebook.save())
    compared = [n for n, cell in enumerate(kept) if "nbval-ignore-output" not in cell["metadata"].get("tags", [])]
    assert [texts([ran[n]]) for n in compared] == [texts([kept[n]]) for n in compared]
