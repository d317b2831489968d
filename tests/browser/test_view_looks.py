"""How the view looks and reads: its status line, its theme, a narrow cell, its roles and names, and how quiet it is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from .jupyter import Notebook
from .viewer import Shown, ask, show

LINUX = "vm = lab.Machine()"


@pytest.fixture
def shown(shared_notebook: Notebook) -> Shown:
    shown = show(shared_notebook, LINUX)
    shown.says("You are root")
    return shown


def test_the_status_line_tells_the_speed_and_where_it_runs(shown: Shown) -> None:
    shown.enter()
    shown.type("while :; do :; done\n")
    expect(shown.part("speed")).to_have_text(re.compile(r"^([1-9]\d*|[1-9]\.\d) MIPS$"))
    expect(shown.part("place")).to_have_text("in this browser")
    expect(shown.part("place")).to_have_attribute("title", re.compile("a page that shows this machine runs it"))
    shown.part("run").click()
    shown.state("Paused")
    expect(shown.part("speed")).to_have_text("")


def test_a_broken_colour_code_is_no_error_of_the_page(shown: Shown) -> None:
    shown.enter()
    shown.type("printf '\\033[0;1;3\\342\\200\\246m %s\\n' $((6 * 7))nd\n")
    shown.says("42nd")


def test_the_status_line_tells_what_disks_and_the_shared_folder_do(shared_notebook: Notebook) -> None:
    noise = "random.Random(0).randbytes(300_000)"  # what cannot be compressed
    image = f"lab.images.linux(share={{'a': {noise}}}, hda=bytes(4 << 20))"
    shown = show(shared_notebook, f"import random\nvm = lab.Machine({image})")
    shown.says("You are root")
    expect(shown.part("disk")).to_have_text(re.compile("^[1-9].* kB$"))  # Linux looked for partitions
    shown.enter()
    shown.type("cat /mnt/a | wc -c\n")
    shown.says("300000")
    expect(shown.part("share")).to_have_text(re.compile(r"^3\d\d kB$"))
    shown.type("dd if=/dev/sda of=/dev/null bs=1M count=2\n")
    shown.says("2+0 records in")
    # Linux reads ahead
    expect(shown.part("disk")).to_have_text(re.compile(r"^[2-4]\.\d MB$"))
    expect(shown.part("disk")).to_have_attribute("title", re.compile(r"^Disk: [2-4]\.\d MB fetched$"))


def test_a_change_of_the_theme_is_followed_at_once(shown: Shown) -> None:
    def look() -> list[list[int]]:
        colours = [*shown.style("terminal", ["backgroundColor"]), *shown.style("toolbar", ["color"])]
        colours.append(shown.rows.evaluate("rows => getComputedStyle(rows).color"))
        return [[int(float(part)) for part in re.findall(r"[\d.]+", colour)[:3]] for colour in colours]

    def turned(sum_of_colours: str) -> None:
        shown.page.wait_for_function(
            "rows => getComputedStyle(rows).color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, one) => sum + +one, 0) "
            + sum_of_colours,
            arg=shown.rows.element_handle(),
        )

    def dark(colour: list[int]) -> bool:
        return sum(colour) < 3 * 128

    shown.notebook.theme("JupyterLab Light")  # the server remembers what another test has chosen
    turned("< 200")
    assert [dark(colour) for colour in look()] == [False, True, True]
    shown.notebook.theme("JupyterLab Dark")
    turned("> 600")
    assert [dark(colour) for colour in look()] == [True, False, False]
    shown.notebook.theme("JupyterLab Light")
    turned("< 200")


@pytest.mark.parametrize("width", [320, 1600])
def test_every_control_can_be_reached_in_a_narrow_and_in_a_wide_cell(shown: Shown, width: int) -> None:
    shown.node.evaluate("(node, width) => { node.style.width = width + 'px'; }", width)
    shown.node.scroll_into_view_if_needed()
    hidden = shown.node.evaluate(
        """async view =>
        {
            await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            const frame = view.shadowRoot.querySelector(".frame"), edge = frame.getBoundingClientRect();
            const root = view.shadowRoot, all = ".tabs button, .tools > button, .status > :not(:empty, [hidden])";
            const covered = [...root.querySelectorAll(all)].filter(node =>
            {
                const { left, right, top, bottom, width } = node.getBoundingClientRect();
                const above = root.elementFromPoint((left + right) / 2, (top + bottom) / 2);
                return !width || left < edge.left || right > edge.right || right < innerWidth && !node.contains(above);
            });
            return [...covered.map(node => node.dataset.v86lab), frame.scrollWidth > frame.clientWidth].filter(Boolean);
        }"""
    )
    assert hidden == []
    columns = ask(shown.notebook, "vm.console.sendline('echo alive $((6*7))')")
    assert columns is None
    shown.says("alive 42")
    box = shown.rows.bounding_box()
    assert box is not None and 0.7 * width < box["width"] <= width  # the terminal has the cell's width


def test_roles_names_and_reasons_are_there_for_a_screen_reader(shown: Shown) -> None:
    expect(shown.node).to_match_aria_snapshot(
        """
        - group "Machine linux":
          - tablist "Views of the machine":
            - tab "Terminal" [selected]
            - tab "Screen"
          - toolbar "Machine linux":
            - button "Pause"
            - button "Reset"
            - button "Take a snapshot"
            - button "Restore a snapshot" [disabled]
            - button "Special keys"
            - button "Save the terminal as text"
            - button "View options"
            - button "Full screen"
          - tabpanel "Terminal":
            - textbox "Terminal of the guest. Shift+Escape leaves."
          - text: /Running .* in this browser/
          - status
        """
    )
    expect(shown.part("restore")).to_have_attribute("title", "Restore a snapshot (no snapshot has been taken)")
    expect(shown.part("terminal")).to_have_attribute(
        "aria-description", "Enter gives the keyboard to the guest, Shift+Esc takes it back."
    )
    expect(shown.part("announcement")).to_have_attribute("aria-live", "polite")
    expect(shown.part("announcement")).to_have_text("Running")
    shown.part("run").click()
    expect(shown.part("announcement")).to_have_text("Paused. Guest time stands still.")
    expect(shown.part("keys")).to_have_attribute("title", "Special keys (the machine is paused)")
    expect(shown.part("keys")).to_have_attribute("aria-disabled", "true")


def test_the_toolbar_and_the_tabs_are_used_with_the_keyboard_alone(shown: Shown) -> None:
    shown.part("tab-terminal").focus()
    shown.press("ArrowRight")
    expect(shown.part("tab-screen")).to_have_attribute("aria-selected", "true")
    shown.press("Tab")
    expect(shown.part("run")).to_be_focused()
    shown.press("ArrowRight")
    expect(shown.part("reset")).to_be_focused()
    shown.press("End")
    expect(shown.part("fullscreen")).to_be_focused()
    shown.press("ArrowLeft", "ArrowDown")
    expect(shown.part("options")).to_have_attribute("aria-expanded", "true")
    expect(shown.part("scale-fit")).to_be_focused()
    shown.press("ArrowDown", "ArrowDown", "Enter")
    expect(shown.part("options")).to_be_focused()
    expect(shown.part("options")).to_have_attribute("aria-expanded", "false")
    shown.press("Tab")
    expect(shown.part("screen")).to_be_focused()
    shown.press("Enter")
    expect(shown.part("canvas")).to_be_focused()
    shown.press("Shift+Escape", "Shift+Tab", "Home", "Space")
    shown.state("Paused")


def test_a_flood_from_the_guest_is_drawn_a_few_times_a_second(shown: Shown) -> None:
    shown.page.evaluate(
        """rows =>
        {
            window.redraws = { times: [] };
            const seen = new MutationObserver(() => redraws.times.push(performance.now()));
            seen.observe(rows, { childList: true, subtree: true });
        }""",
        shown.rows.element_handle(),
    )
    shown.enter()
    shown.type("seq 20000; echo do''ne\n")
    shown.says("done")
    times = shown.page.evaluate("redraws.times")
    seconds = max(1.0, (times[-1] - times[0]) / 1000)
    assert 1 < len(times) < 25 * seconds  # a slow computer has fewer


def test_a_cold_browser_shows_what_it_downloads_with_names_and_bytes(
    open_notebook: Callable[..., Notebook], page: Page
) -> None:
    held: list[Route] = []
    notebook = open_notebook([f"import v86lab as lab\nwith lab.Machine() as vm: vm.run('true')\n{LINUX}", "vm"])
    notebook.run(0)  # the Store has the start state now, this browser has nothing
    page.evaluate("() => { window.labels = new Set(); }")
    loads, holding = 0, True

    def hold(route: Route) -> None:
        nonlocal loads
        loads += 1
        if loads == 1 or not holding:  # the first is the view itself
            route.continue_()
        else:
            held.append(route)

    page.context.route("**/blob/**", hold)
    notebook.run(1)
    shown = Shown(notebook, 1)
    label = shown.part("progress-label")
    expect(label).to_have_text(re.compile(r"^(engine|emulator) 0 B, and 1 more$"))
    expect(shown.part("progress")).to_have_attribute("aria-valuetext", re.compile("^(engine|emulator) 0 B"))
    shown.state("Starting")
    label.evaluate(
        """label => new MutationObserver(() => labels.add(label.textContent))
            .observe(label, { childList: true, characterData: true, subtree: true })"""
    )
    holding = False
    for route in held:
        route.continue_()
    shown.state("Running")
    expect(shown.part("progress")).to_be_hidden()
    said = page.evaluate("[...labels]")
    assert any(re.match(r"\w.* [\d.]+ of [\d.]+ [kM]B", text) for text in said), said
