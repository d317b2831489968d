import assert from "node:assert/strict";
import { test } from "node:test";

import { chordSteps, HeldKeys, KeyQueue } from "../src/view/keys.js";
import { CHORDS, CONTROLS, keyName } from "../src/view/special.js";

/** @param {string} code @param {Partial<import("../src/view/keys.js").KeyEvent>} [more] */
function key(code, more = {}) {
    return { code, repeat: false, altKey: false, ctrlKey: false, shiftKey: false, ...more };
}

/** @param {string} code @param {Partial<import("../src/view/keys.js").KeyEvent>} [more] */
function strike(code, more) {
    const keys = new HeldKeys();
    return [keys.down(key(code, more))?.codes, keys.up({ code })?.codes];
}

test("a key's make code is that of its place on the keyboard, its break code has the high bit set", () => {
    for(const [code, make] of /** @type {[string, number][]} */ ([
        ["Escape", 0x01], ["Digit1", 0x02], ["Digit0", 0x0B], ["Equal", 0x0D], ["Backspace", 0x0E], ["Tab", 0x0F], ["KeyQ", 0x10], ["KeyP", 0x19],
        ["Enter", 0x1C], ["ControlLeft", 0x1D], ["KeyA", 0x1E], ["Semicolon", 0x27], ["Backquote", 0x29], ["ShiftLeft", 0x2A], ["Backslash", 0x2B],
        ["KeyZ", 0x2C], ["KeyM", 0x32], ["Slash", 0x35], ["ShiftRight", 0x36], ["NumpadMultiply", 0x37], ["AltLeft", 0x38], ["Space", 0x39],
        ["CapsLock", 0x3A], ["F1", 0x3B], ["F10", 0x44], ["NumLock", 0x45], ["ScrollLock", 0x46], ["Numpad7", 0x47], ["NumpadSubtract", 0x4A],
        ["Numpad5", 0x4C], ["NumpadAdd", 0x4E], ["Numpad0", 0x52], ["NumpadDecimal", 0x53], ["IntlBackslash", 0x56], ["F11", 0x57], ["F12", 0x58],
        ["IntlRo", 0x73], ["IntlYen", 0x7D],
    ])) assert.deepEqual(strike(code), [[make], [make | 0x80]], code);
});

test("the keys that the first PC did not have begin with E0, also when they are let go", () => {
    for(const [code, make] of /** @type {[string, number][]} */ ([
        ["ArrowUp", 0x48], ["ArrowLeft", 0x4B], ["ArrowRight", 0x4D], ["ArrowDown", 0x50], ["Home", 0x47], ["End", 0x4F], ["PageUp", 0x49], ["PageDown", 0x51],
        ["Insert", 0x52], ["Delete", 0x53], ["ControlRight", 0x1D], ["AltRight", 0x38], ["NumpadEnter", 0x1C], ["NumpadDivide", 0x35], ["MetaLeft", 0x5B], ["ContextMenu", 0x5D],
    ])) assert.deepEqual(strike(code), [[0xE0, make], [0xE0, make | 0x80]], code);
});

test("Pause has one long make code and no break code, and is Break with Ctrl", () => {
    assert.deepEqual(strike("Pause"), [[0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5], undefined]);
    assert.deepEqual(strike("Pause", { ctrlKey: true }), [[0xE0, 0x46, 0xE0, 0xC6], undefined]);
});

test("PrintScreen depends on what is held with it, and is whole where only its release is told", () => {
    assert.deepEqual(strike("PrintScreen"), [[0xE0, 0x2A, 0xE0, 0x37], [0xE0, 0xB7, 0xE0, 0xAA]]);
    assert.deepEqual(strike("PrintScreen", { shiftKey: true }), [[0xE0, 0x37], [0xE0, 0xB7]]);
    assert.deepEqual(strike("PrintScreen", { altKey: true }), [[0x54], [0xD4]]);
    assert.deepEqual(new HeldKeys().up({ code: "PrintScreen" }), { codes: [0xE0, 0x2A, 0xE0, 0x37, 0xE0, 0xB7, 0xE0, 0xAA] });
});

