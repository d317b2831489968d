"""The serial console: waiting for what it shows, typing into it, and being told when nothing more can come."""

from __future__ import annotations

import re
import threading

import pytest

import v86lab as lab
from v86lab.engine import NodeEngine
from v86lab.errors import EngineError, GuestError, GuestFault, GuestOff, GuestTimeout, ImageError

pytestmark = pytest.mark.boot

PROMPT = "/ # "
PANIC = "echo c > /proc/sysrq-trigger"


def show(vm: lab.Machine, command: str) -> None:
    """Have the shell on the console run a command, past its echo."""
    vm.console.expect(PROMPT)
    vm.console.sendline(command)
    vm.console.expect("\n")


def test_a_literal_is_found_and_what_came_before_is_told(vm: lab.Machine) -> None:
    show(vm, "echo one; echo two; echo three")
    match = vm.console.expect("two")
    assert (match.index, match.before, match.text) == (0, "one\r\n", "two")
    assert vm.console.expect("three").before == "\r\n"


def test_of_several_patterns_the_earliest_match_wins(vm: lab.Machine) -> None:
    show(vm, "echo a=5 b=6")
    match = vm.console.expect(["nothing", re.compile(r"b=(\d)"), re.compile(r"a=(?P<number>\d)")])
    assert (match.index, match.match["number"], match.before) == (2, "5", "")


def test_special_characters_of_a_literal_mean_themselves(vm: lab.Machine) -> None:
    show(vm, "echo 'a.c a*c [x] $^ abc'")
    assert vm.console.expect("a*c [x] $^").before == "a.c "


def test_bytes_patterns_match_bytes_and_str_patterns_text(vm: lab.Machine) -> None:
    show(vm, r"printf 'p\303\251q\377r\n'")
    match = vm.console.expect(re.compile("p.q"))
    assert match.text == "péq"
    bytes_match = vm.console.expect(re.compile(rb"[\x80-\xff](r)"))
    assert bytes_match.match[0] == b"\xffr"
    show(vm, r"printf 'p\303\251q\n'")
    assert vm.console.expect(b"\xc3\xa9q").text == "éq"


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [(r"(\w+) \1", ("ab",)), (r"\b(cd)\b", ("cd",)), (r"(?<=xy)(z+)$", ("zz",)), (r"(?i)(AB) ab", ("ab",))],
)
def test_a_pattern_that_only_python_can_match_holds_the_guest_and_gives_the_same(
    vm: lab.Machine, pattern: str, groups: tuple[str, ...]
) -> None:
    show(vm, "printf 'ab ab cd xyzz'; sleep 1000")
    match = vm.console.expect(re.compile(pattern))
    assert match.match.groups() == groups
    vm.console.sendcontrol("c")
    vm.console.expect(PROMPT)
    assert vm.run("echo going on").stdout == "going on\n"


def test_a_pattern_that_never_ends_is_given_up_and_the_guest_goes_on(vm: lab.Machine) -> None:
    show(vm, "printf 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\\n'")
    vm.console.expect("a")
    with pytest.raises(ImageError, match="took more than"):
        vm.console.expect(re.compile(r"(?:a|aa)+\Z(?<=b)"), timeout=30)
    assert vm.run("echo going on").stdout == "going on\n"


def test_a_timeout_tells_pattern_times_status_and_the_last_lines(vm: lab.Machine) -> None:
    show(vm, r"seq 30; printf 'bell \a'")
    vm.console.expect("bell")
    with pytest.raises(GuestTimeout) as caught:
        vm.console.expect(re.compile("never (this|that)"), timeout=0.5)
    message = str(caught.value)
    assert "never (this|that)" in message and "0.5 s" in message and "guest time" in message and "running" in message
    assert "| 30" in message and "␇" in message and "| 5\n" not in message
    assert vm.console.expect(PROMPT).before.endswith("\x07")


def test_a_timeout_of_zero_looks_at_what_is_there(vm: lab.Machine) -> None:
    assert vm.console.expect(PROMPT, timeout=0).text == PROMPT
    with pytest.raises(GuestTimeout):
        vm.console.expect("never", timeout=0)


def test_a_pattern_of_the_wrong_kind_is_refused(vm: lab.Machine) -> None:
    for pattern in (5, None, [], ["ok", 5]):
        with pytest.raises(ImageError):
            vm.console.expect(pattern)  # type: ignore[arg-type]


