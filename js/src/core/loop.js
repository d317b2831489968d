/**
 * The run loop: steps while nobody holds it, sleeps while the CPU is halted, breathes between ticks so that messages
 * are handled. Guest time stands still while the loop does.
 */

import { wall } from "./realm.js";

/**
 * @typedef {object} Pace  what a host gives the loop
 * @property {() => Promise<void>} breathe                                 let messages and completions be handled
 * @property {(ms: number, callback: () => void) => () => void} timer       returns what cancels it
 *
 * @typedef {"start" | "pause" | "expect" | "snapshot" | "reset" | "replace" | "end"} Reason
 */

export class Loop {
    #step;
    #pace;
    #clock;
    /** Who holds the loop. @type {Set<Reason>} */
    #held = new Set(/** @type {Reason[]} */ (["start"]));
    #running = false;
    /** @type {(() => void) | null} */
    #wake = null;
    #woken = false;
    /** Milliseconds of the host's time that steps took. */
    worked = 0;

    /**
     * @param {() => number} step   one tick; returns ms until there is work again, 0 for at once
     * @param {Pace} pace
     * @param {import("./clock.js").Clock} clock
     */
    constructor(step, pace, clock) {
        this.#step = step;
        this.#pace = pace;
        this.#clock = clock;
    }

    get held() {
        return this.#held.size > 0;
    }

    /** @param {Reason} reason */
    hold(reason) {
        this.#held.add(reason);
        this.#clock.hold();
    }

    /** @param {Reason} reason */
    release(reason) {
        this.#held.delete(reason);
        if(this.held) return;
        this.#clock.release();
        if(this.#running) this.wake();
        else void this.#run();
    }

    /** There is work again; said during a step, it counts for the sleep that would follow. */
    wake() {
        this.#woken = true;
        this.#wake?.();
    }

    async #run() {
        this.#running = true;
        try {
            while(!this.held) {
                this.#woken = false;
                const began = wall(), wait = this.#step();
                this.worked += wall() - began;
                if(this.held) break;
                if(wait < 1 || this.#woken) await this.#pace.breathe();
                else await this.#sleep(wait);
            }
        }
        finally {
            this.#running = false;
        }
    }

    /** @param {number} ms @returns {Promise<void>} */
    #sleep(ms) {
        return new Promise(resolve => {
            const cancel = this.#pace.timer(ms, () => this.#wake?.());
            this.#wake = () => {
                this.#wake = null;
                cancel();
                resolve();
            };
        });
    }
}
