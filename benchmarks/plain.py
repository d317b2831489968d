"""Plain v86 in Node as a peer, on the default guest's kernel and initramfs (``plain.mjs``)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from v86lab import firmware, images
from v86lab.node import find_node

HERE = Path(__file__).parent
PROMPT = "/ # "


def run(job: str, amount: int, guest: Sequence[Path] | None = None, cmdline: str | None = None) -> dict[str, Any]:
    """Run one job of ``plain.mjs``; `guest` is a kernel and an initramfs other than the default ones."""
    if not (HERE.parent / "js" / "node_modules" / "v86").is_dir():
        sys.exit("this benchmark compares with plain v86: run `make setup` in a clone")
    files = [firmware.path(name) for name in ("bios.bin", "vgabios.bin")]
    files += guest or [firmware.path(name) for name in ("bzimage", "initramfs")]
    done = subprocess.run(
        [find_node(), HERE / "plain.mjs", job, *files, cmdline or images.linux().cmdline, PROMPT, str(amount)],
        capture_output=True,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
