import assert from "node:assert/strict";
import { test } from "node:test";

let now = 1000, calendar = 1_763_843_696_000;
performance.now = () => now;                 // the core binds the realm's clocks when it is imported
Date.now = () => calendar;
const { WallClock } = await import("../src/core/clock.js");
const { Loop } = await import("../src/core/loop.js");

/** A loop whose host lets it go on only when the test says so. @param {() => number} step */
function loopOf(step) {
    const clock = new WallClock(() => 0), seen = { steps: 0, breaths: /** @type {(() => void)[]} */ ([]), timers: /** @type {{ms: number, callback: () => void}[]} */ ([]) };
    const loop = new Loop({ step: () => { seen.steps++; return step(); }, idle: () => {}, settle: () => null }, {
        breathe: () => new Promise(resolve => seen.breaths.push(() => resolve())),
        timer: (ms, callback) => {
            const timer = { ms, callback };
            seen.timers.push(timer);
            return () => { seen.timers = seen.timers.filter(one => one !== timer); };
        },
    }, clock, false);
    return { loop, clock, seen };
}

/** @returns {Promise<void>} */
const turn = () => new Promise(resolve => setImmediate(resolve));

/** @param {{breaths: (() => void)[]}} seen */
async function breathe(seen) {
    for(const go of seen.breaths.splice(0)) go();
    await turn();
}

test("the clock begins at zero, held; follows the wall once released, and stands still while held", () => {
    const clock = new WallClock(() => 0);
    now += 500;
    assert.equal(clock.now(), 0);
    clock.release();
    now += 30;
    assert.equal(clock.now(), 30);
    clock.hold();
    now += 1000;
    clock.hold();
    assert.equal(clock.now(), 30);
    clock.release();
    now += 5;
    clock.release();
    assert.equal(clock.now(), 35);
});

test("the clock goes on from where a snapshot was taken", () => {
    const clock = new WallClock(() => 0);
    clock.set(123_456.5);
    now += 77;
    assert.equal(clock.now(), 123_456.5);
    clock.release();
    now += 10;
    assert.equal(clock.now(), 123_466.5);
});

test("the calendar goes on while guest time stands still", () => {
    const clock = new WallClock(() => 0);
    clock.set(5);
    calendar += 250;
    assert.deepEqual([clock.date(), clock.now()], [1_763_843_696_250, 5]);
});

test("nothing runs before the start is released; then it steps and breathes by turns", async () => {
    const { loop, clock, seen } = loopOf(() => 0);
    await turn();
    assert.deepEqual([seen.steps, loop.held, clock.now()], [0, true, 0]);
    loop.release("start");
    assert.deepEqual([seen.steps, loop.held], [1, false]);
    await breathe(seen);
    await breathe(seen);
    assert.equal(seen.steps, 3);
});

test("holds nest by reason: it goes on when the last reason is gone, and each counts once", async () => {
    const { loop, clock, seen } = loopOf(() => 0);
    loop.release("start");
    loop.hold("pause");
    loop.hold("pause");
    loop.hold("snapshot");
    await breathe(seen);
    assert.equal(seen.steps, 1);
    loop.release("snapshot");
    loop.release("expect");
    now += 100;
    assert.deepEqual([loop.held, clock.now()], [true, 0]);
    loop.release("pause");
    await turn();
    assert.deepEqual([loop.held, seen.steps], [false, 2]);
});

test("guest time stands still while the loop is held, whoever holds it", () => {
    const { loop, clock } = loopOf(() => 0);
    loop.release("start");
    now += 10;
    loop.hold("expect");
    now += 10;
    loop.hold("pause");
    now += 10;
    loop.release("expect");
    now += 10;
    assert.equal(clock.now(), 10);
    loop.release("pause");
    now += 10;
    assert.equal(clock.now(), 20);
});

test("no step is made between a hold and its release, and only one loop runs after many of them", async () => {
    const { loop, seen } = loopOf(() => 0);
    loop.release("start");
    for(let n = 0; n < 5; n++) {
        loop.hold("pause");
        await turn();
        loop.release("pause");
    }
    assert.equal(seen.steps, 1);
    assert.equal(seen.breaths.length, 1);
    loop.hold("pause");
    await breathe(seen);
    assert.equal(seen.steps, 1);
    loop.release("pause");
    loop.release("pause");
    assert.equal(seen.steps, 2);
    assert.equal(seen.breaths.length, 1);
});

test("a step that holds the loop is the last one", async () => {
    const { loop, seen } = loopOf(() => { loop.hold("end"); return 0; });
    loop.release("start");
    await turn();
    assert.deepEqual([seen.steps, seen.breaths.length, seen.timers.length], [1, 0, 0]);
});

test("a halted CPU sleeps until its timer, or until it is woken", async () => {
    const { loop, seen } = loopOf(() => 25);
    loop.release("start");
    assert.deepEqual([seen.timers.map(timer => timer.ms), seen.steps], [[25], 1]);
    seen.timers[0].callback();
    await turn();
    assert.deepEqual([seen.timers.length, seen.steps], [1, 2]);
    loop.wake();
    loop.wake();
    await turn();
    assert.deepEqual([seen.timers.length, seen.steps], [1, 3]);
});

test("held in its sleep it does not step when the timer comes, and goes on when released", async () => {
    const { loop, seen } = loopOf(() => 25);
    loop.release("start");
    loop.hold("pause");
    const [timer] = seen.timers;
    timer.callback();
    await turn();
    assert.deepEqual([seen.steps, seen.timers.length], [1, 0]);
    loop.release("pause");
    assert.deepEqual([seen.steps, seen.timers.length], [2, 1]);
    loop.hold("pause");
    loop.release("pause");
    await turn();
    assert.deepEqual([seen.steps, seen.timers.length], [3, 1]);
});

test("a wake that comes during a step is not slept through", async () => {
    let wake = true;
    const { loop, seen } = loopOf(() => {
        if(wake) loop.wake();
        wake = false;
        return 1000;
    });
    loop.release("start");
    assert.deepEqual([seen.timers.length, seen.breaths.length], [0, 1]);
    await breathe(seen);
    assert.deepEqual([seen.steps, seen.timers.length], [2, 1]);
});
