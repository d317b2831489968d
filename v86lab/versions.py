"""What this installation is made of."""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.resources import files

from . import firmware
from .session import ABI


def versions() -> dict[str, str | int]:
    """The package, v86, the firmware, and the number of the machine's rules.

    Examples
    --------
    >>> sorted(versions())
    ['abi', 'firmware', 'v86', 'v86.wasm', 'v86lab']
    """
    bundle = json.loads((files("v86lab") / "static" / "VERSIONS.json").read_text(encoding="utf-8"))
    return {
        "v86lab": version("v86lab"),
        "v86": bundle["v86"],
        "v86.wasm": bundle["files"]["v86.wasm"],
        "firmware": firmware.version(),
        "abi": ABI,
    }
