/**
 * The serial console: what the guest shows on ttyS0, what waits to be typed into it, and who waits for what.
 *
 * Rules:
 * - what was shown is kept, up to a limit, for those who come late: all of it up to the last announcement and no more;
 * - output is matched once per tick and announced in batches, always before the answer to a request that it completed;
 * - input goes in as the guest takes it: never more than a UART's FIFO holds.
 */

import { fromBase64, join, toBase64 } from "./bytes.js";
import { RequestError } from "./fault.js";
import { History } from "./history.js";
import { Matcher, PatternError, Unconsumed } from "./matcher.js";

const FIFO = 16;                             // bytes, as in a 16550A
const ANNOUNCE_EVERY = 16;                   // ms
const PANIC = /---\[ end (Kernel panic - not syncing[^]*?) *\]---/;      // Linux prints this only when it will not reboot (kernel/panic.c)
const TAIL = 4096;
const SAVED = 65536;                         // bytes of what was shown that a snapshot keeps

/**
 * @typedef {{index: number, start: number, end: number, bytes: Uint8Array, dropped: number}} Match   with what was unconsumed up to its end
 *
 * @typedef {object} Saved
 * @property {string} [history]       base64 of the end of what was shown
 * @property {number} [unconsumed]    how many bytes at its end nobody has matched yet
 * @property {string} [shown]         base64 of those bytes, in snapshots made before there was a history
 * @property {string} input           base64 of what the guest has not taken yet
 *
 * @typedef {object} Wait
 * @property {() => Match | true | null} look     true: there is output that Python has not seen
 * @property {(found: Match | null) => void} resolve
 * @property {(error: unknown) => void} reject
 */

export class Console {
    #announceBytes;
    #timer;
    #stir;
    /** This tick's output. @type {number[]} */
    #fresh = [];
    /** Output not yet announced. @type {Uint8Array[]} */
    #batch = [];
    /** @type {(() => void) | null} */
    #cancelAnnounce = null;
    /** What waits to be typed. @type {Uint8Array} */
    #input = new Uint8Array(0);
    #unconsumed = new Unconsumed();
    #history = new History();
    /** @type {Wait | null} */
    #wait = null;
    #tail = "";
    /** Why nothing more will come. @type {RequestError | null} */
    #over = null;
    /** What the kernel said when it panicked. @type {string | null} */
    panicked = null;

    /**
     * @param {(bytes: Uint8Array) => void} announce
     * @param {(ms: number, callback: () => void) => () => void} timer   of the host
     * @param {() => void} [stir]   somebody was told something
     */
    constructor(announce, timer, stir = () => {}) {
        this.#announceBytes = announce;
        this.#timer = timer;
        this.#stir = stir;
    }

    /** A byte from the UART. @param {number} byte */
    receive(byte) {
        this.#fresh.push(byte);
    }

