"""The real thing, driven: a Jupyter server with a home of its own, and a notebook in a page of a browser.

`JupyterServer` is the process: its own HOME, configuration and token, on loopback, below a base URL. `Notebook` is one
document, open in JupyterLab or Notebook 7, driven through the application object that both can expose to their pages
(``window.jupyterapp``), so that running a cell is the command behind Shift+Enter and not an imitation of it.
Pages are Playwright's: what a test wants to see or click, it asks of `Notebook.page` or of the locator of a cell.

Rule: whatever a notebook does has a time limit, and ends in an error that shows where it stood.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psutil
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, WebError

BASE_URL = "/some/base/"
PATIENCE = 60.0  # seconds for anything that has no limit of its own; it is there for a failure only

Application = Literal["lab", "notebook"]

# Nothing that asks the network or lays a dialog over the page.
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


@dataclass
class JupyterServer:
    """A running Jupyter server; `start` makes it and ends it."""

    app: Application
    origin: str
    base_url: str
    token: str
    root: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        """Where it is, with the base URL and its final "/"."""
        return self.origin + self.base_url

    def call(self, method: str, path: str) -> Any:
        """A request to its REST API, such as ``call("GET", "api/kernels")``; gives the JSON of the answer."""
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            body = response.read()
        return json.loads(body) if body else None

    def end_kernels(self) -> None:
        for kernel in self.call("GET", "api/kernels"):
            self.call("DELETE", f"api/kernels/{kernel['id']}")

    @classmethod
    @contextmanager
    def start(
        cls,
        folder: Path,
        app: Application = "lab",
        *,
        base_url: str = BASE_URL,
        arguments: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[JupyterServer]:
        """Run a server in an empty folder until the block ends; then its kernels are gone, too.

        Parameters
        ----------
        folder : Path
            Gets its home (``home``), its notebooks (``root``) and its log (``log.txt``).
        app : "lab" or "notebook"
            Which command is run. Both serve both applications.
        arguments : sequence of str
            More of the command line, as ``["--ServerApp.jpserver_extensions={'jupyter_server_proxy': False}"]``.
        settings : mapping, optional
            The user's JupyterLab settings by plugin, as ``{"@jupyterlab/apputils-extension:themes": {"theme": …}}``.
        environment : mapping, optional
            Added to the environment of the server and its kernels.
        """
        home, root, log = folder / "home", folder / "root", folder / "log.txt"
        root.mkdir(parents=True)
        token = secrets.token_hex(16)
        env = os.environ | _homes(home) | {"JUPYTER_TOKEN": token} | dict(environment or {})
        _write_settings(home / "config" / "lab" / "user-settings", QUIET | dict(settings or {}))
        command = [
            *(sys.executable, "-m", {"lab": "jupyterlab", "notebook": "notebook"}[app]),
            *("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={_free_port()}"),
            f"--ServerApp.base_url={base_url}",
            f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
            *arguments,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            origin = _wait_for_server(process, home / "runtime", token, log)
            yield cls(app, origin, base_url, token, root, log, process)
        finally:
            _end(process)


def _homes(home: Path) -> dict[str, str]:
    """A home of its own for a server; what is installed beside Python (kernels, extensions) stays visible."""
    parts = {
        "HOME": "",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "config/lab/user-settings",
        "JUPYTERLAB_WORKSPACES_DIR": "config/lab/workspaces",
    }
    for part in parts.values():
        (home / part).mkdir(parents=True, exist_ok=True)
    return {name: str(home / part) for name, part in parts.items()}


def _write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    for plugin, values in settings.items():
        package, name = plugin.split(":")
        path = folder / package / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port  # taken by another meanwhile: the server tries the next, and its runtime file tells which it got


def _wait_for_server(process: subprocess.Popen[bytes], runtime: Path, token: str, log: Path) -> str:
    """Wait until it answers; gives its origin."""
    runtime_file = runtime / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            said = json.loads(runtime_file.read_text())
            url = f"http://127.0.0.1:{said['port']}{said['base_url']}api/status"
            request = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
            urllib.request.urlopen(request, timeout=5).close()
            return f"http://127.0.0.1:{said['port']}"
        except (OSError, ValueError):
            time.sleep(0.05)
    raise AssertionError(f"the Jupyter server did not start; it said:\n{log.read_text()[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server as its user's Ctrl-C twice does; it ends its kernels. What is left after that is killed."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(PATIENCE / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for orphan in psutil.wait_procs(family, timeout=5)[1]:
        orphan.kill()


# -- pages -------------------------------------------------------------------------------------------------------------


# What the applications say by themselves, seen with JupyterLab 4.6 and Notebook 7.6 and a notebook without widgets.
USUAL = [
    r"Canceled future for \w+ message before replies were done",  # a kernel ended before it had answered
    r"WebSocket is already in CLOSING or CLOSED state",  # a kernel ended; an engine's line sends such a frame again
    r"Comm not found for comm id",  # a second page hears the kernel's answer to the first one's comm
    r"Cannot read properties of undefined \(reading 'schema'\)[^/]*/\S*/notebook_core\.",
    r"Command 'filebrowser:open-path' not registered",
]


@dataclass
class Complaints:
    """Errors on the consoles of a browser's pages. A test that provokes some says which by `allow`."""

    seen: list[str] = field(default_factory=list)
    allowed: list[re.Pattern[str]] = field(default_factory=lambda: [re.compile(pattern) for pattern in USUAL])

    def allow(self, pattern: str) -> None:
        self.allowed.append(re.compile(pattern))

    @property
    def unexpected(self) -> list[str]:
        return [text for text in self.seen if not any(pattern.search(text) for pattern in self.allowed)]

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._heard)
        context.on("weberror", self._thrown)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.seen.append(f"{message.text} ({message.location['url']})")

    def _thrown(self, error: WebError) -> None:
        self.seen.append(f"uncaught: {error.error.stack or error.error}")


