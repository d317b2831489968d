import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { isPacked, pack, unpack } from "../src/hosts/zstd.js";

const PLAIN = Uint8Array.from({ length: 100_000 }, (_, n) => n % 251);

test("states from here (zstd) and from browsers (gzip) are recognised and unpacked; others are not taken for either", async () => {
    for(const packed of [await pack(PLAIN), new Uint8Array(gzipSync(PLAIN))]) {
        assert.ok(isPacked(packed));
        assert.deepEqual(await unpack(packed), PLAIN);
    }
    for(const other of [PLAIN, new Uint8Array(0), Uint8Array.of(0x1F), Uint8Array.of(0x56, 0x38, 0x36, 0x4C, 0)]) assert.ok(!isPacked(other));
});

test("a damaged gzip is an error", async () => {
    await assert.rejects(unpack(new Uint8Array(gzipSync(PLAIN)).subarray(0, 200)), /unexpected end/);
});
