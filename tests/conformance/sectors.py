"""The boot sectors of the scenarios, in assembly; `scenarios.py` has their bytes, so that no NASM is needed.

``python -m tests.conformance.sectors`` prints those bytes. Each says "." on the serial port when it has come to an end.
"""

from __future__ import annotations

import re

_START = """
bits 16
org 0x7c00
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    sti
"""
_END = """
end:
    mov al, '.'
    call putc
rest:
    hlt
    jmp rest
putc:
    mov dx, 0x3f8
    out dx, al
    ret
"""
_PRINT = """
print:                                  ; ebx in hex, and a space
    mov cx, 8
digit:
    rol ebx, 4
    mov al, bl
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe put
    add al, 39
put:
    call putc
    loop digit
    mov al, ' '
    jmp putc
"""

SOURCES = {
    # Says "." and echoes what the BIOS reads from the keyboard.
    "keys": _START
    + """
    mov ax, 3
    int 0x10
    mov al, '.'
    call putc
keys:
    xor ax, ax
    int 0x16
    push ax
    mov ah, 0x0e
    int 0x10
    pop bx
    mov al, bl
    call putc
    mov al, bh
    call putc
    jmp keys
"""
    + _END,
    # 256 colours in a palette of its own, drawn over three times with the vertical retrace waited for; then 16 colours.
    "vga": _START
    + """
    mov ax, 0x13
    int 0x10
    mov dx, 0x3c8
    xor al, al
    out dx, al
    inc dx
    mov cx, 768
colours:
    mov al, cl
    shr al, 2
    out dx, al
    loop colours
    mov ax, 0xa000
    mov es, ax
    mov bp, 3
frame:
    mov dx, 0x3da
blank:
    in al, dx
    test al, 8
    jz blank
    xor di, di
next:
    mov ax, di
    mul bp
    xor ax, dx
    stosb
    cmp di, 64000
    jne next
    dec bp
    jnz frame
    mov al, '.'
    call putc
    mov ah, 1
    xor bx, bx
wait_tick:
    hlt
    inc bx
    cmp bx, 20
    jne wait_tick
    mov ax, 0x12                        ; planes, through the map mask and a rotation
    int 0x10
    mov dx, 0x3ce
    mov ax, 0x1803
    out dx, ax
    xor di, di
    mov cx, 38400
planes:
    mov dx, 0x3c4
    mov ah, cl
    and ah, 15
    mov al, 2
    out dx, ax
    mov al, [es:di]
    mov al, cl
    stosb
    loop planes
"""
    + _END,
    # 640x480 in 32 bits through Bochs' VBE ports, drawn through the window at 0xa0000, bank by bank.
    "vbe": _START
    + """
    mov si, table
    mov cx, 5
set:
    mov dx, 0x1ce
    lodsw
    out dx, ax
    inc dx
    lodsw
    out dx, ax
    loop set
    mov ax, 0xa000
    mov es, ax
    xor bp, bp
bank:
    mov dx, 0x1ce
    mov ax, 5
    out dx, ax
    inc dx
    mov ax, bp
    out dx, ax
    xor di, di
    mov ax, bp
pixel:
    add ax, di
    stosw
    or di, di
    jnz pixel
    inc bp
    cmp bp, 18
    jne bank
    jmp end
table: dw 4, 0, 1, 640, 2, 480, 3, 32, 4, 1
"""
    + _END,
    # Counts in a loop for ever; the timer interrupts it.
    "count": _START
    + """
    xor ecx, ecx
    mov al, '.'
    call putc
count:
    inc ecx
    mov [0x8000], ecx
    add eax, ecx
    xor ebx, eax
    jmp count
"""
    + _END,
    # A loop that changes its own instructions: an operand each time, an opcode each 256 times.
    "smc": _START
    + """
    xor ebx, ebx
    mov ecx, 300000
change:
    or cl, cl
    jnz operand
    xor byte [operand + 2], 0x28        ; add ebx, imm and sub ebx, imm by turns
operand:
    db 0x66, 0x81, 0xc3, 0, 0, 0, 0
    mov [operand + 3], ecx
    rol ebx, 1
    dec ecx
    jnz change
    call print
    jmp end
"""
    + _PRINT
    + _END,
    # Reads 18 sectors of drive A, writes one back, prints what it saw, and does so again on a key.
    "floppy": _START
    + """
again:
    xor ebx, ebx
    mov bp, 4                           ; after a change of the medium the BIOS wants to be asked twice
try:
    mov ax, 0
    mov dl, 0
    int 0x13
    push bx
    mov bx, 0x8000
    mov ax, 0x0212
    mov cx, 0x0201
    mov dx, 0x0100
    int 0x13
    pop bx
    jnc read
    dec bp
    jnz try
read:
    mov bl, ah
    mov si, 0x8000
    mov cx, 18 * 128
sum:
    lodsd
    rol ebx, 3
    add ebx, eax
    loop sum
    push ebx
    mov [0x8000], ebx
    mov bx, 0x8000
    mov ax, 0x0301
    mov cx, 0x0503
    mov dx, 0x0000
    int 0x13
    pop ebx
    mov bl, ah
    call print
    mov al, '.'
    call putc
    xor ax, ax
    int 0x16
    jmp again
"""
    + _PRINT
    + _END,
    # What chips say of the time: the timer's counters, the speaker's port, the clock and its interrupt, the TSC.
    "clocks": _START
    + """
    cli
    mov word [0x70 * 4], rtc            ; IRQ 8
    mov word [0x70 * 4 + 2], 0
    mov al, 0x8b                        ; periodic, 1024 Hz
    out 0x70, al
    in al, 0x71
    or al, 0x40
    mov ah, al
    mov al, 0x8b
    out 0x70, al
    mov al, ah
    out 0x71, al
    in al, 0xa1
    and al, 0xfe
    out 0xa1, al
    sti
    xor ebx, ebx
    mov ecx, 100000
look:
    xor al, al
    out 0x43, al
    in al, 0x40
    call mix
    in al, 0x40
    call mix
    in al, 0x42
    call mix
    in al, 0x61
    call mix
    mov al, cl
    and al, 15
    out 0x70, al
    in al, 0x71
    call mix
    rdtsc
    add ebx, eax
    mov eax, [ticks]
    call mix
    dec ecx
    jnz look
    call print
    mov ebx, [ticks]
    call print
    mov ebx, [0x46c]
    call print
    jmp end
mix:
    movzx eax, al
    rol ebx, 5
    xor ebx, eax
    ret
rtc:
    push ax
    inc dword [ticks]
    mov al, 0x0c
    out 0x70, al
    in al, 0x71
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    pop ax
    iret
ticks: dd 0
"""
    + _PRINT
    + _END,
}


def assembled(name: str) -> bytes:
    """The bytes of one, as NASM makes them."""
    from v86lab.images import assemble

    return assemble(SOURCES[name])


if __name__ == "__main__":
    for name in SOURCES:
        pieces = re.findall(".{1,104}", assembled(name).hex())
        print(f'    "{name}": (', *(f'        "{piece}"' for piece in pieces), "    ),", sep="\n")
