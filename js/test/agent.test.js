import assert from "node:assert/strict";
import { test } from "node:test";

import { Agent, describeCommand, encodeFrame, FrameDecoder } from "../src/core/agent.js";
import { RequestError } from "../src/core/fault.js";
import { Random } from "./random.js";

const FROM_HOST = { RESET: 1, SPAWN_PART: 2, SPAWN: 3, STDIN: 4, STDIN_EOF: 5, SIGNAL: 6, CLOCK: 7, ENTROPY: 8 };
const TO_HOST = { HELLO: 65, STARTED: 66, FAILED: 67, STDOUT: 68, STDERR: 69, EXIT: 70, STDIN_ACK: 71 };
const WINDOW = 65536, FRAME_IN = 4088, DESCRIPTION = 1 << 20;
const ENOENT = 2, E2BIG = 7, EINVAL = 22;

/** @param {...Uint8Array} parts */
const join = (...parts) => new Uint8Array(Buffer.concat(parts));
/** @param {string} text */
const utf8 = text => new TextEncoder().encode(text);
/** @param {number} value */
const u32 = value => new Uint8Array(Uint32Array.of(value).buffer);

/**
 * A child of the fake guest.
 *
 * @typedef {{id: number, description: Uint8Array[], argv: string[], running: boolean, input: Uint8Array, eof: boolean, closed: boolean}} Child
 */

/**
 * The guest's side, kept like `v86lab/firmware/src/agent/agent.c`: the same parser, window, acknowledgements and answers.
 * Its programs: `cat`, `close` (its standard input; ends at the end of what is sent to it), `exit N`, `sleep` (until it
 * is signalled), `show` (prints its description).
 */
class FakeGuest {
    /** One buffer, as a virtio queue that is nearly empty. @type {Uint8Array | null} */
    #buffer = null;
    #partial = new Uint8Array(0);
    /** @type {Uint8Array[]} */
    #out = [];
    #random;
    /** @type {Map<number, Child>} */
    children = new Map();
    /** Frames for no session, as they came. @type {[number, Uint8Array][]} */
    told = [];
    mostUnread = 0;
    /** Bytes of standard input for which there was no room. */
    lost = 0;

    /** @param {Random} random */
    constructor(random) {
        this.#random = random;
    }

