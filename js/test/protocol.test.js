import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { RequestError } from "../src/core/fault.js";
import { Decoder, encode } from "../src/core/protocol.js";

/**
 * @typedef {{name: string, type: string, from: "hub" | "engine" | "page", fields: Record<string, unknown>, payload: string, wire: string}} Golden
 * @type {{messages: Golden[], splits: {size: number, frames: [string, number][]}[], hostile: {name: string, frames: string[]}[]}}
 */
const golden = JSON.parse(await readFile(new URL("../../tests/golden/messages.json", import.meta.url), "utf8"));

/** @param {string} hex */
const bytes = hex => new Uint8Array(Buffer.from(hex, "hex"));

/** @param {Uint8Array} data */
const hex = data => Buffer.from(data).toString("hex");

/** @param {string} name */
const wireName = name => name.replace(/(?!^)(?=[A-Z])/g, "_").toLowerCase();

for(const { name, type, from, fields, payload, wire } of golden.messages) {
    const body = { type: wireName(type), ...fields }, data = new Uint8Array(Buffer.from(payload, "base64"));
    if(from !== "hub") {
        test(`golden: ${name} is written as its exact bytes`, () => {
            assert.deepEqual(encode(body, data).map(hex), [wire]);
        });
    }
    else {
        test(`golden: ${name} is read`, () => {
            assert.deepEqual(new Decoder().push(bytes(wire)), { ...body, payload: data });
        });
    }
}

test("the golden file has every type that a typedef names, and no other, each from its sender", async () => {
    const source = await readFile(new URL("../src/core/protocol.js", import.meta.url), "utf8");
    const typedefs = new Map([...source.matchAll(/@typedef \{\{type: ([^,}]+)(.*?)\}\} (\w+)$/gm)].flatMap(
        ([, names, fields]) => names.split("|").map(one => /** @type {[string, string]} */ ([JSON.parse(one), fields]))));
    const seen = Object.fromEntries(["hub", "engine", "page"].map(from => [
        from, [...new Set(golden.messages.filter(one => one.from === from).map(one => wireName(one.type)))].sort(),
    ]));
    const notices = ["activity", "checkpoint", "console_output", "download", "failure", "frame", "hello", "output", "reply", "status"];
    const page = ["join", "restore_snapshot", "start_here", "take_snapshot"];
    assert.deepEqual(seen.engine, notices);
    assert.deepEqual(seen.page, page);
    assert.deepEqual(seen.hub, [...typedefs.keys()].filter(type => ![...notices, ...page].includes(type)).sort());
    for(const { type, fields } of golden.messages) {
        const declared = typedefs.get(wireName(type)) ?? "";
        for(const field of Object.keys(fields)) assert.match(declared, new RegExp(`, ${field}:`), `${type} declares ${field}`);
    }
});

for(const { size, frames } of golden.splits) {
    test(`a payload of ${size} bytes travels in ${frames.length} frames, and comes back`, () => {
        const payload = Uint8Array.from({ length: size }, (_, n) => n % 251), wire = encode({ type: "send", id: 1 }, payload);
        assert.deepEqual(wire.map((frame, n) => [hex(frame.subarray(0, frames[n][0].length / 2)), frame.length]), frames);
        const decoder = new Decoder(), messages = wire.map(frame => decoder.push(frame));
        assert.deepEqual(messages.splice(0, messages.length - 1), wire.slice(1).map(() => null));
        assert.ok(Buffer.from(/** @type {Uint8Array} */ (messages[0]?.payload)).equals(payload));
    });
}

for(const { name, frames } of golden.hostile) {
    test(`hostile: ${name} is refused as a RequestError`, () => {
        const decoder = new Decoder();
        assert.throws(() => frames.map(frame => decoder.push(bytes(frame))), error => {
            assert.ok(error instanceof RequestError, String(error));
            assert.equal(error.code, "engine");
            assert.ok(error.more.seen && error.more.hint);
            return true;
        });
    });
}

test("hostile: a message without end is refused before it fills the memory", () => {
    const decoder = new Decoder(), frame = new Uint8Array(5 + (4 << 20));
    frame[0] = 1;
    decoder.push(frame);
    assert.equal(decoder.push(encode({ type: "send", id: 1 })[0])?.payload.length, 4 << 20);     // what has ended does not count
    for(let n = 0; n < 256; n++) assert.equal(decoder.push(frame), null);
    assert.throws(() => decoder.push(frame), error => error instanceof RequestError && /more than 1073741824/.test(error.more.seen ?? ""));
});

test("hostile: a header beyond 8 MiB is refused", () => {
    const text = (/** @type {number} */ size) => encode({ type: "log", text: "a".repeat(size - 24) })[0];
    assert.equal(new Decoder().push(text(8 << 20))?.type, "log");
    assert.throws(() => new Decoder().push(text((8 << 20) + 1)), { code: "engine" });
});

test("a frame may lie anywhere in a larger buffer", () => {
    const [frame] = encode({ type: "send", id: 1 }, Uint8Array.of(1, 2, 3)), buffer = new Uint8Array(frame.length + 7);
    buffer.set(frame, 3);
    assert.deepEqual(new Decoder().push(buffer.subarray(3, 3 + frame.length)), { type: "send", id: 1, payload: Uint8Array.of(1, 2, 3) });
});
