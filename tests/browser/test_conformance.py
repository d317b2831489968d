"""The conformance set in a page: the machines of `tests/conformance/hashes.json`, which were made on Node.

The text of ``scenarios.py`` is the notebook's first cell; each machine that a scenario makes is shown in the cell that
runs it, and so the page runs the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from .jupyter import Complaints, JupyterServer, Notebook, browser_context
from .viewer import ask

FOLDER = Path(__file__).resolve().parents[1] / "conformance"
KNOWN = json.loads((FOLDER / "hashes.json").read_text("utf-8"))["scenarios"]
ENOUGH = 300.0  # s for one scenario; it is there for a failure only

HARNESS = """
import sys
from contextlib import ExitStack
sys.path.insert(0, {folder!r})
from conformance.outcomes import compare, expected, outcome

def in_the_page(name):
    machines = []
    with ExitStack() as stack:
        def make(what="linux", **options):
            vm = stack.enter_context(lab.Machine(what, engine="browser", **options))
            display(vm)
            machines.append(vm)
            return vm
        vm = SCENARIOS[name](make)
        assert vm.engine.kind == "browser", vm.engine
        return compare(name, outcome(vm), expected().get(name), "in the browser")
"""


@pytest.fixture(scope="module")
def notebook(server: JupyterServer, browser: Browser) -> Iterator[Notebook]:
    """One page for all scenarios: its cells are changed, its kernel stays."""
    complaints = Complaints()  # another test's end ends this kernel as well, and the page says so
    complaints.allow(r"ERR_CONNECTION_REFUSED|status of 50\d|removeChild")
    with browser_context(browser, complaints) as context:
        scenarios = (FOLDER / "scenarios.py").read_text("utf-8")
        notebook = Notebook.open(server, context.new_page(), [scenarios, HARNESS.format(folder=str(FOLDER.parent))])
        notebook.run_all()
        assert notebook.text(0) + notebook.text(1) == ""
        yield notebook
        notebook.page.close()
        server.end_kernels()


@pytest.mark.parametrize("name", KNOWN)
def test_a_scenario_ends_in_the_same_machine_in_the_page(notebook: Notebook, name: str) -> None:
    notebook.rewrite([f"different = in_the_page({name!r})"])
    notebook.run(0, timeout=ENOUGH)
    failed = [output for output in notebook.outputs(0) if output["output_type"] == "error"]
    assert not failed, notebook.text(0)
    assert ask(notebook, "different") is None, ask(notebook, "different")