    /** What the host hands to the port. @param {Uint8Array} bytes @returns {boolean} */
    take = bytes => {
        assert.ok(bytes.length > 0 && bytes.length <= 4096, `${bytes.length} bytes at once: v86 drops what is over 4096`);
        if(this.#buffer || this.#random.below(4) === 0) return false;
        this.#buffer = bytes.slice();
        return true;
    };

    /** @param {Uint8Array} [nonce] */
    greet(nonce = new Uint8Array(8)) {
        this.#send(TO_HOST.HELLO, 0, join(nonce, u32(1)));
    }

    /** The program ends and is started again; what it had read is gone. */
    die() {
        this.#partial = new Uint8Array(0);
        this.children.clear();
        this.greet();
    }

    /** Let the guest run a little. @returns {Uint8Array[]} what it wrote on the port, in pieces of any size */
    run() {
        if(this.#buffer) {
            this.read(this.#buffer);
            this.#buffer = null;
        }
        for(const child of [...this.children.values()]) if(child.running) this.#runChild(child);
        const pieces = [];
        for(let bytes = join(...this.#out.splice(0)); bytes.length; ) {
            const size = 1 + this.#random.below(Math.min(bytes.length, 5000));
            pieces.push(bytes.subarray(0, size));
            bytes = bytes.subarray(size);
        }
        return pieces;
    }

    /** Bytes on the agent's descriptor. @param {Uint8Array} bytes */
    read(bytes) {
        let data = join(this.#partial, bytes);
        for(;;) {
            const at = data.indexOf(0xA5);
            data = data.subarray(at < 0 ? data.length : at);
            if(data.length < 8) break;
            const view = new DataView(data.buffer, data.byteOffset), length = view.getUint32(4, true);
            if(length > FRAME_IN) {
                data = data.subarray(1);
                continue;
            }
            if(data.length < 8 + length) break;
            this.#handle(data[1], view.getUint16(2, true), data.slice(8, 8 + length));
            data = data.subarray(8 + length);
        }
        this.#partial = data.slice();
    }

    /** @param {number} type @param {number} id @param {Uint8Array} payload */
    #handle(type, id, payload) {
        const child = this.children.get(id);
        switch(type) {
        case FROM_HOST.RESET:
            this.children.clear();
            this.greet(payload);
            break;
        case FROM_HOST.SPAWN_PART:
        case FROM_HOST.SPAWN:
            this.#describe(id, payload, type === FROM_HOST.SPAWN);
            break;
        case FROM_HOST.STDIN:
            if(!child?.running) break;
            if(!child.closed && child.input.length + payload.length > WINDOW) this.lost += payload.length;
            if(child.closed || child.input.length + payload.length > WINDOW) this.#send(TO_HOST.STDIN_ACK, id, u32(payload.length));
            else child.input = join(child.input, payload);
            this.mostUnread = Math.max(this.mostUnread, child.input.length);
            break;
        case FROM_HOST.STDIN_EOF:
            if(child) child.eof = true;
            break;
        case FROM_HOST.SIGNAL:
            if(child) this.#exit(child, -new DataView(payload.buffer).getInt32(0, true));
            break;
        case FROM_HOST.CLOCK:
        case FROM_HOST.ENTROPY:
            this.told.push([type, payload]);
            break;
        }
    }

    /** @param {number} id @param {Uint8Array} payload @param {boolean} last */
    #describe(id, payload, last) {
        /** @type {Child} */
        const child = this.children.get(id) ?? { id, description: [], argv: [], running: false, input: new Uint8Array(0), eof: false, closed: false };
        assert.equal(child.running, false, "the number of a living session was used again");
        this.children.set(id, child);
        child.description.push(payload);
        const bytes = join(...child.description), view = new DataView(bytes.buffer);
        if(bytes.length > DESCRIPTION) return this.#fail(child, E2BIG, "exec");
        if(!last) return;
        const argc = view.getUint32(0, true), strings = new TextDecoder().decode(bytes.subarray(8)).split("\0");
        if(!argc || strings.length !== 1 + argc + view.getUint32(4, true) + 1 || strings.pop() !== "") return this.#fail(child, EINVAL, "exec");
        child.argv = strings.slice(1, 1 + argc);
        if(!["cat", "close", "exit", "sleep", "show"].includes(child.argv[0])) return this.#fail(child, ENOENT, "exec");
        child.running = true;
        this.#send(TO_HOST.STARTED, id, u32(100 + id));
        if(child.argv[0] === "show") {
            this.#send(TO_HOST.STDOUT, id, utf8(JSON.stringify(strings)));
            this.#exit(child, 0);
        }
        if(child.argv[0] === "exit") {
            this.#send(TO_HOST.STDERR, id, utf8("leaving"));
            this.#exit(child, Number(child.argv[1]));
        }
    }

    /** @param {Child} child */
    #runChild(child) {
        if(child.argv[0] === "close" && !child.closed) {
            child.closed = true;
            if(child.input.length) this.#send(TO_HOST.STDIN_ACK, child.id, u32(child.input.length));
            child.input = new Uint8Array(0);
        }
        if(child.argv[0] === "cat" && child.input.length && this.#random.below(8) === 0) {
            const part = child.input.slice(0, 1 + this.#random.below(30_000));
            child.input = child.input.slice(part.length);
            this.#send(TO_HOST.STDIN_ACK, child.id, u32(part.length));
            this.#send(TO_HOST.STDOUT, child.id, part);
        }
        if(child.argv[0] !== "sleep" && child.eof && !child.input.length) this.#exit(child, 0);
    }

    /** @param {Child} child @param {number} status */
    #exit(child, status) {
        this.#send(TO_HOST.EXIT, child.id, u32(status >>> 0));
        this.children.delete(child.id);
    }

    /** @param {Child} child @param {number} errno @param {string} step */
    #fail(child, errno, step) {
        this.#send(TO_HOST.FAILED, child.id, join(u32(errno), utf8(step)));
        this.children.delete(child.id);
    }

    /** @param {number} type @param {number} id @param {Uint8Array} payload */
    #send(type, id, payload) {
        this.#out.push(encodeFrame(type, id, payload));
    }
}

/** An agent and a guest that has greeted. @param {number} [seed] */
function pair(seed = 1) {
    const guest = new FakeGuest(new Random(seed)), agent = new Agent(guest.take);
    guest.greet();
    settle(agent, guest);
    assert.ok(agent.ready);
    return { agent, guest };
}

