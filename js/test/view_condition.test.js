import assert from "node:assert/strict";
import { test } from "node:test";

import { formatBytes, formatProgress, formatSpeed, formatTime } from "../src/view/amount.js";
import { conditionOf } from "../src/view/condition.js";
import { isWayOut } from "../src/view/way_out.js";

const KEPT = { digest: "ab", size: 5_000_000, instructions: 7, at: new Date(2026, 10, 22, 9, 5).getTime() / 1000 };
const NOON = new Date(2026, 10, 22, 12, 0);

/** @param {Partial<import("../src/view/condition.js").Standing>} standing @param {Partial<import("../src/view/condition.js").Situation>} [situation] */
function condition(standing, situation) {
    return conditionOf({ phase: "open", explanation: "", transport: "socket", live: false, ...situation, standing: {
        type: "standing", name: "linux", status: "running", reason: null, engine: "browser", why: "", here: true, snapshots: [], current: null, kept: null, seed: null, ...standing,
    } }, NOON);
}

test("a machine that does not run always has a sentence, and one that can be mended has a button", () => {
    for(const status of ["new", "starting", "paused", "off", "faulted", "lost", "closed", "a status of a later version"]) {
        const { sentence, runs, remedies } = condition({ status });
        assert.notEqual(sentence, "", status);
        assert.equal(runs, false, status);
        assert.equal(remedies.length > 0, ["paused", "off", "faulted", "lost"].includes(status), status);
    }
    for(const phase of /** @type {const} */ (["connecting", "lost", "ended"])) {
        const { sentence, usable } = condition({ status: "running" }, { phase });
        assert.notEqual(sentence, "", phase);
        assert.equal(usable, false, phase);
    }
    assert.notEqual(conditionOf({ phase: "open", explanation: "", transport: "socket", live: false, standing: null }).sentence, "");
});

test("a running machine has no sentence, no cover and gets the keys", () => {
    const { sentence, cover, runs, word } = condition({});
    assert.deepEqual([sentence, cover, runs, word], ["", "none", true, "Running"]);
});

test("what stops a machine or lets it run is there while it is switched on", () => {
    const drive = (/** @type {string} */ status, /** @type {Parameters<typeof condition>[0]} */ more = {}) => {
        const { drive } = condition({ status, ...more });
        return drive && [drive.label, drive.body.type];
    };
    assert.deepEqual([drive("running"), drive("paused")], [["Pause", "pause"], ["Run", "resume"]]);
    for(const status of ["new", "starting", "off", "faulted", "lost", "closed"]) {
        for(const seed of [null, 7]) assert.equal(drive(status, { seed }), null, status);
    }
    for(const phase of /** @type {const} */ (["connecting", "lost", "ended"])) assert.equal(condition({ seed: 7 }, { phase }).drive, null, phase);
});

test("a machine with a seed stands still between calls with nothing over what it shows, and can go live", () => {
    const { word, tone, cover, sentence, drive, remedies, usable, runs, waits, seed } = condition({ status: "paused", seed: 7, reason: "it stands still between calls" });
    assert.deepEqual([word, tone, cover, usable, runs, waits, seed], ["Stopped between calls", "rest", "none", true, false, true, 7]);
    assert.match(sentence, /moves only inside a call such as vm\.run/);
    assert.deepEqual([drive?.label, drive?.body, remedies], ["Go live", { type: "resume" }, []]);
    assert.equal(condition({ status: "paused", seed: 0 }).word, "Stopped between calls");
});

test("a machine with a seed runs while a call moves it, and is live while the clock does", () => {
    const driven = condition({ seed: 7 }), live = condition({ seed: 7 }, { live: true });
    assert.deepEqual([driven.word, driven.runs, driven.waits, driven.fleeting, driven.drive?.label], ["Running", true, false, true, "Go live"]);
    assert.deepEqual([live.word, live.runs, live.waits, live.fleeting, live.drive?.label, live.drive?.body], ["Live", true, false, false, "Stop", { type: "pause" }]);
    assert.deepEqual([driven.cover, live.cover], ["none", "none"]);
    assert.deepEqual([condition({}, { live: true }).word, condition({ status: "paused", seed: 7 }, { live: true }).word], ["Running", "Stopped between calls"]);
});

test("a terminal answers a guest that is moved by the clock, and none that Python's calls move", () => {
    const answers = (/** @type {Parameters<typeof condition>} */ ...situation) => condition(...situation).answers;
    assert.deepEqual([answers({}), answers({ seed: 7 }, { live: true })], [true, true]);
    assert.deepEqual([answers({ seed: 7 }), answers({ seed: 7, status: "paused" }), answers({ seed: 7, status: "off" })], [false, false, false]);
});

