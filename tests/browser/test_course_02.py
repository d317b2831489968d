"""Notebook 02 in a real JupyterLab: its machine runs in the page and is, hash for hash, the one that the file shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from .jupyter import Notebook

Open = Callable[..., Notebook]

PATH = Path(__file__).resolve().parents[2] / "notebooks" / "02_same_machine_twice.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    document = json.loads(PATH.read_text("utf-8"))
    return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def printed(cell: dict[str, Any]) -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def test_the_shown_machine_runs_in_the_page_and_its_hash_is_the_one_in_the_file(
    open_notebook: Open, cells: list[dict[str, Any]]
) -> None:
    show, look, twin, compare = cells[:4]
    notebook = open_notebook(
        [source(show), source(look), "print(vm.engine.kind)", source(twin), "print(twin.engine.kind)", source(compare)]
    )
    notebook.run_all(timeout=120)
    assert notebook.text(1) == printed(look)
    assert "state " in notebook.text(1)
    assert notebook.text(2) == "browser\n"
    assert notebook.text(3) == printed(twin) == printed(look)  # which nobody looks at
    assert notebook.text(4) == "node\n"
    assert notebook.text(5) == "no difference"
    expect(notebook.output(0)).to_contain_text("Stopped between calls")


def test_machines_that_race_beside_a_shown_one_wait_for_no_page(open_notebook: Open) -> None:
    notebook = open_notebook(
        [
            "import v86lab as lab\nvm = lab.Machine(seed=7)\nvm",
            "vm.run('true')",
            "from concurrent.futures import ThreadPoolExecutor\n"
            "snap = vm.snapshot()\n"
            "def engine(seed):\n"
            "    with lab.Machine(snap, seed=seed) as one:\n"
            "        one.run('true')\n"
            "        return one.engine.kind, one.engine.why\n"
            "with ThreadPoolExecutor(2) as pool:\n"
            "    print(set(pool.map(engine, range(4))))",
        ]
    )
    notebook.run_all()
    assert notebook.text(2) == "{('node', 'there is no browser that shows this machine')}\n"
