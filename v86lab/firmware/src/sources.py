"""The exact Debian packages the firmware is made from, fetched by apt in a private configuration.

The rules: versions and sha256 sums stand in `sources.lock`; what is not those bytes is not used, and a version that
has left the mirror is reported with what is there now, never replaced. apt works on the system's own sources, copied
into a private directory with "deb-src" added: nothing of the system is changed, and no root is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = Path(__file__).with_name("sources.lock")


class BuildError(Exception):
    """The build cannot go on; the text says why and what to do."""


@dataclass(frozen=True)
class Package:
    """One Debian package: its source ("source") or a binary package that carries what we need ("deb")."""

    name: str
    kind: str
    version: str
    files: dict[str, str]  # file name → sha256


@dataclass(frozen=True)
class Lock:
    """What `sources.lock` says: packages by name, the tool chain's packages, the date of everything built."""

    date: int
    packages: dict[str, Package]
    toolchain: dict[str, str]

    @classmethod
    def load(cls) -> Lock:
        """Read the file."""
        data = json.loads(LOCK.read_text(encoding="utf-8"))
        packages = {name: Package(name, p["kind"], p["version"], p["files"]) for name, p in data["packages"].items()}
        return cls(data["date"], packages, data["toolchain"])

    def save(self) -> None:
        """Write the file."""
        packages: dict[str, Any] = {
            p.name: {"kind": p.kind, "version": p.version, "files": dict(sorted(p.files.items()))}
            for p in self.packages.values()
        }
        data = {"date": self.date, "packages": packages, "toolchain": self.toolchain}
        LOCK.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def installed(names: list[str]) -> dict[str, str]:
    """Versions of the installed Debian packages; those that are missing are left out."""
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n", *names]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {row[1]: row[2] for row in rows if row[0] == "installed"}


def check_toolchain(lock: Lock, *, insist: bool) -> None:
    """Compare the installed compilers and packers with the recorded ones.

    Raises
    ------
    BuildError
        One is missing; or differs, when `insist`: the result would not be the same bytes.
    """
    have = installed(list(lock.toolchain))
    missing = [name for name in lock.toolchain if name not in have]
    if missing:
        raise BuildError(f"missing Debian packages; install them with: apt-get install {' '.join(missing)}")
    other = [
        f"  {name}: recorded {want}, here {have[name]}" for name, want in lock.toolchain.items() if have[name] != want
    ]
    if other:
        text = "the tool chain is not the recorded one, so the result cannot be the same bytes:\n" + "\n".join(other)
        if insist:
            raise BuildError(text + "\nTo build all the same: --any-toolchain; to record this one: --update-lock")
        print("warning: " + text)


class Apt:
    """apt with a configuration of its own under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("sources", "lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.options = [
            "-oDir::Etc::sourcelist=/dev/null",
            f"-oDir::Etc::sourceparts={root / 'sources'}",
            f"-oDir::State::lists={root / 'lists'}",
            f"-oDir::Cache={root / 'cache'}",
            "-oAPT::Sandbox::User=",
        ]
        self._updated = False

    def run(self, command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run apt-get or apt-cache; the result is not checked."""
        if not self._updated:
            self._updated = True
            self._copy_sources()
            subprocess.run(["apt-get", *self.options, "-qq", "update"], check=False)
        environment = {**os.environ, "LC_ALL": "C"}
        return subprocess.run(
            [command, *self.options, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    def _copy_sources(self) -> None:
        """Debian's own entries of this system, with sources; third parties seldom have any, and are left out."""
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
        etc = Path("/etc/apt")
        for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
            if not path.is_file():
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            if path.suffix == ".sources":
                stanzas = [s for s in re.split(r"\n\s*\n", text) if re.search(rf"(?mi)^Suites:.*\b{codename}", s)]
                text = "\n\n".join(re.sub(r"(?mi)^Types:.*$", "Types: deb deb-src", stanza) for stanza in stanzas)
            elif path.suffix == ".list":
                entry = re.compile(rf"deb(?:-src)?(\s+(?:\[[^]]*\]\s+)?\S+\s+{codename}\S*\s.*)")
                matches = [match[1] for match in map(entry.fullmatch, text.splitlines()) if match]
                text = "".join(f"{kind}{rest}\n" for rest in dict.fromkeys(matches) for kind in ("deb", "deb-src"))
            else:
                continue
            if text.strip():
                (self.root / "sources" / path.name).write_text(text + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(apt: Apt, name: str, kind: str, version: str, folder: Path) -> str:
    """Fetch one package; returns what apt had to say when it could not."""
    folder.mkdir(parents=True, exist_ok=True)
    what = f"{name}={version}"
    arguments = ["source", "--download-only", "--only-source", what] if kind == "source" else ["download", what]
    result = apt.run("apt-get", "-q", *arguments, cwd=folder)
    return "" if result.returncode == 0 else result.stderr.strip()


def _available(apt: Apt, package: str, kind: str) -> list[str]:
    """Versions on the mirror, newest first as apt lists them."""
    rows = [line.split("|") for line in apt.run("apt-cache", "madison", package).stdout.splitlines()]
    wanted = "Sources" if kind == "source" else "Packages"
    return list(dict.fromkeys(row[1].strip() for row in rows if len(row) == 3 and wanted in row[2]))


def fetch(lock: Lock, apt: Apt, folder: Path) -> dict[str, Path]:
    """Have every locked package in `folder`; returns each one's directory.

    Raises
    ------
    BuildError
        A version has left the mirror, or a file is not what the lock says.
    """
    places = {}
    for package in lock.packages.values():
        place = folder / package.name
        if any(not (place / name).is_file() for name in package.files):
            problem = _download(apt, package.name, package.kind, package.version, place)
            if problem:
                there = ", ".join(_available(apt, package.name, package.kind)) or "nothing"
                raise BuildError(
                    f"{package.name} {package.version} is not on this system's mirrors; there is: {there}.\n"
                    f"Put its files into {place}, or move to another version with --update-lock.\napt says: {problem}"
                )
        for name, expected in package.files.items():
            seen = _sha256(place / name) if (place / name).is_file() else "no such file"
            if seen != expected:
                raise BuildError(f"{place / name}: expected sha256 {expected}, saw {seen}")
        places[package.name] = place
    return places


def update(lock: Lock, apt: Apt, folder: Path) -> Lock:
    """A lock on the newest versions of the same packages and on the tool chain as installed.

    Raises
    ------
    BuildError
        A package cannot be had, or a part of the tool chain is not installed.
    """
    check_toolchain(lock, insist=False)
    packages = {}
    for package in lock.packages.values():
        versions = _available(apt, package.name, package.kind)
        if not versions:
            raise BuildError(f"{package.name}: not on this system's mirrors")
        place = folder / f"{package.name}_{versions[0].replace(':', '%')}"
        problem = _download(apt, package.name, package.kind, versions[0], place)
        if problem:
            raise BuildError(f"{package.name} {versions[0]}: {problem}")
        files = {path.name: _sha256(path) for path in sorted(place.iterdir()) if path.is_file()}
        final = folder / package.name
        final.mkdir(exist_ok=True)
        for path in place.iterdir():
            path.replace(final / path.name)
        place.rmdir()
        packages[package.name] = Package(package.name, package.kind, versions[0], files)
    return Lock(lock.date, packages, dict(sorted(installed(list(lock.toolchain)).items())))
