"""Fill the Store ahead of time, so that the first use needs no network and no boot.

For Dockerfiles and Binder's postBuild. What is there already is not made again.
"""

from __future__ import annotations

import argparse

from v86lab import firmware
from v86lab.errors import StoreError
from v86lab.hub import shared_hub
from v86lab.image import Image
from v86lab.session import Session

from .named import IMAGE_HELP, named_image


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGE", nargs="*", default=["linux"], help=IMAGE_HELP)


def main(options: argparse.Namespace) -> int:
    store = shared_hub().store
    firmware.ensure(store)
    for name in options.images:
        image = named_image(name, store)
        for digest in image.digests(store):
            store.verify(digest)
        done = "its start state is kept" if image.resume and _start_is_kept(image) else "its files are kept"
        print(f"{name}: {done} in {store.home}", flush=True)
    return 0


def _start_is_kept(image: Image) -> bool:
    """Boot from the image's start state, which makes it where there is none."""
    session = Session(image, shared_hub())
    try:
        session.start()
        if session.kept_start() is None:
            raise StoreError(f"the start state of {image.name!r} could not be kept", seen=session.why)
    finally:
        session.close()
    return True
