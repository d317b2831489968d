"""Screen, keyboard, files, registers and memory of running guests."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import v86lab as lab
from v86lab.errors import GuestError, GuestTimeout, ImageError

from .conftest import Maker

pytestmark = pytest.mark.boot

HELLO = """
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    mov ax, 3                           ; text mode, which clears the screen
    int 0x10
    mov si, text
next:
    lodsb
    or al, al
    jz keys
    mov ah, 0x0e
    int 0x10
    jmp next
keys:
    xor ax, ax                          ; echo keys
    int 0x16
    mov ah, 0x0e
    int 0x10
    jmp keys
text: db "HI", 13, 10, 0xb0, 1, 0
"""


def test_a_boot_sector_prints_on_the_screen_and_reads_the_keyboard(make: Maker) -> None:
    vm = make(lab.images.boot_sector(HELLO))
    assert vm.screen.expect("HI", timeout=60)[0] == "HI"
    assert vm.screen.expect(re.compile(r"^░☺", re.M))
    vm.keyboard.type("Hi 5%")
    vm.screen.expect("Hi 5%")
    assert vm.screen.text == "HI\n░☺Hi 5%"
    assert (vm.screen.size, vm.screen.cursor) == ((80, 25), (1, 7))
    with pytest.raises(GuestTimeout, match=r"(?s)'bye'.*HI"):
        vm.screen.expect("bye", timeout=0.3)


def test_a_graphics_mode_has_a_size_and_no_text(make: Maker) -> None:
    vm = make(lab.images.boot_sector("bits 16\nmov ax, 0x13\nint 0x10\nmov dx, 0x3f8\nmov al, '!'\nout dx, al\njmp $"))
    vm.console.expect("!", timeout=60)
    assert (vm.screen.text, vm.screen.size) == ("", (320, 200))


def test_text_is_typed_as_it_is(vm: lab.Machine) -> None:
    every = "".join(chr(code) for code in range(33, 127))
    vm.keyboard.type("cat > /tmp/typed\n" + every + "\n")
    vm.keyboard.keys("<ctrl+d>")
    vm.keyboard.type("echo do''ne\n")
    vm.screen.expect(re.compile("^done$", re.M))
    assert vm.files.read("/tmp/typed").decode() == every + "\n"
    with pytest.raises(ImageError, match="ž"):
        vm.keyboard.type("ž")


def test_named_keys_and_modifiers_reach_the_guest(vm: lab.Machine) -> None:
    vm.keyboard.keys("cat -v > /tmp/keys<enter>")
    vm.keyboard.keys("<f1><f12><up><left><home><del><ctrl+v><esc><ctrl+v><ctrl+a><leftshifton>ab<leftshiftoff>c<enter>")
    vm.keyboard.keys("<ctrl+d><wait100ms>echo do''ne<enter>")
    vm.screen.expect(re.compile("^done$", re.M))
    assert vm.files.read("/tmp/keys") == b"^[[[A^[[24~^[[A^[[D^[[1~^[[3~^[^AABc\n"


def test_ctrl_alt_del_reboots(vm: lab.Machine) -> None:
    vm.files.write("/tmp/lost", "")
    vm.console.expect("root.")
    vm.keyboard.keys("<ctrl+alt+del>")
    vm.console.expect("root.", timeout=120)
    assert vm.run("ls /tmp").stdout == ""


def test_registers_are_those_of_the_program(asm: Callable[[str], lab.Machine]) -> None:
    vm = asm("start:\n mov eax, 0x12345678\n mov esi, -1\n mov cx, 0x1000\n mov es, cx\n here:\n jmp here\n")
    vm.console.expect("!", timeout=60)
    vm.pause()
    registers = vm.cpu.registers
    assert {name: registers[name] for name in ("eax", "esi", "es", "cs", "cr0", "cpl")} == {
        "eax": 0x12345678, "esi": 0xFFFFFFFF, "es": 0x1000, "cs": 0, "cr0": 0x10, "cpl": 0,
    }  # fmt: skip
    assert vm.memory[registers["eip"] : registers["eip"] + 2] == b"\xeb\xfe"


def test_memory_is_read_and_written(asm: Callable[[str], lab.Machine]) -> None:
    vm = asm(
        "start:\n mov bx, 0x9000\n wait1:\n cmp byte [bx], 'g'\n jne wait1\n mov al, [bx + 1]\n call putc\n jmp $\n"
    )
    vm.console.expect("!", timeout=60)
    assert vm.memory[0x7DFE:0x7E00] == b"\x55\xaa" and vm.memory[0x7DFF] == 0xAA
    vm.memory[0x9001] = ord("o")
    vm.memory[0x9000:0x9001] = b"g"
    vm.console.expect("o")
    assert vm.memory[len(vm.memory) :] == b""
    for where in (-1, len(vm.memory), slice(0, 10, 2), slice(5, 3), slice(0, len(vm.memory) + 1)):
        with pytest.raises((ImageError, IndexError)):
            vm.memory[where]
    with pytest.raises(ImageError):
        vm.memory[0:4] = b"12345"


def test_code_that_is_written_over_is_run_as_written(asm: Callable[[str], lab.Machine]) -> None:
    vm = asm("start:\n mov cx, 50000\n spin:\n loop spin\n nop\n nop\n jmp start\n")
    vm.console.expect("!", timeout=60)
    code = vm.memory[0x7C00:0x7E00]
    assert isinstance(code, bytes)
    at = 0x7C00 + code.index(b"\x90\x90")
    vm.memory[at : at + 2] = b"\xfa\xf4"  # cli; hlt
    assert vm.wait(30) == "faulted"


def test_files_go_in_and_come_out(vm: lab.Machine, tmp_path: Path) -> None:
    data = bytes(range(256)) * 400
    vm.files.write("/root/a b/c'd", data)
    assert vm.files.read("/root/a b/c'd") == data
    assert vm.files.listdir("/root/a b") == ["c'd"]
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "x").write_bytes(data)
    (tmp_path / "in" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "in" / "run.sh").chmod(0o755)
    vm.files.put(tmp_path / "in", "/root/tree")
    assert vm.run("/root/tree/run.sh").stdout == "ran\n"
    vm.files.get("/root/tree", tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "x").read_bytes() == data
    vm.files.get("/root/tree/run.sh", tmp_path / "alone")
    assert (tmp_path / "alone").read_text().endswith("ran\n")
    for path in ("/no/such", "/root"):
        with pytest.raises(GuestError):
            vm.files.read(path)
    with pytest.raises(ImageError):
        vm.files.read("relative")


def test_a_guest_cannot_make_get_write_outside_of_the_target(vm: lab.Machine, tmp_path: Path) -> None:
    vm.run("mkdir /root/evil; ln -s /etc /root/evil/out", check=True)
    with pytest.raises(GuestError, match="leads out"):
        vm.files.get("/root/evil", tmp_path / "target")


def test_a_c_program_is_compiled_and_run(vm: lab.Machine) -> None:
    vm.files.write("/root/hello.c", '#include <stdio.h>\nint main(void) { puts("hi from C"); return 3; }\n')
    result = vm.run("cc hello.c -o hello && ./hello")
    assert (result.stdout, result.returncode) == ("hi from C\n", 3)
