import assert from "node:assert/strict";
import { test } from "node:test";

import { Raster, union } from "../src/core/raster.js";
import { Screen } from "../src/core/screen.js";

const INK = 0xFF8001, PAPER = 0x000010;

/** A screen whose font has a bar of eight pixels in the first line of every character, and of one in the second. */
function textScreen() {
    const screen = new Screen(), bitmap = new Uint8Array(0x10000);
    for(let at = 0; at < bitmap.length; at += 32) bitmap.set([0xFF, 0x01], at);
    screen.set_font_bitmap(16, true, false, true, bitmap, true);
    screen.update_cursor_scanline(14, 15, false);
    return { screen, raster: new Raster(screen) };
}

/** One line of one cell: "#" where there is ink. @param {Raster} raster @param {number} x @param {number} y @param {number} width */
function line(raster, x, y, width) {
    const rgba = raster.cut([x, y, width, 1]);
    return Array.from({ length: width }, (_, n) => rgba[n * 4] === 0xFF ? "#" : ".").join("");
}

test("the first drawing is the whole screen, the next what changed, then nothing", () => {
    const { screen, raster } = textScreen();
    assert.deepEqual(raster.draw(true), [0, 0, 720, 400]);
    assert.equal(raster.draw(true), null);
    screen.put_char(2, 3, 65, 0, PAPER, INK);
    screen.put_char(4, 1, 65, 0, PAPER, INK);
    assert.deepEqual(raster.draw(true), [9, 32, 27, 48]);
    screen.put_char(2, 3, 65, 0, PAPER, INK);
    assert.equal(raster.draw(true), null, "the same character again is no change");
    assert.deepEqual([...raster.cut([27, 32, 1, 1]), ...raster.cut([27, 47, 1, 1])], [0xFF, 0x80, 1, 0xFF, 0, 0, 0x10, 0xFF]);
});

test("columns of 8, 9 and 16 pixels: only line graphics reach into the ninth", () => {
    const { screen, raster } = textScreen(), { bitmap } = screen.font;
    screen.put_char(0, 0, 65, 0, PAPER, INK);
    screen.put_char(0, 1, 0xC4, 0, PAPER, INK);
    raster.draw(true);
    assert.deepEqual([line(raster, 0, 0, 18), line(raster, 0, 1, 18)], ["########.#########", ".......#........##"]);
    screen.set_font_bitmap(16, true, false, false, bitmap, false);
    raster.draw(true);
    assert.equal(line(raster, 0, 0, 18), "########.########.");
    screen.set_font_bitmap(16, false, false, false, bitmap, false);
    assert.deepEqual(raster.draw(true), [0, 0, 640, 400]);
    assert.equal(line(raster, 0, 1, 16), ".......#.......#");
    screen.set_font_bitmap(8, false, true, false, bitmap, false);
    assert.deepEqual(raster.draw(true), [0, 0, 1280, 200]);
    assert.equal(line(raster, 0, 1, 16), "..............##");
});

test("what blinks is hidden in the dark phase: characters keep their ground, the cursor shows what is under it", () => {
    const { screen, raster } = textScreen();
    screen.put_char(0, 0, 65, screen.FLAG_BLINKING, PAPER, INK);
    screen.put_char(1, 1, 65, 0, PAPER, INK);
    screen.update_cursor(1, 1);
    assert.ok(raster.blinks);
    screen.update_cursor_scanline(13, 14, true);
    raster.draw(true);
    assert.deepEqual([line(raster, 0, 0, 9), line(raster, 9, 29, 9), line(raster, 9, 28, 9)], ["########.", "#########", "........."]);
    assert.deepEqual(raster.draw(false), [0, 0, 18, 32]);
    assert.deepEqual([line(raster, 0, 0, 9), line(raster, 9, 29, 9), line(raster, 9, 16, 9)], [".........", ".........", "########."]);
    screen.put_char(0, 0, 65, 0, PAPER, INK);
    screen.update_cursor_scanline(13, 14, false);
    assert.ok(!raster.blinks);
});

test("a second font page is used where a character says so", () => {
    const { screen, raster } = textScreen();
    screen.font.bitmap[(3 << 13) + (65 << 5)] = 0x81;
    screen.set_font_page(0, 3);
    screen.put_char(0, 0, 65, screen.FLAG_FONT_PAGE_B, PAPER, INK);
    raster.draw(true);
    assert.equal(line(raster, 0, 0, 9), "#......#.");
});

test("an absurd text mode does not ask for absurd memory", () => {
    const { screen, raster } = textScreen();
    screen.set_size_text(256, 1024);
    raster.draw(true);
    assert.deepEqual([raster.width, raster.height], [2304, 4096]);
});

test("layers are placed as a canvas would, and only pixels that differ count as changed", () => {
    const screen = new Screen(), raster = new Raster(screen);
    screen.set_mode(true);
    screen.set_size_graphical(4, 4);
    const data = new Uint8ClampedArray(8 * 4 * 4), words = new Uint32Array(data.buffer);
    words.fill(0xFF000000);
    const image_data = { data, width: 8, height: 4 };
    const layer = { image_data, screen_x: -2, screen_y: 1, buffer_x: 0, buffer_y: 0, buffer_width: 8, buffer_height: 9 };
    assert.deepEqual(raster.draw(true), [0, 0, 4, 4]);
    words[8 + 3] = 0xFF0000FF;                                          // x = 3, y = 1 of the image: x = 1, y = 2 on the screen
    screen.update_buffer([layer]);
    assert.deepEqual(raster.draw(true), [1, 2, 1, 1]);
    assert.deepEqual([...raster.cut([1, 2, 1, 1])], [255, 0, 0, 255]);
    screen.update_buffer([layer]);
    assert.equal(raster.draw(true), null);
    screen.clear_screen();
    assert.deepEqual(raster.draw(true), [0, 0, 4, 4]);
    assert.deepEqual([...raster.cut([1, 2, 1, 1])], [0, 0, 0, 255]);
});

test("a union holds both", () => {
    assert.deepEqual(union([1, 2, 3, 4], [10, 0, 1, 1]), [1, 0, 10, 6]);
    assert.deepEqual([union(null, [1, 2, 3, 4]), union([1, 2, 3, 4], null), union(null, null)], [[1, 2, 3, 4], [1, 2, 3, 4], null]);
});
