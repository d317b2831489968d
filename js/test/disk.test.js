import assert from "node:assert/strict";
import { test } from "node:test";

import { Disk } from "../src/core/disk.js";
import { Random } from "./random.js";

const KIB = 1024, MIB = 1024 * KIB, SECTOR = 512;

/**
 * A Hub with one blob, whose answers come when the test lets them: `answer` lets one in any order, `answerAll` all.
 */
class FakeBlobs {
    /** @type {{start: number, end: number, give: () => void, fail: (error: Error) => void}[]} */
    waiting = [];
    asked = 0;
    content;

    /** @param {Uint8Array} content */
    constructor(content) {
        this.content = content;
    }

    /** @param {string} digest @param {number} start @param {number} end @returns {Promise<Uint8Array>} */
    range(digest, start, end) {
        assert.equal(digest, "digest");
        assert.ok(0 <= start && start < end && end <= this.content.length, `a range ${start}-${end} of ${this.content.length} bytes`);
        this.asked++;
        return new Promise((resolve, reject) => this.waiting.push({ start, end, give: () => resolve(this.content.slice(start, end)), fail: reject }));
    }

    /** @param {Random} random */
    async answer(random) {
        this.waiting.splice(random.below(this.waiting.length), 1)[0]?.give();
        await turn();
    }

    async answerAll() {
        while(this.waiting.length) {
            for(const one of this.waiting.splice(0)) one.give();
            await turn();
        }
    }

    /** @param {Error} error */
    async failAll(error) {
        for(const one of this.waiting.splice(0)) one.fail(error);
        await turn();
    }
}

/** Let every promise that can go on do so. @returns {Promise<void>} */
const turn = () => new Promise(resolve => setImmediate(resolve));

/** @param {Uint8Array} content */
function diskOf(content) {
    const blobs = new FakeBlobs(content), disk = new Disk(/** @type {any} */ (blobs), "digest", content.length);
    disk.onError = error => assert.fail(error);
    return { blobs, disk };
}

/** @param {Uint8Array} a @param {Uint8Array} b */
const same = (a, b) => Buffer.compare(a, b) === 0;

/** What a snapshot keeps of a state goes through bytes. @param {any[]} state @returns {any[]} */
const stored = state => structuredClone(state);

for(const [seed, size] of [[1, 3 * MIB], [2, 5 * MIB + 3 * SECTOR], [3, 64 * KIB], [4, 1474560]]) {
    test(`thousands of reads and writes, answered late and in any order, read as plain memory would (seed ${seed}, ${size} bytes)`, async () => {
        const random = new Random(seed), content = random.bytes(size), model = content.slice();
        let { blobs, disk } = diskOf(content), reads = 0, done = 0;
        for(let n = 0; n < 3000; n++) {
            const sectors = size / SECTOR, action = random.below(100);
            if(action < 45) {
                const start = random.below(size), length = 1 + random.below(Math.min(random.below(4) ? 4096 : 200 * KIB, size - start));
                reads++;
                // v86 may write while a read of its own is under way: what counts is the disk at the time of the answer
                disk.get(start, length, data => {
                    done++;
                    assert.ok(same(data, model.subarray(start, start + length)), `step ${n}: ${length} bytes at ${start}`);
                });
            }
            else if(action < 70) {
                const first = random.below(sectors), count = 1 + random.below(Math.min(random.below(4) ? 8 : 300, sectors - first));
                const bytes = random.bytes(count * SECTOR);
                let written = false;
                disk.set(first * SECTOR, bytes, () => { written = true; });
                model.set(bytes, first * SECTOR);
                assert.ok(written);
            }
            else if(action < 98) await blobs.answer(random);
            else {
                while(disk.pending) await blobs.answer(random);
                const state = stored(disk.get_state());
                const fresh = random.below(2) ? diskOf(content) : { blobs, disk };      // a new machine, or this one, with reads ahead still under way
                fresh.disk.set_state(state);
                assert.deepEqual(fresh.disk.get_state(), state);
                ({ blobs, disk } = fresh);
            }
        }
        await blobs.answerAll();
        assert.equal(done, reads);
        assert.equal(disk.pending, 0);
        let end = null;
        disk.get(0, size, data => { end = data; });
        await blobs.answerAll();
        assert.ok(end && same(end, model));
        assert.ok(same(blobs.content, content), "the blob itself was written to");
    });
}

