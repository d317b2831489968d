from __future__ import annotations

import doctest
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import v86lab
from v86lab import firmware
from v86lab.errors import StoreError
from v86lab.store import Store


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(firmware)
    assert result.attempted > 0 and result.failed == 0


def test_every_file_has_the_digest_that_sha256sums_says() -> None:
    assert {"bios.bin", "vgabios.bin", "bzimage", "initramfs"} <= set(firmware.names())
    for name in firmware.names():
        assert hashlib.sha256(firmware.path(name).read_bytes()).hexdigest() == firmware.digest(name)


def test_ensuring_puts_the_files_into_the_store_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digests = firmware.ensure(store)
    assert set(digests) == set(firmware.names())
    assert all(store.get(digest) == firmware.path(name).read_bytes() for name, digest in digests.items())
    assert firmware.ensure(store, "bios.bin") == {"bios.bin": firmware.digest("bios.bin")}


def test_an_unknown_file_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    for call in (firmware.digest, firmware.path, lambda name: firmware.ensure(Store(tmp_path), name)):
        with pytest.raises(StoreError, match=r"bios.bin"):
            call("../errors.py")


DAMAGED = """
import sys
from v86lab import firmware
from v86lab.errors import StoreError
from v86lab.store import Store
try:
    firmware.ensure(Store(sys.argv[1]), "bios.bin")
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("damage", ["changed", "missing", "no sums", "bad sums"])
def test_a_damaged_installation_is_named_and_its_bytes_are_not_used(tmp_path: Path, damage: str) -> None:
    source = Path(v86lab.__path__[0])
    package = tmp_path / "site" / "v86lab"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "src", "static"))
    (package / "__init__.py").write_text("")
    match damage:
        case "changed":
            bios = bytearray((package / "firmware/bios.bin").read_bytes())
            bios[1000] ^= 1
            (package / "firmware/bios.bin").write_bytes(bios)
        case "missing":
            (package / "firmware/bios.bin").unlink()
        case "no sums":
            (package / "firmware/SHA256SUMS").unlink()
        case "bad sums":
            (package / "firmware/SHA256SUMS").write_text("bios.bin\n")
    store = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(store)], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    )
    assert "this installation of v86lab is damaged" in done.stdout and "pip install --force-reinstall" in done.stdout
    assert list(Store(store).digests()) == []


def test_the_version_follows_the_files() -> None:
    assert len(firmware.version()) == 12 and int(firmware.version(), 16) >= 0
