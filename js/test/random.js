/** A generator of numbers that gives the same ones in every run: mulberry32. */
export class Random {
    #state;

    /** @param {number} seed */
    constructor(seed) {
        this.#state = seed >>> 0;
    }

    /** A whole number from 0 up to, not including, `end`. @param {number} end */
    below(end) {
        this.#state = this.#state + 0x6D2B79F5 >>> 0;
        let bits = this.#state;
        bits = Math.imul(bits ^ bits >>> 15, bits | 1);
        bits ^= bits + Math.imul(bits ^ bits >>> 7, bits | 61);
        return Math.floor(((bits ^ bits >>> 14) >>> 0) / 2 ** 32 * end);
    }

    /** @param {number} count */
    bytes(count) {
        const bytes = new Uint8Array(count);
        for(let n = 0; n < count; n++) bytes[n] = this.below(256);
        return bytes;
    }
}
