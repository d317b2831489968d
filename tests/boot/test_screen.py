"""Pictures of real screens, decoded by another library than the one that made them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import v86lab as lab

from .conftest import Maker

pytestmark = pytest.mark.boot

TEXT = """
bits 16
org 0x7c00
    mov ax, 3
    int 0x10
    mov ah, 1                           ; no cursor
    mov cx, 0x2000
    int 0x10
    mov ax, 0xb800
    mov es, ax
    mov word [es:0], 0x1edb             ; a full block, yellow on blue
    mov word [es:2], 0x07c4             ; a horizontal line: its ninth column repeats the eighth
    mov word [es:4], 0x0f49             ; I
    mov dx, 0x3f8
    mov al, '!'
    out dx, al
    jmp $
"""

PICTURE = """
bits 16
org 0x7c00
    mov ax, 0x13
    int 0x10
    mov ax, 0xa000
    mov es, ax
    xor di, di
next:
    mov ax, di
    stosb
    cmp di, 64000
    jne next
    mov dx, 0x3f8
    mov al, '!'
    out dx, al
    jmp $
"""


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def test_text_is_drawn_with_the_font_and_the_colours_of_the_vga(make: Maker) -> None:
    vm = make(lab.images.boot_sector(TEXT))
    vm.console.expect("!", timeout=60)
    pixels = decoded(vm.screen.png())
    assert pixels.shape == (400, 720, 3)
    assert (pixels[:16, :8] == (255, 255, 87)).all()
    line = (pixels[:16, 9:18] == (168, 168, 168)).all(axis=2)
    assert line.all(axis=1).any(), "no row of the line crosses its cell from edge to edge"
    letter = (pixels[:16, 18:27] == 255).all(axis=2)
    assert letter.any() and not letter[:, 8].any()
    assert letter[2:12].any(axis=1).all() and not letter[13:].any()
    assert not pixels[16:].any()


def test_a_mode_13h_picture_has_the_colours_of_the_bios_and_survives_a_snapshot(make: Maker) -> None:
    vm = make(lab.images.boot_sector(PICTURE))
    vm.console.expect("!", timeout=60)
    png = vm.screen.png()
    pixels = decoded(png)
    assert pixels.shape == (200, 320, 3)
    assert pixels[0, :8].tolist() == [
        [0, 0, 0], [0, 0, 168], [0, 168, 0], [0, 168, 168], [168, 0, 0], [168, 0, 168], [168, 87, 0], [168, 168, 168],
    ]  # fmt: skip
    numbers = np.arange(64000).reshape(200, 320) % 256
    assert (pixels == pixels[0, :256][numbers]).all()
    vm.restore(vm.snapshot("drawn"))
    assert vm.screen.png() == png


def test_the_terminal_of_the_default_guest_can_be_seen(vm: lab.Machine) -> None:
    vm.keyboard.type("clear; echo do''ne\n")
    vm.screen.expect("done")
    pixels = decoded(vm.screen.png())
    assert pixels.shape[2] == 3
    assert pixels.any()


def test_a_machine_that_has_powered_off_still_shows_its_last_picture(asm: Callable[[str], lab.Machine]) -> None:
    vm = asm("start:\n mov ax, 0x13\n int 0x10\n mov al, '?'\n call putc\n cli\n hlt\n")
    vm.console.expect("?", timeout=60)
    assert decoded(vm.screen.png()).shape == (200, 320, 3)
