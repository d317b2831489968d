"""Machines for the tests that boot: real guests on real engines, nothing in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

import v86lab as lab


class Maker(Protocol):
    def __call__(self, what: Any = "linux", **options: Any) -> lab.Machine: ...


def cold(**options: Any) -> lab.Image:
    """The default guest with these options, booted every time: no start state is made for what one test uses."""
    return dataclasses.replace(lab.images.linux(**options), resume=False)


@pytest.fixture
def make() -> Iterator[Maker]:
    """Makes machines that are closed when the test ends."""
    with ExitStack() as stack:
        yield lambda what="linux", **options: stack.enter_context(lab.Machine(what, **options))


@pytest.fixture(scope="module")
def booted() -> Iterator[tuple[lab.Machine, lab.Snapshot]]:
    with lab.Machine() as machine:
        yield machine, machine.snapshot("fresh")


@pytest.fixture
def vm(booted: tuple[lab.Machine, lab.Snapshot]) -> lab.Machine:
    """The default guest, as it is after its start: one machine for a file of tests, put back before each."""
    machine, fresh = booted
    machine.restore(fresh)
    return machine


@pytest.fixture
def asm(make: Maker) -> Callable[[str], lab.Machine]:
    """A machine with a boot sector of this source, which prints to the first serial port by ``call putc``."""
    return lambda source: make(lab.images.boot_sector(PROLOGUE + source + SERIAL))


PROLOGUE = """
bits 16
org 0x7c00
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    mov al, '!'
    call putc
    jmp start
gdt:
    dq 0
    dq 0x00cf9a000000ffff
    dq 0x00cf92000000ffff
gdt_end:
gdtr:
    dw gdt_end - gdt - 1
    dd gdt
%macro protected 0
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 8:%%flat
bits 32
%%flat:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7c00
%endmacro
%macro paged 0                          ; the first 4 MiB, one to one; nothing else
    mov edi, 0x10000
    mov ecx, 1024
    xor eax, eax
    rep stosd
    mov dword [0x10000], 0x11003
    mov edi, 0x11000
    mov eax, 3
    mov ecx, 1024
%%next:
    stosd
    add eax, 0x1000
    loop %%next
    mov eax, 0x10000
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
%endmacro
"""

SERIAL = """
bits 16
putc:
    mov dx, 0x3f8
    out dx, al
    ret
"""