def test_control_characters_reach_the_shell(vm: lab.Machine) -> None:
    show(vm, "echo waiting; cat")
    vm.console.expect("waiting")
    vm.console.sendcontrol("c")
    show(vm, "wc -c")
    vm.console.send("four")
    vm.console.sendcontrol("D")
    vm.console.sendcontrol("d")
    vm.console.expect(re.compile(r"four4\r\n"))
    with pytest.raises(ImageError):
        vm.console.sendcontrol("ctrl")


def test_a_long_paste_arrives_whole(vm: lab.Machine) -> None:
    lines = "".join(f"{n:05d} {'x' * 90}\n" for n in range(680))  # 64 KiB, in lines that the tty takes
    show(vm, "stty -echo; cat > /tmp/pasted")
    vm.console.send(lines)
    vm.console.sendcontrol("d")
    vm.console.expect(PROMPT, timeout=120)
    assert vm.files.read("/tmp/pasted").decode() == lines


def test_the_transcript_is_bounded_and_says_what_it_dropped(vm: lab.Machine) -> None:
    vm.run("yes 'some line of text that fills the console' | head -c 1400000 > /dev/ttyS0")
    assert len(vm.console.transcript) < (1 << 20) + 100
    assert re.match(r"\[\d+ earlier bytes are not kept\]\n", vm.console.transcript)
    vm.console.sendline("echo still here")
    vm.console.expect("still here\r\n", timeout=60)


def ends_the_wait(vm: lab.Machine, command: str, error: type[GuestError], pattern: str = "never") -> GuestError:
    """Wait for ever for what never comes, while the guest does `command`."""
    vm.console.expect(PROMPT)
    vm.console.sendline(command)
    with pytest.raises(error) as caught:
        vm.console.expect(re.compile(pattern) if "\\" in pattern else pattern, timeout=None)
    return caught.value


@pytest.mark.parametrize("pattern", ["never", r"(never)\1"])
def test_expect_fails_at_once_when_the_kernel_panics(vm: lab.Machine, pattern: str) -> None:
    error = ends_the_wait(vm, PANIC, GuestFault, pattern)
    assert "Kernel panic - not syncing: sysrq triggered crash" in error.what
    assert error.registers["cr0"] & 1
    assert "end Kernel panic" in error.tail
    assert vm.status == "faulted"


def test_expect_fails_at_once_when_the_guest_powers_off(vm: lab.Machine) -> None:
    ends_the_wait(vm, "poweroff", GuestOff)
    assert vm.status == "off"


def test_expect_fails_at_once_when_the_guest_halts_for_good(vm: lab.Machine) -> None:
    error = ends_the_wait(vm, "halt -f", GuestError)
    assert vm.status in ("off", "faulted"), error


def test_expect_goes_on_waiting_while_the_guest_reboots(vm: lab.Machine) -> None:
    vm.console.expect(PROMPT)
    vm.console.sendline("reboot")
    assert vm.console.expect(re.compile(r"root\..*?/ # ", re.DOTALL), timeout=120).index == 0
    assert vm.run("echo up").stdout == "up\n"


def test_expect_fails_at_once_when_the_engine_dies(vm: lab.Machine) -> None:
    twin = lab.Machine(vm.snapshot())
    with twin:
        twin.run("true")
        assert isinstance(twin._session.engine, NodeEngine)
        threading.Timer(1, twin._session.engine._process.kill).start()
        with pytest.raises(EngineError, match="ended"):
            twin.console.expect("never", timeout=None)
        assert twin.status == "faulted"


def test_what_was_shown_before_the_end_can_still_be_matched(vm: lab.Machine) -> None:
    vm.console.expect(PROMPT)
    vm.console.sendline("poweroff")
    assert vm.wait(60) == "off"
    assert vm.console.expect("Power down").text == "Power down"
    assert vm.console.expect(re.compile(r"(.)\n")).index == 0
    with pytest.raises(GuestOff):
        vm.console.expect("more")


def test_words_of_a_panic_that_anybody_prints_are_no_panic(vm: lab.Machine) -> None:
    words = "---[ end Kernel panic - not syncing: a joke ]---"
    show(vm, f"echo '{words}'; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo survived")
    vm.console.expect("survived\r\n", timeout=60)
    assert vm.status == "running"
