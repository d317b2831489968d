"""`Machine.run`: what goes in and what comes out, byte for byte, and what may go wrong meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import v86lab as lab
from v86lab.errors import GuestCommandError, GuestError, GuestTimeout, ImageError

from .conftest import Maker

pytestmark = pytest.mark.boot


def test_stdout_stderr_and_status_come_apart(vm: lab.Machine) -> None:
    result = vm.run("printf out; printf err >&2; exit 3")
    assert (result.stdout, result.stderr, result.returncode) == ("out", "err", 3)


def test_a_signal_is_a_negative_status(vm: lab.Machine) -> None:
    assert vm.run("kill -9 $$").returncode == -9


def test_every_byte_and_line_end_comes_back_as_it_is(vm: lab.Machine) -> None:
    data = bytes(range(256)) + b"\r\n\n\r\x00\x03\x04\x1a"
    assert vm.run(["cat"], input=data, text=False).stdout == data


def test_a_mebibyte_of_random_bytes_comes_back_identical(vm: lab.Machine) -> None:
    data = random.Random(1).randbytes(1 << 20)
    assert vm.run(["cat"], input=data, text=False).stdout == data


def test_ten_megabytes_come_out(vm: lab.Machine) -> None:
    lines = "".join(f"{n}\n" for n in range(1, 200_001))
    result = vm.run("seq 200000 > /tmp/seq; for n in 1 2 3 4 5 6 7 8; do cat /tmp/seq; done")
    assert result.stdout == lines * 8


def test_five_megabytes_go_in(vm: lab.Machine) -> None:
    assert vm.run(["wc", "-c"], input=bytes(5 << 20)).stdout == f"{5 << 20}\n"


def test_input_that_nobody_reads_is_dropped(vm: lab.Machine) -> None:
    assert vm.run("exec true", input=bytes(1 << 20)).returncode == 0
    assert vm.run("exec 0<&-; sleep 0.1; echo done", input=bytes(1 << 20)).stdout == "done\n"
    assert vm.run(["cat"]).stdout == ""


def test_a_background_job_does_not_hold_the_call(vm: lab.Machine) -> None:
    result = vm.run("sleep 1000 & echo started")
    assert (result.stdout, result.returncode) == ("started\n", 0)
    assert vm.run("pgrep sleep").returncode == 0


def test_env_is_added_and_may_hold_any_text(vm: lab.Machine) -> None:
    env = {"A": "x=y= z", "B": "", "C": "quotes \"'` $HOME\nsecond line", "D": "žluť"}
    expected = "x=y= z||" + env["C"] + "|žluť|/root"
    assert vm.run('printf "%s|%s|%s|%s|%s" "$A" "$B" "$C" "$D" "$HOME"', env=env).stdout == expected


def test_cwd_is_where_it_runs(vm: lab.Machine) -> None:
    assert vm.run("pwd").stdout == "/root\n"
    assert vm.run("pwd", cwd="/usr/bin").stdout == "/usr/bin\n"
    with pytest.raises(GuestError, match=r"chdir.*ENOENT"):
        vm.run("pwd", cwd="/nowhere")


def test_a_list_is_not_seen_by_a_shell(vm: lab.Machine) -> None:
    words = ["*", "$HOME", "a b", "", "'", "\n", "ž"]
    result = vm.run(["printf", "<%s>", *words])
    assert (result.stdout, result.args) == ("".join(f"<{word}>" for word in words), ["printf", "<%s>", *words])


def test_a_missing_program_is_told(vm: lab.Machine) -> None:
    with pytest.raises(GuestError, match=r"exec.*ENOENT"):
        vm.run(["/no/such/program"])
    assert vm.run("/no/such/program").returncode == 127


@pytest.mark.parametrize("words", [[], [""], ["a\0b"], ["echo", "\0"], ["echo", "\ud800"]])
def test_a_command_that_cannot_be_passed_is_refused(vm: lab.Machine, words: list[str]) -> None:
    with pytest.raises(ImageError):
        vm.run(words)


@pytest.mark.parametrize("env", [{"A=B": "c"}, {"": "x"}, {"A": "x\0y"}, {"A\0": "x"}])
def test_env_that_cannot_be_passed_is_refused(vm: lab.Machine, env: dict[str, str]) -> None:
    with pytest.raises(ImageError):
        vm.run("true", env=env)


def test_long_arguments_arrive_whole_or_are_refused_by_the_guest(vm: lab.Machine) -> None:
    assert vm.run(["sh", "-c", 'printf %s "$1" | wc -c', "sh", "x" * 100_000]).stdout == "100000\n"
    many = [str(n) for n in range(20_000)]
    assert vm.run(["sh", "-c", 'echo "$#"', "sh", *many]).stdout == "20000\n"
    with pytest.raises(GuestError, match="E2BIG"):
        vm.run(["true", "x" * 200_000])
    assert vm.run("echo usable").stdout == "usable\n"


def test_a_timeout_kills_the_process_group_and_tells_what_was_printed(vm: lab.Machine) -> None:
    with pytest.raises(GuestTimeout) as caught:
        vm.run("echo partial; echo trouble >&2; sleep 1001 & sleep 1002", timeout=1)
    assert (caught.value.stdout, caught.value.stderr) == ("partial\n", "trouble\n")
    assert isinstance(caught.value, TimeoutError)
    assert vm.run("pgrep -f 'sleep 100[12]'").stdout == ""
    assert vm.run("echo usable").stdout == "usable\n"


def test_partial_output_is_bytes_where_bytes_were_asked_for(vm: lab.Machine) -> None:
    with pytest.raises(GuestTimeout) as caught:
        vm.run("printf '\\377'; sleep 1000", timeout=1, text=False)
    assert caught.value.stdout == b"\xff"


def test_a_command_that_ignores_sigterm_and_sigint_is_killed_all_the_same(vm: lab.Machine) -> None:
    with pytest.raises(GuestTimeout):
        vm.run("trap '' INT TERM; while :; do :; done", timeout=1)
    assert vm.run("echo usable").stdout == "usable\n"


@pytest.mark.parametrize("timeout", [float("inf"), 1e9])
def test_a_timeout_may_be_as_long_as_one_likes(vm: lab.Machine, timeout: float) -> None:
    assert vm.run("sleep 0.1; echo done", timeout=timeout).stdout == "done\n"


@pytest.mark.parametrize("timeout", [float("nan"), -1, "5"])
def test_a_timeout_that_means_nothing_is_refused(vm: lab.Machine, timeout: float) -> None:
    with pytest.raises(ImageError, match="timeout"):
        vm.run("true", timeout=timeout)
    assert vm.status == "running"


def test_check_raises_with_what_subprocess_would_carry(vm: lab.Machine) -> None:
    with pytest.raises(GuestCommandError, match="went wrong") as caught:
        vm.run("echo out; echo went wrong >&2; exit 7", check=True)
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (7, "out\n", "went wrong\n")
    assert vm.run("true", check=True).returncode == 0


def test_stream_prints_as_it_comes_and_keeps_it_too(vm: lab.Machine, capsys: pytest.CaptureFixture[str]) -> None:
    result = vm.run("printf '\\303'; sleep 0.2; printf '\\251\\n'; echo trouble >&2", stream=True)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("é\n", "trouble\n") == (result.stdout, result.stderr)


def test_output_over_the_limit_is_cut_and_counted(vm: lab.Machine) -> None:
    result = vm.run("printf 0123456789; printf abc >&2", limit=4)
    assert (result.stdout, result.stderr, result.cut) == ("0123", "abc", (6, 0))
    assert "cut=(6, 0)" in repr(result)


def test_repr_has_nothing_that_varies(vm: lab.Machine) -> None:
    first, second = vm.run("echo hi"), vm.run("echo hi")
    assert repr(first) == repr(second) == "CommandResult(args='echo hi', returncode=0, stdout='hi\\n')"
    assert first.instructions > 0


def test_an_agent_that_died_is_named_and_started_again(vm: lab.Machine) -> None:
    for _ in range(2):
        with pytest.raises(GuestError, match=r"agent .*died"):
            vm.run("kill -9 $PPID; sleep 100")
        assert vm.run("cat /proc/$PPID/comm").stdout == "agent\n"


def test_kernel_messages_and_typing_do_not_disturb_it(vm: lab.Machine) -> None:
    vm.console.send("echo typed\necho half a li")
    script = "for n in $(seq 300); do echo $n; echo '<0>oops' > /dev/kmsg; echo oops > /dev/ttyS0; done"
    assert vm.run(script).stdout == "".join(f"{n}\n" for n in range(1, 301))


def test_commands_of_several_threads_queue(vm: lab.Machine) -> None:
    results: dict[int, str | bytes] = {}

    def work(number: int) -> None:
        results[number] = vm.run(
            f"test ! -e /tmp/busy || exit 9; touch /tmp/busy; sleep 0.1; rm /tmp/busy; echo {number}", check=True
        ).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(8)}


def test_a_paused_machine_refuses_commands_and_says_how_to_go_on(vm: lab.Machine) -> None:
    vm.pause()
    assert vm.status == "paused"
    with pytest.raises(GuestError, match=r"paused.*resume"):
        vm.run("true")
    vm.resume()
    assert vm.run("echo on").stdout == "on\n"


def test_a_guest_without_an_agent_says_so(make: Maker) -> None:
    vm = make(lab.images.boot_sector(b"\xeb\xfe"))
    with pytest.raises(GuestError, match="no agent"):
        vm.run("true", timeout=2)  # without, a shell at its console is waited for longer


@pytest.mark.skipif(sys.platform == "win32", reason="there, a signal to one process ends it")
def test_ctrl_c_interrupts_the_command_in_the_guest() -> None:
    program = """
        import v86lab as lab
        with lab.Machine() as vm:
            try:
                # What says "begun" is what the shell waits for: a signal before that would find nothing to interrupt.
                vm.run("trap 'echo caught > /tmp/trace; exit' INT; sh -c 'echo begun; exec sleep 1000'", stream=True)
            except KeyboardInterrupt:
                print("interrupted")
            print(vm.run("cat /tmp/trace; pgrep sleep").stdout)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert (rest, process.returncode) == ("interrupted\ncaught\n\n", 0)
