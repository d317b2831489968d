import assert from "node:assert/strict";
import { test } from "node:test";

import { ShareStorage } from "../src/core/share.js";

const MIB = 1 << 20;

/** A shared folder whose files have the size that their name says; each fetch is counted. @param {Error} [failure] */
function share(failure) {
    const fetched = /** @type {string[]} */ ([]);
    const storage = new ShareStorage(/** @type {any} */ ({ get: async (/** @type {string} */ name) => {
        fetched.push(name);
        if(failure) throw failure;
        return new Uint8Array(parseInt(name.split(" ")[1]) * MIB).fill(name.charCodeAt(0));
    } }));
    return { storage, fetched };
}

test("a file is fetched once and read in parts; beyond its end there is nothing", async () => {
    const { storage, fetched } = share();
    assert.deepEqual(await storage.read("a 1", 10, 2), Uint8Array.of(97, 97));
    assert.equal((await storage.read("a 1", MIB - 1, 100)).length, 1);
    assert.equal((await storage.read("a 1", MIB, 100)).length, 0);
    assert.deepEqual([fetched, storage.requests, storage.bytesRead, storage.pending], [["a 1"], 1, MIB, 0]);
});

test("what was read longest ago goes first when 256 MiB are full", async () => {
    const { storage, fetched } = share();
    for(const name of ["a 100", "b 100", "a 100", "c 100", "a 100", "b 100"]) await storage.read(name, 0, 1);
    assert.deepEqual(fetched, ["a 100", "b 100", "c 100", "b 100"]);
});

test("a file larger than the cache can be read, and is not kept for long", async () => {
    const { storage, fetched } = share();
    assert.equal((await storage.read("a 300", 0, 1000)).length, 1000);
    await storage.read("b 1", 0, 1);
    await storage.read("a 300", 0, 1);
    assert.deepEqual(fetched, ["a 300", "b 1", "a 300"]);
});

test("what the guest wrote is kept without a fetch", async () => {
    const { storage, fetched } = share();
    await storage.cache("x 1", Uint8Array.of(1, 2, 3));
    assert.deepEqual(await storage.read("x 1", 1, 5), Uint8Array.of(2, 3));
    assert.deepEqual(fetched, []);
});

test("a read that fails is reported and thrown, and leaves nothing pending", async () => {
    const why = new Error("gone"), { storage } = share(why), errors = /** @type {Error[]} */ ([]);
    storage.onError = error => errors.push(error);
    const reading = storage.read("a 1", 0, 1);
    assert.equal(storage.pending, 1);
    await assert.rejects(reading, why);
    assert.deepEqual([errors, storage.pending, storage.requests], [[why], 0, 0]);
});
