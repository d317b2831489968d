/**
 * The machine's clock: guest milliseconds that follow the wall clock, but stand still while the machine is held and go
 * on from where a snapshot was taken.
 *
 * `now()` drives the timers, the TSC and the PIT; `date()` is what the RTC shows, always the host's calendar.
 */

import { wall, wallDate } from "./realm.js";

export class Clock {
    #offset = wall();
    /** @type {number | null} */
    #held = 0;

    /** Guest milliseconds since power-on. */
    now() {
        return this.#held ?? wall() - this.#offset;
    }

    /** Milliseconds since 1970, for the real-time clock. */
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
