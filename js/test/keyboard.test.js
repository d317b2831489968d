import assert from "node:assert/strict";
import { test } from "node:test";

import { press } from "../src/core/keyboard.js";

/** A PS/2 controller that the guest reads from only when the test says so. */
function controller() {
    const kbd_buffer = /** @type {number[]} */ ([]), rests = /** @type {number[]} */ ([]), resume = /** @type {(() => void)[]} */ ([]);
    const machine = {
        present: async () => /** @type {any} */ ({ cpu: { devices: { ps2: { kbd_buffer } } } }),
        inputs: { key: (/** @type {number[]} */ codes) => void kbd_buffer.push(...codes) },
    };
    /** @param {number} ms @returns {Promise<void>} */
    const sleep = ms => new Promise(resolve => {
        rests.push(ms);
        resume.push(() => resolve());
    });
    const pass = async () => {
        for(const go of resume.splice(0)) go();
        await new Promise(resolve => setImmediate(resolve));
    };
    return { machine, kbd_buffer, rests, sleep, pass };
}

const FOREVER = new AbortController().signal;

test("keys go one by one with a rest after each, and longer rests where they are asked for", async () => {
    const { machine, kbd_buffer, rests, sleep, pass } = controller();
    const pressing = press(machine, [{ codes: [30, 158] }, { wait: 2000 }, { codes: [224, 83, 224, 211] }], sleep, FOREVER);
    await pass();
    assert.deepEqual([[...kbd_buffer], rests], [[30, 158], [10]]);
    await pass();
    assert.deepEqual(rests, [10, 2000]);
    await pass();
    await pass();
    await pressing;
    assert.deepEqual([kbd_buffer, rests], [[30, 158, 224, 83, 224, 211], [10, 2000, 10]]);
});

test("a guest that does not read is waited for: the controller never holds more than its buffer and one key", async () => {
    const { machine, kbd_buffer, sleep, pass } = controller(), typed = /** @type {number[]} */ ([]);
    let done = false;
    void press(machine, Array.from({ length: 60 }, (_, n) => ({ codes: [n, n + 128] })), sleep, FOREVER).then(() => { done = true; });
    let fullest = 0;
    for(let n = 0; !done && n < 1000; n++) {
        await pass();
        fullest = Math.max(fullest, kbd_buffer.length);
        if(n % 20 === 19) typed.push(...kbd_buffer.splice(0));
    }
    typed.push(...kbd_buffer);
    assert.ok(fullest > 16 && fullest <= 18, `${fullest} codes`);
    assert.deepEqual(typed, Array.from({ length: 60 }, (_, n) => [n, n + 128]).flat());
});

test("an abort ends it in the middle of a rest, and no key follows", async () => {
    const { machine, kbd_buffer, sleep, pass } = controller(), abort = new AbortController(), why = new Error("cancelled");
    const pressing = press(machine, [{ wait: 3_600_000 }, { codes: [30] }], sleep, abort.signal);
    abort.abort(why);
    await assert.rejects(pressing, why);
    await pass();
    assert.deepEqual(kbd_buffer, []);
});

test("an abort ends the wait for a guest that does not read", async () => {
    const { machine, kbd_buffer, sleep, pass } = controller(), abort = new AbortController(), why = new Error("cancelled");
    kbd_buffer.push(...Array(17).fill(1));
    const pressing = press(machine, [{ codes: [30] }], sleep, abort.signal);
    await pass();
    abort.abort(why);
    await assert.rejects(pressing, why);
    assert.equal(kbd_buffer.length, 17);
});
