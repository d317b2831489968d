// One engine, several clients: real machines in this process.
import assert from "node:assert/strict";
import { test } from "node:test";

import { TestEngine, pixel, until } from "./rig.js";

const PROMPT = "/ # ";
const latin1 = (/** @type {Uint8Array} */ bytes) => Buffer.from(bytes).toString("latin1");
/** @param {string} text */
const bytes = text => new TextEncoder().encode(text);

test("views of a Linux: each sees all of the console once, its activity, its rest, and it can be kept", { timeout: 240_000 }, async () => {
    const rig = new TestEngine(), early = rig.attach();
    assert.deepEqual(await early.watch({ console: true }), { status: "starting", code: null, reason: null, payload: new Uint8Array(0) });
    const image = await rig.bootLinux();
    await rig.expect(PROMPT);
    const late = rig.attach(), { payload, status } = await late.watch({ console: true, activity: true });
    assert.equal(status, "running");
    assert.ok(latin1(payload).endsWith(PROMPT), latin1(payload).slice(-100));

    await late.ask({ type: "send" }, bytes("echo do''ne\n"));
    await until(() => late.text.includes("done\r\n" + PROMPT), "the echo");
    const shown = latin1(payload) + late.text;
    assert.equal(rig.hub.text, shown, "the Hub was told something else than what the late view saw");
    assert.equal(early.text, "\x1bc" + shown);

    await late.ask({ type: "send" }, bytes("seq 1 30000 | md5sum\n"));
    await until(() => late.all("activity").some(one => one.mips > 0) && late.all("activity").at(-1)?.mips === 0, "work, then rest");
    const told = late.all("activity").length;
    await new Promise(resolve => setTimeout(resolve, 2500));
    assert.equal(late.all("activity").length, told, "told of a guest that rests");
    assert.ok(late.all("activity").every(one => one.busy >= 0 && one.busy <= 1));
    assert.deepEqual([early.all("activity"), rig.hub.all("activity")], [[], []]);

    const all = latin1(payload) + late.text;
    assert.ok(rig.engine.restsSince(1000));
    const kept = await rig.engine.checkpoint();
    assert.ok(kept && kept.instructions > 0);
    assert.deepEqual([await rig.engine.checkpoint(), rig.engine.restsSince(0)], [null, false], "nothing has happened since");
    rig.engine.announceCheckpoint({ digest: "abc", size: 5, instructions: kept.instructions, at: 1.5 });
    for(const client of [rig.hub, early, late]) assert.deepEqual(client.all("checkpoint").map(one => [one.digest, one.size, one.at]), [["abc", 5, 1.5]]);

    late.detach();
    await rig.hub.ask({ type: "boot", image, state: rig.keep(kept.state) });
    const again = rig.attach();
    assert.equal(latin1((await again.watch({ console: true })).payload), all, "a restored machine shows what came before");
    assert.ok(early.text.endsWith("\x1bc" + all), "who watched the machine before sees the restored one from its beginning");
    assert.equal(late.all("status").length, 0, "a client that is gone was told of a boot");
    const picture = await again.ask({ type: "read_pixels" });
    assert.deepEqual([picture.width, picture.height], [720, 400]);
    early.detach();
    again.detach();
    await rig.stop();
});

test("requests of two clients with the same id are answered to each; a cancel ends only one's own", { timeout: 60_000 }, async () => {
    const rig = new TestEngine(), page = rig.attach();
    await rig.bootSector([0xFB, 0xF4, 0xEB, 0xFD]);
    await page.ask({ type: "read_statistics" });
    const forever = { type: "expect", patterns: [{ literal: "never" }], timeout: null, seen: null };
    let ended = "";
    const waiting = rig.hub.ask(forever).catch(error => { ended = error.code; });          // the Hub's second request
    await assert.rejects(page.ask({ ...forever, patterns: [{ literal: "other" }] }), /another expect/);
    await page.ask({ type: "cancel", target: 2 });
    await new Promise(resolve => setTimeout(resolve, 100));
    assert.equal(ended, "");
    await rig.hub.ask({ type: "cancel", target: 2 });
    await waiting;
    assert.equal(ended, "cancelled");
    await assert.rejects(page.ask({ type: "nonsense" }), { code: "engine" });
    page.detach();
    await rig.stop();
});

test("text is drawn with the BIOS's font, in its colours; the cursor blinks while somebody looks", { timeout: 60_000 }, async () => {
    const rig = new TestEngine(), page = rig.attach();
    await rig.bootSector([
        0xB8, 0x03, 0x00, 0xCD, 0x10,                                   // mov ax, 3; int 0x10
        0xB8, 0x00, 0xB8, 0x8E, 0xC0,                                   // mov es, 0xb800
        0x26, 0xC7, 0x06, 0x04, 0x00, 0xDB, 0x1E,                       // the full block, yellow on blue, in the third cell
        0x26, 0xC7, 0x06, 0x06, 0x00, 0xC4, 0x07,                       // a horizontal line in the fourth
        0xBA, 0xF8, 0x03, 0xB0, 0x21, 0xEE, 0xFB, 0xF4, 0xEB, 0xFD,
    ]);
    await rig.expect("!");
    const picture = await rig.hub.ask({ type: "read_pixels" });
    assert.deepEqual([picture.width, picture.height], [720, 400]);
    for(const [x, y] of [[18, 0], [25, 0], [26, 15], [18, 15]]) assert.deepEqual(pixel(picture, x, y), [255, 255, 87], `the block at ${x}, ${y}`);
    for(const x of [27, 34, 35]) assert.deepEqual(pixel(picture, x, 7), [168, 168, 168], `the line at ${x}`);
    assert.deepEqual(pixel(picture, 27, 0), [0, 0, 0]);

    await page.watch({ screen: true });
    await until(() => page.all("frame").length > 2, "the cursor's blinking");
    const [first, second, third] = page.all("frame");
    assert.deepEqual([first.rect, second.rect, third.rect], [[0, 0, 720, 400], [0, 0, 9, 16], [0, 0, 9, 16]]);
    assert.ok(!Buffer.from(second.payload).equals(third.payload));
    page.detach();
    await rig.stop();
});
