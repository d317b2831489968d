// The same seed gives the same machine: whatever the host does, through snapshots, and through a replay of what came in.
import assert from "node:assert/strict";
import { createHash, randomInt } from "node:crypto";
import { test } from "node:test";
import { TestEngine } from "./rig.js";

const encode = (/** @type {string} */ text) => new TextEncoder().encode(text);
const WORK = "i=0; while [ $i -lt 6 ]; do i=$((i+1)); find / -xdev 2>/dev/null | md5sum; date; head -c8 /dev/urandom | od -An -tx1; done";

/** What a machine has become. @param {TestEngine} rig */
async function sum(rig) {
    const { instructions, seconds, steps } = await rig.hub.ask({ type: "read_statistics" });
    const { payload } = await rig.hub.ask({ type: "read_memory", start: 0, end: 128 << 20 });
    return { instructions, seconds, steps, ram: createHash("sha256").update(payload).digest("hex") };
}

/** @param {TestEngine} rig @param {string} command @param {object} [more] */
async function run(rig, command, more = {}) {
    const { payload, stdout, returncode } = await rig.hub.ask({ type: "spawn", argv: ["/bin/sh", "-c", command], ...more });
    return { stdout: Buffer.from(payload.subarray(0, stdout)).toString(), returncode };
}

const origin = new TestEngine();
await origin.bootLinux(0);
await run(origin, "sync; echo 3 > /proc/sys/vm/drop_caches");
const start = (await origin.hub.ask({ type: "capture", start: true })).payload;
await origin.stop();

/** @param {number} seed @param {object} [host] */
async function machine(seed, host = {}) {
    const rig = new TestEngine(host);
    await rig.bootLinux(seed, rig.keep(start), {}, true);
    return rig;
}

test("two machines of one seed are equal, on hosts that breathe differently; another seed is another machine", { timeout: 300_000 }, async () => {
    const slow = { breathe: () => new Promise(resolve => setTimeout(resolve, randomInt(4))) };
    const results = [];
    for(const [seed, host] of /** @type {[number, object][]} */ ([[7, {}], [7, slow], [8, {}]])) {
        const rig = await machine(seed, host), said = await run(rig, WORK);
        results.push({ said, ...await sum(rig) });
        await rig.stop();
    }
    assert.equal(results[0].said.returncode, 0);
    assert.deepEqual(results[1], results[0]);
    assert.notEqual(results[2].said.stdout, results[0].said.stdout);
});

test("an hour of sleep is skipped, and nothing moves between calls", { timeout: 300_000 }, async () => {
    const rig = await machine(1);
    const { stdout } = await run(rig, "date +%s; sleep 3600; date +%s"), [before, after] = stdout.trim().split("\n").map(Number);
    assert.ok(after - before >= 3600 && after - before <= 3601, stdout);
    const still = await sum(rig);
    await new Promise(resolve => setTimeout(resolve, 50));
    assert.deepEqual(await sum(rig), still);
    await rig.hub.ask({ type: "advance", seconds: 2 });
    const { seconds } = await rig.hub.ask({ type: "read_statistics" });
    assert.ok(Math.abs(seconds - still.seconds - 2) < 0.002, `${seconds - still.seconds}`);
    await rig.stop();
});

test("a machine restored in the middle goes on as if nothing had happened", { timeout: 300_000 }, async () => {
    const rig = await machine(3);
    await run(rig, "(while :; do date; find / -xdev | md5sum; done > /tmp/log 2>&1) & sleep 1");
    await rig.hub.ask({ type: "advance", instructions: 5_000_000 });
    const state = (await rig.hub.ask({ type: "capture" })).payload;
    await rig.hub.ask({ type: "send" }, encode("echo typed > /tmp/typed\n"));
    await run(rig, WORK);
    const wanted = await sum(rig);
    await rig.stop();
    const twin = new TestEngine();
    await twin.bootLinux(3, twin.keep(state));
    await twin.hub.ask({ type: "send" }, encode("echo typed > /tmp/typed\n"));
    await run(twin, WORK);
    assert.deepEqual(await sum(twin), wanted);
    await twin.stop();
});

