import assert from "node:assert/strict";
import { test } from "node:test";

import { Screen } from "../src/core/screen.js";

test("characters stand where they were put, row by row, and each change is a new version", () => {
    const screen = new Screen(), versions = [screen.version];
    for(const change of [
        () => screen.put_char(0, 0, 65), () => screen.put_char(24, 79, 66), () => screen.update_cursor(3, 4), () => screen.set_mode(true),
        () => screen.set_size_graphical(640, 480), () => screen.set_size_text(40, 25), () => screen.clear_screen(), () => screen.clear_text_state(),
        () => screen.update_buffer([]), () => screen.update_cursor_scanline(0, 0, true),
    ]) {
        change();
        assert.ok(screen.version > /** @type {number} */ (versions.at(-1)), change.toString());
        versions.push(screen.version);
    }
    const fresh = new Screen();
    fresh.put_char(0, 0, 65);
    fresh.put_char(24, 79, 66);
    assert.deepEqual([fresh.cells.length, fresh.cells[0], fresh.cells[1999]], [2000, 65, 66]);
});

test("what does not lie on the screen is not written into another row", () => {
    const screen = new Screen();
    for(const [row, column] of [[25, 0], [0, 80], [3, 200]]) screen.put_char(row, column, 65);
    assert.deepEqual(screen.cells, new Uint8Array(2000));
});

test("another text mode is empty; the same one again keeps the text", () => {
    const screen = new Screen();
    screen.put_char(0, 0, 65);
    screen.set_size_text(80, 25);
    assert.equal(screen.cells[0], 65);
    screen.set_size_text(132, 43);
    assert.deepEqual([screen.info.columns, screen.info.rows], [132, 43]);
    assert.deepEqual(screen.cells, new Uint8Array(132 * 43));
});

test("the cursor is there unless the VGA hides it", () => {
    const screen = new Screen();
    screen.update_cursor(3, 4);
    assert.deepEqual(screen.info.cursor, [3, 4]);
    screen.update_cursor_scanline(0x20, 15, true);
    assert.equal(screen.info.cursor, null);
    screen.update_cursor_scanline(14, 15, true);
    assert.deepEqual(screen.info.cursor, [3, 4]);
    screen.update_cursor_scanline(14, 15, false);
    assert.equal(screen.info.cursor, null);
});

test("a graphics mode says so, with its size", () => {
    const screen = new Screen();
    screen.set_mode(true);
    screen.set_size_graphical(640, 480);
    assert.deepEqual(screen.info, { columns: 80, rows: 25, cursor: [0, 0], graphical: true, width: 640, height: 480 });
});
