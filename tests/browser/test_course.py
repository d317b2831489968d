"""The course in a real JupyterLab: each notebook gives what it gives without a browser, and what is kept in git."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from .jupyter import Notebook

Open = Callable[..., Notebook]

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
# nbval runs these: two hundred machines, of which test_course_02.py has what is shown; a Debian, built and booted.
LONG = {"02_same_machine_twice", "03_a_linux_of_your_own"}
NOTEBOOKS = sorted(path for path in FOLDER.glob("*.ipynb") if path.stem not in LONG)


def said(cell: Mapping[str, Any], outputs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a cell has printed and given, as nbval compares it; nothing of one whose output it ignores."""
    if "nbval-ignore-output" in cell["metadata"].get("tags", []):
        return []
    streams = {"stdout": "", "stderr": ""}
    for output in outputs:
        if output["output_type"] == "stream":
            streams[output["name"]] += "".join(output["text"]).replace("\r\n", "\n")  # as JupyterLab does
    given = ["".join(output["data"].get("text/plain", "")) for output in outputs if "data" in output]
    errors = [output["evalue"] for output in outputs if output["output_type"] == "error"]
    return [*streams.items(), *(("given", text) for text in given), *(("error", text) for text in errors)]


def kept(document: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    return [said(cell, cell.get("outputs", [])) for cell in document["cells"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_in_the_browser_what_is_kept_of_it(open_notebook: Open, path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    notebook = open_notebook(path)
    outputs = notebook.run_all(timeout=120)
    assert [said(cell, found) for cell, found in zip(document["cells"], outputs, strict=True)] == kept(document)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_gives_what_is_kept_of_it(path: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # papermill's own, of what it is built with
        import papermill

        done = papermill.execute_notebook(path, tmp_path / "done.ipynb", cwd=tmp_path, progress_bar=False)
    assert kept(done) == kept(json.loads(path.read_text("utf-8")))


def test_a_guest_cell_shows_its_output_as_it_comes_and_is_interrupted(open_notebook: Open) -> None:
    notebook = open_notebook(
        [
            "import v86lab as lab\nvm = lab.Machine()\nvm",
            "%load_ext v86lab",
            "%%guest --out r\necho begun\necho oh >&2\nexec sleep 6543",
            "%guest ps | grep -c '[s]leep 6543'",
        ]
    )
    for n in (0, 1):
        notebook.run(n)
    notebook.run(2, wait=False)
    expect(notebook.output(2)).to_contain_text("oh")
    expect(notebook.output(2)).to_contain_text("begun")
    notebook.interrupt()
    assert notebook.wait(2)[-1]["ename"] == "KeyboardInterrupt"
    notebook.run(3)
    assert notebook.text(3) == "0\n"