/** Run both ends until neither has anything to say. @param {Agent} agent @param {FakeGuest} guest */
function settle(agent, guest) {
    for(let quiet = 0; quiet < 100; ) {
        const pieces = guest.run();
        quiet = pieces.length || agent.busy ? 0 : quiet + 1;
        for(const piece of pieces) agent.receive(piece);
        agent.pump();
    }
}

/** Start a command. @param {Agent} agent @param {string[]} argv @param {Uint8Array} [input] @param {Record<string, string>} [env] */
function start(agent, argv, input = new Uint8Array(0), env = {}) {
    /** @type {{stdout: Uint8Array[], stderr: string, ends: (number | RequestError)[], session: number}} */
    const seen = { stdout: [], stderr: "", ends: [], session: 0 };
    seen.session = agent.spawn({ argv, env, cwd: "/tmp" }, input, {
        exit: returncode => seen.ends.push(returncode), fail: error => seen.ends.push(error),
        output: (fd, bytes) => { if(fd === 1) seen.stdout.push(bytes); else seen.stderr += new TextDecoder().decode(bytes); },
    });
    return seen;
}

/** @param {{ends: (number | RequestError)[]}} command @param {string} code */
function assertFailed(command, code) {
    assert.equal(command.ends.length, 1);
    const [error] = command.ends;
    assert.ok(error instanceof RequestError, String(error));
    assert.equal(error.code, code);
    return error;
}

test("frames come out the same however the bytes are split, and what lies between them is skipped", () => {
    for(let seed = 0; seed < 300; seed++) {
        const random = new Random(seed), frames = [], wire = [];
        for(let n = random.below(8); n >= 0; n--) {
            const frame = { type: random.below(256), session: random.below(65536), payload: random.bytes(random.below(random.below(3) ? 20 : 3000)) };
            const noise = random.bytes(random.below(20)).map(byte => byte === 0xA5 ? 0 : byte);
            const beyond = Uint8Array.of(0xA5, 1, 2, 3, ...u32([65537, 2 ** 31, 2 ** 32 - 1][random.below(3)]), 0, 0, 0, 0, 0, 0, 0);
            frames.push(frame);
            wire.push(noise, ...random.below(4) ? [] : [beyond], encodeFrame(frame.type, frame.session, frame.payload));
        }
        const bytes = join(...wire), decoder = new FrameDecoder(), found = [];
        for(let at = 0; at < bytes.length; ) {
            const size = 1 + random.below(random.below(2) ? 3 : 2000);
            found.push(...decoder.push(bytes.slice(at, at + size)));
            at += size;
        }
        assert.deepEqual(found, frames, `seed ${seed}`);
    }
});

test("a frame of the largest size is taken, a larger one is no frame", () => {
    const payload = new Uint8Array(65536).fill(7);
    assert.deepEqual(new FrameDecoder().push(encodeFrame(68, 1, payload)), [{ type: 68, session: 1, payload }]);
    assert.deepEqual(new FrameDecoder().push(join(encodeFrame(68, 1, new Uint8Array(65537)), encodeFrame(70, 1, u32(0)))),
        [{ type: 70, session: 1, payload: u32(0) }]);
});

test("a command is described by counts and NUL-terminated strings", () => {
    const bytes = describeCommand({ argv: ["é", ""], env: { A: "b=c" }, cwd: "" });
    assert.equal(Buffer.from(bytes).toString("latin1"), "\x02\0\0\0\x01\0\0\0\0\xc3\xa9\0\0A=b=c\0");
});

test("nobody is greeted before the agent greets, everybody is then", async () => {
    const guest = new FakeGuest(new Random(1)), agent = new Agent(guest.take), both = Promise.all([agent.greeted(), agent.greeted()]);
    settle(agent, guest);
    assert.equal(agent.ready, false);
    guest.greet();
    settle(agent, guest);
    assert.equal(agent.ready, true);
    await both;
    await agent.greeted();
});

for(const seed of [1, 2, 3]) {
    test(`1 MB of standard input comes back, never more than 64 KiB of it unread (seed ${seed})`, () => {
        const { agent, guest } = pair(seed), input = new Random(seed).bytes(1_000_000), command = start(agent, ["cat"], input);
        settle(agent, guest);
        assert.deepEqual(command.ends, [0]);
        assert.ok(Buffer.concat(command.stdout).equals(input));
        assert.ok(guest.mostUnread > 60_000 && guest.lost === 0, `${guest.mostUnread} bytes unread, ${guest.lost} lost`);
    });
}

