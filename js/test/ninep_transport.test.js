// The device's queue: what a guest's kernel may put there, sound and not.
import assert from "node:assert/strict";
import { test } from "node:test";

import { GuestFault } from "../src/core/fault.js";
import { connect } from "../src/core/ninep/transport.js";
import { MOST_MESSAGE } from "../src/core/ninep/wire.js";

/** v86's queue as far as it is used, with these chains in it; what is answered goes to `used`. @param {any[]} chains */
function queueOf(chains) {
    const queue = {
        used_addr: 0x1000, used: /** @type {any[]} */ ([]), flushed: 0,
        count_requests: () => chains.length,
        has_request() {
            return chains.length > 0;
        },
        pop_request() {
            queue.has_request();             // as v86 does
            return chains.shift();
        },
        push_reply: (/** @type {any} */ chain) => queue.used.push(chain.written),
        flush_replies: () => queue.flushed++,
    };
    return queue;
}

/** @param {string} text @param {object} [more] */
function chain(text, more = {}) {
    const one = {
        length_readable: text.length, length_writable: 100, written: "",
        get_next_blob: (/** @type {Uint8Array} */ into) => into.set(Buffer.from(text).subarray(0, into.length)),
        set_next_blob: (/** @type {Uint8Array} */ bytes) => { one.written = Buffer.from(bytes).toString(); },
        ...more,
    };
    return one;
}

/** A server that answers with what it was asked, at once or when it is let. */
function echo() {
    const later = /** @type {(() => void)[]} */ ([]), asked = /** @type {[string, number][]} */ ([]);
    const server = /** @type {any} */ ({
        receive: (/** @type {Uint8Array} */ bytes, /** @type {number} */ room, /** @type {(bytes: Uint8Array) => void} */ reply) => {
            const text = Buffer.from(bytes).toString();
            asked.push([text, room]);
            if(text.startsWith("wait")) later.push(() => reply(bytes));
            else reply(bytes);
        },
    });
    return { server, later, asked };
}

test("all requests of a queue are served when the guest says that there are some, each answer into its own buffers", () => {
    const queue = queueOf([chain("a"), chain("b", { length_writable: 7 })]), { server, asked } = echo();
    connect({ virtqueue: queue }, server, () => assert.fail("none waits"));
    assert.equal(queue.has_request(), false);
    assert.deepEqual([asked, queue.used, queue.flushed], [[["a", 100], ["b", 7]], ["a", "b"], 2]);
});

test("an answer that comes later is given from inside the emulator's guard; one of a driver that has begun anew is not", () => {
    const queue = queueOf([chain("wait 1"), chain("b"), chain("wait 2")]), { server, later } = echo();
    let inside = 0;
    connect({ virtqueue: queue }, server, answer => { inside++; answer(); });
    queue.has_request();
    assert.deepEqual([queue.used, inside], [["b"], 0]);
    later[1]();
    assert.deepEqual([queue.used, inside], [["b", "wait 2"], 1]);
    queue.used_addr = 0x2000;
    later[0]();
    assert.equal(queue.used.length, 2);
});

test("lengths that cannot be are not believed", () => {
    const queue = queueOf([chain("x", { length_readable: -5, length_writable: -1 }), chain("y", { length_readable: 2 ** 31 })]), { server, asked } = echo();
    connect({ virtqueue: queue }, server, () => {});
    queue.has_request();
    assert.deepEqual(asked.map(([text, room]) => [text.length, room]), [[0, 0], [MOST_MESSAGE, 100]]);
});

test("buffers outside of memory are the guest's fault, and the queue is served again after it", () => {
    const broken = () => { throw new RangeError("offset is out of bounds"); }, queue = queueOf([chain("a", { get_next_blob: broken }), chain("b", { set_next_blob: broken }), chain("c")]);
    const { server } = echo();
    connect({ virtqueue: queue }, server, () => {});
    for(let n = 0; n < 2; n++) assert.throws(() => queue.has_request(), GuestFault);
    queue.has_request();
    assert.deepEqual(queue.used, ["c"]);
});
