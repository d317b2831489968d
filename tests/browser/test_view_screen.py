"""The view's Screen tab: the VGA's pixels as they are, the keyboard in front of them, and nothing that nobody sees."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from .jupyter import Notebook
from .sectors import ECHO, PAINT, PICTURE, TEXT
from .viewer import ask, show


def sector(source: str) -> str:
    return f"vm = lab.Machine(lab.images.boot_sector({source!r}))"


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def test_a_graphics_mode_comes_to_the_front_and_is_drawn_pixel_by_pixel(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(PICTURE))
    expect(shown.part("tab-screen")).to_have_attribute("aria-selected", "true")
    shown.draws("canvas.width === 320 && context.getImageData(300, 199, 1, 1).data[0] > 0")
    pixels = shown.pixels()
    assert pixels.shape == (200, 320, 3)
    assert pixels[0, :4].tolist() == [[0, 0, 0], [0, 0, 168], [0, 168, 0], [0, 168, 168]]
    assert (pixels == pixels[0, :256][np.arange(64000).reshape(200, 320) % 256]).all()


def test_text_is_drawn_with_the_font_and_the_colours_of_the_vga(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(TEXT))
    shown.part("tab-screen").click()
    shown.draws("canvas.width === 720 && context.getImageData(22, 4, 1, 1).data[0] > 0")
    pixels = shown.pixels()
    assert pixels.shape == (400, 720, 3)
    assert (pixels[:16, :8] == (255, 255, 87)).all()
    line = (pixels[:16, 9:18] == (168, 168, 168)).all(axis=2)
    assert line.all(axis=1).any(), "no row of the line crosses its cell from edge to edge"
    letter = (pixels[:16, 18:27] == 255).all(axis=2)
    assert letter[2:12].any(axis=1).all() and not letter[13:].any() and not letter[:, 8].any()
    assert not pixels[16:].any()


def test_keys_in_front_of_the_screen_reach_the_bios_and_no_shortcut_reaches_jupyterlab(
    shared_notebook: Notebook,
) -> None:
    shown = show(shared_notebook, sector(ECHO), "# a cell")
    shown.part("tab-screen").click()
    shown.enter("canvas")
    shown.type("dd")
    shown.press("Shift+h")
    shown.type("i 5")
    shown.press("Shift+5")
    shown.type(" abxzm")
    ask(shown.notebook, "vm.screen.expect('abxzm') and None")
    assert ask(shown.notebook, "vm.screen.text") == "PC>ddHi 5% abxzm"
    assert len(shown.notebook) == 3
    shown.press("Shift+Escape")
    expect(shown.part("screen")).to_be_focused()
    shown.type("q")
    shown.press("Enter")
    expect(shown.part("canvas")).to_be_focused()
    shown.type("1")
    ask(shown.notebook, "vm.screen.expect('abxzm1') and None")


def test_a_modifier_does_not_stay_down_when_the_keyboard_goes_elsewhere(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(ECHO), "# a cell")
    shown.part("tab-screen").click()
    shown.enter("canvas")
    shown.page.keyboard.down("Shift")
    shown.type("a")
    shown.notebook.cell(2).locator(".cm-content").click()
    shown.page.keyboard.up("Shift")
    shown.enter("canvas")
    shown.type("b")
    ask(shown.notebook, "vm.screen.expect('PC>Ab') and None")


def test_the_screen_can_be_saved_as_png(shared_notebook: Notebook, tmp_path: Path) -> None:
    shown = show(shared_notebook, sector(PICTURE))
    shown.draws("canvas.width === 320 && context.getImageData(300, 199, 1, 1).data[0] > 0")
    expect(shown.part("picture")).to_have_attribute("aria-label", "Save the screen as PNG")
    with shown.page.expect_download() as download:
        shown.part("picture").click()
    assert re.fullmatch(r"boot-sector-\d{6}\.png", download.value.suggested_filename)
    download.value.save_as(tmp_path / "saved.png")
    wanted = decoded(ask(shown.notebook, "vm.screen.png()"))
    assert (decoded((tmp_path / "saved.png").read_bytes()) == wanted).all()


def test_the_screens_scale_is_the_persons_choice(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(PICTURE))
    shown.draws("canvas.width === 320")
    widths = {}
    for name in ("scale-1", "scale-2", "scale-3", "scale-fit"):
        shown.choose("options", name)
        widths[name] = shown.style("canvas", ["width"])[0]
    assert widths == {"scale-1": "320px", "scale-2": "640px", "scale-3": "960px", "scale-fit": "640px"}
    shown.part("options").click()
    expect(shown.part("scale-fit")).to_have_attribute("aria-checked", "true")
    expect(shown.part("scale-1")).to_have_attribute("aria-checked", "false")
    shown.press("Escape")
    assert shown.style("canvas", ["imageRendering"]) == ["pixelated"]


def test_full_screen_shows_the_machine_alone_and_can_be_left(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(PICTURE))
    shown.draws("canvas.width === 320")
    shown.part("fullscreen").click()
    shown.page.wait_for_function("() => document.fullscreenElement?.dataset.v86lab === 'view'")
    expect(shown.part("fullscreen")).to_have_attribute("aria-label", "Leave full screen")
    expect(shown.node.locator(".frame.captured")).to_be_visible()
    size, box = shown.page.evaluate("[innerWidth, innerHeight]"), shown.node.locator(".frame").bounding_box()
    assert box is not None and [box["width"], box["height"]] == size
    shown.page.wait_for_function("canvas => canvas.offsetWidth === 960", arg=shown.part("canvas").element_handle())
    shown.part("keys").click()
    expect(shown.part("key-ctrl-alt-del")).to_be_visible()
    shown.part("keys").click()  # Escape might leave the full screen as well
    expect(shown.part("key-ctrl-alt-del")).to_be_hidden()
    shown.part("fullscreen").click()
    shown.page.wait_for_function("() => !document.fullscreenElement")
    expect(shown.part("fullscreen")).to_have_attribute("aria-label", "Full screen")


def test_a_screen_reader_can_read_the_screens_text(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(ECHO))
    shown.part("tab-screen").click()
    shown.choose("options", "screen-reader")
    shown.enter("canvas")
    shown.type("hello")
    expect(shown.part("screen-text")).to_have_text(re.compile("PC>hello"))


@pytest.mark.parametrize("way", ["page", "tab", "scroll"])
def test_nothing_is_asked_for_that_nobody_sees(shared_notebook: Notebook, way: str) -> None:
    shown = show(shared_notebook, sector(PAINT), "%%markdown\n" + "line\n\n" * 300, "# end")
    shown.draws("context.getImageData(9, 9, 1, 1).data[2] === 168")
    page = shown.page
    hide, come_back = {
        "page": (
            "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
            "document.dispatchEvent(new Event('visibilitychange'))",
            "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))",
        ),
        "tab": ("node => node.shadowRoot.querySelector('[data-v86lab=tab-terminal]').click()",
                "node => node.shadowRoot.querySelector('[data-v86lab=tab-screen]').click()"),
        "scroll": ("() => { scrolled.scrollTop = 4000 }", "() => { scrolled.scrollTop = 0 }"),
    }[way]  # fmt: skip
    node = shown.node.element_handle()
    page.evaluate("node => { window.scrolled = node.closest('.jp-WindowedPanel-outer'); }", node)
    page.evaluate(hide if way != "page" else f"() => {{ {hide} }}", node)
    page.wait_for_function("() => passed.last.watch.screen === false")
    assert page.evaluate("passed.last.watch.activity") == (way == "tab")
    assert ask(shown.notebook, "vm.instructions") > 0  # the engine has heard it: requests are answered in order
    seen = shown.passed("in", "frame")
    for _ in range(3):
        before = ask(shown.notebook, "vm.screen.png()[-200:]")
        ask(shown.notebook, "vm.keyboard.type(' ')")
        while ask(shown.notebook, "vm.screen.png()[-200:]") == before:
            page.wait_for_timeout(50)
    assert shown.passed("in", "frame") == seen
    page.evaluate(come_back if way != "page" else f"() => {{ {come_back} }}", node)
    shown.draws("String(context.getImageData(9, 9, 1, 1).data) === '168,0,0,255'")  # the fourth colour
    assert page.evaluate("passed.last.frame.rect") == [0, 0, 320, 200]


def test_a_screen_that_does_not_change_sends_nothing(shared_notebook: Notebook) -> None:
    shown = show(shared_notebook, sector(PICTURE))
    shown.draws("canvas.width === 320 && context.getImageData(300, 199, 1, 1).data[0] > 0")
    shown.page.wait_for_timeout(1000)
    before = shown.passed("in", "frame")
    shown.page.wait_for_timeout(1500)
    assert shown.passed("in", "frame") == before