test("input that a command does not read is swallowed", () => {
    const { agent, guest } = pair(), command = start(agent, ["close"], new Uint8Array(500_000));
    settle(agent, guest);
    assert.deepEqual(command.ends, [0]);
});

test("a long command line arrives whole", () => {
    const { agent, guest } = pair(), argv = ["show", "x".repeat(50_000), "é"], command = start(agent, argv, undefined, { NAME: "value", EMPTY: "" });
    settle(agent, guest);
    assert.deepEqual(JSON.parse(Buffer.concat(command.stdout).toString()), ["/tmp", ...argv, "NAME=value", "EMPTY="]);
});

test("several commands run at once, each with its own output and status", () => {
    const { agent, guest } = pair(), inputs = [1, 2, 3].map(seed => new Random(seed).bytes(200_000));
    const cats = inputs.map(input => start(agent, ["cat"], input)), leaving = start(agent, ["exit", "3"]);
    settle(agent, guest);
    assert.deepEqual(leaving.ends, [3]);
    assert.equal(leaving.stderr, "leaving");
    cats.forEach((cat, n) => {
        assert.deepEqual(cat.ends, [0]);
        assert.ok(Buffer.concat(cat.stdout).equals(inputs[n]));
    });
});

test("a signal reaches its command and no other; to a finished one it is not sent", () => {
    const { agent, guest } = pair(), asleep = start(agent, ["sleep"]), other = start(agent, ["sleep"]);
    settle(agent, guest);
    agent.signal(asleep.session, 9);
    settle(agent, guest);
    assert.deepEqual([asleep.ends, other.ends], [[-9], []]);
    agent.signal(asleep.session, 9);
    assert.equal(agent.busy, false);
});

test("a command that cannot be started fails with the system's reason", () => {
    const { agent, guest } = pair(), missing = start(agent, ["nothing"]), long = start(agent, ["show", "x".repeat(2 << 20)]);
    settle(agent, guest);
    assert.match(assertFailed(missing, "guest").more.seen ?? "", /^ENOENT/);
    assert.match(assertFailed(long, "guest").more.seen ?? "", /^E2BIG/);
    const after = start(agent, ["exit", "0"]);
    settle(agent, guest);
    assert.deepEqual(after.ends, [0]);
});

test("the clock and entropy arrive as the agent reads them", () => {
    const { agent, guest } = pair();
    agent.setClock(1_763_843_696_250);
    agent.addEntropy(Uint8Array.of(1, 2, 3));
    settle(agent, guest);
    const clock = new DataView(guest.told[0][1].buffer);
    assert.deepEqual([clock.getBigInt64(0, true), clock.getInt32(8, true)], [1_763_843_696n, 250_000_000]);
    assert.deepEqual(guest.told[1], [FROM_HOST.ENTROPY, Uint8Array.of(1, 2, 3)]);
});

for(const cut of [1, 7, 8, 9, 100, 4095]) {
    test(`after a cut ${cut} bytes into a frame, both ways, the line is in step again`, () => {
        const guest = new FakeGuest(new Random(cut)), old = new Agent(guest.take), random = new Random(cut);
        guest.greet();
        settle(old, guest);
        const before = start(old, ["cat"], random.bytes(300_000));
        for(let n = 0; n < 20; n++) for(const piece of guest.run()) old.receive(piece);
        guest.read(encodeFrame(FROM_HOST.STDIN, before.session, random.bytes(FRAME_IN)).subarray(0, cut));
        const phantom = encodeFrame(TO_HOST.STDOUT, 9, new Uint8Array(60_000)).subarray(0, 100);    // in the rest of a frame lies what looks like one

        const agent = new Agent(guest.take);
        agent.resynchronise(random.bytes(8));
        agent.setClock(1000);
        agent.receive(phantom);
        assert.equal(agent.ready, false);
        settle(agent, guest);
        assert.equal(agent.ready, true);
        assert.equal(guest.children.size, 0);
        assert.equal(guest.told.length, 1);
        const input = random.bytes(100_000), command = start(agent, ["cat"], input);
        settle(agent, guest);
        assert.deepEqual(command.ends, [0]);
        assert.ok(Buffer.concat(command.stdout).equals(input));
    });
}

