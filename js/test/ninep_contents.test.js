// What a file holds, against a plain array that does the same.
import assert from "node:assert/strict";
import { test } from "node:test";

import { CHUNK, Contents } from "../src/core/ninep/contents.js";
import { Random } from "./random.js";

/** A file of these chunks (null: zeros), and its bytes. @param {(number | null)[]} fills @param {number} size */
function file(fills, size) {
    const plain = new Uint8Array(size);
    fills.forEach((fill, n) => plain.fill(fill ?? 0, n * CHUNK, Math.min(size, (n + 1) * CHUNK)));
    return { contents: new Contents(fills.map(fill => fill === null ? null : `chunk ${fill}`), size), plain, fills };
}

/** @typedef {{contents: Contents, fills: (number | null)[]}} File */

/** @param {File} file @param {number[]} needed */
function fetched({ contents, fills }, needed) {
    return new Map(needed.map(index => [index, new Uint8Array(contents.chunkLength(index)).fill(/** @type {number} */ (fills[index]))]));
}

/** @param {File} one @param {number} start @param {number} end */
function read(one, start, end) {
    const into = new Uint8Array(end - start);
    one.contents.read(start, into, fetched(one, one.contents.neededToRead(start, end)));
    return into;
}

test("any writes, cuts and reads give what a plain file gives, and what is written in whole pages needs no chunk", () => {
    for(let seed = 1; seed <= 40; seed++) {
        const random = new Random(seed), one = file([5, null, 7], 2 * CHUNK + 100_000);
        let { plain } = one;
        const near = () => Math.max(0, [0, CHUNK, 2 * CHUNK, one.contents.size, random.below(3 * CHUNK)][random.below(5)] + random.below(20_000) - 10_000);
        for(let step = 0; step < 40; step++) {
            const start = near();
            if(random.below(3) === 0) {
                one.contents.truncate(start);
                const cut = new Uint8Array(start);
                cut.set(plain.subarray(0, start));
                plain = cut;
            }
            else {
                const bytes = random.bytes(1 + random.below(20_000)), end = start + bytes.length;
                if(end > plain.length) {
                    const grown = new Uint8Array(end);
                    grown.set(plain);
                    plain = grown;
                }
                plain.set(bytes, start);
                const needed = one.contents.neededToWrite(start, end);
                assert.ok(needed.length <= 2);
                one.contents.write(start, bytes, fetched(one, needed));
            }
            assert.equal(one.contents.size, plain.length);
            const from = Math.min(near(), plain.length), to = Math.min(plain.length, from + random.below(300_000));
            assert.ok(Buffer.from(read(one, from, to)).equals(plain.subarray(from, to)), `seed ${seed}, step ${step}`);
            assert.equal(one.contents.bytes, [...one.contents.pages.values()].reduce((sum, page) => sum + page.length, 0));
        }
        assert.ok(Buffer.from(read(one, 0, plain.length)).equals(plain));
        const { changed } = one.contents;
        for(let index = 0; index * CHUNK < plain.length; index++) {
            if(changed.has(index)) continue;
            const name = one.contents.chunkAt(index), part = plain.subarray(index * CHUNK, (index + 1) * CHUNK);
            if(name === null) assert.ok(part.every(byte => byte === 0));
            else assert.ok(part.length === one.contents.chunkLength(index) && part.every(byte => name === `chunk ${byte}`), `chunk ${index} of seed ${seed}`);
        }
    }
});

test("one byte in a big file needs its chunk alone; a whole page none; a hole none", () => {
    const { contents } = file([1, 2, null, 4], 4 * CHUNK);
    assert.deepEqual(contents.neededToWrite(CHUNK + 5, CHUNK + 6), [1]);
    assert.deepEqual(contents.neededToWrite(CHUNK, CHUNK + 8192), []);
    assert.deepEqual(contents.neededToWrite(CHUNK - 5, CHUNK + 5), [0, 1]);
    assert.deepEqual(contents.neededToWrite(2 * CHUNK + 5, 2 * CHUNK + 6), []);
    assert.deepEqual(contents.neededToRead(0, 4 * CHUNK), [0, 1, 3]);
    contents.write(0, new Uint8Array(CHUNK), new Map());
    assert.deepEqual(contents.neededToRead(0, 2 * CHUNK), [1]);
});

test("the end of a file is written without what lies before it", () => {
    const { contents } = file([1], 10_000);
    assert.deepEqual(contents.neededToWrite(8192, 10_000), []);
    assert.deepEqual(contents.neededToWrite(8192, 9_999), [0]);
});

test("a gigabyte of nothing costs nothing, and small files little", () => {
    const contents = new Contents();
    contents.truncate(2 ** 30);
    contents.write(2 ** 29, Uint8Array.of(1), new Map());
    assert.deepEqual([contents.bytes, contents.sectors, contents.size], [1, 8, 2 ** 30]);
    assert.deepEqual(contents.neededToRead(0, 2 ** 30), []);
    for(let n = 0; n < 100; n++) contents.write(2 ** 29 + n, Uint8Array.of(1), new Map());
    assert.ok(contents.bytes <= 200);
});

test("sectors count what is there", () => {
    const { contents } = file([1, null], CHUNK + 5000), chunk = CHUNK / 512;
    assert.equal(contents.sectors, chunk);
    contents.write(0, new Uint8Array(4096), new Map());
    assert.equal(contents.sectors, chunk);
    contents.write(CHUNK, new Uint8Array(5000), new Map());
    assert.equal(contents.sectors, chunk + 16);
    contents.truncate(4097);
    assert.equal(contents.sectors, 16);
    contents.truncate(0);
    assert.deepEqual([contents.sectors, contents.bytes], [0, 0]);
});
