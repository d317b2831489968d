; The Mandelbrot set in the 512 bytes of a boot sector: mode 13h, fixed point with 12 bits after the point.
bits 16
org 0x7c00
    mov ax, 0x13
    int 0x10
    mov dx, 0x3c8                       ; the palette: deep blue over gold to white
    xor ax, ax
    mov ds, ax
    out dx, al
    inc dx
    xor cx, cx
palette:
    mov bx, cx
    call part                           ; red
    imul bx, cx, 5
    shr bx, 3
    call part                           ; green
    imul bx, cx, 3
    cmp bx, 44
    jbe blue
    mov bx, cx
    add bx, 28
    cmp bx, 63
    jbe blue
    mov bx, 63
blue:
    call part
    inc cx
    cmp cl, 0
    jne palette
    mov ax, 0xa000
    mov es, ax
    xor di, di
    mov ebp, -100 * STEP
row:
    mov esi, -225 * STEP
column:
    xor ebx, ebx                        ; the real part,
    xor ecx, ecx                        ; the imaginary part
    xor dl, dl
again:
    mov eax, ebx
    imul eax, eax
    sar eax, 12
    push ecx
    imul ecx, ecx
    sar ecx, 12
    mov [square], ecx
    add ecx, eax
    cmp ecx, 4 << 12
    pop ecx
    jg done
    imul ecx, ebx
    sar ecx, 11
    add ecx, ebp
    sub eax, [square]
    add eax, esi
    mov ebx, eax
    inc dl
    cmp dl, 250
    jb again
    xor dl, dl                          ; never leaves: black
done:
    mov al, dl
    shl al, 1
    stosb
    add esi, STEP
    cmp esi, 95 * STEP
    jl column
    add ebp, STEP
    cmp ebp, 100 * STEP
    jl row
rest:
    sti
    hlt
    jmp rest

part:                                   ; min(bx, 63) to the DAC
    mov al, 63
    cmp bx, 63
    ja out_of_range
    mov al, bl
out_of_range:
    out dx, al
    ret

STEP equ 45
square equ 0x7e00