test("loading is announced to v86", () => {
    const { disk } = diskOf(new Uint8Array(SECTOR));
    let loaded = 0;
    disk.onload = () => loaded++;
    disk.load();
    assert.equal(loaded, 1);
});

test("16 MiB read in order, 4 KiB at a time, take few requests and no byte twice", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(16 * MIB));
    for(let at = 0; at < 16 * MIB; at += 4 * KIB) {
        let answered = false;
        disk.get(at, 4 * KIB, () => { answered = true; });
        await blobs.answerAll();
        assert.ok(answered);
    }
    assert.ok(disk.requests <= 20, `${disk.requests} requests`);
    assert.equal(disk.requests, blobs.asked);
    assert.equal(disk.bytesRead, 16 * MIB);
});

test("reads here and there fetch little more than they need", async () => {
    const random = new Random(5), { blobs, disk } = diskOf(new Uint8Array(256 * MIB));
    for(let n = 0; n < 200; n++) {
        disk.get(random.below(65536) * 4 * KIB, 4 * KIB, () => {});
        await blobs.answerAll();
    }
    assert.ok(disk.bytesRead <= 220 * 64 * KIB, `${disk.bytesRead} bytes`);
});

test("what is under way is not asked for again", async () => {
    const { blobs, disk } = diskOf(new Random(1).bytes(256 * KIB));
    let answers = 0;
    for(let n = 0; n < 10; n++) disk.get(0, 64 * KIB, () => answers++);
    await blobs.answerAll();
    assert.deepEqual([answers, disk.bytesRead], [10, 256 * KIB]);
});

test("what is there is given at once, and whole sectors that were written are never fetched", () => {
    const { disk } = diskOf(new Uint8Array(128 * KIB)), bytes = new Random(1).bytes(64 * KIB);
    let read = null;
    disk.set(64 * KIB, bytes, () => {});
    disk.get(64 * KIB, 64 * KIB, data => { read = data; });
    assert.ok(read && same(read, bytes));
    assert.equal(disk.requests, 0);
});

test("a writer may change its buffer afterwards, and a reader what it was given", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(64 * KIB)), bytes = new Uint8Array(SECTOR).fill(1);
    disk.set(0, bytes, () => {});
    bytes.fill(2);
    disk.get(0, SECTOR, data => data.fill(3));
    await blobs.answerAll();
    let read = null;
    disk.get(0, 2, data => { read = data; });
    assert.deepEqual(read, Uint8Array.of(1, 1));
});

test("the cache is bounded, and what was written outlives it", async () => {
    const content = new Uint8Array(160 * MIB), { blobs, disk } = diskOf(content), random = new Random(9);
    const model = new Map(Array.from({ length: 50 }, (_, n) => [n * 3 * MIB + SECTOR, random.bytes(SECTOR)]));
    for(const [at, bytes] of model) disk.set(at, bytes, () => {});
    const readAll = async () => {
        for(let at = 0; at < content.length; at += MIB) {
            disk.get(at, MIB, () => {});
            await blobs.answerAll();
        }
    };
    await readAll();
    const once = disk.bytesRead;
    assert.equal(once, content.length);
    await readAll();
    assert.ok(disk.bytesRead - once >= 90 * MIB, "more than 64 MiB were kept");
    for(const [at, bytes] of model) {
        let read = null;
        disk.get(at, SECTOR, data => { read = data; });
        await blobs.answerAll();
        assert.deepEqual(read, bytes);
    }
});

test("what was written takes no room of what was only read", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(100 * MIB));
    for(let at = 0; at < 62 * MIB; at += MIB) {
        disk.get(at, MIB, () => {});
        await blobs.answerAll();
        disk.set(at, new Uint8Array(MIB), () => {});
    }
    for(let round = 0; round < 2; round++) {
        for(let at = 80 * MIB; at < 90 * MIB; at += MIB) {
            disk.get(at, MIB, () => {});
            await blobs.answerAll();
        }
    }
    assert.ok(disk.bytesRead <= 75 * MIB, `${disk.bytesRead} bytes`);
});

test("a read larger than the cache is answered whole, also while others are under way", async () => {
    const content = new Uint8Array(100 * MIB);
    for(let at = 0; at < content.length; at += 4096) content[at] = at >> 12;
    const { blobs, disk } = diskOf(content), read = /** @type {Uint8Array[]} */ ([]);
    disk.get(0, content.length, data => read.push(data));
    disk.get(SECTOR, 90 * MIB, data => read.push(data));
    await blobs.answerAll();
    assert.deepEqual(read.map(data => data.length), [100 * MIB, 90 * MIB]);
    assert.ok(same(read[0], content) && same(read[1], content.subarray(SECTOR, SECTOR + 90 * MIB)));
});

