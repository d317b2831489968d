"""Make the state that the default guest starts from, by a seeded boot: it has the same bytes on every machine.

    start.py           make it and write it beside this folder, with its line in SHA256SUMS
    start.py --check   make it and compare

It is compressed here, more thoroughly than an engine does: it travels to every browser. What is compared is the state
itself, for another release of zstd may pack it in another way. The file's name begins with its image's digest, which
holds the machine ABI and all of the firmware: whatever changes those makes another start state.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import zstandard

import v86lab as lab
from v86lab import firmware
from v86lab.session import START_SEED, start_state

FIRMWARE = Path(__file__).resolve().parents[1]
LEVEL = 19


def make() -> tuple[str, bytes]:
    """The file's name, and the state."""
    image = lab.images.linux()
    with lab.Machine(replace(image, resume=False), seed=START_SEED, engine="node") as vm:
        packed = start_state(vm._session)
    return firmware.start_name(image.digest), unpacked(packed)


def unpacked(packed: bytes) -> bytes:
    """A state as it is without its compression."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


def write(name: str, state: bytes) -> None:
    """Replace the state there is, and its line in SHA256SUMS."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(state)
    sums = [line for line in (FIRMWARE / "SHA256SUMS").read_text("ascii").splitlines() if "  start-" not in line]
    sums.append(f"{hashlib.sha256(packed).hexdigest()}  {name}")
    for old in FIRMWARE.glob("start-*"):
        old.unlink()
    (FIRMWARE / name).write_bytes(packed)
    (FIRMWARE / "SHA256SUMS").write_text(
        "".join(f"{line}\n" for line in sorted(sums, key=lambda line: line[66:])), "ascii"
    )
    print(f"  {len(packed):8}  {name}")


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description="make the default guest's start state")
    parser.add_argument("--check", action="store_true", help="make it and compare with what is there")
    arguments = parser.parse_args()
    name, state = make()
    if not arguments.check:
        write(name, state)
    elif name not in firmware.names():
        sys.exit(f"start.py: there is no {name}: make firmware")
    elif unpacked(firmware.path(name).read_bytes()) != state:
        sys.exit("start.py: the state differs from the one that is there")
    else:
        print("the start state: the same bytes")


if __name__ == "__main__":
    main()
