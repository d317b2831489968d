"""Guests that end badly: the machine says what happened, Python lives on, and a reset starts it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import v86lab as lab
from v86lab.errors import GuestError, GuestFault, GuestOff, GuestTimeout

from .conftest import Maker, cold

pytestmark = pytest.mark.boot

Assembler = Callable[[str], lab.Machine]

FAULTS = {
    "an IDT of limit 0 in protected mode": ("protected\n lidt [none]\n int 0x30\n none: dw 0, 0, 0", 1),
    "a gate that is not present": ("protected\n lidt [idtr]\n int 0x30\n idtr: dw 0x7ff\n dd 0x80000", 1),
    "an exception without an IDT": ("protected\n lidt [none]\n ud2\n none: dw 0, 0, 0", 1),
    "an IDT in an unmapped page": (
        "protected\n paged\n lidt [idtr]\n int 0x30\n idtr: dw 0x7ff\n dd 0x800000",
        0x80000001,
    ),
    "a stack that overflows into an unmapped page": (
        "protected\n paged\n mov esp, 0x400010\n mov eax, [0x800000]\n push eax\n idtr: dw 0",
        0x80000001,
    ),
    "a processor that halts with interrupts off": ("cli\n hlt", 0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_boot_sector_that_faults_is_reported_and_can_be_reset(asm: Assembler, name: str) -> None:
    source, mode = FAULTS[name]
    vm = asm(f"start:\n mov ecx, 0x1234567\n {source}\n")
    for _ in range(2):
        vm.start()
        assert vm.wait(30) == "faulted"
        assert vm.console.expect("!").index == 0  # the last thing it said
        with pytest.raises(GuestFault) as caught:
            vm.console.expect("more")
        error = caught.value
        assert error.registers["cr0"] & 0x80000001 == mode
        assert error.registers["cs"] in (0, 8)
        assert "!" in error.tail and "registers: " in str(error) and "vm.reset()" in str(error)
        assert vm.memory[0x7DFE:0x7E00] == b"\x55\xaa"  # it can be looked at
        assert vm.cpu.registers["cr0"] == error.registers["cr0"]
        with pytest.raises(GuestFault):
            vm.snapshot()
        vm.reset()


def test_a_stack_that_grows_into_an_unmapped_page_faults(asm: Assembler) -> None:
    vm = asm("start:\n protected\n paged\n mov dword [0x10000], 0x11003\n mov dword [0x11000], 0\n mov eax, cr3\n"
             " mov cr3, eax\n mov esp, 0x1010\n grow:\n push eax\n jmp grow\n")  # fmt: skip
    vm.start()
    assert vm.wait(30) == "faulted"
    with pytest.raises(GuestFault):
        vm.pause()


def test_a_busy_loop_with_interrupts_off_is_no_fault(asm: Assembler) -> None:
    vm = asm("start:\n jmp start\n")
    vm.start()
    with pytest.raises(GuestTimeout, match="did not stop within 1"):
        vm.wait(1)
    assert vm.status == "running"


def test_a_boot_sector_that_reboots_by_the_keyboard_controller_boots_again(asm: Assembler) -> None:
    vm = asm("start:\n mov al, 0xfe\n out 0x64, al\n hlt\n")
    for _ in range(3):
        vm.console.expect("!", timeout=60)
    assert vm.status == "running"


def test_a_kernel_that_panics_is_a_fault_and_can_be_reset(vm: lab.Machine) -> None:
    vm.files.write("/tmp/lost", "")
    with pytest.raises(GuestFault, match="sysrq triggered crash") as caught:
        vm.run("echo before; echo c > /proc/sysrq-trigger")
    assert caught.value.stdout == "before\n"
    with pytest.raises(GuestFault):
        vm.run("true")
    assert vm.status == "faulted"
    vm.reset()
    assert vm.run("ls /tmp").stdout == ""


def test_an_init_that_ends_is_a_panic(make: Maker) -> None:
    vm = make(lab.images.linux(cmdline="rdinit=/bin/true", agent=False))
    vm.start()
    assert vm.wait(120) == "faulted"
    with pytest.raises(GuestFault, match="Attempted to kill init"):
        vm.console.expect("never")


@pytest.mark.parametrize("command", ["reboot", "reboot -f"])
def test_a_reboot_boots_again(vm: lab.Machine, command: str) -> None:
    vm.files.write("/tmp/lost", "")
    vm.console.sendline(command)
    vm.console.expect("root.", timeout=5)  # from before
    vm.console.expect("root.", timeout=120)
    assert vm.run("ls /tmp").stdout == ""
    assert vm.status == "running"


def test_a_kernel_told_to_reboot_when_it_panics_boots_again(make: Maker) -> None:
    vm = make(cold(cmdline="panic=-1"))
    vm.run("true")
    vm.console.expect("root.")
    vm.console.sendline("echo c > /proc/sysrq-trigger")
    vm.console.expect("root.", timeout=120)
    assert vm.run("echo up").stdout == "up\n"


@pytest.mark.parametrize("command", ["poweroff", "poweroff -f"])
def test_poweroff_is_no_fault(vm: lab.Machine, command: str) -> None:
    vm.console.sendline(command)
    assert vm.wait(60) == "off"
    with pytest.raises(GuestOff, match=r"vm\.reset"):
        vm.run("true")
    vm.reset()
    assert vm.run("echo up").stdout == "up\n"


def test_a_command_under_way_is_told_of_the_end(vm: lab.Machine) -> None:
    with pytest.raises(GuestOff) as off:
        vm.run("echo so far; poweroff -f; sleep 100")
    assert off.value.stdout == "so far\n"
    vm.reset()
    with pytest.raises(GuestError, match="reset"):
        vm.run("reboot -f; sleep 100")
    assert vm.run("echo up").stdout == "up\n"


def test_a_multiboot_kernel_can_exit(make: Maker) -> None:
    vm = make(lab.images.multiboot(multiboot_kernel("mov al, 1\n out 0xf4, al\n hlt")))
    vm.start()
    assert vm.wait(60) == "off"
    vm.console.expect("M")


def multiboot_kernel(source: str) -> bytes:
    """A flat multiboot kernel that prints M and goes on with `source`."""
    from v86lab.images.nasm import assemble

    return assemble(
        f"""
bits 32
org 0x100000
header:
    dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), header, header, end, end, entry
entry:
    mov dx, 0x3f8
    mov al, 'M'
    out dx, al
    {source}
    jmp $
end:
"""
    )