test("a read that fails for good is reported once, leaves nothing pending, and may succeed later", async () => {
    const { blobs, disk } = diskOf(new Random(1).bytes(MIB)), errors = /** @type {Error[]} */ ([]), why = new Error("gone");
    disk.onError = error => errors.push(error);
    disk.get(64 * KIB - 1, 2, () => assert.fail("it was answered"));
    assert.equal(disk.pending, 1);
    await blobs.failAll(why);
    assert.deepEqual([errors, disk.pending], [[why], 0]);
    let read = null;
    disk.get(64 * KIB - 1, 2, data => { read = data; });
    await blobs.answerAll();
    assert.deepEqual([read, disk.pending], [blobs.content.slice(64 * KIB - 1, 64 * KIB + 1), 0]);
});

test("a failure to read ahead is nobody's error", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(8 * MIB)), unhandled = /** @type {unknown[]} */ ([]);
    const listen = (/** @type {unknown} */ error) => unhandled.push(error);
    process.on("unhandledRejection", listen);
    for(const chunk of [0, 1, 2]) disk.get(chunk * 64 * KIB, SECTOR, () => {});       // what the third needs is on its way; it only reads ahead
    const ahead = blobs.waiting.filter(one => one.start > 128 * KIB);
    assert.equal(ahead.length, 1);
    blobs.waiting = blobs.waiting.filter(one => !ahead.includes(one));
    await blobs.answerAll();
    ahead[0].fail(new Error("gone"));
    await turn();
    await turn();
    process.off("unhandledRejection", listen);
    assert.deepEqual(unhandled, []);
    assert.equal(disk.pending, 0);
});

test("an aborted read is neither answered nor reported", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(MIB));
    for(const end of ["answerAll", "failAll"]) {
        const abort = new AbortController();
        disk.get(0, SECTOR, () => assert.fail("it was answered"), { signal: abort.signal });
        abort.abort();
        await (end === "answerAll" ? blobs.answerAll() : blobs.failAll(new Error("gone")));
        assert.equal(disk.pending, 0);
        disk.set_state([MIB, new Uint32Array(0), new Uint8Array(0), new Uint8Array(0)]);
    }
});

test("a late answer is given through what guards the emulator, an early one in the call itself", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(MIB)), log = /** @type {string[]} */ ([]);
    disk.deliver = read => {
        log.push("guard");
        read();
    };
    disk.get(0, SECTOR, () => log.push("late"));
    await blobs.answerAll();
    disk.get(0, SECTOR, () => log.push("early"));
    assert.deepEqual(log, ["guard", "late", "early"]);
});

test("the state holds the written sectors of a disk and nothing else", async () => {
    const { blobs, disk } = diskOf(new Uint8Array(10 * MIB).fill(7));
    disk.get(0, 128 * KIB, () => {});
    await blobs.answerAll();
    disk.set(9 * MIB, new Uint8Array(SECTOR).fill(1), () => {});
    disk.set(64 * KIB + SECTOR, new Uint8Array(SECTOR).fill(2), () => {});
    const [size, indices, masks, data] = disk.get_state();
    assert.deepEqual([size, [...indices], [...masks.subarray(0, 16)]], [10 * MIB, [1, 144], [2, ...Array(15).fill(0)]]);
    assert.equal(data.length, 128 * KIB);
    assert.deepEqual([data[0], data[SECTOR], data[2 * SECTOR], data[64 * KIB]], [0, 2, 0, 1]);
});

test("a state whose pieces do not fit is refused: it may be a stranger's", () => {
    const disk = new Disk(/** @type {any} */ (new FakeBlobs(new Uint8Array(MIB))), "digest", MIB);
    disk.set(0, new Uint8Array(SECTOR).fill(1), () => {});
    const [size, indices, masks, data] = disk.get_state();
    for(const wrong of [[size + 1, indices, masks, data], [size, indices, masks, data.subarray(1)], [size, indices, masks.subarray(1), data], [size, indices]]) {
        assert.throws(() => disk.set_state(wrong), /cannot be restored/);
    }
    disk.set_state([size, indices, masks, data]);
});
