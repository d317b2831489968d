"""Chromium and a Jupyter server for the tests in this folder.

Playwright's synchronous interface keeps an event loop running in this thread for as long as it is started, in which
another test's `asyncio.run` would fail. So these fixtures have the scope of this folder, not of the session.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from .jupyter import Complaints, JupyterServer, Notebook, browser_context
from .viewer import count_messages

# Nothing that reaches for the network, and what containers lack. --disable-quic and the rest keep runs alike.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, without a window; the system's where there is one."""
    home = str(tmp_path_factory.mktemp("chromium"))
    started = playwright.chromium.launch(
        executable_path=chromium(playwright), args=FLAGS, env={**os.environ, "HOME": home}
    )
    yield started
    started.close()


def chromium(playwright: Playwright) -> str:
    """The Chromium to use: the system's, else Playwright's own download."""
    candidates = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    own = playwright.chromium.executable_path
    for path in [*candidates, own if Path(own).exists() else None]:
        if path is not None:
            return path
    pytest.fail(
        "these tests need a Chromium and found none: neither chromium, chromium-browser nor google-chrome in PATH, nor "
        f"Playwright's own. Install your system's, or without root: {sys.executable} -m playwright install chromium"
    )


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """JupyterLab below a base URL, shared by all tests: each has notebooks of its own, their kernels end with it."""
    with JupyterServer.start(tmp_path_factory.mktemp("jupyter")) as started:
        yield started


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., JupyterServer]]:
    """Starts a server of the test's own; options as of `JupyterServer.start`."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(
            JupyterServer.start(tmp_path_factory.mktemp("jupyter"), *args, **options)
        )


@pytest.fixture
def complaints() -> Complaints:
    """What the pages of this test's browsers have complained about; `Complaints.allow` names what it provokes."""
    return Complaints()


@pytest.fixture
def new_context(browser: Browser, complaints: Complaints) -> Iterator[Callable[..., BrowserContext]]:
    """Makes contexts, each as good as another browser; options as of Playwright's ``new_context``."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(browser_context(browser, complaints, **options))


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Page:
    """A page in a browser without a past. The test fails if one of its pages has complained on its console."""
    return new_context().new_page()


@pytest.fixture
def open_notebook(server: JupyterServer, page: Page) -> Iterator[Callable[..., Notebook]]:
    """Opens notebooks in `page`, or in the page given as ``page=``; options as of `Notebook.open`."""

    contexts = {page.context}

    def opened(*args: Any, page: Page = page, **options: Any) -> Notebook:
        contexts.add(page.context)
        return Notebook.open(server, page, *args, **options)

    yield opened
    for shown in [shown for context in contexts for shown in context.pages]:
        shown.close()  # first: a page whose kernel goes looks for it, and its console says so
    server.end_kernels()


@pytest.fixture(scope="module")
def shared_notebook(server: JupyterServer, browser: Browser) -> Iterator[Notebook]:
    """One notebook in a page that counts messages, for all tests of a module: opening one takes its time."""
    complaints = Complaints()  # another test's end ends this kernel as well, and the page says so
    complaints.allow(r"ERR_CONNECTION_REFUSED|status of 50\d|removeChild")
    with browser_context(browser, complaints) as context:
        count_messages(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        notebook = Notebook.open(server, context.new_page(), ["0"])
        yield notebook
        notebook.page.close()
        server.end_kernels()
