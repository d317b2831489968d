"""A machine's view in a page, for tests: its parts by name, its pixels, and what passes between page and engine."""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from playwright.sync_api import BrowserContext, Locator, Page, expect

from .jupyter import PATIENCE, Notebook

expect.set_options(timeout=PATIENCE * 1000)

# Counts the protocol's messages between a page and the engines in its workers, by type: window.passed.in and .out.
_COUNTING = """
const passed = window.passed = { in: {}, out: {}, last: {} };
const note = (way, data) =>
{
    if(!(data instanceof Uint8Array) || data[0]) return;
    const size = new DataView(data.buffer, data.byteOffset).getUint32(1, true);
    const header = JSON.parse(new TextDecoder().decode(data.subarray(5, 5 + size)));
    passed[way][header.type] = (passed[way][header.type] ?? 0) + 1;
    passed.last[header.type] = header;
};
const port = MessagePort.prototype, post = port.postMessage;
const { get, set } = Object.getOwnPropertyDescriptor(port, "onmessage");
Object.defineProperty(port, "onmessage", {
    get, set(heard) { set.call(this, event => { note("in", event.data); heard.call(this, event); }); },
});
port.postMessage = function(data, ...rest) { note("out", data); return post.call(this, data, ...rest); };
"""


def count_messages(context: BrowserContext) -> None:
    """Have the context's pages count (`Shown.passed`); before they load."""
    context.add_init_script(_COUNTING)


def ask(notebook: Notebook, expression: str) -> Any:
    """The value of a Python expression in the kernel, which may be any literal; no cell is run."""
    answer: dict[str, Any] = notebook.page.evaluate(
        """async ([path, expression]) =>
        {
            const { kernel } = harness.panel(path).sessionContext.session;
            const asked = { code: "", silent: true, store_history: false, user_expressions: { value: expression } };
            return (await kernel.requestExecute(asked).done).content.user_expressions.value;
        }""",
        [notebook.path, expression],
    )
    assert answer["status"] == "ok", answer
    return ast.literal_eval(answer["data"]["text/plain"])


def show(notebook: Notebook, code: str, *more: str) -> Shown:
    """Run a cell that makes ``vm`` and one that shows it; `more` cells follow, and none of them is run."""
    notebook.rewrite([f"import v86lab as lab\nif 'vm' in globals(): vm.close()\n{code}", "vm", *more])
    for n in range(2):
        notebook.run(n)
    shown = Shown(notebook, 1)
    shown.state("Running")
    return shown


class Shown:
    """The view in the outputs of a cell."""

    def __init__(self, notebook: Notebook, n: int) -> None:
        self.notebook: Notebook = notebook
        self.page: Page = notebook.page
        self.node: Locator = notebook.output(n).locator('[data-v86lab="view"]')

    def part(self, name: str) -> Locator:
        return self.node.locator(f'[data-v86lab="{name}"]')

    @property
    def rows(self) -> Locator:
        return self.node.locator(".xterm-rows")

    def says(self, text: str | re.Pattern[str]) -> None:
        """Wait until the terminal shows a text."""
        expect(self.rows).to_contain_text(text)

    def state(self, word: str) -> None:
        expect(self.part("state")).to_have_text(word)

    def enter(self, tab: str = "terminal") -> None:
        """Give the keyboard to the guest, by a click."""
        self.part(tab).click()
        expect(self.node.locator(".frame.captured")).to_be_visible()

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, menu: str, item: str) -> None:
        self.part(menu).click()
        self.part(item).click()

    def pixels(self) -> np.ndarray[Any, Any]:
        """What the canvas shows, as an array (rows, columns, 3)."""
        width, height, data = self.part("canvas").evaluate(
            """canvas =>
            {
                const { width, height } = canvas, context = canvas.getContext("2d"), PIECE = 8192;
                const { data } = context.getImageData(0, 0, width, height);
                let text = "";
                for(let at = 0; at < data.length; at += PIECE)
                    text += String.fromCharCode(...data.subarray(at, at + PIECE));
                return [width, height, btoa(text)];
            }"""
        )
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]

    def draws(self, condition: str) -> None:
        """Wait until the canvas fulfils a condition in JavaScript on `canvas` and its `context`."""
        self.page.wait_for_function(
            f"canvas => {{ const context = canvas.getContext('2d'); return {condition}; }}",
            arg=self.part("canvas").element_handle(),
        )

    def style(self, part: str, names: Sequence[str], pseudo: str = "") -> list[str]:
        values: list[str] = self.part(part).evaluate(
            "(node, [names, pseudo]) => names.map(name => getComputedStyle(node, pseudo)[name])",
            [list(names), pseudo],
        )
        return values

    def passed(self, way: str, kind: str) -> int:
        """How many messages of a type came "in" from engines or went "out" (`count_messages`)."""
        number: int = self.page.evaluate("([way, kind]) => window.passed[way][kind] ?? 0", [way, kind])
        return number
