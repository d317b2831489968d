/**
 * The course of a seeded machine: all that decides where it goes, besides what it was made of.
 *
 * - Its clock and its randomness come from the seed and from the instructions it retires.
 * - Whatever comes from outside comes between two ticks and is recorded: `[step, instructions, kind, ...]`, in order.
 *   Ticks are counted from power-on; a tick's number says when, its instructions let a replay check that it is the same.
 * - When the guest idles, time passes up to its next timer (or `LEAST_IDLE`); where it passed otherwise (a call's deadline,
 *   a live clock), that is recorded as well.
 * - The seed also moves interrupts: a phase of up to `TIMER` ms at the start, commands that begin `TIMER` to twice that
 *   after they were asked for, and quanta that are cut by up to `MOST_CUT` instructions.
 */

import { VirtualClock } from "./clock.js";
import { Random } from "./random.js";

const LEAST_IDLE = 0.02;                     // ms: v86 may ask for no rest at all
const TIMER = 10;                            // ms: a tick of the guest's timer at 100 Hz, which also wakes its console driver
const MOST_CUT = 100_000;                    // instructions: v86's quantum between two looks at its timers
const CUT_ONE_IN = 4;                        // ticks
const STREAMS = { randomness: 1, timing: 2, ours: 3 };

/**
 * @typedef {[number, number, string, ...any[]]} Event
 * @typedef {{state: string | null, fresh: boolean, image: object}} Origin   what it was booted from
 *
 * @typedef {object} Saved
 * @property {number} seed
 * @property {number} idle
 * @property {number} steps
 * @property {number} delay
 * @property {import("./random.js").State[]} random
 * @property {Event[]} events
 * @property {Origin} origin
 */

export class Course {
    /** @type {Event[]} */
    events = [];
    steps = 0;
    /** Milliseconds from when a command is asked for to its beginning: a guest that has just ended one stands at its timer. */
    delay = TIMER;
    clock;
    /** For our own use: nonces and what the guest's pool is stirred with. */
    random;
    #randomness;
    #timing;
    #retired;

    /**
     * @param {number} seed   32 bits
     * @param {{epoch: number, mips: number}} image
     * @param {Origin} origin
     * @param {() => number} retired   instructions since power-on
     */
    constructor(seed, { epoch, mips }, origin, retired) {
        this.seed = seed;
        this.origin = origin;
        this.#retired = retired;
        const stream = (/** @type {number} */ number) => Random.seeded(seed, number);
        this.#randomness = stream(STREAMS.randomness);
        this.#timing = stream(STREAMS.timing);
        this.random = stream(STREAMS.ours);
        this.clock = new VirtualClock(epoch * 1000, mips * 1000, retired, () => this.#randomness.next());
        this.drawDelay();
    }

    /** Begin at another phase of the guest's timers than other seeds do. */
    shift() {
        this.clock.idle += this.#phase;
    }

    /** A command begins: the next will have a delay of its own. */
    drawDelay() {
        this.delay = TIMER + this.#phase;
    }

    get #phase() {
        return this.#timing.below(TIMER * 1000) / 1000;
    }

    /** Instructions by which this tick's quantum is cut; most are not. */
    cut() {
        const number = this.#timing.next() >>> 0;
        return number % CUT_ONE_IN ? 0 : Math.floor(number / 2 ** 32 * MOST_CUT);
    }

    /** @param {string} kind @param {...any} data */
    record(kind, ...data) {
        this.events.push([this.steps, this.#retired(), kind, ...data]);
    }

    /** How long a guest idles that has nothing to do for `wait` ms. @param {number} wait */
    idleTime(wait) {
        return Math.max(wait, LEAST_IDLE);
    }

    /** @returns {Saved} */
    save() {
        const random = [this.#randomness, this.#timing, this.random].map(stream => stream.state);
        return { seed: this.seed, idle: this.clock.idle, steps: this.steps, delay: this.delay, random, events: this.events, origin: this.origin };
    }

    /** Go on as the machine that was saved; its instructions have been set. @param {Saved} saved */
    load({ idle, steps, delay, random, events, origin }) {
        this.clock.idle = idle;
        this.delay = delay;
        this.steps = steps;
        [this.#randomness, this.#timing, this.random] = random.map(state => new Random(state));
        this.events = [...events];
        this.origin = origin;
    }
}
