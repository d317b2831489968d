import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync, gzipSync, zstdCompress } from "node:zlib";

import { contentSize, gzip, unpack } from "../src/web/pack.js";
import { Random } from "./random.js";

const compress = promisify(zstdCompress);
const wasm = new WebAssembly.Module(await readFile(new URL("../node_modules/v86/build/v86.wasm", import.meta.url)));
const random = new Random(1);

/** Bytes that compress a little. @param {number} count */
function content(count) {
    const bytes = new Uint8Array(count);
    for(let at = 0; at < count; at += 64) bytes.set(random.bytes(Math.min(16, count - at)), at);
    return bytes;
}

/** @param {Uint8Array} bytes @param {boolean} sized   whether the frame says how long its content is */
const zstd = async (bytes, sized) => new Uint8Array(await compress(bytes, /** @type {any} */ (sized ? { pledgedSrcSize: bytes.length } : {})));

for(const count of [1, 255, 256, 257, 65536, 65792, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20]) {
    const bytes = content(count);
    test(`${count} bytes come back from zstd, whether it states their number or not, and from gzip`, async () => {
        const padded = count < 18 ? new Uint8Array([...bytes, ...new Uint8Array(18)]) : bytes;
        for(const packed of [await zstd(padded, true), await zstd(padded, false), new Uint8Array(gzipSync(padded))]) {
            if(packed.length >= 18) assert.deepEqual(await unpack(packed, wasm), padded);
        }
    });
}

test("a zstd frame's content size is read as RFC 8878 writes it", async () => {
    for(const count of [1, 255, 256, 65791, 65792, 1 << 20]) {
        const packed = await zstd(new Uint8Array(count), true);
        assert.equal(contentSize(new DataView(packed.buffer)), count);
    }
    const unsized = await zstd(new Uint8Array(1000), false);
    assert.equal(contentSize(new DataView(unsized.buffer)), null);
    const long = Uint8Array.of(0x28, 0xB5, 0x2F, 0xFD, 0xE0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0);
    assert.equal(contentSize(new DataView(long.buffer)), 2 ** 33 + 1);
});

test("what gzip makes Node understands", async () => {
    const bytes = content(3 << 20);
    assert.deepEqual(new Uint8Array(gunzipSync(await gzip(bytes))), bytes);
});

test("what is not compressed is given back", async () => {
    for(const bytes of [new Uint8Array(0), Uint8Array.of(0x28, 0xB5, 0x2F, 0xFD), content(100)]) assert.equal(await unpack(bytes, wasm), bytes);
});

test("more than was allowed is refused, before it is all there", async () => {
    const bytes = new Uint8Array(8 << 20);
    for(const packed of [await zstd(bytes, true), await zstd(bytes, false), new Uint8Array(gzipSync(bytes))]) {
        await assert.rejects(unpack(packed, wasm, 1 << 20), /more than 1048576 bytes/);
    }
});

test("what is damaged or cut short is refused", async () => {
    const bytes = content(5 << 20);
    for(const packed of [await zstd(bytes, true), await zstd(bytes, false), new Uint8Array(gzipSync(bytes))]) {
        await assert.rejects(unpack(packed.subarray(0, packed.length >> 1), wasm));
    }
    const lies = await zstd(bytes, true);
    new DataView(lies.buffer).setUint32(5, bytes.length + 1000, true);
    await assert.rejects(unpack(lies, wasm), /damaged/);
});
