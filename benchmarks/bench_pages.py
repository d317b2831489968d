"""Thirty pages at once through one Jupyter server, each booting a machine of its own: what that takes of the server.

There is no target. The machines run in the browser, so that the server's share of the processor is what is of interest:
that of the Jupyter server and of all kernels together, against the browser's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.conftest import FLAGS, chromium
from tests.browser.jupyter import JupyterServer, Notebook

PAGES = 30
CELLS = ["import v86lab as lab\nvm = lab.Machine()", "vm", "vm.run('echo up').stdout, vm.engine.kind"]
PATIENCE = 900.0


def usage(processes: list[psutil.Process]) -> tuple[float, float]:
    """Processor time in s and memory (proportional) in MiB."""
    seconds = memory = 0.0
    for process in processes:
        try:
            times, full = process.cpu_times(), process.memory_full_info()
        except psutil.Error:
            continue
        seconds += times.user + times.system
        memory += full.pss / 2**20
    return seconds, memory


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        JupyterServer.start(Path(folder) / "jupyter") as server,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        notebooks = []
        for _ in range(PAGES):
            notebooks.append(Notebook.open(server, context.new_page(), CELLS, timeout=PATIENCE))
            notebooks[-1].run(0, timeout=PATIENCE)
        jupyter = psutil.Process(server.process.pid)
        kernels = jupyter.children(recursive=True)
        chrome = [one for one in psutil.Process(os.getpid()).children(recursive=True) if "chrom" in one.name()]
        groups = {"Jupyter server": [jupyter], "30 kernels": kernels, "browser": chrome}
        before = {name: usage(group)[0] for name, group in groups.items()}
        begin = time.perf_counter()
        for notebook in notebooks:
            notebook.run(1, wait=False)
            notebook.run(2, wait=False)
        for notebook in notebooks:
            notebook.wait(2, timeout=PATIENCE)
            assert notebook.text(2) == r"('up\n', 'browser')", notebook.text(2)
        wall = time.perf_counter() - begin
        print(f"{PAGES} pages, each with a machine that answered, after {wall:.0f} s")
        spent = {name: usage(group)[0] - before[name] for name, group in groups.items()}
        for name, group in groups.items():
            print(f"{name}: {spent[name]:.1f} s of processor time, {usage(group)[1]:.0f} MiB")
        print(f"server side / browser: {(spent['Jupyter server'] + spent['30 kernels']) / spent['browser']:.2f}x")
        context.close()
        server.end_kernels()
        browser.close()


if __name__ == "__main__":
    main()
