/**
 * The agent: a small program in the guest, on a virtio console of its own, that runs commands for us.
 *
 * Frames, little-endian: u8 magic 0xA5, u8 type, u16 session, u32 length, payload. NUL bytes between frames are padding.
 * Rules:
 * - inwards never more than 4096 bytes at a time, and only when the guest has posted a buffer: v86 drops what does not fit;
 * - at most 64 KiB of a command's standard input are unacknowledged, so that the agent never has to block;
 * - after a restore the line may be in the middle of a frame: inwards 4096 NUL bytes fill it up and RESET starts afresh;
 *   outwards everything up to the answer to that RESET is skipped;
 * - an agent that greets unasked has been started anew: whatever it was running is lost, and is reported as lost; it may
 *   find the end of a frame that its predecessor had begun to read, so NUL bytes go ahead of what it is told;
 * - the guest is not trusted: a frame that is too short for its type is ignored.
 */

import { fromBase64, join, toBase64 } from "./bytes.js";
import { RequestError } from "./fault.js";

export const AGENT_PORT = 1;                 // /dev/hvc1
const MAGIC = 0xA5;
const HEADER = 8;
const MOST_PAYLOAD = 4088;
const MOST_CHUNK = 4096;
const MOST_INCOMING = 65536;
const STDIN_WINDOW = 65536;
const GREETING = 12;                         // nonce and version
const TO_GUEST = { RESET: 1, SPAWN_PART: 2, SPAWN: 3, STDIN: 4, STDIN_EOF: 5, SIGNAL: 6, CLOCK: 7, ENTROPY: 8 };
const FROM_GUEST = { HELLO: 65, STARTED: 66, FAILED: 67, STDOUT: 68, STDERR: 69, EXIT: 70, STDIN_ACK: 71 };
const LEAST = /** @type {Record<number, number>} */ ({ [FROM_GUEST.HELLO]: GREETING, [FROM_GUEST.FAILED]: 4, [FROM_GUEST.EXIT]: 4, [FROM_GUEST.STDIN_ACK]: 4 });

/** @param {number} type @param {number} session @param {Uint8Array} [payload] */
export function encodeFrame(type, session, payload = new Uint8Array(0)) {
    const frame = new Uint8Array(HEADER + payload.length), view = new DataView(frame.buffer);
    view.setUint8(0, MAGIC);
    view.setUint8(1, type);
    view.setUint16(2, session, true);
    view.setUint32(4, payload.length, true);
    frame.set(payload, HEADER);
    return frame;
}

/** Bytes from the guest, cut into frames; what is not a frame is skipped. */
export class FrameDecoder {
    /** The beginning of a frame that has not come whole. @type {Uint8Array} */
    rest = new Uint8Array(0);
    /** @type {Uint8Array | null} */
    #beginning = null;

    /** @param {Uint8Array} bytes @returns {{type: number, session: number, payload: Uint8Array}[]} */
    push(bytes) {
        let data = bytes;
        if(this.rest.length) {
            data = new Uint8Array(this.rest.length + bytes.length);
            data.set(this.rest);
            data.set(bytes, this.rest.length);
        }
        const frames = [], view = new DataView(data.buffer, data.byteOffset, data.length);
        let at = 0;
        if(this.#beginning) {
            const { length } = this.#beginning;
            while(at + length <= data.length && !this.#beginning.every((byte, n) => data[at + n] === byte)) at++;
            if(at + length > data.length) {
                this.rest = data.slice(at);
                return [];
            }
            this.#beginning = null;
        }
        for(;;) {
            while(at < data.length && data[at] !== MAGIC) at++;
            if(data.length - at < HEADER) break;
            const length = view.getUint32(at + 4, true);
            if(length > MOST_INCOMING) {                     // not a frame of ours after all
                at++;
                continue;
            }
            if(data.length - at < HEADER + length) break;
            frames.push({ type: data[at + 1], session: view.getUint16(at + 2, true), payload: data.slice(at + HEADER, at + HEADER + length) });
            at += HEADER + length;
        }
        this.rest = data.slice(at);
        return frames;
    }

    clear() {
        this.rest = new Uint8Array(0);
        this.#beginning = null;
    }

    get skipping() {
        return this.#beginning !== null;
    }

    /** Skip everything before a frame that begins like this. @param {Uint8Array} beginning */
    skipTo(beginning) {
        this.clear();
        this.#beginning = beginning;
    }
}

/** @param {{argv: string[], env: Record<string, string>, cwd: string}} command @returns {Uint8Array} */
export function describeCommand({ argv, env, cwd }) {
    const pairs = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const strings = new TextEncoder().encode([cwd, ...argv, ...pairs].map(text => text + "\0").join(""));
    const bytes = new Uint8Array(8 + strings.length), view = new DataView(bytes.buffer);
    view.setUint32(0, argv.length, true);
    view.setUint32(4, pairs.length, true);
    bytes.set(strings, 8);
    return bytes;
}

/**
 * @typedef {object} Session
 * @property {(returncode: number) => void} exit
 * @property {(error: RequestError) => void} fail
 * @property {(fd: 1 | 2, bytes: Uint8Array) => void} output
 * @property {Uint8Array} input
 * @property {number} sent
 * @property {number} acknowledged
 * @property {boolean} closed
 */

export class Agent {
    #decoder = new FrameDecoder();
    /** @type {Map<number, Session>} */
    #sessions = new Map();
    #lastSession = 0;
    /** Bytes on their way to the guest. @type {Uint8Array[]} */
    #queue = [];
    #deliver;
    #stir;
    /** Who waits for a greeting. @type {{resolve: () => void, reject: (why: RequestError) => void}[]} */
    #greetings = [];
    ready = false;

