"""binder/ agrees with the package. docs/binder.md tells how to check what repo2docker makes of it, and what it does."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BINDER = ROOT / "binder"
POST_BUILD = (BINDER / "postBuild").read_text("utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return content


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_its_python_is_one_that_the_package_takes(project: dict[str, Any]) -> None:
    (python,) = re.findall(r"^  - python=([\d.]+)$", (BINDER / "environment.yml").read_text("utf-8"), re.MULTILINE)
    assert version(python) >= version(project["requires-python"].removeprefix(">="))


def test_post_build_is_a_script_that_can_be_executed() -> None:
    assert (BINDER / "postBuild").stat().st_mode & 0o111 == 0o111
    assert POST_BUILD.startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", str(BINDER / "postBuild")], check=True)


def test_it_installs_extras_that_exist_and_what_a_view_needs(project: dict[str, Any]) -> None:
    (extras,) = re.findall(r'pip install .*"\.\[([\w,]+)\]"', POST_BUILD)
    known = project["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()
    wanted = " ".join([*project["dependencies"], *(one for extra in extras.split(",") for one in known[extra])])
    assert all(name in wanted for name in ("anywidget", "ipywidgets", "jupyterlab", "jupyter-server-proxy"))


def test_the_commands_it_calls_exist() -> None:
    commands = re.findall(r"^v86lab (\w+)$", POST_BUILD, re.MULTILINE)
    assert "warm" in commands
    for command in commands:
        subprocess.run([sys.executable, "-m", "v86lab", command, "--help"], check=True, stdout=subprocess.DEVNULL)


def test_its_system_packages_are_those_the_tests_run_with() -> None:
    packages = (BINDER / "apt.txt").read_text("utf-8").split()
    tested = re.findall(r"^need ([\w.-]+) ", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert set(packages) <= set(tested)


def test_the_badge_opens_a_notebook_that_exists() -> None:
    text = (ROOT / "docs" / "binder.md").read_text("utf-8")
    (path,) = set(re.findall(r"urlpath=lab/tree/(\S+?\.ipynb)\b", text))
    assert path == "notebooks/01_first_boot.ipynb"
    assert (ROOT / path).is_file()