test("a held key repeats, a held modifier does not, and a key that the guest never saw go down is not repeated", () => {
    const keys = new HeldKeys();
    keys.down(key("KeyA"));
    keys.down(key("ShiftLeft"));
    assert.deepEqual(keys.down(key("KeyA", { repeat: true })), { codes: [0x1E] });
    assert.equal(keys.down(key("ShiftLeft", { repeat: true })), null);
    assert.equal(keys.down(key("KeyB", { repeat: true })), null);
});

test("unknown keys and releases of keys that are not down are nothing to the guest", () => {
    const keys = new HeldKeys();
    assert.equal(keys.down(key("BrowserSearch")), null);
    assert.equal(keys.down(key("")), null);
    assert.equal(keys.up({ code: "KeyA" }), null);
});

test("when the screen loses the keyboard every key comes up, the last first, and only once", () => {
    const keys = new HeldKeys();
    for(const code of ["ControlLeft", "AltRight", "KeyX"]) keys.down(key(code));
    keys.up({ code: "AltRight" });
    assert.deepEqual(keys.releaseAll(), [{ codes: [0xAD] }, { codes: [0x9D] }]);
    assert.deepEqual(keys.releaseAll(), []);
    assert.equal(keys.up({ code: "KeyX" }), null);
});

test("a chord goes down in its order and up in the opposite one", () => {
    assert.deepEqual(chordSteps("ControlLeft AltLeft Delete").map(step => step.codes), [[0x1D], [0x38], [0xE0, 0x53], [0xE0, 0xD3], [0xB8], [0x9D]]);
    assert.deepEqual(chordSteps("AltLeft PrintScreen").map(step => step.codes), [[0x38], [0x54], [0xD4], [0xB8]]);
    assert.deepEqual(chordSteps("ControlLeft Pause").map(step => step.codes), [[0x1D], [0xE0, 0x46, 0xE0, 0xC6], [0x9D]]);
});

test("every chord of the menu leaves no key down, and no two items of a menu have the same name", () => {
    for(const [label, chord] of CHORDS) {
        const down = new Set();
        for(const code of chordSteps(chord).flatMap(step => step.codes)) {
            if(code === 0xE0 || code === 0xE1) continue;
            if(code & 0x80) assert.ok(down.delete(code & 0x7F), label);
            else down.add(code);
        }
        assert.equal(down.size, 0, label);
        assert.ok(chordSteps(chord).length >= 1, label);
    }
    for(const menu of [CHORDS, CONTROLS]) assert.equal(new Set(menu.map(([label]) => keyName(label))).size, menu.length);
    assert.equal(keyName("Ctrl+Alt+Del"), "key-ctrl-alt-del");
});

test("keys go to the guest one request at a time, what was pressed meanwhile together", async () => {
    const sent = /** @type {number[][]} */ ([]), done = /** @type {(() => void)[]} */ ([]);
    const queue = new KeyQueue(steps => {
        sent.push(steps.flatMap(step => step.codes));
        return new Promise(resolve => done.push(() => resolve(undefined)));
    }, assert.ifError);
    queue.push({ codes: [1] });
    queue.push({ codes: [2] });
    queue.push({ codes: [3] }, { codes: [4] });
    assert.deepEqual(sent, [[1]]);
    done[0]();
    await new Promise(resolve => setImmediate(resolve));
    assert.deepEqual(sent, [[1], [2, 3, 4]]);
    assert.equal(queue.behind, false);
    for(let n = 0; n < 9; n++) queue.push({ codes: [n] });
    assert.equal(queue.behind, true);
});

test("keys that could not be delivered are forgotten, the failure is told, and the next key goes out", async () => {
    const failures = /** @type {string[]} */ ([]), sent = /** @type {number[][]} */ ([]);
    const queue = new KeyQueue(async steps => {
        sent.push(steps.flatMap(step => step.codes));
        if(sent.length === 1) throw new Error("the guest has not read its keyboard for 30 s");
    }, error => failures.push(error.message));
    queue.push({ codes: [1] });
    queue.push({ codes: [2] });
    await new Promise(resolve => setImmediate(resolve));
    queue.push({ codes: [3] });
    await new Promise(resolve => setImmediate(resolve));
    assert.deepEqual([failures.length, sent], [1, [[1], [3]]]);
});
