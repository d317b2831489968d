"""Some of the conformance set in a real Firefox in JupyterLab, where there is one: the machines of hashes.json.

Found in PATH as ``firefox-esr`` or ``firefox``, or named by ``V86LAB_TEST_FIREFOX``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from browser.jupyter import _HARNESS, JupyterServer, _document

from .firefox import Firefox

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parent
NAMES = ["default_start", "chance", "clocks", "floating_point", "sse_of_nans", "code_that_changes_itself", "disk"]
NAMES += ["vga", "typed_keys", "restored_in_the_middle"]
EXECUTABLE = os.environ.get("V86LAB_TEST_FIREFOX") or which("firefox-esr") or which("firefox")
ENOUGH = 300.0  # s for one scenario; it is there for a failure only

IN_THE_PAGE = """
import json, sys
from contextlib import ExitStack
sys.path.insert(0, {folder!r})
from conformance.outcomes import compare, expected, outcome

def in_the_page(name):
    with ExitStack() as stack:
        def make(what="linux", **options):
            vm = stack.enter_context(lab.Machine(what, engine="browser", **options))
            display(vm)
            return vm
        vm = SCENARIOS[name](make)
        assert vm.engine.kind == "browser", vm.engine
        print(compare(name, outcome(vm), expected().get(name), "in Firefox"))
"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Firefox with a notebook open: a cell for each scenario, after the two that define them."""
    if EXECUTABLE is None:
        pytest.skip("there is no Firefox: neither firefox-esr nor firefox in PATH, and V86LAB_TEST_FIREFOX is not set")
    folder = tmp_path_factory.mktemp("firefox")
    cells = [(FOLDER / "scenarios.py").read_text("utf-8"), IN_THE_PAGE.format(folder=str(FOLDER.parent))]
    cells += [f"in_the_page({name!r})" for name in NAMES]
    with JupyterServer.start(folder / "jupyter") as server:
        (server.root / "n.ipynb").write_text(json.dumps(_document(cells)))
        with Firefox.start(Path(EXECUTABLE), folder / "home") as browser:
            browser.goto(f"{server.url}lab/workspaces/n/tree/n.ipynb?token={server.token}")
            browser.wait_for("!!window.jupyterapp")
            browser.evaluate(f"(() => {{ {_HARNESS}; return null; }})()")
            browser.evaluate("harness.ready('n.ipynb', 60)")
            assert [run(browser, n) for n in range(2)] == ["", ""]
            yield browser
        server.end_kernels()


def run(browser: Firefox, n: int) -> str:
    """What a cell prints, or the error that it ends in."""
    browser.evaluate(f"harness.start('n.ipynb', {n})")
    browser.evaluate(f"harness.wait('n.ipynb', {n}, {ENOUGH})", ENOUGH)
    outputs = browser.evaluate(f"harness.outputs('n.ipynb', {n})")
    return "".join(
        output["evalue"] if output["output_type"] == "error" else "".join(output["text"])
        for output in outputs
        if output["output_type"] in ("error", "stream")
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_ends_in_the_same_machine_in_firefox(firefox: Firefox, name: str) -> None:
    assert run(firefox, 2 + NAMES.index(name)) == "None\n"
