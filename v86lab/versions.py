"""What this installation is made of."""

from __future__ import annotations

from importlib.metadata import version

from . import abi, bundle, firmware


def versions() -> dict[str, str | int]:
    """The package, v86, the firmware, and the machine ABI (`v86lab.require`).

    Examples
    --------
    >>> sorted(versions())
    ['abi', 'firmware', 'v86', 'v86.wasm', 'v86lab']
    """
    made = bundle.contents()
    return {
        "v86lab": version("v86lab"),
        "v86": made["v86"],
        "v86.wasm": bundle.wasm(),
        "firmware": firmware.version(),
        "abi": abi.ABI,
    }
