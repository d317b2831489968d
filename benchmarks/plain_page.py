"""Plain v86 on a bare page of Chromium, as its documentation runs it, on the default guest: a peer in the browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import plain
from playwright.sync_api import Browser

from v86lab import firmware, images

ROOT = Path(__file__).resolve().parent.parent
PAGE = """
<!doctype html><title>plain v86</title>
<script type="module">
import { V86 } from "/js/node_modules/v86/build/libv86.mjs";
const firmware = "/v86lab/firmware/";
const emulator = new V86({
    wasm_path: "/js/node_modules/v86/build/v86.wasm",
    bios: { url: firmware + "bios.bin" }, vga_bios: { url: firmware + "vgabios.bin" },
    bzimage: { url: firmware + "bzimage" }, initrd: { url: firmware + "initramfs" }, cmdline: CMDLINE,
    memory_size: 128 << 20, filesystem: {}, virtio_console: true, autostart: false, disable_speaker: true,
});
let output = "";
emulator.add_listener("serial0-output-byte", byte => { output += String.fromCharCode(byte); });
const shows = text => new Promise(resolve => {
    const timer = setInterval(() => {
        if(!output.includes(text)) return;
        clearInterval(timer);
        resolve();
    }, 1);
});
const loaded = new Promise(resolve => emulator.add_listener("emulator-loaded", resolve));
window.measure = async amount => {
    await loaded;
    const { cpu } = emulator.v86;
    let instructions = 0, last = cpu.instruction_counter[0];
    const count = () => {
        const now = cpu.instruction_counter[0];
        instructions += (now - last) >>> 0;
        last = now;
        return instructions;
    };
    setInterval(count, 1000);                // the counter wraps
    const begin = performance.now();
    emulator.run();
    await shows(PROMPT);
    const boot = (performance.now() - begin) / 1000;
    emulator.serial0_send("while :; do :; done\\n");
    await new Promise(resolve => setTimeout(resolve, 2000));            // the compilers settle
    const before = count(), start = performance.now();
    await new Promise(resolve => setTimeout(resolve, amount * 1000));
    return { boot, loop: (count() - before) / (performance.now() - start) * 1000 };
};
</script>
"""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        page = PAGE.replace("CMDLINE", json.dumps(images.linux().cmdline)).replace("PROMPT", json.dumps(plain.PROMPT))
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Not logged."""


@contextmanager
def served() -> Iterator[str]:
    """The page, on loopback until the block ends; gives its URL."""
    assert firmware.path("bzimage").is_relative_to(ROOT), "this benchmark runs in a clone"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(ROOT))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def run(browser: Browser, url: str, seconds: float) -> dict[str, Any]:
    """Seconds of a cold boot, and instructions per second of a busy loop."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("window.measure")
    answer: dict[str, Any] = page.evaluate("seconds => measure(seconds)", seconds)
    context.close()
    return answer
