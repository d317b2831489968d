"""Debian with systemd, from a recipe to a login prompt: over 9p and from a disk; the guest becomes an image again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import v86lab as lab
from v86lab.rootfs import RootFS

pytestmark = [
    pytest.mark.boot,
    pytest.mark.debian,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="there is no mmdebstrap"),
]

# The recipe of notebook 03: built once for both.
PACKAGES = ["libc6-dev", "strace", "tcc"]
PROGRAM = '#include <stdio.h>\nint main(void) { puts("compiled here"); return 3; }\n'


@pytest.fixture(scope="module")
def tree() -> RootFS:
    return lab.rootfs.debian(packages=PACKAGES)


@pytest.fixture(scope="module", params=["9p", "disk"])
def vm(request: pytest.FixtureRequest, tree: RootFS) -> Iterator[lab.Machine]:
    tree = tree.with_file("/root/lab1.c", PROGRAM)
    with lab.Machine(tree.as_9p() if request.param == "9p" else tree.as_disk("1 GiB")) as machine:
        machine.console.expect("login: ", timeout=500)
        yield machine


def root_of(vm: lab.Machine) -> list[str]:
    return next(row.split() for row in str(vm.run("cat /proc/mounts").stdout).splitlines() if row.split()[1] == "/")


def test_it_reaches_login_and_everything_is_up(vm: lab.Machine) -> None:
    assert vm.run("systemctl is-system-running --wait", timeout=300).stdout == "running\n", vm.run(
        "systemctl --failed"
    ).stdout
    assert vm.run("systemctl is-active v86lab-agent").stdout == "active\n"
    assert vm.run("cat /proc/1/comm; id -un").stdout == "systemd\nroot\n"


def test_files_over_9p_are_cached_by_the_guest_and_few_bytes_travel(vm: lab.Machine) -> None:
    _, _, kind, options, *_ = root_of(vm)
    if kind != "9p":
        pytest.skip("this root is on a disk")
    assert "loose" in options.split(",")
    fetched = vm.files.fetched
    share = vm.statistics["share"]
    assert isinstance(share, dict) and sum(one.bytes for one in fetched) == share["bytes"] <= 12_500_000
    assert any(one.path.endswith("/libc.so.6") for one in fetched)


def test_a_program_is_compiled_traced_and_run_in_it(vm: lab.Machine) -> None:
    done = vm.run("cd /root && tcc -o lab1 lab1.c && strace -e trace=write ./lab1", timeout=120)
    assert (done.returncode, done.stdout) == (3, "compiled here\n")
    assert 'write(1, "compiled here' in str(done.stderr)


def test_root_logs_in_on_the_console_without_a_password(vm: lab.Machine) -> None:
    vm.console.sendline("root")
    vm.console.expect("# ", timeout=120)
    vm.console.sendline("echo on the $((40 + 2))nd console")
    vm.console.expect("on the 42nd console", timeout=60)


def test_a_guest_that_was_changed_becomes_an_image(vm: lab.Machine, tree: RootFS, tmp_path: Path) -> None:
    vm.run("useradd student && echo changed > /etc/motd && sync", check=True, timeout=120)
    changed = vm.files.tree("/")
    assert b"student:x:1000" in changed.read("/etc/passwd") and changed.read("/etc/motd") == b"changed\n"
    assert changed["/usr/bin/tcc"].size == tree["/usr/bin/tcc"].size
    assert changed.listdir("/proc") == [] and changed.listdir("/dev") != ["null"]
    if root_of(vm)[2] != "9p":
        return
    changed.as_9p(init="v86lab", memory="128 MiB").save(tmp_path / "changed.v86")
    command = [sys.executable, "-m", "v86lab", "run", str(tmp_path / "changed.v86"), "--", "cat", "/etc/motd"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "changed\n"