test("a greeting that is older than the reset does not count", () => {
    const guest = new FakeGuest(new Random(1)), agent = new Agent(() => false);
    agent.resynchronise(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    guest.greet();
    guest.greet(Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1));
    for(const piece of guest.run()) agent.receive(piece);
    assert.equal(agent.ready, false);
    guest.greet(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    for(const piece of guest.run()) agent.receive(piece);
    assert.equal(agent.ready, true);
});

test("an agent that greets unasked has lost its commands, and serves new ones", () => {
    const { agent, guest } = pair(), commands = [start(agent, ["sleep"]), start(agent, ["cat"], new Uint8Array(300_000))];
    for(let n = 0; n < 5; n++) for(const piece of guest.run()) agent.receive(piece);
    guest.die();
    settle(agent, guest);
    for(const command of commands) assert.match(assertFailed(command, "agent").message, /died and was started again/);
    const after = start(agent, ["exit", "4"]);
    settle(agent, guest);
    assert.deepEqual(after.ends, [4]);
});

test("a new agent that finds the end of a frame its predecessor began to read is soon in step", () => {
    const { agent, guest } = pair();
    guest.die();
    guest.read(Uint8Array.of(0xA5, FROM_HOST.STDIN, 1, 0, 0, 8, 0, 0));      // looks like the header of a frame of 2048 bytes
    settle(agent, guest);
    const command = start(agent, ["exit", "4"]);
    settle(agent, guest);
    assert.deepEqual(command.ends, [4]);
});

test("a greeting and the beginning of the next frame may come in one piece", () => {
    const { agent } = pair(), greeting = encodeFrame(TO_HOST.HELLO, 0, join(new Uint8Array(8), u32(1)));
    agent.receive(join(greeting, encodeFrame(TO_HOST.HELLO, 0).subarray(0, 3)));
    const command = start(agent, ["exit", "0"]), exit = encodeFrame(TO_HOST.EXIT, command.session, u32(5));
    agent.receive(join(Uint8Array.of(0, 0, 0, 0, 0), exit));
    assert.deepEqual(command.ends, [5]);
});

test("once no agent will greet any more, whoever waits is told, once", async () => {
    const agent = new Agent(() => false), why = new RequestError("off", "the guest has powered off"), waiting = agent.greeted();
    const command = start(agent, ["sleep"]);
    agent.end(why);
    await assert.rejects(waiting, why);
    assert.deepEqual(command.ends, [why]);
    agent.end(new RequestError("off", "again"));
    assert.deepEqual(command.ends, [why]);
    assert.equal(agent.busy, false);
});

test("frames that no honest agent sends change nothing", () => {
    const { agent, guest } = pair(), command = start(agent, ["sleep"], new Uint8Array(200_000));
    settle(agent, guest);
    for(const type of Object.values(TO_HOST)) agent.receive(encodeFrame(type, command.session, new Uint8Array(3)));
    for(const type of Object.values(TO_HOST)) if(type !== TO_HOST.HELLO) agent.receive(encodeFrame(type, 4242, new Uint8Array(12)));
    agent.receive(encodeFrame(200, command.session));
    assert.deepEqual(command.ends, []);
    agent.signal(command.session, 15);
    settle(agent, guest);
    assert.deepEqual(command.ends, [-15]);
});

test("an acknowledgement of more than was sent opens no wider window", () => {
    let taken = 0;
    const agent = new Agent(bytes => { taken += bytes.length; return true; }), command = start(agent, ["cat"], new Uint8Array(1_000_000));
    assert.ok(taken >= WINDOW && taken < WINDOW + 1000, `${taken} bytes`);
    agent.receive(encodeFrame(TO_HOST.STDIN_ACK, command.session, u32(0xFFFFFFFF)));
    assert.ok(taken >= 2 * WINDOW && taken < 2 * WINDOW + 2000, `${taken} bytes`);
});

test("session numbers have 16 bits, begin again at 1 and pass over those in use", () => {
    let frames = 0;
    const agent = new Agent(() => { frames++; return true; });
    const first = start(agent, ["sleep"]), third = (start(agent, ["x"]), start(agent, ["sleep"]));
    assert.deepEqual([first.session, third.session], [1, 3]);
    agent.receive(encodeFrame(TO_HOST.EXIT, 2, u32(0)));
    for(let id = 4; id <= 0xFFFF; id++) {
        assert.equal(start(agent, ["x"]).session, id);
        agent.receive(encodeFrame(TO_HOST.EXIT, id, u32(0)));
    }
    assert.deepEqual([start(agent, ["x"]).session, start(agent, ["x"]).session], [2, 4]);
    assert.ok(frames > 2 * 0xFFFF);
    assert.deepEqual([first.ends, third.ends], [[], []]);
});