    /**
     * @param {(bytes: Uint8Array) => boolean} deliver   hands at most 4096 bytes to the guest; false when it has no room now
     * @param {() => void} [stir]   somebody was told something
     */
    constructor(deliver, stir = () => {}) {
        this.#deliver = deliver;
        this.#stir = stir;
    }

    /** Something waits to be taken by the guest. */
    get busy() {
        return this.#queue.length > 0;
    }

    /** The guest has an agent, as far as we know: it has greeted since power-on, in this engine or before a restore. */
    get begun() {
        return this.ready || this.#decoder.skipping;
    }

    /** Resolves once the agent has greeted. @returns {Promise<void>} */
    greeted() {
        if(this.ready) return Promise.resolve();
        return new Promise((resolve, reject) => this.#greetings.push({ resolve, reject }));
    }

    /** Have the agent forget everything under way; needed after a restore. @param {Uint8Array} nonce 8 bytes */
    resynchronise(nonce) {
        this.abandon(new RequestError("agent", "the agent in the guest was reset"));
        this.#queue = [new Uint8Array(MOST_CHUNK)];
        const greeting = new Uint8Array(GREETING);
        greeting.set(nonce);
        this.#decoder.skipTo(encodeFrame(FROM_GUEST.HELLO, 0, greeting).subarray(0, HEADER + nonce.length));
        this.#send(TO_GUEST.RESET, 0, nonce);
    }

    /** What a machine needs to go on with this agent as if nothing had happened; commands under way are not part of it. */
    save() {
        return { ready: this.ready, session: this.#lastSession, queue: this.#queue.map(toBase64), rest: toBase64(this.#decoder.rest) };
    }

    /** @param {ReturnType<Agent["save"]>} saved */
    load({ ready, session, queue, rest }) {
        this.ready = ready;
        this.#lastSession = session;
        this.#queue = queue.map(fromBase64);
        this.#decoder.rest = fromBase64(rest);
    }

    /** What waits to be taken by the guest. */
    get waiting() {
        return join(this.#queue);
    }

    /** Set the guest's calendar clock. @param {number} ms since 1970 */
    setClock(ms) {
        const payload = new Uint8Array(12), view = new DataView(payload.buffer);
        view.setBigInt64(0, BigInt(Math.floor(ms / 1000)), true);
        view.setInt32(8, Math.floor(ms % 1000 * 1e6), true);
        this.#send(TO_GUEST.CLOCK, 0, payload);
    }

    /** Stir the guest's random pool. @param {Uint8Array} bytes */
    addEntropy(bytes) {
        this.#send(TO_GUEST.ENTROPY, 0, bytes);
    }

    /**
     * Start a command.
     *
     * @param {{argv: string[], env: Record<string, string>, cwd: string}} command
     * @param {Uint8Array} input
     * @param {Pick<Session, "exit" | "fail" | "output">} listener
     * @returns {number} its session, for `signal`
     */
    spawn(command, input, listener) {
        do this.#lastSession = this.#lastSession % 0xFFFF + 1; while(this.#sessions.has(this.#lastSession));
        const id = this.#lastSession, description = describeCommand(command);
        this.#sessions.set(id, { ...listener, input, sent: 0, acknowledged: 0, closed: false });
        let at = 0;
        for(; description.length - at > MOST_PAYLOAD; at += MOST_PAYLOAD) {
            this.#send(TO_GUEST.SPAWN_PART, id, description.subarray(at, at + MOST_PAYLOAD));
        }
        this.#send(TO_GUEST.SPAWN, id, description.subarray(at));
        this.#feed(id);
        return id;
    }

    /** Signal the command's process group. @param {number} session @param {number} signal */
    signal(session, signal) {
        const payload = new Uint8Array(4);
        new DataView(payload.buffer).setInt32(0, signal, true);
        if(this.#sessions.has(session)) this.#send(TO_GUEST.SIGNAL, session, payload);
    }

    /** Bytes the guest wrote on the agent's port. @param {Uint8Array} bytes */
    receive(bytes) {
        for(const frame of this.#decoder.push(bytes)) this.#handle(frame);
        this.pump();
    }

    /** Hand over what waits, as far as the guest takes it. */
    pump() {
        while(this.#queue.length) {
            let chunk = this.#queue[0];
            if(this.#queue.length > 1 && chunk.length + this.#queue[1].length <= MOST_CHUNK) {
                chunk = this.#gather();
            }
            if(!this.#deliver(chunk)) return;
            this.#queue.shift();
        }
    }

    /** This guest's agent is gone, but another may greet: nothing under way will be answered. @param {RequestError} why */
    abandon(why) {
        this.#failSessions(why);
        this.#decoder.clear();
        this.#queue = [];
        this.ready = false;
    }

    /** No agent will greet any more. @param {RequestError} why */
    end(why) {
        this.abandon(why);
        for(const one of this.#greetings.splice(0)) one.reject(why);
    }

    /** @param {RequestError} why */
    #failSessions(why) {
        const sessions = [...this.#sessions.values()];
        this.#sessions.clear();
        for(const session of sessions) session.fail(why);
        this.#stir();
    }

    /** Several small frames go in one buffer. */
    #gather() {
        let count = 0, length = 0;
        while(count < this.#queue.length && length + this.#queue[count].length <= MOST_CHUNK) length += this.#queue[count++].length;
        const gathered = join(this.#queue.splice(0, count));
        this.#queue.unshift(gathered);
        return gathered;
    }

    /** @param {number} type @param {number} session @param {Uint8Array} [payload] */
    #send(type, session, payload) {
        this.#queue.push(encodeFrame(type, session, payload));
        this.pump();
    }

    /** @param {number} id */
    #feed(id) {
        const session = this.#sessions.get(id);
        if(!session) return;
        while(session.sent < session.input.length && session.sent - session.acknowledged < STDIN_WINDOW) {
            const end = Math.min(session.input.length, session.sent + MOST_PAYLOAD, session.acknowledged + STDIN_WINDOW);
            this.#send(TO_GUEST.STDIN, id, session.input.subarray(session.sent, end));
            session.sent = end;
        }
        if(session.sent === session.input.length && !session.closed) {
            session.closed = true;
            this.#send(TO_GUEST.STDIN_EOF, id);
        }
    }

    /** @param {{type: number, session: number, payload: Uint8Array}} frame */
    #handle({ type, session: id, payload }) {
        if(payload.length < (LEAST[type] ?? 0)) return;
        const view = new DataView(payload.buffer, payload.byteOffset, payload.length), session = this.#sessions.get(id);
        switch(type) {
        case FROM_GUEST.HELLO: {
            const unasked = payload.subarray(0, 8).every(byte => byte === 0);
            if(unasked) {
                this.#queue = [new Uint8Array(MOST_CHUNK)];
                this.#failSessions(new RequestError("agent", "the agent in the guest died and was started again"));
            }
            this.ready = true;
            for(const one of this.#greetings.splice(0)) one.resolve();
            this.#stir();
            break;
        }
        case FROM_GUEST.STDOUT:
        case FROM_GUEST.STDERR:
            session?.output(type === FROM_GUEST.STDOUT ? 1 : 2, payload);
            break;
        case FROM_GUEST.STDIN_ACK:
            if(session) {
                session.acknowledged = Math.min(session.sent, session.acknowledged + view.getUint32(0, true));
                this.#feed(id);
            }
            break;
        case FROM_GUEST.EXIT:
            this.#sessions.delete(id);
            session?.exit(view.getInt32(0, true));
            this.#stir();
            break;
        case FROM_GUEST.FAILED: {
            this.#sessions.delete(id);
            const step = new TextDecoder().decode(payload.subarray(4)).replace(/\0$/, "");
            this.#stir();
            session?.fail(new RequestError("guest", `the guest cannot start the command (${step})`, { seen: errorName(view.getInt32(0, true)) }));
            break;
        }
        }
    }
}

/** Linux's numbers for what commonly goes wrong. @param {number} errno */
function errorName(errno) {
    const names = /** @type {Record<number, string>} */ ({
        1: "EPERM: not permitted", 2: "ENOENT: no such file or directory", 7: "E2BIG: argument list too long", 8: "ENOEXEC: not an executable this guest can run",
        11: "EAGAIN: too many processes", 12: "ENOMEM: out of memory", 13: "EACCES: permission denied", 20: "ENOTDIR: not a directory", 24: "EMFILE: too many open files",
    });
    return names[errno] ?? `errno ${errno}`;
}
