"""A .v86 file is all that another computer needs: a Store of its own, another process, the same guest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import v86lab as lab

from .conftest import cold

pytestmark = pytest.mark.boot


def test_a_saved_guest_with_a_share_runs_from_its_file_alone(tmp_path: Path) -> None:
    big = os.urandom(3 << 20)
    share = {"hello.txt": "from the file\n", "deep/er.txt": b"deep\n", "big": big}
    cold(share=share).save(tmp_path / "lab1.v86")
    home = tmp_path / "elsewhere"
    env = os.environ | {"V86LAB_HOME": str(home)}
    command = [sys.executable, "-m", "v86lab", "run", "lab1.v86", "--", "sh", "-c"]
    for script, printed in (
        ("cd /mnt && ls && cat hello.txt deep/er.txt", b"big\ndeep\nhello.txt\nfrom the file\ndeep\n"),
        ("cmp /mnt/big - && echo same", b"same\n"),
    ):
        given = big if "cmp" in script else b""
        done = subprocess.run([*command, script], cwd=tmp_path, env=env, input=given, capture_output=True)
        assert (done.returncode, done.stdout) == (0, printed), done.stderr
    image = lab.Image.load(tmp_path / "lab1.v86", lab.Store(home))
    assert image.digests(lab.Store(home)) <= set(lab.Store(home).digests())
    assert image == cold(share=share)
