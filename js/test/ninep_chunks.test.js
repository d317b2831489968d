// What is fetched for shared files, and when.
import assert from "node:assert/strict";
import { test } from "node:test";

import { CHUNK } from "../src/core/ninep/contents.js";
import { Client, Hub } from "./ninep_client.js";

const settled = () => new Promise(resolve => setTimeout(resolve, 20));

/** @param {() => boolean} condition */
async function until(condition) {
    while(!condition()) await settled();
}

/** A file of so many chunks, each of its number, and a client that has it open. @param {number} chunks @param {boolean} [packed] */
async function big(chunks, packed = false) {
    const hub = new Hub(), bytes = new Uint8Array(chunks * CHUNK - 1000);
    for(let n = 0; n < chunks; n++) bytes.fill(n + 1, n * CHUNK, (n + 1) * CHUNK).set([n >> 8], n * CHUNK);
    hub.file(0, "big", bytes, packed);
    const server = hub.serve(), client = await Client.attached(server);
    await client.walk(0, 1, "big");
    await client.open(1, 2);
    return { hub, server, client, bytes };
}

for(const packed of [false, true]) {
    test(`a read fetches only its chunks, once${packed ? ", packed or not" : ""}; what comes over the border of two is whole`, async () => {
        const { hub, server, client, bytes } = await big(4, packed);
        assert.deepEqual(await client.read(1, CHUNK - 5, 10), bytes.slice(CHUNK - 5, CHUNK + 5));
        assert.deepEqual(await client.read(1, 4 * CHUNK - 1005, 10), bytes.slice(-5));
        await client.read(1, 5, 10);
        assert.deepEqual([hub.fetched.length, server.chunks.requests], [3, 3]);
        const sent = hub.fetched.map(digest => hub.blobs.get(digest)?.length ?? 0);
        assert.equal(server.chunks.bytesRead, sent[0] + sent[1] + sent[2]);
        assert.ok(packed === server.chunks.bytesRead < 10_000);
        assert.deepEqual(server.chunks.fetches, sent.map(length => ({ seconds: 0, path: "/big", bytes: length })));
    });
}

test("a file that is read in order is fetched ahead of it, a MiB, and no other", async () => {
    const { hub, client } = await big(9);
    await client.read(1, 5 * CHUNK, 10);
    await client.read(1, 0, 10);
    await settled();
    assert.equal(hub.fetched.length, 2);
    await client.read(1, CHUNK, 10);
    await settled();
    assert.equal(hub.fetched.length, 6);       // 1 and, ahead, 2 to 4
    await client.read(1, 2 * CHUNK, 10);
    await settled();
    assert.equal(hub.fetched.length, 7);
});

test("reads of one chunk at the same time share a fetch", async () => {
    const { hub, client } = await big(2);
    await Promise.all([client.read(1, 0, 10), client.read(1, 5, 10), client.write(1, 100, "x")]);
    assert.equal(hub.fetched.length, 1);
});

test("one byte written into a big file fetches its chunk and no more; whole pages fetch nothing", async () => {
    const { hub, client } = await big(3);
    await client.write(1, CHUNK + 8192, new Uint8Array(8192));
    assert.equal(hub.fetched.length, 0);
    await client.write(1, 2 * CHUNK + 7, "x");
    assert.equal(hub.fetched.length, 1);
    assert.deepEqual(await client.read(1, 2 * CHUNK + 6, 3), Uint8Array.of(3, 120, 3));
});

test("128 MiB are kept, those that were used last", async () => {
    const { hub, client } = await big(540);
    for(let n = 0; n < 540; n += 2) await client.read(1, n * CHUNK, 1);
    for(let n = 1; n < 540; n += 2) await client.read(1, n * CHUNK, 1);
    await settled();
    const before = hub.fetched.length;
    await client.read(1, 539 * CHUNK - 2000, 1);
    assert.equal(hub.fetched.length, before);
    await client.read(1, 0, 1);
    assert.equal(hub.fetched.length, before + 1);
});

test("what cannot be had is told once for each request that wanted it, and leaves nothing pending", async () => {
    const { hub, server, client } = await big(2), errors = /** @type {string[]} */ ([]);
    server.onError = error => errors.push(error.message);
    hub.failure = new Error("gone");
    void client.read(1, 0, 10);
    void client.read(1, 10, 10);
    assert.equal(server.pending, 2);
    await settled();
    assert.deepEqual([errors, server.pending], [["gone", "gone"], 0]);
    hub.failure = null;
    assert.equal((await client.read(1, 0, 10)).length, 10);
});

test("a chunk of another length, or one that does not unpack, is an error that names the file", async () => {
    for(const packed of [false, true]) {
        const { hub, server, client } = await big(1, packed), errors = /** @type {string[]} */ ([]);
        server.onError = error => errors.push(error.message);
        for(const digest of hub.blobs.keys()) hub.blobs.set(digest, (hub.blobs.get(digest) ?? new Uint8Array(0)).slice(0, -1));
        void client.read(1, 0, 10);
        await until(() => errors.length > 0);
        if(!packed) assert.match(errors[0], /\/big is damaged/);
    }
});

test("what was fetched is written down with guest time, and no more than 10 000 times", async () => {
    const { hub, server, client } = await big(1), chunk = { name: "", length: 5, path: () => "/x" };
    hub.now = 2.5;
    await client.read(1, 0, 1);
    assert.equal(server.chunks.fetches[0].seconds, 2.5);
    for(let n = 0; n < 10_000; n++) await server.chunks.get({ ...chunk, name: hub.keep(new TextEncoder().encode(String(n).padStart(5))) });
    assert.deepEqual([server.chunks.fetches.length, server.chunks.forgotten, server.chunks.fetches[0].path], [10_000, 1, "/x"]);
});
