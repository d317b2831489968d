/**
 * The machine's own time and randomness.
 *
 * v86 binds `performance.now` when it is imported and reads `Date` and `Math.random` as it runs. This module is imported
 * before v86, in a realm that holds one machine and nothing else (a worker), and puts the machine's clock in their place.
 * The host's clock stays reachable as `wall` and `wallDate`.
 *
 * It also gives v86 the `ImageData` without which it draws no graphics.
 */

const HostDate = Date;

/** Milliseconds of the host's monotonic clock. @type {() => number} */
export const wall = performance.now.bind(performance);

/** Milliseconds since 1970 of the host's calendar clock. @type {() => number} */
export const wallDate = Date.now.bind(Date);

const unit = Math.random;

/** @typedef {{now(): number, date(): number, random(): number}} Source */

/** @type {Source} */
let source = { now: wall, date: wallDate, random: () => unit() * 2 ** 32 | 0 };

/** Put a clock behind `performance.now`, `Date` and `Math.random` of this realm. @param {Source} clock */
export function setSource(clock) {
    source = clock;
}

/** 32 bits for the emulator. */
export function random32() {
    return source.random();
}

Math.random = () => (random32() >>> 0) / 2 ** 32;

performance.now = () => source.now();
globalThis.Date = /** @type {DateConstructor} */ (/** @type {unknown} */ (class extends HostDate {
    /** @param {any[]} args */
    constructor(...args) {
        // @ts-ignore: Date's overloads do not accept a spread
        super(...(args.length ? args : [source.date()]));
    }
    static now() {
        return source.date();
    }
}));

/** v86 draws graphics into one of these, a view of its own memory; Node has none. */
/** @type {any} */ (globalThis).ImageData = class {
    /** @param {Uint8ClampedArray} data @param {number} width @param {number} height */
    constructor(data, width, height) {
        this.data = data;
        this.width = width;
        this.height = height;
    }
};