    /** The tick is over: match and announce. */
    settle() {
        if(!this.#fresh.length) return;
        const bytes = Uint8Array.from(this.#fresh);
        this.#fresh = [];
        this.#unconsumed.append(bytes);
        this.#batch.push(bytes);
        this.#cancelAnnounce ??= this.#timer(ANNOUNCE_EVERY, () => this.announce());
        this.#lookForPanic(bytes);
        this.#look();
    }

    /** Send out what has not been announced yet. */
    announce() {
        this.#cancelAnnounce?.();
        this.#cancelAnnounce = null;
        const bytes = join(this.#batch.splice(0));
        if(bytes.length) {
            this.#history.append(bytes);
            this.#announceBytes(bytes);
        }
    }

    /** The end of all that has been announced. */
    get history() {
        return this.#history.bytes.slice();
    }

    /** Type into the console. @param {Uint8Array} bytes */
    send(bytes) {
        this.#input = join([this.#input, bytes]);
    }

    get waiting() {
        return this.#input;
    }

    /** Hand over what the UART has room for. @param {import("./emulator.js").Emulator} emulator */
    pump(emulator) {
        if(!this.#input.length || emulator.serialBacklog > 0) return;
        const bytes = this.#input.subarray(0, FIFO);
        this.#input = this.#input.subarray(FIFO);
        emulator.enter(() => {
            for(const byte of bytes) emulator.bus.send("serial0-input", byte);
        });
    }

    /**
     * Wait for one of the patterns.
     *
     * @param {unknown} patterns   as they came over the wire
     * @param {AbortSignal} signal
     * @returns {Promise<Match>}
     */
    async expect(patterns, signal) {
        const matcher = Matcher.fromWire(patterns);
        if(matcher instanceof PatternError) throw new RequestError("engine", `a pattern cannot be used: ${matcher.message}`);
        return /** @type {Match} */ (await this.#waitFor(() => {
            const found = matcher.search(this.#unconsumed);
            return found && { ...found, ...this.#unconsumed.consume(found.end) };
        }, signal));
    }

    /** Wait until more than `seen` bytes have come since something was last consumed. @param {number} seen @param {AbortSignal} signal */
    async outputBeyond(seen, signal) {
        await this.#waitFor(() => this.received > seen ? true : null, signal);
    }

    /** What nobody has matched yet. */
    get unconsumed() {
        return this.#unconsumed.bytes.slice();
    }

    /** Bytes that were dropped unmatched, because nobody consumed them. */
    get dropped() {
        return this.#unconsumed.dropped;
    }

    /** Bytes that came since something was last consumed. */
    get received() {
        return this.#unconsumed.dropped + this.#unconsumed.length;
    }

    /** Drop the first bytes: they have been matched. @param {number} count */
    consume(count) {
        this.#unconsumed.consume(count);
    }

    /** Nothing more will come: who waits, or will wait, for more is told. @param {RequestError} why */
    end(why) {
        this.#over = why;
        this.#wait?.reject(why);
    }

    /** A new instance boots: nothing typed before reaches it. */
    clear() {
        this.#input = new Uint8Array(0);
        this.#over = null;
        this.panicked = null;
        this.#tail = "";
    }

    /** @returns {Saved} what a snapshot keeps */
    save() {
        this.announce();
        const history = this.#history.bytes.subarray(-SAVED);
        return { history: toBase64(history), unconsumed: Math.min(this.#unconsumed.length, history.length), input: toBase64(this.waiting) };
    }

    /** @param {Saved} saved */
    load({ history, unconsumed, shown = "", input }) {
        const bytes = fromBase64(history ?? shown);
        this.#history = new History();
        this.#history.append(bytes);
        this.#unconsumed = new Unconsumed();
        this.#unconsumed.append(bytes.subarray(bytes.length - Math.min(unconsumed ?? bytes.length, bytes.length)));
        this.#input = fromBase64(input);
    }

    /** @param {() => Match | true | null} look @param {AbortSignal} signal @returns {Promise<Match | null>} */
    #waitFor(look, signal) {
        if(this.#wait) throw new RequestError("engine", "another expect is waiting on this console");
        return new Promise((resolve, reject) => {
            const giveUp = () => wait.reject(signal.reason);
            const end = () => {
                this.#wait = null;
                signal.removeEventListener("abort", giveUp);
            };
            const wait = this.#wait = {
                look, resolve: (/** @type {Match | null} */ found) => { end(); resolve(found); },
                reject: (/** @type {unknown} */ error) => { end(); reject(error); },
            };
            signal.addEventListener("abort", giveUp);
            this.#look();
            if(this.#over) this.#wait?.reject(this.#over);
        });
    }

    #look() {
        const found = this.#wait?.look();
        if(!found) return;
        this.announce();
        this.#stir();
        this.#wait?.resolve(found === true ? null : found);
    }

    /** @param {Uint8Array} bytes */
    #lookForPanic(bytes) {
        this.#tail = (this.#tail + String.fromCharCode(...bytes)).slice(-TAIL);
        this.panicked ??= PANIC.exec(this.#tail)?.[1] ?? null;
    }
}
