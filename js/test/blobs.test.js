import assert from "node:assert/strict";
import { test } from "node:test";

import { Blobs } from "../src/core/blobs.js";

/** @typedef {{url: string, range: string | undefined}} Asked */
/** @typedef {Error | {status: number, body?: Uint8Array | Error}} Step */

/**
 * A Hub that gives these answers, one after the other.
 *
 * @param {Step[]} script
 */
function hub(script) {
    const asked = /** @type {Asked[]} */ ([]), rests = /** @type {number[]} */ ([]);
    /** @type {any} */
    const fetcher = async (/** @type {string} */ url, /** @type {{headers?: Record<string, string>, signal?: AbortSignal}} */ { headers, signal } = {}) => {
        signal?.throwIfAborted();
        asked.push({ url, range: headers?.Range });
        const step = script.shift();
        assert.ok(step, "one request too many");
        if(step instanceof Error) throw step;
        return { status: step.status, async arrayBuffer() {
            if(step.body instanceof Error) throw step.body;
            return (step.body ?? new Uint8Array(0)).slice().buffer;
        } };
    };
    const blobs = new Blobs("http://127.0.0.1:1/token/", fetcher, async ms => void rests.push(ms));
    return { blobs, asked, rests, script };
}

const BODY = Uint8Array.of(1, 2, 3, 4);
const URL_OF = "http://127.0.0.1:1/token/blob/abc";
const GIVEN_UP = [100, 200, 400, 800, 1600];

test("a blob is asked for whole, a range by its first and last byte", async () => {
    const { blobs, asked } = hub([{ status: 200, body: BODY }, { status: 206, body: BODY }]);
    assert.deepEqual(await blobs.get("abc"), BODY);
    assert.deepEqual(await blobs.range("abc", 10, 14), BODY);
    assert.deepEqual(asked, [{ url: URL_OF, range: undefined }, { url: URL_OF, range: "bytes=10-13" }]);
});

test("what fails for a while is tried again, less and less often", async () => {
    const short = BODY.subarray(1), { blobs, rests, script } = hub([
        new TypeError("fetch failed"), { status: 500 }, { status: 206, body: new Error("terminated") }, { status: 206, body: short }, { status: 206, body: BODY },
    ]);
    assert.deepEqual(await blobs.range("abc", 0, 4), BODY);
    assert.deepEqual(rests, [100, 200, 400, 800]);
    assert.equal(script.length, 0);
});

/** @type {[string, Step, RegExp][]} */
const FINAL = [
    ["a whole blob in place of a range", { status: 200, body: BODY }, /^status 200 instead of 206$/],
    ["a range that is too short", { status: 206, body: BODY.subarray(1) }, /^3 bytes instead of 4$/],
    ["a range that is too long", { status: 206, body: Uint8Array.of(1, 2, 3, 4, 5) }, /^5 bytes instead of 4$/],
    ["an unknown blob", { status: 404 }, /^status 404 instead of 206$/],
    ["no answer", new TypeError("fetch failed"), /^fetch failed$/],
];

for(const [name, step, seen] of FINAL) {
    test(`${name}, six times, is an error that says so`, async () => {
        const { blobs, rests, script } = hub(Array(6).fill(step));
        await assert.rejects(blobs.range("abc", 0, 4), (/** @type {any} */ error) => {
            assert.equal(error.code, "engine");
            assert.match(error.message, /abc 0-3/);
            assert.match(error.more.seen, seen);
            assert.ok(error.more.hint);
            return true;
        });
        assert.deepEqual(rests, GIVEN_UP);
        assert.equal(script.length, 0);
    });
}

test("part of a blob is not taken for the whole", async () => {
    const { blobs } = hub(Array(6).fill({ status: 206, body: BODY }));
    await assert.rejects(blobs.get("abc"), { message: "cannot read blob abc from the hub", code: "engine" });
});

test("an abort ends it at once, before, during and between tries", async () => {
    const why = new Error("the guest gave up"), before = hub([]);
    await assert.rejects(before.blobs.get("abc", { signal: AbortSignal.abort(why) }), why);
    assert.deepEqual([before.asked, before.rests], [[], []]);

    const during = new AbortController(), cut = hub([{ status: 500 }, { status: 206, body: BODY }]);
    const reading = cut.blobs.range("abc", 0, 4, { signal: during.signal });
    during.abort(why);
    await assert.rejects(reading, why);
    assert.deepEqual([cut.asked.length, cut.rests], [1, []]);

    const between = new AbortController(), asked = hub([{ status: 500 }, { status: 206, body: BODY }]);
    const resting = new Blobs("http://127.0.0.1:1/token/", /** @type {any} */ (async () => ({ status: 500 })), async () => between.abort(why));
    await assert.rejects(resting.range("abc", 0, 4, { signal: between.signal }), why);
    assert.equal(asked.asked.length, 0);
});

/** A Hub that gives one long answer, in parts. @param {number} size @param {boolean} told   whether it says how long */
function longAnswer(size, told) {
    const progress = /** @type {[string, number, number | null][]} */ ([]);
    const blobs = new Blobs("http://127.0.0.1:1/token/", /** @type {any} */ (async () => new Response(new ReadableStream({
        start(controller) {
            for(let at = 0; at < size; at += 100_000) controller.enqueue(new Uint8Array(Math.min(100_000, size - at)).fill(at / 100_000));
            controller.close();
        },
    }), { headers: told ? { "content-length": String(size) } : {} })), async () => {}, { progress: (...one) => void progress.push(one) });
    return { blobs, progress };
}

test("who waits for many bytes is told how many have come, not often, and at the end of all; of few nothing is told", async () => {
    for(const told of [true, false]) {
        const { blobs, progress } = longAnswer(2_000_000, told), bytes = await blobs.get("abc", { name: "kernel" });
        assert.deepEqual([bytes.length, bytes[0], bytes[1_999_999]], [2_000_000, 0, 19]);
        assert.deepEqual(progress.at(-1), ["kernel", 2_000_000, 2_000_000]);
        assert.deepEqual(progress[0], ["kernel", 300_000, told ? 2_000_000 : null]);
        assert.ok(progress.length < 10, `${progress.length} notices`);
    }
    const { blobs, progress } = longAnswer(200_000, true);
    assert.equal((await blobs.get("abc")).length, 200_000);
    assert.deepEqual(progress, []);
});

test("what the host has kept is not fetched; what was fetched whole may be kept; a cache that fails is none", async () => {
    const kept = /** @type {Map<string, Uint8Array>} */ (new Map([["old", BODY]])), answers = /** @type {string[]} */ ([]);
    const fetcher = /** @type {any} */ (async (/** @type {string} */ url) => {
        answers.push(url.slice(-3));
        return new Response(/** @type {any} */ (BODY), { status: url.endsWith("rng") ? 206 : 200 });
    });
    const blobs = new Blobs("http://hub/", fetcher, async () => {}, {
        cached: async digest => {
            if(digest === "bad") throw new Error("no quota");
            return kept.get(digest) ?? null;
        },
        keep: (digest, bytes) => void kept.set(digest, bytes),
    });
    assert.deepEqual(await blobs.get("old"), BODY);
    for(const digest of ["new", "new", "bad"]) assert.deepEqual(await blobs.get(digest), BODY);
    assert.deepEqual(await blobs.range("rng", 0, 4), BODY);
    assert.deepEqual([answers, [...kept.keys()]], [["new", "bad", "rng"], ["old", "new", "bad"]]);
});
