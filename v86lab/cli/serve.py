"""Serve an image's bytes on this computer: the Hub alone, until Ctrl-C.

Prints an address for each part of the image. They hold a secret: who knows them can read every blob of the Store.
Ranges are answered as v86 and other programs ask for them.
"""

from __future__ import annotations

import argparse
import contextlib
import threading

from v86lab.hub import Hub
from v86lab.image import Image
from v86lab.store import Store

from .named import IMAGE_HELP, named_image

_HOUR = 3600.0  # s; any time will do: Windows hears no Ctrl-C during a wait without end


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help=IMAGE_HELP)
    parser.add_argument("--port", type=port, default=0, help="on 127.0.0.1; the system chooses otherwise")


def main(options: argparse.Namespace) -> int:
    store = Store()
    image = named_image(options.image, store)
    description = store.put(image.canonical_json())
    hub = Hub(store, options.port)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            print(f"hub {hub.url}")
            for name, digest in [("image", description), *parts(image)]:
                print(f"{name} {hub.url}blob/{digest}", flush=True)
            while True:
                threading.Event().wait(_HOUR)
    finally:
        hub.close()
    return 0


def parts(image: Image) -> list[tuple[str, str]]:
    """What an image consists of: the field's name and the blob's digest."""
    found = [(name, getattr(image, name)) for name in ("bios", "vga_bios", "kernel", "initrd", "multiboot", "share")]
    disks = [(name, getattr(image, name)) for name in ("fda", "fdb", "hda", "hdb", "cdrom")]
    found += [(name, disk and disk.digest) for name, disk in disks]
    return [(name, digest) for name, digest in found if digest is not None]


def port(text: str) -> int:
    """A port's number, as argparse wants its types."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, saw {text!r}")
    return int(text)
