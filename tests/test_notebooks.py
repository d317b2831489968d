"""The course's notebooks as they are kept in git; that they do what they show is tested by nbval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text("utf-8"))
    return content


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_is_a_course() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02d}" for n in range(1, len(NOTEBOOKS) + 1)] != []


def test_the_cells_were_run_from_top_to_bottom(notebook: dict[str, Any]) -> None:
    cells = code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_no_output_is_an_error_or_a_message_about_progress(notebook: dict[str, Any]) -> None:
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    assert outputs
    assert [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"] == []


def test_nothing_of_the_computer_that_ran_it_is_in_it(notebook: dict[str, Any]) -> None:
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert {key for cell in notebook["cells"] for key in cell["metadata"]} <= {"tags"}
    text = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    assert not any(trace in text for trace in (str(Path.home()), "127.0.0.1", "site-packages"))
