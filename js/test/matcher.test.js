import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { Matcher, PatternError, Unconsumed } from "../src/core/matcher.js";

/** @typedef {import("../src/core/matcher.js").WirePattern} WirePattern */

/** @type {{name: string, wire: WirePattern[], chunks: string[], found: [number, number, number] | null}[]} */
const golden = JSON.parse(await readFile(new URL("../../tests/golden/patterns.json", import.meta.url), "utf8"));

/** @param {string} text   one character for each byte */
const bytes = text => Uint8Array.from(text, character => character.charCodeAt(0));

/** @param {Uint8Array} data */
const latin1 = data => Buffer.from(data).toString("latin1");

/** @param {...WirePattern} patterns */
function matcherOf(...patterns) {
    const matcher = Matcher.fromWire(patterns);
    assert.ok(matcher instanceof Matcher, String(matcher));
    return matcher;
}

/** A regex that backtracks for ever, (a+)+b. @type {WirePattern} */
const NESTED = { text: false, sets: [[97, 97], [98, 98]],
    code: [["set", 0], ["split", 0, 2], ["split", 0, 3], ["set", 1], ["match"]] };

for(const { name, wire, chunks, found } of golden) {
    test(`golden: ${name}`, () => {
        const unconsumed = new Unconsumed(), matcher = matcherOf(...wire);
        let first = null;
        for(const chunk of chunks) {
            unconsumed.append(bytes(chunk));
            first ??= matcher.search(unconsumed);
        }
        assert.deepEqual(first && [first.index, first.start, first.end], found);
    });

    test(`golden, one byte at a time, misses no match: ${name}`, () => {
        const unconsumed = new Unconsumed(), matcher = matcherOf(...wire);
        let matched = false;
        for(const byte of bytes(chunks.join(""))) {
            unconsumed.append(Uint8Array.of(byte));
            matched ||= matcher.search(unconsumed) !== null;
        }
        assert.equal(matched, found !== null);
    });
}

test("each byte is looked at a bounded number of times, however it arrives", () => {
    const data = bytes("ac".repeat(5000)), matcher = matcherOf({ literal: "aba\n" }, NESTED);
    let length = 0, reads = 0;
    const arrived = new Proxy(data, {
        get(target, key) {
            if(key === "length") return length;
            reads++;
            return Reflect.get(target, key);
        },
    });
    const counted = /** @type {Unconsumed} */ (/** @type {unknown} */ ({ epoch: 0, cut: false, bytes: arrived }));
    while(++length <= data.length) assert.equal(matcher.search(counted), null);
    assert.ok(reads >= 2 * data.length && reads <= 6 * data.length, `${reads} reads of ${data.length} bytes by two patterns`);
});

test("nested repeats cost time in proportion to the output", () => {
    const unconsumed = new Unconsumed(), matcher = matcherOf(NESTED);
    unconsumed.append(new Uint8Array(500_000).fill(97));
    assert.equal(matcher.search(unconsumed), null);
    unconsumed.append(bytes("b"));
    assert.deepEqual(matcher.search(unconsumed), { index: 0, start: 0, end: 500_001 });
});

test("consuming gives the bytes, and what follows is a new start", () => {
    const unconsumed = new Unconsumed(), start = matcherOf({ text: false, sets: [[98, 98]], code: [["start"], ["set", 0], ["match"]] });
    unconsumed.append(bytes("ab"));
    assert.equal(start.search(unconsumed), null);
    assert.deepEqual(unconsumed.consume(1), { bytes: bytes("a"), dropped: 0 });
    assert.deepEqual(start.search(unconsumed), { index: 0, start: 0, end: 1 });
    assert.deepEqual(unconsumed.consume(99), { bytes: bytes("b"), dropped: 0 });
    assert.equal(unconsumed.length, 0);
});

test("a search repeated without consuming finds the same again, or what has grown of it", () => {
    const unconsumed = new Unconsumed(), matcher = matcherOf({ text: false, sets: [[97, 97]], code: [["set", 0], ["split", 0, 2], ["match"]] });
    unconsumed.append(bytes("xa"));
    assert.deepEqual(matcher.search(unconsumed), { index: 0, start: 1, end: 2 });
    assert.deepEqual(matcher.search(unconsumed), { index: 0, start: 1, end: 2 });
    unconsumed.append(bytes("a"));
    assert.deepEqual(matcher.search(unconsumed), { index: 0, start: 1, end: 3 });
});

