"""Run a command in a guest; without a command, use its serial console.

With a command its output comes byte for byte, its exit status is ours (128+N when signal N killed it), Ctrl-C
interrupts it, and standard input is read to its end and passed on when it is not a terminal. Without one this terminal
becomes the guest's first serial port until the guest powers off.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from v86lab.hub import shared_hub
from v86lab.image import Image
from v86lab.machine import Machine
from v86lab.progress import Progress

from .named import IMAGE_HELP, named_image
from .terminal import attach

EPILOG = """\
examples:
  v86lab run linux                               a terminal; Ctrl-] leaves it
  v86lab run linux -- uname -a
  v86lab run linux -- sh -c 'ls /etc | wc -l'    a pipeline needs a shell
  v86lab run linux --share . -- cc -o /tmp/a /mnt/a.c
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.usage = "v86lab run [options] IMAGE [-- COMMAND ...]"
    parser.add_argument("image", metavar="IMAGE", help=IMAGE_HELP)
    parser.add_argument("--memory", metavar="SIZE", help='such as "256 MiB"; the image says it otherwise')
    parser.add_argument("--share", metavar="DIR", type=Path, help="the guest gets a copy of it (linux: at /mnt)")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="then the command, or the guest, is ended")
    parser.set_defaults(takes_rest=True)


def main(options: argparse.Namespace) -> int:
    image = named_image(options.image, shared_hub().store, options.memory, options.share)
    if options.rest:
        return _command(image, options.rest, options.timeout)
    return attach(image, options.timeout)


def seconds(text: str) -> float:
    """A time, as argparse wants its types."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, saw {text!r}")
    return value


def _command(image: Image, command: list[str], timeout: float | None) -> int:
    given = b""
    if sys.stdin is not None and not sys.stdin.isatty():
        with Progress("reading standard input to its end"):
            given = sys.stdin.buffer.read()
    with Machine(image) as vm:
        status = vm.run(command, timeout, input=given, text=False, stream=True, limit=0).returncode
    return status if status >= 0 else 128 - status