@contextmanager
def browser_context(browser: Browser, complaints: Complaints, **options: Any) -> Iterator[BrowserContext]:
    """A browser without a past: no cookies, caches or storage of another. It fails if its pages complained."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(PATIENCE * 1000)
    complaints.watch(context)
    try:
        yield context
    finally:
        context.close()
    assert not complaints.unexpected, "errors on the console of the browser:\n" + "\n".join(complaints.unexpected)


# What is called as window.harness.name(...) in the page of a notebook.
_HARNESS = """
if(!window.harness)
{
    const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
    const limited = (promise, seconds, what) => Promise.race([
        promise,
        sleep(seconds * 1000).then(() => { throw new Error(`${what} took over ${seconds} s`); }),
    ]);
    const panel = path =>
    {
        const { shell } = window.jupyterapp;
        const open = shell.widgets ? [...shell.widgets("main")] : [shell.currentWidget];
        return open.find(widget => widget?.context?.path === path && widget.sessionContext) || null;
    };
    const runs = new Map();
    window.harness = {
        limited, panel, runs,
        cell: (path, n) => panel(path).content.widgets[n],
        async ready(path, seconds)
        {
            await limited((async () =>
            {
                await window.jupyterapp.restored;
                while(!panel(path)) await sleep(20);
                const { context, revealed, sessionContext } = panel(path);
                await Promise.all([context.ready, revealed, sessionContext.ready]);
                await harness.idle(path);
            })(), seconds, "opening the notebook");
        },
        async idle(path)
        {
            const { sessionContext } = panel(path);
            while(sessionContext.session?.kernel?.status !== "idle") await sleep(20);
        },
        start(path, n)
        {
            const { content } = panel(path);
            window.jupyterapp.shell.activateById(panel(path).id);
            content.deselectAll();
            content.activeCellIndex = n;
            runs.set(n, window.jupyterapp.commands.execute("notebook:run-cell"));
        },
        async wait(path, n, seconds)
        {
            await limited(runs.get(n), seconds, `cell ${n}`);
        },
        // JupyterLab loses what it sends into a connection whose end it has not heard of yet.
        watchConnection(path)
        {
            const { kernel } = panel(path).sessionContext.session;
            const until = test => new Promise(resolve =>
            {
                const look = () => test(kernel.connectionStatus) && resolve();
                kernel.connectionStatusChanged.connect(look);
                look();
            });
            harness.interrupted = until(status => status !== "connected");
            harness.reconnected = harness.interrupted.then(() => until(status => status === "connected"));
        },
        outputs: (path, n) => panel(path).content.widgets[n].model.outputs?.toJSON() ?? [],
    };
}
"""


class Notebook:
    """A notebook, open in a page. Cells are counted from 0, in the order they were given."""

    def __init__(self, server: JupyterServer, page: Page, path: str, app: Application) -> None:
        self.server, self.page, self.path, self.app = server, page, path, app

    @classmethod
    def open(
        cls,
        server: JupyterServer,
        page: Page,
        cells: Sequence[str] | Path = (),
        *,
        name: str | None = None,
        app: Application | None = None,
        timeout: float = PATIENCE,
    ) -> Notebook:
        """Open a notebook and wait until its kernel is idle.

        Parameters
        ----------
        cells : sequence of str, or Path
            Code cells, or Markdown after a line ``%%markdown``. A Path is a notebook that is copied as it is.
        name : str, optional
            Its file in the server's root, without ending: one that is there already is opened as it is,
            as a second page or a second browser would, when `cells` is empty.
        app : "lab" or "notebook", optional
            Instead of the server's own.
        """
        name = name or f"notebook-{secrets.token_hex(3)}"
        path = server.root / f"{name}.ipynb"
        if isinstance(cells, Path):
            path.write_bytes(cells.read_bytes())
        elif cells or not path.exists():
            path.write_text(json.dumps(_document(cells)))
        notebook = cls(server, page, path.name, app or server.app)
        page.goto(notebook.url + f"?token={server.token}")
        notebook._wait_until_ready(timeout)
        return notebook

    @property
    def url(self) -> str:
        """Its address; in JupyterLab with a workspace of its own, so that no page brings back the tabs of another."""
        workspace = "lab/workspaces/" + quote(self.path.removesuffix(".ipynb")) + "/tree/"
        return self.server.url + {"lab": workspace, "notebook": "notebooks/"}[self.app] + quote(self.path)

    @property
    def file(self) -> Path:
        return self.server.root / self.path

    # -- cells ---------------------------------------------------------------------------------------------------------

    def run(self, n: int, *, wait: bool = True, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Execute a cell, as Ctrl+Enter does; gives its outputs, or without `wait` what is there at once."""
        self._harness("start", n)
        return self.wait(n, timeout=timeout) if wait else self.outputs(n)

    def wait(self, n: int, *, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until a cell that `run` has started is done; gives its outputs."""
        self._harness("wait", n, timeout)
        return self.outputs(n)

    def run_all(self, *, timeout: float = PATIENCE) -> list[list[dict[str, Any]]]:
        """Execute all code cells, one after the other; stops at the first error. Gives the outputs of all."""
        for n in range(len(self)):
            if any(output["output_type"] == "error" for output in self.run(n, timeout=timeout)):
                break
        return [self.outputs(n) for n in range(len(self))]

    def outputs(self, n: int) -> list[dict[str, Any]]:
        """The outputs of a cell as they are now, in nbformat's form."""
        found: list[dict[str, Any]] = self._harness("outputs", n)
        return found

    def text(self, n: int) -> str:
        """What a cell has printed and what it gave, as text; an error as ``NameError: …``."""
        return "".join(_text_of(output) for output in self.outputs(n))

    def cell(self, n: int) -> Locator:
        """A cell on the page."""
        self.page.evaluate("([path, n]) => { harness.cell(path, n).node.dataset.harness = n; }", [self.path, n])
        return self.page.locator(f'[data-harness="{n}"]')

    def output(self, n: int) -> Locator:
        """The outputs of a cell on the page."""
        return self.cell(n).locator(".jp-OutputArea").first

    def __len__(self) -> int:
        count: int = self.page.evaluate("path => harness.panel(path).content.widgets.length", self.path)
        return count

    def rewrite(self, cells: Sequence[str]) -> None:
        """Other cells in the same page; the kernel keeps what it has. Much faster than opening a notebook."""
        self.page.evaluate(
            """([path, cells]) =>
            {
                const model = harness.panel(path).content.model.sharedModel;
                model.deleteCellRange(0, model.cells.length);
                model.insertCells(0, cells);
                harness.runs.clear();
            }""",
            [self.path, _document(cells)["cells"]],
        )

    # -- kernel and document -------------------------------------------------------------------------------------------

    def restart_kernel(self, *, timeout: float = PATIENCE) -> None:
        """A fresh kernel, as by the menu; outputs stay."""
        self._kernel("context.restartKernel()", timeout, "the restart")

    def interrupt(self, *, timeout: float = PATIENCE) -> None:
        """As by the ■ button."""
        self._kernel("context.session.kernel.interrupt()", timeout, "the interrupt")

    def shut_down_kernel(self, *, timeout: float = PATIENCE) -> None:
        """As by "Shut Down Kernel"."""
        self._kernel("context.shutdown()", timeout, "the shutdown")

    @contextmanager
    def reconnection(self, *, expected: bool = True) -> Iterator[Callable[[], None]]:
        """The page's connection to its kernel is lost within the block, and found again when it ends.

        Gives what waits until the page has noticed the loss. Without `expected`, none is waited for.
        """

        def wait_for(event: str) -> None:
            if expected:
                self.page.evaluate(f"seconds => harness.limited(harness.{event}, seconds, 'the connection')", PATIENCE)

        self._harness("watchConnection")
        yield lambda: wait_for("interrupted")
        wait_for("reconnected")

    def save(self, *, timeout: float = PATIENCE) -> dict[str, Any]:
        """Save it, as Ctrl+S does; gives the JSON of the file."""
        self.page.evaluate(
            "([path, seconds]) => harness.limited(harness.panel(path).context.save(), seconds, 'saving')",
            [self.path, timeout],
        )
        saved: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
        return saved

    def reload(self, *, timeout: float = PATIENCE) -> None:
        """Reload the page; what was not saved is lost, the kernel stays."""
        self.page.reload()
        self._wait_until_ready(timeout)

    def theme(self, name: str = "JupyterLab Dark") -> None:
        """Change JupyterLab's theme, and wait until it shows."""
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        self.page.locator(f'body[data-jp-theme-name="{name}"]').wait_for(state="attached")

    # ------------------------------------------------------------------------------------------------------------------

    def _harness(self, name: str, *arguments: Any) -> Any:
        return self.page.evaluate("([name, ...rest]) => window.harness[name](...rest)", [name, self.path, *arguments])

    def _kernel(self, action: str, timeout: float, what: str) -> None:
        self.page.evaluate(
            f"""([path, seconds, what]) =>
            {{
                const context = harness.panel(path).sessionContext;
                return harness.limited({action}, seconds, what);
            }}""",
            [self.path, timeout, what],
        )

    def _wait_until_ready(self, timeout: float) -> None:
        self.page.wait_for_function("() => window.jupyterapp", timeout=timeout * 1000)
        self.page.evaluate(_HARNESS)
        self._harness("ready", timeout)


def _document(cells: Sequence[str]) -> dict[str, Any]:
    """A notebook for python3 in nbformat 4.5; a cell that begins with "%%markdown" is one of Markdown."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return {
        "cells": [_cell(f"cell-{n}", source) for n, source in enumerate(cells)],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(name: str, source: str) -> dict[str, Any]:
    if source.startswith("%%markdown\n"):
        return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source.partition("\n")[2]}
    made = {"cell_type": "code", "id": name, "metadata": {}, "source": source}
    return made | {"execution_count": None, "outputs": []}


def _text_of(output: Mapping[str, Any]) -> str:
    kind = output["output_type"]
    if kind == "error":
        return f"{output['ename']}: {output['evalue']}\n"
    text = output["text"] if kind == "stream" else output["data"].get("text/plain", "")
    return text if isinstance(text, str) else "".join(text)
