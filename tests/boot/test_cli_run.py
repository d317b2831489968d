"""``v86lab run`` and the commands around it, with real guests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import v86lab as lab
from v86lab import firmware

pytestmark = pytest.mark.boot

V86LAB = [sys.executable, "-m", "v86lab"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes as POSIX has them")


def v86lab(*arguments: str | Path, given: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([*V86LAB, *arguments], input=given, capture_output=True, **options)
    done.stderr = b"".join(line for line in done.stderr.splitlines(True) if not line.endswith(b" ...\n"))  # progress
    return done


def test_output_and_exit_status_are_those_of_the_command() -> None:
    done = v86lab("run", "linux", "--", "sh", "-c", "echo out; echo err >&2; exit 7", "--", "--")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_arguments_reach_the_command_as_they_are() -> None:
    words = ["a b", "", "--", "$HOME", "*", "'", "é"]
    done = v86lab("run", "linux", "--", "printf", "%s|", *words)
    assert done.stdout.decode() == "".join(word + "|" for word in words)


def test_a_command_killed_by_a_signal_gives_128_and_its_number() -> None:
    assert v86lab("run", "linux", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_input_and_output_are_byte_exact() -> None:
    data = os.urandom(1 << 20)
    done = v86lab("run", "linux", "--", "cat", given=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_program_the_guest_does_not_have_is_an_error() -> None:
    done = v86lab("run", "linux", "--", "no-such-program")
    assert done.returncode == 1
    assert done.stderr.startswith(b"v86lab: the guest cannot start the command")


def test_a_timeout_ends_the_command_and_keeps_what_it_printed() -> None:
    done = v86lab("run", "linux", "--timeout", "3", "--", "sh", "-c", "echo early; sleep 600")
    assert (done.returncode, done.stdout) == (1, b"early\n")
    assert done.stderr.startswith(b"v86lab: the command did not finish within 3")


@POSIX
def test_ctrl_c_interrupts_the_guests_command() -> None:
    script = 'trap "echo interrupted; exit" INT; echo ready; while :; do sleep 0.1; done'
    with subprocess.Popen([*V86LAB, "run", "linux", "--", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"interrupted\n"
    assert process.returncode == 130


@POSIX
def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    command = [*V86LAB, "run", "linux", "--", "yes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 141


def test_memory_and_a_shared_folder_are_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("from the host")
    script = "cat /mnt/note; awk '/MemTotal/ { print ($2 > 128 * 1024 && $2 < 192 * 1024) }' /proc/meminfo"
    done = v86lab("run", "linux", "--memory", "192 MiB", "--share", tmp_path, "--", "sh", "-c", script)
    assert done.stdout == b"from the host1\n"


def test_a_saved_image_runs(tmp_path: Path) -> None:
    (tmp_path / "lesson.py").write_text(
        "import v86lab as lab\nimage = lab.images.linux(share={'hello.c': 'int main(void) { return 42; }'})\n"
    )
    assert v86lab("build", "lesson.py", cwd=tmp_path).returncode == 0
    script = "cc /mnt/hello.c -o /tmp/hello && /tmp/hello"
    assert v86lab("run", "lesson.v86", "--", "sh", "-c", script, cwd=tmp_path).returncode == 42


def test_without_a_terminal_lines_are_typed_and_poweroff_ends_it() -> None:
    done = v86lab("run", "linux", given=b"echo $((6 * 7))\npoweroff\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Linux on v86")  # printed before its start state was kept
    assert b"\n42\r\n" in done.stdout
    assert done.stdout.count(b"Linux on v86") == 1


def test_a_guest_that_does_not_power_off_in_time_is_an_error() -> None:
    done = v86lab("run", "linux", "--timeout", "2")
    assert done.returncode == 1
    assert b"v86lab: the guest did not power off within 2" in done.stderr


def test_a_fault_is_an_error_and_what_was_printed_before_is_shown(tmp_path: Path) -> None:
    code = bytes.fromhex("fa ba f803 b0 21 ee f4")  # cli; mov dx, 0x3f8; mov al, '!'; out dx, al; hlt
    lab.images.boot_sector(code).save(tmp_path / "halt.v86")
    done = v86lab("run", tmp_path / "halt.v86")
    assert (done.returncode, done.stdout) == (1, b"!")
    assert b"v86lab: the guest halted its processor" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_command_for_a_guest_without_an_agent_or_a_shell_is_an_error(tmp_path: Path) -> None:
    lab.images.boot_sector(b"\xf4").save(tmp_path / "halt.v86")
    done = v86lab("run", tmp_path / "halt.v86", "--timeout", "5", "--", "true")
    assert done.returncode == 1
    assert b"has no agent, and no shell answered" in done.stderr


def test_warm_makes_everything_once(tmp_path: Path) -> None:
    env = os.environ | {"V86LAB_HOME": str(tmp_path)}
    store = lab.Store(tmp_path)
    done = v86lab("warm", env=env)
    assert (done.returncode, done.stdout.decode()) == (0, f"linux: its start state is kept in {tmp_path}\n")
    digests, pins = set(store.digests()), store.pins()
    assert firmware.digest(firmware.start_name(lab.images.linux().digest)) in digests
    assert v86lab("warm", env=env).stdout == done.stdout
    assert v86lab("run", "linux", "--", "true", env=env).returncode == 0
    assert (set(store.digests()), store.pins()) == (digests, pins)


def test_doctor_is_content_here() -> None:
    done = v86lab("doctor")
    assert done.returncode == 0
    needed = ("Python", "Node", "engine", "firmware", "Store", "boot")
    assert [line.split()[1] for line in done.stdout.decode().splitlines() if line.startswith("ok ")][:6] == list(needed)
    assert done.stdout.decode().endswith("v86lab works here\n")
