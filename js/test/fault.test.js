import assert from "node:assert/strict";
import { test } from "node:test";

import { classify, GuestFault } from "../src/core/fault.js";

/** A module that traps by itself: `unreachable`. */
const TRAP = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11);

/** @param {() => void} call */
function thrown(call) {
    try {
        call();
    }
    catch(error) {
        return error;
    }
    return assert.fail("nothing was thrown");
}

const trap = thrown(/** @type {any} */ (new WebAssembly.Instance(new WebAssembly.Module(TRAP)).exports).f);
const overflow = thrown(function again() { again(); });

test("a trap after a panic is the guest's triple fault, with what was said", () => {
    const fault = classify(trap, "panicked at src/rust/cpu/cpu.rs:100:5:\n  Unimplemented: #GP handler\nnote: more\n");
    assert.ok(fault instanceof GuestFault);
    assert.equal(fault.kind, "triple-fault");
    assert.match(fault.message, /: Unimplemented: #GP handler$/);
});

test("a panic of one line is said as it is", () => {
    assert.match(/** @type {Error} */ (classify(trap, "panicked at somewhere\n")).message, /: panicked at somewhere$/);
});

test("a trap without a panic is a fault in the emulator, with the trap's name", () => {
    const fault = classify(trap, "");
    assert.ok(fault instanceof GuestFault);
    assert.equal(fault.kind, "emulator");
    assert.match(fault.message, /unreachable/);
});

test("exceptions that nest until the stack is used up are the guest's triple fault", () => {
    const fault = classify(overflow, "");
    assert.ok(overflow instanceof RangeError && fault instanceof GuestFault);
    assert.equal(fault.kind, "triple-fault");
});

test("anything else is ours, and stays what it is", () => {
    for(const error of [new TypeError("x"), thrown(() => new Uint8Array(-1)), "text", undefined]) assert.equal(classify(error, "panicked"), error);
});
