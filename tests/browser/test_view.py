"""The view's terminal and toolbar: what a person does there reaches the guest and Python, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .jupyter import Notebook
from .sectors import HELLO
from .viewer import Shown, ask, show

LINUX = "vm = lab.Machine()"
# JupyterLab's own: delete, run, side bar, insert above and below, cut, undo, Markdown, save, command palette, find
SHORTCUTS = [
    "d",
    "d",
    "Shift+Enter",
    "Control+b",
    "a",
    "b",
    "x",
    "z",
    "m",
    "Control+Shift+c",
    "Control+f",
    "Control+s",
    "Control+q",
]


@pytest.fixture
def shown(shared_notebook: Notebook) -> Shown:
    """A machine of its own for a test, with the default guest at its prompt."""
    shown = show(shared_notebook, LINUX, "# a cell", "# another")
    shown.says("You are root")
    return shown


def jupyterlab(notebook: Notebook) -> object:
    """What JupyterLab's shortcuts would change."""
    return notebook.page.evaluate(
        """path =>
        {
            const { content, context } = harness.panel(path), { shell } = window.jupyterapp;
            const cells = content.widgets.map(({ model: { type, sharedModel, executionCount } }) =>
                [type, sharedModel.source, executionCount]);
            const laid = ".lm-CommandPalette:not(.lm-mod-hidden), .jp-DocumentSearch-overlay, .jp-Dialog";
            return [cells, content.mode, content.activeCellIndex, shell.leftCollapsed, context.model.dirty,
                document.querySelectorAll(laid).length];
        }""",
        notebook.path,
    )


def test_what_is_typed_reaches_the_guest_and_no_shortcut_reaches_jupyterlab(shown: Shown) -> None:
    shown.enter()
    shown.type("echo typed $((6*7))\n")
    shown.says("typed 42")
    before = jupyterlab(shown.notebook)
    shown.type("cat > /root/keys\n")
    shown.press(*SHORTCUTS, "Enter", "Control+d")
    shown.type("od -c /root/keys; echo do''ne\n")
    shown.says("done")
    assert jupyterlab(shown.notebook) == before
    keys = ask(shown.notebook, "vm.run('cat /root/keys').stdout")
    assert keys == "dd\n\x02abxzm\x06\n"  # the guest's tty takes Ctrl+S and Ctrl+Q itself


def test_the_keyboard_is_the_guests_only_while_a_ring_says_so(shown: Shown) -> None:
    frame = shown.node.locator(".frame")

    def ring() -> list[str]:
        return shown.style("stage", ["borderTopStyle", "borderTopWidth"], "::after")

    assert ring()[1] == "0px"
    shown.enter()
    assert ring() == ["solid", "2px"]
    expect(shown.part("hint")).to_have_text("Shift+Esc leaves the guest")
    shown.press("Shift+Escape")
    expect(frame).not_to_have_class(re.compile("captured"))
    assert ring() == ["dashed", "1px"]
    expect(shown.part("hint")).to_have_text("Enter types into the guest")
    shown.press("Enter")
    expect(frame).to_have_class(re.compile("captured"))
    shown.type("echo back $((6*7))\n")
    shown.says("back 42")
    shown.press("Tab", "Tab")  # still the guest's
    expect(frame).to_have_class(re.compile("captured"))
    shown.press("Shift+Escape", "Tab")
    assert not shown.node.evaluate("view => view.matches(':focus-within')")
    assert ring()[1] == "0px"
    expect(shown.part("hint")).to_have_text("")


def test_keys_go_elsewhere_after_a_click_elsewhere(shown: Shown) -> None:
    shown.enter()
    shown.type("echo one")
    shown.says("echo one")
    shown.notebook.cell(2).locator(".cm-content").click()
    shown.press("End")
    shown.type(" stays here")
    expect(shown.notebook.cell(2)).to_contain_text("# a cell stays here")
    assert shown.style("stage", ["borderTopWidth"], "::after") == ["0px"]
    shown.enter()
    shown.type(" two\n")
    shown.says("echo one two")


def test_a_paste_of_several_lines_reaches_the_guest(shown: Shown) -> None:
    before = jupyterlab(shown.notebook)
    shown.page.evaluate("navigator.clipboard.writeText('echo pasted $((6*7))\\necho ä € 猫\\n')")
    shown.enter()
    shown.press("Control+v")
    shown.says("pasted 42")
    expect(shown.rows.get_by_text("ä € 猫", exact=True)).to_be_visible()
    assert jupyterlab(shown.notebook) == before


def test_a_selection_is_copied_with_control_c_which_else_interrupts(shown: Shown) -> None:
    shown.enter()
    shown.type("echo selected\nsleep 1000\n")
    line = shown.rows.get_by_text("selected", exact=True)
    line.dblclick(position={"x": 20, "y": 5}, force=True)  # xterm.js has a layer above its text for the pointer
    shown.press("Control+c")
    shown.page.wait_for_function("async () => await navigator.clipboard.readText() === 'selected'")
    line.click(position={"x": 20, "y": 5}, force=True)  # selects nothing
    shown.press("Control+c")
    shown.type("echo interrupted $((6*7))\n")
    shown.says("interrupted 42")


