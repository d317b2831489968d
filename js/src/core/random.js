/**
 * Numbers that a seed decides: xoshiro128** (Blackman and Vigna, 2018), its state filled by splitmix32.
 *
 * Streams of one seed are independent: what draws from one does not move another.
 */

/** @typedef {[number, number, number, number]} State */

export class Random {
    /** @type {State} */
    state;

    /** @param {State} state */
    constructor(state) {
        this.state = [...state];
    }

    /** @param {number} seed   32 bits @param {number} stream */
    static seeded(seed, stream) {
        let z = (seed ^ Math.imul(stream, 0x85EBCA6B)) | 0;
        const next = () => {
            z = (z + 0x9E3779B9) | 0;
            let mixed = Math.imul(z ^ z >>> 16, 0x21F0AAAD);
            mixed = Math.imul(mixed ^ mixed >>> 15, 0x735A2D97);
            return mixed ^ mixed >>> 15;
        };
        return new Random([next(), next(), next(), next()]);
    }

    /** A signed number of 32 bits. */
    next() {
        const { state } = this, [a, b, c, d] = state, five = Math.imul(b, 5);
        const result = Math.imul(five << 7 | five >>> 25, 9), mixed = d ^ b;
        state[2] = c ^ a ^ b << 9;
        state[1] = b ^ c ^ a;
        state[0] = a ^ mixed;
        state[3] = mixed << 11 | mixed >>> 21;
        return result;
    }

    /** From 0 up to, not including, `limit`. @param {number} limit */
    below(limit) {
        return Math.floor((this.next() >>> 0) / 2 ** 32 * limit);
    }

    /** @param {number} count */
    bytes(count) {
        return Uint8Array.from({ length: count }, () => this.next() & 0xFF);
    }
}
