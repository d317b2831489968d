"""`Machine.run` in a guest without the agent: commands typed at a shell's prompt on the serial console."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

import v86lab as lab
from v86lab.errors import GuestCommandError, GuestError, GuestOff, GuestTimeout, ImageError
from v86lab.prompt import MOST, Reading, knock, typed

from .conftest import PROLOGUE, SERIAL, Maker

pytestmark = pytest.mark.boot

AGENTLESS = lab.images.linux(agent=False)
PROMPT = "/ # "


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[lab.Machine, lab.Snapshot]]:
    """On guest time, so that no load of this computer makes a timeout of what is none."""
    with lab.Machine(AGENTLESS, seed=1) as machine:
        machine.console.expect(PROMPT)
        yield machine, machine.snapshot("at the prompt")


@pytest.fixture
def vm(started: tuple[lab.Machine, lab.Snapshot]) -> lab.Machine:
    machine, snapshot = started
    machine.restore(snapshot)
    return machine


def begin(vm: lab.Machine, line: str, shown: str) -> None:
    """Have the prompt's shell do something that goes on, and wait until it shows that it does."""
    vm.console.sendline(line)
    vm.console.expect("\n")
    vm.console.expect(shown)


def is_alive(vm: lab.Machine, command: str) -> bool:
    return vm.run(["pgrep", "-f", command]).returncode == 0


