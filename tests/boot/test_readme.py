"""What the README shows is what a reader gets."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from v86lab.cli.entry import make_parser

pytestmark = pytest.mark.boot

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def test_the_example_prints_what_stands_below_it() -> None:
    ((code, printed),) = re.findall(r"```python\n(.*?)```\s+```text\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line] == printed.splitlines()


def test_the_commands_exist() -> None:
    lines = re.findall(r"^    v86lab (.*?)(?:  .*)?$", README, re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line)
        make_parser().parse_args(words[: words.index("--")] if "--" in words else words)  # exits when it is wrong