test("a machine with a seed that is switched off, has crashed or is not reached is like any other, and its seed is told", () => {
    for(const status of ["new", "starting", "off", "faulted", "lost", "closed"]) {
        const { seed, ...seeded } = condition({ status, seed: 7, kept: KEPT }, { live: true }), { seed: none, ...plain } = condition({ status, kept: KEPT });
        assert.deepEqual([seed, none], [7, null]);
        assert.deepEqual({ ...seeded, answers: true }, plain);
    }
    assert.equal(condition({ status: "paused", seed: 7 }, { phase: "lost" }).word, "Disconnected");
    const here = condition({ status: "paused", seed: 7 }, { phase: "lost", transport: "worker" });
    assert.deepEqual([here.word, here.drive?.label, here.usable], ["Stopped between calls", "Go live", true]);
});

test("the connection's own explanation comes before the view's general one", () => {
    assert.equal(condition({}, { phase: "lost", explanation: "The kernel is gone." }).sentence, "The kernel is gone.");
    assert.equal(condition({}, { phase: "ended", explanation: "Run the cell again." }).sentence, "Run the cell again.");
});

test("a machine in this page can be used while Python is not reached, except for what Python does", () => {
    const { runs, cover, advice, withoutPython } = condition({}, { phase: "lost", transport: "worker", explanation: "the connection to Python broke" });
    assert.deepEqual([runs, cover, advice], [true, "none", "The connection to Python broke."]);
    assert.notEqual(withoutPython, "");
    assert.equal(condition({}).withoutPython, "");
    assert.equal(condition({}, { phase: "lost" }).runs, false);
});

test("a fault says its reason as a sentence and offers a reset", () => {
    const { sentence, remedies } = condition({ status: "faulted", reason: "an exception could not be delivered" });
    assert.equal(sentence, "An exception could not be delivered.");
    assert.deepEqual(remedies.map(({ body }) => body), [{ type: "reset" }]);
});

test("a lost machine goes on from its checkpoint where one was kept, or boots afresh", () => {
    const kept = condition({ status: "lost", kept: KEPT }).remedies, none = condition({ status: "lost" }).remedies;
    assert.deepEqual(kept.map(({ label, body, primary }) => [label, body, primary]), [
        [`Go on from ${formatTime(KEPT.at, NOON)}`, { type: "start_here", checkpoint: "ab" }, true],
        ["Boot afresh", { type: "start_here", checkpoint: null }, false],
    ]);
    assert.deepEqual(none.map(({ body, primary }) => [body, primary]), [[{ type: "start_here", checkpoint: null }, true]]);
});

test("where the machine runs is said in words", () => {
    assert.equal(condition({}).place, "this browser");
    assert.equal(condition({ here: false }).place, "another page");
    assert.equal(condition({ engine: "node", here: false }).place, "server");
    assert.equal(condition({ engine: "none", here: false }).place, "");
});

test("amounts have a unit that fits, and a progress has that of the whole", () => {
    assert.deepEqual([0, 999, 1000, 123_456, 4_600_000, 7e12].map(formatBytes), ["0 B", "999 B", "1.0 kB", "123 kB", "4.6 MB", "7000 GB"]);
    assert.equal(formatProgress(3_200_000, 4_600_000), "3.2 of 4.6 MB");
    assert.equal(formatProgress(50, 4_600_000), "0.0 of 4.6 MB");
    assert.equal(formatProgress(3_200_000, null), "3.2 MB");
    assert.deepEqual([0, 3.14, 85.4].map(formatSpeed), ["0.0 MIPS", "3.1 MIPS", "85 MIPS"]);
});

test("a checkpoint of another day has its date", () => {
    assert.equal(formatTime(KEPT.at, NOON, "en-GB"), "09:05");
    assert.match(formatTime(KEPT.at - 86_400, NOON, "en-GB"), /^21 Nov, 09:05$/);
});

test("only Shift+Esc leaves the guest: Esc alone and with other modifiers are the guest's", () => {
    const keys = { code: "Escape", shiftKey: true, ctrlKey: false, altKey: false, metaKey: false };
    assert.equal(isWayOut(keys), true);
    for(const other of [{ shiftKey: false }, { ctrlKey: true }, { altKey: true }, { metaKey: true }, { code: "KeyE" }]) assert.equal(isWayOut({ ...keys, ...other }), false);
});
