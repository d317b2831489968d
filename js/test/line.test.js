import assert from "node:assert/strict";
import { test } from "node:test";

import { RequestError } from "../src/core/fault.js";
import { Line } from "../src/core/line.js";
import { Random } from "./random.js";

/** @typedef {Uint8Array | string} Data */

/** A line whose transmissions are kept in order. */
function lineWithLog() {
    const sent = /** @type {Data[]} */ ([]), line = new Line(data => sent.push(data));
    return { line, sent, take: () => sent.splice(0) };
}

/** @param {number} number */
const frame = number => Uint8Array.of(number & 0xFF, number >> 8);

/** Two ends, and sockets between them that break: what is under way is then lost, and each end hears of it in its own time. */
class Wire {
    /** @type {{line: Line, inbox: Data[], got: Uint8Array[], sent: number, connected: boolean}[]} */
    ends;
    #random;

    /** @param {Random} random */
    constructor(random) {
        this.#random = random;
        this.ends = [1, 0].map(other => ({
            line: new Line(data => { if(this.ends[other].connected) this.ends[other].inbox.push(data); }),
            inbox: [], got: [], sent: 0, connected: false,
        }));
    }

    /** A socket is dialled; the two ends hear of it one after the other. */
    connect() {
        if(this.ends.some(end => end.connected)) return;
        for(const end of this.ends) Object.assign(end, { inbox: [], connected: true });
        const first = this.#random.below(2);
        this.ends[first].line.opened();
        this.ends[1 - first].line.opened();
    }

    /** @param {number} which   the end that hears of it first: the other may still write into the broken socket */
    cut(which) {
        const end = this.ends[which];
        if(!end.connected) return;
        end.connected = false;
        end.inbox = [];
        end.line.closed();
    }

    /** @param {number} which */
    deliver(which) {
        const end = this.ends[which], data = end.inbox.shift();
        if(data === undefined || !end.connected) return;
        const taken = end.line.receive(data);
        if(taken) end.got.push(taken);
    }

    /** @param {number} which */
    send(which) {
        const end = this.ends[which];
        end.line.send(frame(end.sent++));
    }

    /** Until nothing moves any more. */
    settle() {
        this.cut(0);
        this.cut(1);
        this.connect();
        while(this.ends.some(end => end.inbox.length)) [0, 1].forEach(which => this.deliver(which));
    }
}

for(let seed = 1; seed <= 60; seed++) {
    test(`every frame arrives once and in order, whatever breaks (seed ${seed})`, () => {
        const random = new Random(seed), wire = new Wire(random), rarely = 5 + random.below(200);
        for(let step = 0; step < 3000; step++) {
            const which = random.below(2);
            if(random.below(rarely) === 0) wire.cut(which);
            else if(random.below(20) === 0) wire.connect();
            else if(random.below(30) === 0) wire.ends[which].line.acknowledge();
            else if(random.below(3) === 0) wire.send(which);
            else wire.deliver(which);
        }
        wire.settle();
        for(const [end, other] of [wire.ends, [...wire.ends].reverse()]) {
            assert.ok(other.sent > 100, "the test sent nothing");
            assert.deepEqual(end.got, Array.from({ length: other.sent }, (_, number) => frame(number)));
        }
    });
}

test("control messages have these forms", () => {
    const { line, take } = lineWithLog();
    line.opened();
    line.ping();
    assert.deepEqual(take(), ['{"received":0}', '{"ping":true}']);
    line.receive('{"ping": true}');
    assert.deepEqual(take(), ['{"received":0}']);
    assert.equal(line.ended, false);
    assert.equal(line.receive('{"end": true}'), null);
    assert.equal(line.ended, true);
});

test("frames wait until the other end has said how many it has, on each socket anew", () => {
    const { line, take } = lineWithLog();
    line.send(frame(0));
    line.opened();
    line.send(frame(1));
    assert.deepEqual(take(), ['{"received":0}']);
    line.receive('{"received": 0}');
    line.send(frame(2));
    assert.deepEqual(take(), [frame(0), frame(1), frame(2)]);
    line.closed();
    line.send(frame(3));
    line.opened();
    assert.deepEqual(take(), ['{"received":0}']);
    line.receive('{"received": 2}');
    assert.deepEqual(take(), [frame(2), frame(3)]);
});

test("a socket that takes the place of another waits for the other end as well", () => {
    const { line, take } = lineWithLog();
    line.opened();
    line.receive('{"received": 0}');
    line.opened();
    line.send(frame(0));
    assert.deepEqual(take(), ['{"received":0}', '{"received":0}']);
});

test("an acknowledgement on the same socket sends nothing again", () => {
    const { line, take } = lineWithLog();
    line.opened();
    line.receive('{"received": 0}');
    line.send(frame(0));
    line.send(frame(1));
    take();
    line.receive('{"received": 1}');
    assert.deepEqual(take(), []);
});

test("frames are acknowledged after 64 of them, after 1 MiB, and when the timer asks", () => {
    const { line, take } = lineWithLog();
    line.opened();
    take();
    for(let number = 0; number < 63; number++) line.receive(frame(number));
    assert.deepEqual(take(), []);
    line.receive(frame(63));
    assert.deepEqual(take(), ['{"received":64}']);
    line.receive(new Uint8Array((1 << 20) - 1));
    assert.deepEqual(take(), []);
    line.receive(new Uint8Array(1));
    assert.deepEqual(take(), ['{"received":66}']);
    line.acknowledge();
    assert.deepEqual(take(), []);
    line.receive(frame(0));
    line.acknowledge();
    line.acknowledge();
    assert.deepEqual(take(), ['{"received":67}']);
});

test("nothing is transmitted while there is no socket", () => {
    const { line, take } = lineWithLog();
    line.send(frame(0));
    line.receive(frame(0));
    line.acknowledge();
    line.ping();
    line.receive('{"received": 0}');
    assert.deepEqual(take(), []);
});

test("a frame is handed on as it came", () => {
    const { line } = lineWithLog(), data = frame(7);
    line.opened();
    assert.equal(line.receive(data), data);
});

for(const text of ["", "no JSON", "null", "[]", "{}", '{"received": -1}', '{"received": 2}', '{"received": 0.5}', '{"received": "0"}', '{"ping": 1}']) {
    test(`a control message that does not follow the protocol is refused: ${text || "nothing"}`, () => {
        const { line } = lineWithLog();
        line.opened();
        line.send(frame(0));
        assert.throws(() => line.receive(text), RequestError);
    });
}

test("who takes back an acknowledgement is refused: it has lost what it had", () => {
    const { line } = lineWithLog();
    line.opened();
    line.receive('{"received": 0}');
    line.send(frame(0));
    line.receive('{"received": 1}');
    line.closed();
    line.opened();
    assert.throws(() => line.receive('{"received": 0}'), RequestError);
});
