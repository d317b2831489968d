// What real boot sectors draw, as pixels: before and after a snapshot.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inflateSync } from "node:zlib";

import { TestEngine, pixel, until } from "./rig.js";

const SAY = [0xBA, 0xF8, 0x03, 0xB0, 0x21, 0xEE];                       // mov dx, 0x3f8; mov al, '!'; out dx, al
const REST = [0xFB, 0xF4, 0xEB, 0xFD];                                  // sti; hlt; jmp back to hlt
const SEGMENT = [0xB8, 0x00, 0xA0, 0x8E, 0xC0, 0x31, 0xFF];             // mov ax, 0xa000; mov es, ax; xor di, di
/** @param {number} number */
const mode = number => [0xB8, number, 0x00, 0xCD, 0x10];                // mov ax, number; int 0x10
/** Write a register of the Bochs VBE interface. @param {number} index @param {number} value */
const dispi = (index, value) => [0xBA, 0xCE, 0x01, 0xB8, index, 0, 0xEF, 0x42, 0xB8, value & 0xFF, value >> 8, 0xEF];
const MODE_13H = [
    ...mode(0x13), ...SEGMENT,
    0x89, 0xF8, 0xAA, 0x81, 0xFF, 0x00, 0xFA, 0x75, 0xF7,               // next: mov ax, di; stosb; cmp di, 64000; jne next
    ...SAY, ...REST,
];
/** @param {number} width @param {number} height @param {number} bits */
const vbe = (width, height, bits) => [
    ...dispi(4, 0), ...dispi(1, width), ...dispi(2, height), ...dispi(3, bits), ...dispi(4, 0x41), ...SEGMENT,
    0x89, 0xF8, 0xAB, 0x85, 0xFF, 0x75, 0xF9,                           // next: mov ax, di; stosw; test di, di; jnz next
    ...SAY, ...REST,
];
/** The first 16 colours of mode 13h, as every VGA BIOS sets them; v86 makes eight bits of the DAC's six by repeating the last. */
const EGA = [
    [0, 0, 0], [0, 0, 42], [0, 42, 0], [0, 42, 42], [42, 0, 0], [42, 0, 42], [42, 21, 0], [42, 42, 42],
    [21, 21, 21], [21, 21, 63], [21, 63, 21], [21, 63, 63], [63, 21, 21], [63, 21, 63], [63, 63, 21], [63, 63, 63],
].map(colour => colour.map(part => part << 2 | (part & 1) * 3));

/** @param {number[]} code @param {(picture: any) => void} check */
async function drawAndRestore(code, check) {
    const original = new TestEngine();
    await original.bootSector(code);
    await original.expect("!");
    const before = await original.hub.ask({ type: "read_pixels" });
    check(before);
    const state = await original.capture();
    await original.stop();

    const twin = new TestEngine();
    twin.blobs = original.blobs;
    await twin.bootSector(code, state);
    const after = await twin.hub.ask({ type: "read_pixels" });
    assert.deepEqual([after.width, after.height], [before.width, before.height]);
    assert.ok(Buffer.from(after.payload).equals(before.payload), "the restored machine shows something else");
    await twin.stop();
}

test("mode 13h shows 320 by 200 pixels in the BIOS's colours, also after a restore", { timeout: 120_000 }, async () => {
    await drawAndRestore(MODE_13H, picture => {
        assert.deepEqual([picture.width, picture.height], [320, 200]);
        EGA.forEach((colour, n) => assert.deepEqual(pixel(picture, n, 0), colour, `colour ${n}`));
        for(const [x, y] of [[100, 0], [319, 199], [17, 120]]) {
            assert.deepEqual(pixel(picture, x, y), pixel(picture, (y * 320 + x) % 256, 0), `pixel ${x}, ${y}`);
        }
    });
});

