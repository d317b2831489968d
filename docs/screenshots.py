"""Takes this folder's pictures of the view, in a real JupyterLab: ``.venv/bin/python docs/screenshots.py``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from tests.browser.conftest import FLAGS, chromium  # noqa: E402
from tests.browser.jupyter import Complaints, JupyterServer, Notebook, browser_context  # noqa: E402
from tests.browser.viewer import Shown  # noqa: E402

START = "import v86lab as lab\nvm = lab.Machine()\nvm"
HELLO = r"""cat > hello.c <<'END'
#include <stdio.h>
int main(void) { printf("Hello from a notebook cell\n"); return 0; }
END
"""
SESSION = {  # and what the terminal shows once the prompt is there again
    HELLO: r"END\s*~ # *$",
    "cc -o hello hello.c && ./hello\n": r"cell\s*~ # *$",
    "grep -E 'model name|MHz' /proc/cpuinfo\n": r"MHz\s+: [\d.]+\s*~ # *$",
    "ls /\n": r"var\s*~ # *$",
}


def take(page: Page, shown: Shown, name: str, cell: int | None) -> None:
    """A picture of a cell, or without one of the view alone; the pointer and the keyboard are elsewhere."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(1500)  # lamps and the pointer's traces go out
    what = shown.node if cell is None else shown.notebook.cell(cell)
    what.screenshot(path=DOCS / f"{name}.png", animations="disabled")


def terminal(notebook: Notebook) -> Shown:
    notebook.run(0)
    shown = Shown(notebook, 0)
    shown.says("You are root")
    shown.enter()
    shown.type("cd /root; clear\n")
    shown.says(re.compile(r"^\s*~ # *$"))
    for lines, prompt in SESSION.items():
        shown.type(lines)
        shown.says(re.compile(prompt))
    return shown


def main() -> None:
    with (
        TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        JupyterServer.start(Path(folder) / "s") as server,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        size = {"width": 1180, "height": 860}
        with browser_context(browser, Complaints(), device_scale_factor=2, viewport=size) as context:
            page = context.new_page()
            notebook = Notebook.open(server, page, ["import v86lab as lab\nwith lab.Machine() as vm: vm.run('true')"])
            notebook.run(0, timeout=120)  # the start state is in the Store
            notebook.rewrite([START])
            shown = terminal(notebook)
            take(page, shown, "view-light", 0)
            notebook.theme("JupyterLab Dark")
            take(page, shown, "view-dark", 0)
            notebook.theme("JupyterLab Light")
            shown.node.evaluate("node => { node.style.width = '320px'; }")
            take(page, shown, "view-narrow", None)
            (server.root / "mandelbrot.asm").write_bytes((DOCS / "mandelbrot.asm").read_bytes())
            code = 'from pathlib import Path\nvm = lab.Machine(lab.images.boot_sector(Path("mandelbrot.asm")))\nvm'
            notebook.rewrite([code])
            notebook.run(0)
            shown = Shown(notebook, 0)
            shown.draws("canvas.width === 320 && context.getImageData(319, 199, 1, 1).data[2] > 0")
            take(page, shown, "view-graphics", 0)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
