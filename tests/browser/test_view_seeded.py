"""The view of a machine with a seed: it stands still between calls, goes live when asked, and stays replayable."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from .jupyter import Notebook
from .sectors import ECHO
from .viewer import Shown, ask

SEEDED = "vm = lab.Machine(seed=7)"
STOPPED = "Stopped between calls"
CALLS = """
said = vm.run('head -c8 /dev/urandom | od -An -tx1; date; sleep 3600; date').stdout
said, vm.instructions, vm.state_hash()
"""
SPIN = """
try: vm.run('while :; do :; done', instructions=2_000_000_000)
except lab.errors.GuestTimeout: print('over')
"""


def show(notebook: Notebook, code: str, *more: str) -> Shown:
    """Run a cell that makes ``vm`` and one that shows it, and wait until it has been started; `more` cells follow."""
    notebook.rewrite([f"import v86lab as lab\nif 'vm' in globals(): vm.close()\n{code}", "vm", *more])
    for n in range(2):
        notebook.run(n)
    shown = Shown(notebook, 1)
    shown.state(STOPPED)
    return shown


@pytest.fixture
def shown(shared_notebook: Notebook) -> Shown:
    """A machine of its own for a test, with the default guest."""
    return show(shared_notebook, SEEDED, "# a cell")


def instructions(shown: Shown) -> int:
    number: int = ask(shown.notebook, "vm.instructions")
    return number


def moves(shown: Shown, before: int) -> None:
    """Wait until the guest has executed something since; it has a limit."""
    for _ in range(200):
        if instructions(shown) > before:
            return
        shown.page.wait_for_timeout(50)
    raise AssertionError(f"the guest stands at {before} instructions")


def stand(shown: Shown) -> None:
    """It does not move while a person looks on."""
    before = instructions(shown)
    shown.page.wait_for_timeout(1000)
    assert instructions(shown) == before


def replays(shown: Shown) -> None:
    assert ask(shown.notebook, "lab.replay(vm.recording).state_hash() == vm.state_hash()") is True


def test_it_stands_still_between_calls_and_says_so_with_its_seed(shown: Shown) -> None:
    expect(shown.part("seed")).to_have_text("seed 7")
    expect(shown.part("place")).to_have_text("in this browser")
    expect(shown.part("cover")).to_be_hidden()
    expect(shown.part("run")).to_have_attribute("aria-label", "Go live")
    expect(shown.part("drive")).to_have_text("Go live")
    expect(shown.node.locator(".state")).to_have_attribute("title", re.compile(r"only inside a call such as vm\.run"))
    assert shown.style("terminal", ["opacity"]) == ["1"]
    assert ask(shown.notebook, "vm.status") == "paused"
    stand(shown)


def test_a_call_moves_it_and_afterwards_it_stands_again(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, SEEDED, SPIN)
    before = instructions(shown)
    assert ask(shown.notebook, "vm.run('echo moved $((6*7))').stdout") == "moved 42\n"
    after = instructions(shown)
    assert after > before
    shown.state(STOPPED)
    stand(shown)
    shown.notebook.run(2, wait=False)
    shown.state("Running")
    expect(shown.part("seed")).to_have_text("seed 7")
    shown.notebook.wait(2)
    assert shown.notebook.text(2) == "over\n"
    shown.state(STOPPED)
    assert instructions(shown) >= after + 2_000_000_000
    stand(shown)


def test_live_its_clock_follows_the_wall_what_is_typed_is_recorded_and_it_replays(shown: Shown) -> None:
    shown.part("drive").click()
    shown.state("Live")
    expect(shown.part("run")).to_have_attribute("aria-label", "Stop")
    expect(shown.part("drive")).to_have_text("Stop")
    moves(shown, instructions(shown))
    shown.enter()
    shown.type("echo typed $((6*7)) | tee /root/typed\n")
    shown.says("typed 42")
    shown.part("run").click()
    shown.state(STOPPED)
    stand(shown)
    replays(shown)
    assert ask(shown.notebook, "vm.run('cat /root/typed').stdout") == "typed 42\n"
    replays(shown)
    assert ask(shown.notebook, "lab.replay(vm.recording).run('cat /root/typed').stdout") == "typed 42\n"


def test_a_call_on_a_live_machine_leaves_it_live(shown: Shown) -> None:
    shown.part("run").click()
    shown.state("Live")
    assert ask(shown.notebook, "vm.run('echo on').stdout") == "on\n"
    shown.state("Live")
    moves(shown, instructions(shown))
    assert ask(shown.notebook, "vm.pause()") is None
    shown.state(STOPPED)
    assert ask(shown.notebook, "vm.resume()") is None
    shown.state("Live")
    shown.part("drive").click()
    shown.state(STOPPED)
    replays(shown)


def test_what_is_typed_while_it_stands_waits_and_the_person_is_told_once(shown: Shown) -> None:
    notice, before = shown.part("notice-wait"), instructions(shown)
    shown.enter()
    shown.type("echo late $((6*7)) > /root/late\n")
    expect(notice).to_contain_text("The machine stands still between calls; go live to type.")
    expect(notice).to_contain_text("waits for the next call")
    expect(notice).to_have_count(1)
    assert instructions(shown) == before
    shown.part("dismiss-wait").click()
    expect(shown.node.locator(".frame.captured")).to_be_visible()
    shown.type("# more\n")
    expect(notice).to_have_count(0)
    assert instructions(shown) == before
    assert ask(shown.notebook, "vm.run('sleep 5; cat /root/late').stdout") == "late 42\n"
    expect(notice).to_have_count(0)
    replays(shown)


def test_the_notice_offers_to_go_live_and_gives_the_keyboard_back(shown: Shown) -> None:
    shown.enter()
    shown.type("echo first $((6*7))\n")
    shown.part("wait-live").click()
    shown.state("Live")
    expect(shown.part("notice-wait")).to_have_count(0)
    expect(shown.node.locator(".frame.captured")).to_be_visible()
    shown.says("first 42")
    shown.type("echo second $((6*7))\n")
    shown.says("second 42")
    shown.press("Shift+Escape")
    shown.part("run").click()
    shown.state(STOPPED)
    replays(shown)


def test_keys_in_front_of_the_screen_are_refused_while_it_stands_and_reach_it_live(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, f"vm = lab.Machine(lab.images.boot_sector({ECHO!r}), seed=7)")
    ask(shown.notebook, "vm.screen.expect('PC>') and None")
    shown.part("tab-screen").click()
    shown.enter("canvas")
    before = instructions(shown)
    shown.press("Shift")
    expect(shown.part("notice-wait")).to_have_count(0)
    shown.type("lost")
    expect(shown.part("notice-wait")).to_contain_text("did not reach it")
    expect(shown.part("notice-failure")).to_have_count(0)
    assert instructions(shown) == before
    shown.part("wait-live").click()
    shown.state("Live")
    expect(shown.part("canvas")).to_be_focused()
    shown.type("live")
    ask(shown.notebook, "vm.screen.expect('PC>live') and None")
    shown.press("Shift+Escape")
    shown.part("run").click()
    shown.state(STOPPED)
    replays(shown)


def test_it_is_used_with_the_keyboard_alone_and_read_by_a_screen_reader(shown: Shown) -> None:
    expect(shown.node).to_match_aria_snapshot(
        """
        - group "Machine linux":
          - tablist "Views of the machine"
          - toolbar "Machine linux":
            - button "Go live"
            - button "Reset"
          - tabpanel "Terminal"
          - text: Stopped between calls
          - button "Go live"
          - text: seed 7 in this browser
          - status: Stopped between calls
        """
    )
    shown.part("terminal").focus()
    shown.press("Tab")
    expect(shown.part("drive")).to_be_focused()
    shown.press("Enter")
    shown.state("Live")
    expect(shown.part("announcement")).to_have_text("Live")
    expect(shown.part("drive")).to_be_focused()
    shown.press("Space")
    shown.state(STOPPED)
    expect(shown.part("drive")).to_be_focused()
    shown.press("Shift+Tab", "Enter", "x")
    expect(shown.part("notice-wait")).to_have_attribute("role", "status")
    shown.press("Shift+Escape", "Shift+Tab")
    expect(shown.part("dismiss-wait")).to_be_focused()
    shown.press("Shift+Tab")
    expect(shown.part("wait-live")).to_be_focused()
    shown.press("Enter")
    shown.state("Live")
    expect(shown.part("terminal-input")).to_be_focused()


@pytest.mark.parametrize("width", [320, 1600])
def test_its_status_line_fits_a_narrow_and_a_wide_cell(shown: Shown, width: int) -> None:
    shown.node.evaluate("(node, width) => { node.style.width = width + 'px'; }", width)
    shown.enter()
    shown.type("x")
    shown.part("wait-live").scroll_into_view_if_needed()
    outside = shown.node.evaluate(
        """view =>
        {
            const frame = view.shadowRoot.querySelector(".frame"), edge = frame.getBoundingClientRect();
            const all = [...view.shadowRoot.querySelectorAll(".status > :not(:empty, [hidden]), .notice button")];
            const out = all.filter(node => node.getBoundingClientRect().right > edge.right || !node.offsetWidth);
            return [...out.map(node => node.dataset.v86lab), frame.scrollWidth > frame.clientWidth].filter(Boolean);
        }"""
    )
    assert outside == []


def test_the_browser_and_node_reach_the_same_machine(shared_notebook: Notebook) -> None:
    other = "vm, shown = lab.Machine(seed=7, engine='node'), vm"
    shown = show(shared_notebook, SEEDED, CALLS, other + CALLS, "shown.close()")
    for n in (2, 3):
        shown.notebook.run(n)
    kinds = ask(shown.notebook, "[one.engine.kind for one in (shown, vm)]")
    shown.notebook.run(4)
    assert kinds == ["browser", "node"]
    here, there = shown.notebook.text(2), shown.notebook.text(3)
    assert here == there
    assert re.search("[0-9a-f]{64}", here)


def test_a_view_of_a_machine_on_the_server_goes_live_too(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, "vm = lab.Machine(seed=7, engine='node')\nvm.run('true')")
    expect(shown.part("place")).to_have_text("on the server")
    shown.part("drive").click()
    shown.state("Live")
    shown.enter()
    shown.type("echo typed $((6*7))\n")
    shown.says("typed 42")
    shown.press("Shift+Escape")
    shown.part("drive").click()
    shown.state(STOPPED)
    replays(shown)
