/**
 * The machine's clock, of one of two kinds. `now()` is guest milliseconds since power-on and drives the timers, the TSC
 * and the PIT; `date()` is what the real-time clock shows; `random()` is where the emulator's own randomness comes from.
 *
 * - A wall clock follows the host's, but stands still while the machine is held and goes on from where a snapshot was
 *   taken; its calendar is the host's.
 * - A virtual clock moves by the instructions that the guest retires, and by the time that it idles. Nothing of the host
 *   gets in: the same instructions make the same time.
 */

import { wall, wallDate } from "./realm.js";

export class WallClock {
    #offset = wall();
    /** @type {number | null} */
    #held = 0;
    random;

    /** @param {() => number} random   32 bits of the host's */
    constructor(random) {
        this.random = random;
    }

    now() {
        return this.#held ?? wall() - this.#offset;
    }

    date() {
        return wallDate();
    }

    hold() {
        this.#held ??= wall() - this.#offset;
    }

    release() {
        if(this.#held === null) return;
        this.#offset = wall() - this.#held;
        this.#held = null;
    }

    /** Go on from `milliseconds`, held. @param {number} milliseconds */
    set(milliseconds) {
        this.#held = milliseconds;
    }
}

export class VirtualClock {
    /** Milliseconds that no instruction made. */
    idle = 0;
    #epoch;
    #rate;
    #retired;
    random;

    /**
     * @param {number} epoch   milliseconds since 1970 at power-on
     * @param {number} rate   instructions in a millisecond
     * @param {() => number} retired   instructions since power-on
     * @param {() => number} random   32 bits
     */
    constructor(epoch, rate, retired, random) {
        this.#epoch = epoch;
        this.#rate = rate;
        this.#retired = retired;
        this.random = random;
    }

    now() {
        return this.idle + this.#retired() / this.#rate;
    }

    date() {
        return this.#epoch + Math.floor(this.now());
    }

    hold() {}
    release() {}

    /** Go on from `milliseconds`. @param {number} milliseconds */
    set(milliseconds) {
        this.idle = milliseconds - this.#retired() / this.#rate;
    }
}
