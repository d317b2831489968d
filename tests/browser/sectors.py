"""Boot sectors in assembly that show something: what a test or a picture needs of a guest without Linux."""

ECHO = """
bits 16
org 0x7c00
    mov ax, 3
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
text: db "PC>", 0
"""

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
    sti
    hlt
    jmp $ - 1
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
    sti
    hlt
    jmp $ - 1
"""

# Each key fills the whole screen with the next colour.
PAINT = """
bits 16
org 0x7c00
    mov ax, 0x13
    int 0x10
    mov ax, 0xa000
    mov es, ax
    mov bl, 1
paint:
    xor di, di
    mov cx, 64000
    mov al, bl
    rep stosb
    xor ax, ax
    int 0x16
    inc bl
    jmp paint
"""

# Says so on the serial line at each start; the BIOS starts the PC anew on Ctrl+Alt+Del.
HELLO = """
bits 16
org 0x7c00
    mov dx, 0x3f8
    mov si, text
next:
    lodsb
    or al, al
    jz rest
    out dx, al
    jmp next
rest:
    sti
    hlt
    jmp rest
text: db "started", 13, 10, 0
"""
