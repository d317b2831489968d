"""Plain v86 in Node as a peer, on the default guest's kernel and initramfs (``plain.mjs``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from v86lab import firmware, images
from v86lab.node import find_node

HERE = Path(__file__).parent
PROMPT = "/ # "


def run(job: str, amount: int) -> dict[str, Any]:
    """Run one job of ``plain.mjs``."""
    if not (HERE.parent / "js" / "node_modules" / "v86").is_dir():
        sys.exit("this benchmark compares with plain v86: run `make setup` in a clone")
    names = ("bios.bin", "vgabios.bin", "bzimage", "initramfs")
    done = subprocess.run(
        [
            find_node(),
            HERE / "plain.mjs",
            job,
            *(firmware.path(name) for name in names),
            images.linux().cmdline,
            PROMPT,
            str(amount),
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