def test_python_and_the_guest_see_pause_and_run(shown: Shown) -> None:
    shown.part("run").click()
    shown.state("Paused")
    assert ask(shown.notebook, "vm.status") == "paused"
    count = ask(shown.notebook, "vm.instructions")
    expect(shown.part("sentence")).to_have_text("Paused. Guest time stands still.")
    expect(shown.part("run")).to_have_attribute("aria-label", "Run")
    assert ask(shown.notebook, "vm.instructions") == count
    shown.part("remedy-run").click()
    shown.state("Running")
    assert ask(shown.notebook, "vm.status") == "running"
    expect(shown.part("cover")).to_be_hidden()
    assert ask(shown.notebook, "vm.run('echo on').stdout") == "on\n"


def test_reset_asks_first_and_then_nothing_is_left(shown: Shown) -> None:
    assert ask(shown.notebook, "vm.run('echo kept > /root/f').returncode") == 0
    shown.part("reset").click()
    expect(shown.part("reset-yes")).to_be_focused()
    shown.part("reset-no").click()
    expect(shown.part("reset")).to_be_focused()
    assert ask(shown.notebook, "vm.run('cat /root/f').stdout") == "kept\n"
    shown.part("reset").click()
    shown.part("reset-yes").click()
    expect(shown.part("reset-yes")).to_have_count(0)
    shown.page.wait_for_function("view => view.dataset.state === 'running'", arg=shown.node.element_handle())
    assert ask(shown.notebook, "vm.run('ls /root').stdout") == ""


def test_a_snapshot_of_the_toolbar_is_pythons_and_can_be_restored_from_there(shown: Shown) -> None:
    expect(shown.part("restore")).to_have_attribute("aria-disabled", "true")
    assert ask(shown.notebook, "vm.run('echo before > /root/f').returncode") == 0
    shown.part("snapshot").click()
    expect(shown.part("told")).to_have_text(re.compile(r"Snapshot \S+ taken\."))
    (name,) = ask(shown.notebook, "[one.name for one in vm.snapshots]")
    assert ask(shown.notebook, "vm.run('echo after > /root/f').returncode") == 0
    shown.part("restore").click()
    expect(shown.part("snapshot-item")).to_have_text(name)
    shown.part("snapshot-item").click()
    expect(shown.part("told")).to_have_text(f"Snapshot {name} restored.")
    assert ask(shown.notebook, "vm.run('cat /root/f').stdout") == "before\n"
    assert ask(shown.notebook, "len([vm.snapshot('second') for _ in range(1)])") == 1
    shown.part("restore").click()
    expect(shown.part("snapshot-item")).to_have_text([name, "second"])
    shown.press("Escape")
    expect(shown.part("snapshot-item").first).to_be_hidden()
    expect(shown.part("restore")).to_be_focused()


def test_special_keys_reach_the_console_and_the_pcs_keyboard(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, f"vm = lab.Machine(lab.images.boot_sector({HELLO!r}))")
    shown.says(re.compile("^started", re.M))
    shown.choose("keys", "key-ctrl-alt-del")
    shown.says(re.compile("started.*started", re.S))
    shown = show(shared_notebook, LINUX)
    shown.says("You are root")
    shown.enter()
    shown.type("sleep 1000\n")
    shown.says("sleep 1000")
    shown.choose("keys", "key-ctrl-c")
    shown.type("echo free $((6*7))\n")
    shown.says("free 42")


def test_the_terminals_text_can_be_saved(shown: Shown, tmp_path: Path) -> None:
    shown.enter()
    shown.type("seq 1000 1100; echo do''ne\n")
    shown.says("done")
    with shown.page.expect_download() as download:
        shown.part("picture").click()
    assert re.fullmatch(r"linux-\d{6}\.txt", download.value.suggested_filename)
    download.value.save_as(tmp_path / "saved.txt")
    lines = (tmp_path / "saved.txt").read_text().splitlines()
    assert lines[-102:-1] == [*(str(n) for n in range(1000, 1101)), "done"][-101:]


def test_each_of_three_views_in_a_page_gets_the_history(shown: Shown) -> None:
    notebook = shown.notebook
    notebook.rewrite(["vm", "vm", "vm", "vm.console.sendline('echo from Python $((6*7))')"])
    views = [Shown(notebook, n) for n in range(3)]
    notebook.run(0)
    notebook.run(1)
    notebook.run(3)
    views[0].says("from Python 42")
    notebook.run(2)
    for view in views:
        view.says(re.compile("You are root.*from Python 42", re.S))
        assert view.rows.inner_text().count("You are root") == 1
    views[2].node.scroll_into_view_if_needed()
    views[2].enter()
    views[2].type("echo typed $((6*7))\n")
    for view in views:
        view.node.scroll_into_view_if_needed()
        view.says("typed 42")