for(const [bits, width, height] of [[32, 640, 480], [32, 1024, 768], [24, 800, 600], [16, 640, 480]]) {
    test(`a VBE mode of ${width} by ${height} with ${bits} bits shows what was written, also after a restore`, { timeout: 120_000 }, async () => {
        const memory = Uint8Array.from({ length: 65536 }, (_, at) => (at & 0xFFFE) >> 8 * (at & 1) & 0xFF);
        const wanted = (/** @type {number} */ n) => {
            const at = n * bits / 8;
            if(bits > 16) return [memory[at + 2], memory[at + 1], memory[at]];
            const word = memory[at] | memory[at + 1] << 8;
            return [Math.floor((word >> 11) * 255 / 31), Math.floor((word >> 5 & 63) * 255 / 63), Math.floor((word & 31) * 255 / 31)];
        };
        await drawAndRestore(vbe(width, height, bits), picture => {
            assert.deepEqual([picture.width, picture.height], [width, height]);
            for(const n of [0, 1, 2, 700, 5000, 12345, 16000]) assert.deepEqual(pixel(picture, n % width, Math.floor(n / width)), wanted(n), `pixel ${n}`);
            assert.deepEqual(pixel(picture, width - 1, height - 1), [0, 0, 0]);
        });
    });
}

test("who watches gets the whole picture first, then what changed; the Hub gets it packed; who does not watch gets nothing", { timeout: 120_000 }, async () => {
    const drawing = [
        ...mode(0x13), ...SAY, ...SEGMENT,
        0x30, 0xE4, 0xCD, 0x16,                                         // again: xor ah, ah; int 0x16 (wait for a key)
        0x26, 0xC6, 0x06, 0x45, 0x01, 0x0F,                             // mov byte [es:0x145], 15: x = 5, y = 1
        0xEB, 0xF4,                                                     // jmp again
    ];
    const rig = new TestEngine(), page = rig.attach(), other = rig.attach();
    await rig.bootSector(drawing);
    await rig.expect("!");
    await Promise.all([page.watch({ screen: true }), rig.hub.watch({ screen: true })]);
    await until(() => page.all("frame").length > 0 && rig.hub.all("frame").length > 0, "the first frames");
    const [raw] = page.all("frame"), [packed] = rig.hub.all("frame");
    for(const frame of [raw, packed]) assert.deepEqual([frame.size, frame.rect, frame.graphical], [[320, 200], [0, 0, 320, 200], true]);
    assert.deepEqual([raw.packed, packed.packed, raw.payload.length], [false, true, 320 * 200 * 4]);
    assert.ok(inflateSync(packed.payload).equals(raw.payload));

    await new Promise(resolve => setTimeout(resolve, 300));
    assert.deepEqual([page.all("frame").length, rig.hub.all("frame").length], [1, 1], "frames although nothing changed");
    await rig.hub.ask({ type: "press", steps: [{ codes: [0x1E, 0x9E] }] });
    await until(() => page.all("frame").length > 1 && rig.hub.all("frame").length > 1, "a frame of the change");
    const change = page.all("frame")[1];
    assert.deepEqual([change.rect, [...change.payload]], [[5, 1, 1, 1], [255, 255, 255, 255]]);
    assert.deepEqual(other.all("frame"), []);

    await page.watch({});
    await page.watch({ screen: true });
    await until(() => page.all("frame").length > 2, "a frame for who watches again");
    assert.deepEqual(page.all("frame")[2].rect, [0, 0, 320, 200]);
    await page.watch({});
    await rig.stop();
});

test("a guest that waits for the vertical retrace goes on, although nobody looks", { timeout: 60_000 }, async () => {
    const rig = new TestEngine();
    await rig.bootSector([...mode(0x13), 0xBA, 0xDA, 0x03, 0xEC, 0xA8, 0x08, 0x74, 0xFB, ...SAY, ...REST]);   // wait: in al, dx; test al, 8; jz wait
    await rig.expect("!");
    await rig.stop();
});