def test_output_and_errors_come_together_with_the_exact_status(vm: lab.Machine) -> None:
    result = vm.run("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.returncode) == ("out\nerr\n", "", 3)
    assert result.args == "echo out; echo err >&2; exit 3" and result.instructions > 0
    assert repr(vm.run("true")) == "CommandResult(args='true', returncode=0)"


def test_a_signal_and_a_missing_program_are_told_as_shells_do(vm: lab.Machine) -> None:
    assert vm.run("kill -9 $$").returncode == 128 + 9
    missing = vm.run(["/no/such/program"])
    assert missing.returncode == 127 and "/no/such/program" in str(missing.stdout)


def test_output_without_a_line_end_and_no_output_stay_so(vm: lab.Machine) -> None:
    assert vm.run("printf half").stdout == "half"
    assert vm.run("true").stdout == ""
    assert vm.run("echo; echo").stdout == "\n\n"


def test_a_command_of_several_lines_with_every_quote_arrives_as_it_is(vm: lab.Machine) -> None:
    script = """
for word in "a b" 'c"d' e\\'f; do
\techo "<$word>" '$HOME' `echo tick` !! # ž
done
cat <<'END'
	tab ž 100% \\n \\\\ -n ~ * 'quoted' "twice"

END
"""
    expected = "".join(f"<{word}> $HOME tick !!\n" for word in ("a b", 'c"d', "e'f"))
    assert vm.run(script).stdout == expected + "\ttab ž 100% \\n \\\\ -n ~ * 'quoted' \"twice\"\n\n"


def test_a_list_is_not_seen_by_a_shell(vm: lab.Machine) -> None:
    words = [
        "*",
        "$HOME",
        "a b",
        "",
        "'",
        '"',
        "\n",
        "ž\u4e2d",
        "\t",
        "\x01\x7f",
        "-n",
        "100%",
        "\\n",
        "!!",
        "~",
        "A=B",
    ]
    assert vm.run(["printf", "<%s>", *words]).stdout == "".join(f"<{word}>" for word in words)


def test_every_character_that_can_be_typed_arrives(vm: lab.Machine) -> None:
    text = "".join(map(chr, [*range(1, 0x100), 0x20AC, 0x1F600]))
    printed = vm.run(["printf", "%s", text], text=False).stdout
    assert isinstance(printed, bytes) and printed.replace(b"\r\n", b"\n") == text.encode()


def test_long_commands_arrive_whole(vm: lab.Machine) -> None:
    word = "x" * 4200  # more than a terminal takes in a line
    assert vm.run(f"echo {word} | md5sum").stdout == hashlib.md5(f"{word}\n".encode()).hexdigest() + "  -\n"
    lines = "".join(f"echo {n} 'é'\n" for n in range(20))
    assert vm.run(lines).stdout == "".join(f"{n} é\n" for n in range(20))


def test_a_command_too_long_to_be_typed_is_refused(vm: lab.Machine) -> None:
    with pytest.raises(ImageError, match=r"too long.*256 KiB"):
        vm.run("#" + "x" * MOST)


def test_line_ends_are_those_of_the_program_and_bytes_those_of_the_terminal(vm: lab.Machine) -> None:
    assert vm.run("printf 'a\\nb\\r\\nc\\r'").stdout == "a\nb\r\nc\r"
    assert vm.run("printf 'a\\nb\\r\\n\\377'", text=False).stdout == b"a\r\nb\r\r\n\xff"
    assert vm.run("printf '\\377'").stdout == "\ufffd"


def test_programs_print_as_into_a_pipe_and_have_no_input(vm: lab.Machine) -> None:
    assert vm.run("test -t 1 || echo pipe; test -t 0 || cat; read x || echo eof", timeout=60).stdout == "pipe\neof\n"


def test_env_and_cwd_hold_for_the_command_alone(vm: lab.Machine) -> None:
    env = {"A": "x=y= z\n'ž'", "B-C": "-"}
    assert vm.run('printf "%s|" "$A"; pwd', env=env, cwd="/usr/bin").stdout == f"{env['A']}|/usr/bin\n"
    assert "\nB-C=-\n" in str(vm.run(["env"], env=env).stdout)
    assert vm.run("cd /tmp; A=1; exit 0").stdout == ""
    assert vm.run("pwd; echo $A; alias").stdout == "/\n\n"
    with pytest.raises(GuestError, match=r"folder '/no/where'"):
        vm.run("pwd", cwd="/no/where")
    with pytest.raises(ImageError):
        vm.run("true", env={"A=B": "c"})
    vm.console.sendline("set | grep -c ^v86_")
    vm.console.expect("^v86_\r\n")
    vm.console.expect("0\r\n")  # nothing is left in the prompt's shell


def test_the_prompts_shell_keeps_its_own_state(vm: lab.Machine) -> None:
    vm.console.sendline("cd /tmp; export KEPT=yes; set -euC; PS1='odd> v86lab-'; PS2='more $ '; f() { echo no; }")
    assert vm.run("pwd\necho $KEPT; f; exit 5").stdout == "/tmp\nyes\n/bin/sh: f: not found\n"
    assert vm.run("exit 5").returncode == 5


def test_check_raises_with_what_was_printed(vm: lab.Machine) -> None:
    with pytest.raises(GuestCommandError, match="went wrong") as caught:
        vm.run("echo went wrong; exit 7", check=True)
    assert (caught.value.returncode, caught.value.stdout) == (7, "went wrong\n")


def test_text_that_looks_like_a_mark_is_output(vm: lab.Machine) -> None:
    vm.run("echo first")
    mark = re.findall(r"v86lab-\w+(?=-begin \d)", vm.console.transcript)[-1]
    lines = f"{mark}-begin 1\n{mark}-end 0\n{mark}-done\nv86lab-\n{mark}\n$v86_k-done\nv"
    assert vm.run(["printf", "%s", lines]).stdout == lines
    assert vm.run("cat /proc/self/cmdline /proc/$PPID/cmdline | tr '\\0' ' '; exit 4").returncode == 4


def test_much_output_comes_whole_and_over_the_limit_is_counted(vm: lab.Machine) -> None:
    assert vm.run(["seq", "3000"]).stdout == "".join(f"{n}\n" for n in range(1, 3001))
    size = 1_200_000  # the engine keeps 1 MiB of what nobody has fetched
    result = vm.run(f"head -c {size} /dev/zero | tr '\\0' x", limit=10)
    assert (result.stdout, result.cut) == ("x" * 10, (size - 10, 0))


def test_stream_prints_as_it_comes_and_keeps_it_too(vm: lab.Machine, capsys: pytest.CaptureFixture[str]) -> None:
    result = vm.run("printf '\\303'; sleep 1; printf '\\251 v'; echo; echo trouble >&2", stream=True)
    assert capsys.readouterr().out == "é v\ntrouble\n" == result.stdout


def test_input_is_refused(vm: lab.Machine) -> None:
    with pytest.raises(ImageError, match="no agent"):
        vm.run("cat", input="four")
    assert vm.run("cat", input="").stdout == ""


@pytest.mark.parametrize(
    ("ignored", "trap"), [("", ""), ("", "trap '' INT QUIT TSTP TERM HUP; "), ("INT", ""), ("INT QUIT", "")]
)
def test_a_timeout_kills_the_command_and_tells_what_was_printed(vm: lab.Machine, ignored: str, trap: str) -> None:
    vm.console.sendline(f"trap '' {ignored}" if ignored else "")  # and so does what the prompt's shell starts
    with pytest.raises(GuestTimeout, match=r"within 5 s of guest time .*killed") as caught:
        vm.run(trap + "echo partial; printf half; sleep 1001 & sleep 1002", timeout=5)
    assert (caught.value.stdout, caught.value.budget) == ("partial\nhalf", "timeout")
    assert not is_alive(vm, "sleep 100[12]")
    assert vm.run("echo usable").stdout == "usable\n"


def test_partial_output_is_bytes_where_bytes_were_asked_for(vm: lab.Machine) -> None:
    with pytest.raises(GuestTimeout) as caught:
        vm.run("printf '\\377\\n'; sleep 1000", timeout=5, text=False)
    assert (caught.value.stdout, caught.value.budget) == (b"\xff\r\n", "timeout")


def test_a_background_job_does_not_hold_the_call(vm: lab.Machine) -> None:
    assert vm.run("sleep 1001 & echo started").stdout == "started\n"
    assert vm.run("echo usable").stdout == "usable\n"
    assert is_alive(vm, "sleep 1001")


def test_what_was_typed_before_does_not_get_in_the_way(vm: lab.Machine) -> None:
    vm.console.send("rm -rf /tmp; echo half a li")
    assert vm.run("echo whole; ls -d /tmp").stdout == "whole\n/tmp\n"
    vm.console.sendline("sleep 2; echo over")
    assert vm.run("echo next").stdout == "next\n"  # a busy shell is waited for


def test_the_console_goes_on_after_the_command(vm: lab.Machine) -> None:
    vm.run("echo one")
    match = vm.console.expect(PROMPT)
    assert "one" not in match.before
    vm.console.sendline("echo two")
    vm.console.expect("\ntwo\r\n")
    assert vm.run("echo three").stdout == "three\n"


def test_the_guest_may_end_meanwhile(vm: lab.Machine) -> None:
    with pytest.raises(GuestOff) as caught:
        vm.run("echo bye; poweroff -f")
    assert str(caught.value.stdout).startswith("bye\n")


def test_a_shell_without_printf_takes_plain_text(vm: lab.Machine) -> None:
    vm.console.sendline("command() { return 1; }")  # as if it did not find it
    assert vm.run("echo 'plain\ntext' !").stdout == "plain\ntext !\n"
    with pytest.raises(GuestError, match=r"no printf.*saw 'é'"):
        vm.run("echo 'é'")


def test_a_login_prompt_is_named_and_nothing_is_typed_at_it(vm: lab.Machine) -> None:
    begin(vm, "printf '\\nv86 login: '; read name; echo \"<$name>\"", "login: ")
    for _ in range(2):
        with pytest.raises(GuestError, match=r"saw a login: prompt.*log in first") as caught:
            vm.run("true")
    assert "v86 login:" in caught.value.tail
    vm.console.sendline("root")
    vm.console.expect("<root>")
    assert vm.run("echo in").stdout == "in\n"


def test_what_is_no_shell_is_shown(vm: lab.Machine) -> None:
    begin(vm, "ed=1; printf 'ready> '; cat", "ready> ")
    with pytest.raises(
        GuestTimeout, match=r"no agent, and no shell answered .*within 7 s of guest time: .*Hint: bring"
    ) as caught:
        vm.run("true", timeout=7)
    assert "ready>" in caught.value.tail
    vm.console.sendcontrol("c")
    assert vm.run("echo usable").stdout == "usable\n"


def test_a_machine_with_a_seed_does_the_same_every_time(
    vm: lab.Machine, started: tuple[lab.Machine, lab.Snapshot], make: Maker
) -> None:
    def happens(vm: lab.Machine) -> tuple[object, ...]:
        printed = vm.run("head -c8 /dev/urandom | od -An -tx1; date; sleep 3600; date").stdout
        with pytest.raises(GuestTimeout) as caught:
            vm.run("echo go; while :; do :; done", instructions=20_000_000)
        assert (caught.value.stdout, caught.value.budget) == ("go\n", "instructions")
        return printed, vm.run("seq 300").instructions, vm.instructions, vm.clock, vm.state_hash()

    twin = make(started[1])  # which has shown nothing here yet
    assert happens(vm) == happens(twin)


IDLE = """
    mov ax, 3
start:
    sti
    hlt
    jmp start
"""
ECHO = """
start:
    sti
    hlt
next:
    mov dx, 0x3fd
    in al, dx
    test al, 1
    jz start
    mov dx, 0x3f8
    in al, dx
    call putc
    jmp next
"""


@pytest.mark.parametrize(("source", "shown"), [(IDLE, "'!'"), (ECHO, "no prompt")], ids=["idle", "echo"])
def test_a_guest_without_a_shell_is_given_up(make: Maker, source: str, shown: str) -> None:
    with pytest.raises(GuestError, match=r"no agent, and no shell answered") as caught:
        make(lab.images.boot_sector(PROLOGUE + source + SERIAL), seed=1).run("true")
    assert not isinstance(caught.value, GuestTimeout)
    assert shown == caught.value.seen and "!" in caught.value.tail
    assert "vm.console" in str(caught.value.hint)


def test_on_wall_clock_time_it_is_given_up_when_the_budget_says_so(asm: Callable[[str], lab.Machine]) -> None:
    with pytest.raises(GuestTimeout, match="no agent"):
        asm(IDLE).run("true", timeout=1)


@pytest.mark.skipif(sys.platform == "win32", reason="there, a signal to one process ends it")
def test_ctrl_c_interrupts_the_command_in_the_guest() -> None:
    program = """
        import v86lab as lab
        with lab.Machine(lab.images.linux(agent=False)) as vm:  # on wall-clock time, and still booting
            try:
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


@pytest.mark.parametrize("size", range(1, 20))
def test_a_mark_is_found_wherever_the_console_output_is_cut(size: int) -> None:
    shown = b"echo $v86_k-7\r\nv86lab-7-begin 9\r\n8v v86lab-7\r\n\rhalf v86lab-7-end 3\r\nv86lab-7-done\r\n# "
    told: list[tuple[int, bytes]] = []
    reading = Reading("v86lab-7", raw=False, limit=100, on_output=lambda *data: told.append(data))
    for at in range(0, len(shown), size):
        if not reading.over:
            reading.feed(shown[at : at + size], 0)
    assert (reading.status, reading.kill) == ("3", "kill -9 -9; ")
    assert reading.close() == b"".join(data for _, data in told) == b"8v v86lab-7\n\rhalf "


# -- shells that the default guest does not have, on this computer's terminal ------------------------------------------


@contextlib.contextmanager
def shell(*argv: str) -> Iterator[int]:
    """An interactive shell on a terminal of its own; gives the other end."""
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(argv[0], argv, {"PATH": os.environ["PATH"], "PS1": "% ", "TERM": "vt102"})
    try:
        yield terminal
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def follow(terminal: int, done: Callable[[bytes], bool]) -> None:
    """Hand on what is shown until that is enough."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0] and done(os.read(terminal, 65536)):
            return
    pytest.fail("the shell did not show what was waited for")


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals there")
@pytest.mark.parametrize(
    "argv", [("dash", "-i"), ("bash", "--norc", "-i"), ("bash", "--posix", "--norc", "-i")], ids=" ".join
)
@pytest.mark.parametrize("setting", ["", "set -eu", "set -x", "set -o noclobber; set -f", "PS2='v86lab-7-end 1'"])
def test_other_shells_do_it_too(argv: tuple[str, ...], setting: str) -> None:
    words = b"printf '%s|' 'a  b' '\\n!! 100%' 'x\xc3\xa9\t-' '\n' \"'\"; (exit 3)"
    with shell(*argv) as terminal:
        os.write(terminal, f"{setting}\n {knock('v86lab-7')}".encode())
        answer, reading = bytearray(), Reading("v86lab-7", raw=False, limit=1000, on_output=None)

        def answered(shown: bytes) -> bool:
            answer.extend(shown)
            return re.search(rb"v86lab-7 \S*printf\r\n", answer) is not None

        def over(shown: bytes) -> bool:
            reading.feed(shown, 0)
            return reading.over

        follow(terminal, answered)
        os.write(terminal, typed("v86lab-7", b"sh -c '" + words.replace(b"'", b"'\\''") + b"'", b"/tmp").encode())
        follow(terminal, over)
    assert reading.status == "3"
    assert b"a  b|\\n!! 100%|x\xc3\xa9\t-|\n|'|" in reading.close()
