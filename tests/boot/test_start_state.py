"""The state that the default guest starts from: a seeded boot makes the one that is shipped, here as everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import v86lab as lab
from v86lab import firmware

pytestmark = pytest.mark.boot

SCRIPT = Path(__file__).resolve().parents[2] / "v86lab/firmware/src/start.py"


def test_a_seeded_boot_makes_the_state_that_is_shipped(tmp_path: Path) -> None:
    environment = os.environ | {"V86LAB_HOME": str(tmp_path)}
    made = subprocess.run([sys.executable, SCRIPT, "--check"], env=environment, capture_output=True, text=True)
    assert (made.returncode, made.stdout) == (0, "the start state: the same bytes\n"), (
        f"{made.stderr}\nIf machines were meant to change: raise ABI, then make start and make conformance-hashes."
    )


def test_it_is_small_and_the_default_guest_s() -> None:
    path = firmware.path(firmware.start_name(lab.images.linux().digest))
    assert path.stat().st_size <= 4_000_000