test("what is kept is bounded, is the end of the output, and says how much was dropped", () => {
    const unconsumed = new Unconsumed(1000);
    let all = "";
    for(let i = 0; i < 500; i++) {
        const line = `line ${i}\n`;
        all += line;
        unconsumed.append(bytes(line));
        assert.ok(unconsumed.length <= 1000);
        assert.equal(unconsumed.length + unconsumed.dropped, all.length);
        assert.ok(all.endsWith(latin1(unconsumed.bytes)));
    }
    assert.ok(unconsumed.length >= 480);
    assert.equal(unconsumed.cut, true);
    const { dropped } = unconsumed;
    assert.deepEqual(unconsumed.consume(0), { bytes: bytes(""), dropped });
    assert.equal(unconsumed.cut, true);
    assert.equal(unconsumed.consume(10).dropped, dropped);
    assert.equal(unconsumed.cut, false);
});

test("one block larger than the limit leaves its end", () => {
    const unconsumed = new Unconsumed(100);
    unconsumed.append(bytes("old"));
    unconsumed.append(bytes("x".repeat(1000) + "end"));
    assert.equal(latin1(unconsumed.bytes), "x".repeat(47) + "end");
    assert.equal(unconsumed.dropped, 956);
});

test("after a cut the first byte kept is context, and in step with the characters", () => {
    const unconsumed = new Unconsumed(10);
    unconsumed.append(bytes("\xe2\x82\xac".repeat(4)));          // half of the limit would begin one byte earlier
    assert.equal(latin1(unconsumed.bytes), "\xac\xe2\x82\xac");
    const any = matcherOf({ text: true, sets: [[0, 0x10FFFF]], code: [["set", 0], ["match"]] });
    assert.deepEqual(any.search(unconsumed), { index: 0, start: 1, end: 4 });
});

/** @type {[string, unknown][]} */
const BAD = [
    ["no list", "login: "],
    ["an empty list", []],
    ["null", [null]],
    ["an empty literal", [{ literal: "" }]],
    ["a literal that is no string", [{ literal: 3 }]],
    ["a literal that is not of bytes", [{ literal: "\u20ac" }]],
    ["half a surrogate pair", [{ literal: "\ud800" }]],
    ["a literal beyond the limit", [{ literal: "a".repeat(1000) }]],
    ["an empty object", [{}]],
    ["no code", [{ text: false, sets: [], code: [] }]],
    ["a set that does not exist", [{ text: false, sets: [], code: [["set", 0], ["match"]] }]],
    ["ranges out of order", [{ text: false, sets: [[98, 97]], code: [["set", 0], ["match"]] }]],
    ["ranges that touch", [{ text: false, sets: [[1, 2, 2, 3]], code: [["set", 0], ["match"]] }]],
    ["half a range", [{ text: false, sets: [[97]], code: [["set", 0], ["match"]] }]],
    ["a character beyond Unicode", [{ text: true, sets: [[0, 0x110000]], code: [["set", 0], ["match"]] }]],
    ["an unknown instruction", [{ text: false, sets: [], code: [["look"], ["match"]] }]],
    ["an instruction of Object.prototype", [{ text: false, sets: [], code: ["constructor", ["match"]] }]],
    ["code that runs off its end", [{ text: false, sets: [[1, 2]], code: [["set", 0]] }]],
    ["a jump out of the code", [{ text: false, sets: [[1, 2]], code: [["set", 0], ["jump", 2]] }]],
    ["a jump to nowhere", [{ text: false, sets: [[1, 2]], code: [["set", 0], ["jump", 0.5], ["match"]] }]],
    ["a match of nothing", [{ text: false, sets: [[1, 2]], code: [["split", 1, 2], ["set", 0], ["match"]] }]],
    ["too much code", [{ text: false, sets: [[1, 2]], code: [...Array(1000).fill(["set", 0]), ["match"]] }]],
    ["too many ranges", [{ text: true, sets: Array(200).fill(Array.from({ length: 2000 }, (_, i) => 2 * i)), code: [["set", 0], ["match"]] }]],
];

for(const [name, wire] of BAD) {
    test(`from the wire comes ${name}: an error that is returned, not thrown`, () => {
        const error = Matcher.fromWire(wire);
        assert.ok(error instanceof PatternError, "it was accepted");
        assert.match(error.message, /^pattern 0: /);
    });
}

test("an error names the pattern of the list that is wrong", () => {
    const error = Matcher.fromWire([{ literal: "a" }, { literal: "" }]);
    assert.ok(error instanceof PatternError);
    assert.equal(error.index, 1);
});

test("code that goes round without a character ends", () => {
    const unconsumed = new Unconsumed(), matcher = matcherOf({ text: false, sets: [], code: [["split", 1, 0], ["jump", 0]] });
    unconsumed.append(bytes("abc"));
    assert.equal(matcher.search(unconsumed), null);
});