test("a recording leads another machine to the same place: typed text, commands, keys, an interrupt, a reset, live time", { timeout: 300_000 }, async () => {
    const rig = await machine(5);
    await run(rig, WORK);
    await rig.hub.ask({ type: "send" }, encode("echo hello > /tmp/a; sleep 1; echo DO''NE\n"));
    await rig.hub.ask({ type: "expect", patterns: [{ literal: "DONE" }], timeout: 30 });
    await rig.hub.ask({ type: "press", steps: [{ codes: [30, 158] }, { wait: 50 }, { codes: [28, 156] }] });
    await rig.hub.ask({ type: "write_memory", start: 0x500 }, Uint8Array.of(1, 2, 3));
    await assert.rejects(run(rig, "sleep 100", { timeout: 0.5 }), { code: "timeout" });
    await assert.rejects(run(rig, "while :; do :; done", { instructions: 3_000_000 }), { code: "timeout" });
    await rig.hub.ask({ type: "resume" });
    await new Promise(resolve => setTimeout(resolve, 120));
    await rig.hub.ask({ type: "send" }, encode("echo live\n"));
    await new Promise(resolve => setTimeout(resolve, 120));
    await rig.hub.ask({ type: "pause" });
    await run(rig, "cat /tmp/a");
    const wanted = await sum(rig), recording = JSON.parse(Buffer.from((await rig.hub.ask({ type: "read_recording" })).payload).toString());
    await rig.stop();
    assert.ok(recording.events.some((/** @type {any[]} */ event) => event[2] === "idle"), "nothing of the live time was recorded");
    const twin = await machine(5);
    await twin.hub.ask({ type: "replay", steps: recording.steps, instructions: recording.instructions }, encode(JSON.stringify(recording.events)));
    assert.deepEqual(await sum(twin), wanted);
    assert.equal((await run(twin, "cat /tmp/a")).stdout, "hello\n");
    await twin.stop();
    const other = await machine(6);
    await assert.rejects(other.hub.ask({ type: "replay", steps: recording.steps, instructions: recording.instructions }, encode(JSON.stringify(recording.events))), { code: "image" });
    await other.stop();
});

test("what a call leaves behind does not show: a command killed in time, then a snapshot, then rest", { timeout: 300_000 }, async () => {
    const rig = await machine(9);
    await assert.rejects(run(rig, "sleep 100", { timeout: 0.5 }), { code: "timeout" });
    for(const part of ["ec", "ho a", " very long line of more than sixteen bytes > /tmp/x\n", "echo b\n"]) await rig.hub.ask({ type: "send" }, encode(part));
    const twin = new TestEngine();
    const state = twin.keep((await rig.hub.ask({ type: "capture" })).payload);
    await run(rig, "sleep 5");
    const wanted = await sum(rig);
    await rig.stop();
    await twin.bootLinux(9, state);
    await run(twin, "sleep 5");
    assert.deepEqual(await sum(twin), wanted);
    await twin.stop();
});

test("a recording goes on after the guest has switched itself off and was reset", { timeout: 300_000 }, async () => {
    const rig = await machine(10);
    await assert.rejects(run(rig, "poweroff -f"), { code: "off" });
    await rig.hub.ask({ type: "reset" });
    await run(rig, "date > /tmp/d");
    const wanted = await sum(rig), recording = JSON.parse(Buffer.from((await rig.hub.ask({ type: "read_recording" })).payload).toString());
    await rig.stop();
    const twin = await machine(10);
    await twin.hub.ask({ type: "replay", steps: recording.steps, instructions: recording.instructions }, encode(JSON.stringify(recording.events)));
    assert.deepEqual(await sum(twin), wanted);
    await twin.stop();
});
