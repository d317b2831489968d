"""What a browser keeps: a second start fetches nothing, a page compiles once, and a cold start is small."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Request, expect

from .jupyter import JupyterServer, Notebook
from .viewer import Shown

START = "import v86lab as lab\nvm = lab.Machine()"
COLD = 7_000_000  # bytes until the first prompt


# Of the page; its workers are handed the module. JupyterLab itself compiles small ones.
COUNT_COMPILED = """
const { compile } = WebAssembly;
window.timesCompiled = 0;
WebAssembly.compile = bytes =>
{
    if(bytes.byteLength > 1e6) window.timesCompiled++;
    return compile.call(WebAssembly, bytes);
};
"""


class Fetched:
    """The blobs that a browser's pages and their workers have fetched, with the bytes of each."""

    def __init__(self, context: BrowserContext) -> None:
        self.sizes: dict[str, int] = {}
        context.on("requestfinished", self._finished)

    def _finished(self, request: Request) -> None:
        found = re.search(r"/blob/(\w{64})$", request.url)
        if found and request.method == "GET":
            size = request.sizes()["responseBodySize"]
            self.sizes[found[1]] = self.sizes.get(found[1], 0) + size

    def __len__(self) -> int:
        return len(self.sizes)


def open_and_run(server: JupyterServer, context: BrowserContext, *cells: str) -> tuple[Notebook, Shown]:
    notebook = Notebook.open(server, context.new_page(), [START, "vm", *cells])
    for n in range(2):
        notebook.run(n)
    shown = Shown(notebook, 1)
    shown.says("You are root")
    shown.state("Running")
    expect(shown.part("place")).to_have_text("in this browser")
    return notebook, shown


def wait_until_kept(notebook: Notebook, fetched: Fetched) -> None:
    """Whole blobs are kept under their digest, parts of one under names that begin with it."""
    notebook.page.wait_for_function(
        """async digests =>
        {
            const keys = (await (await caches.open("v86lab")).keys()).map(({ url }) => url);
            return digests.every(digest => keys.some(key => key.includes(digest)));
        }""",
        arg=list(fetched.sizes),
    )


@pytest.fixture
def warm_store(server: JupyterServer, new_context: Callable[..., BrowserContext]) -> None:
    """The default guest's start state is in the server's Store: no test depends on another's having made it."""
    notebook = Notebook.open(server, new_context().new_page(), [f"{START}\nvm.run('true').returncode"])
    notebook.run(0)
    assert notebook.text(0).endswith("0")
    notebook.page.close()
    server.end_kernels()


@pytest.mark.usefixtures("warm_store")
def test_from_cold_to_the_first_prompt_little_is_fetched_and_the_second_start_fetches_nothing(
    server: JupyterServer, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context()
    fetched = Fetched(context)
    notebook, _ = open_and_run(server, context)
    assert len(fetched) >= 3  # the view, the engine, its machine code: this counts what it should
    assert sum(fetched.sizes.values()) <= COLD, fetched.sizes
    wait_until_kept(notebook, fetched)

    fetched.sizes.clear()
    notebook.rewrite([START.replace("vm =", "second ="), "second"])  # another machine in this page
    notebook.run(0)
    notebook.run(1)
    Shown(notebook, 1).says("You are root")
    notebook.page.close()
    server.end_kernels()
    notebook, _ = open_and_run(server, context, "vm.run('echo warm').stdout")  # another page, another kernel
    notebook.run(2)
    assert notebook.text(2) == r"'warm\n'"
    assert fetched.sizes == {}
    notebook.page.close()
    server.end_kernels()


@pytest.mark.usefixtures("warm_store")
def test_what_the_browser_keeps_is_checked_and_fetched_again_when_it_is_damaged(
    server: JupyterServer, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context()
    fetched = Fetched(context)
    notebook, _ = open_and_run(server, context)
    wait_until_kept(notebook, fetched)
    (damaged,) = (digest for digest, size in fetched.sizes.items() if size == max(fetched.sizes.values()))
    notebook.page.evaluate(
        """async digest =>
        {
            const cache = await caches.open("v86lab");
            const keys = (await cache.keys()).filter(({ url }) => url.includes(digest));
            await Promise.all(keys.map(key => cache.put(key, new Response("damaged"))));
        }""",
        damaged,
    )
    notebook.page.close()
    server.end_kernels()
    fetched.sizes.clear()
    notebook, _ = open_and_run(server, context)
    assert list(fetched.sizes) == [damaged]
    notebook.page.close()
    server.end_kernels()


def test_the_wasm_is_compiled_once_for_three_machines_of_a_page(
    server: JupyterServer, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context(viewport={"width": 1280, "height": 2400})  # JupyterLab removes cells out of sight
    context.add_init_script(COUNT_COMPILED)
    notebook = Notebook.open(
        server,
        context.new_page(),
        ["import v86lab as lab\nvms = [lab.Machine() for _ in range(3)]", *(f"vms[{n}]" for n in range(3))],
    )
    for n in range(4):
        notebook.run(n)
    for n in range(1, 4):
        shown = Shown(notebook, n)
        shown.says("You are root")
        expect(shown.part("place")).to_have_text("in this browser")
    assert len(notebook.page.workers) >= 3
    assert notebook.page.evaluate("timesCompiled") == 1
    notebook.page.close()
    server.end_kernels()
