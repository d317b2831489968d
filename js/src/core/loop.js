/**
 * The run loop: steps while nobody holds it, and breathes between ticks so that messages are handled.
 *
 * On a wall clock it sleeps while the CPU is halted, and guest time stands still while the loop does. On a virtual clock
 * idle time is skipped and nothing depends on when the loop breathes: reads are answered between two ticks, and a tick in
 * which somebody was told something is the last until he has had his turn. A virtual clock that is live keeps to the
 * wall's pace: then it sleeps, too, until something comes in.
 */

import { wall } from "./realm.js";

const BATCH = 5;                             // ms of ticks between two breaths
const LATE = 100;                            // ms that a live clock may be behind the wall before it gives up catching up

/**
 * @typedef {object} Pace  what a host gives the loop
 * @property {() => Promise<void>} breathe                                 let messages and completions be handled
 * @property {(ms: number, callback: () => void) => () => void} timer       returns what cancels it
 *
 * @typedef {object} Stepper
 * @property {() => number} step   one tick; returns ms until there is work again, 0 for at once
 * @property {(ms: number, cut: boolean) => void} idle   on a virtual clock, after each step: time passes without work; `cut`: less than `step` said
 * @property {() => Promise<void> | null} settle   answers the reads that wait, if any do
 *
 * @typedef {"start" | "pause" | "calls" | "expect" | "snapshot" | "export" | "reset" | "replace" | "replay" | "end"} Reason
 */

export class Loop {
    #stepper;
    #pace;
    #clock;
    /** Who holds the loop. @type {Set<Reason>} */
    #held = new Set(/** @type {Reason[]} */ (["start"]));
    #running = false;
    /** Who waits for the end of a tick. @type {(() => void)[]} */
    #turns = [];
    /** @type {(() => void) | null} */
    #wake = null;
    #woken = false;
    #stirred = false;
    /** When the clock went live: the guest's time and the wall's. @type {{guest: number, wall: number} | null} */
    #live = null;
    /** Milliseconds of the host's time that steps took. */
    worked = 0;

    /**
     * @param {Stepper} stepper
     * @param {Pace} pace
     * @param {import("./clock.js").WallClock | import("./clock.js").VirtualClock} clock
     * @param {boolean} virtual
     */
    constructor(stepper, pace, clock, virtual) {
        this.#stepper = stepper;
        this.#pace = pace;
        this.#clock = clock;
        this.virtual = virtual;
    }

    get held() {
        return this.#held.size > 0;
    }

    /** A virtual clock keeps to the wall's pace. */
    get live() {
        return this.#live !== null;
    }

    set live(live) {
        this.#live = live ? { guest: this.#clock.now(), wall: wall() } : null;
        this.wake();
    }

    /** @param {Reason} reason */
    hold(reason) {
        this.#held.add(reason);
        this.#clock.hold();
        if(this.virtual) this.#wake?.();
    }

    /** @param {Reason} reason */
    release(reason) {
        this.#held.delete(reason);
        if(this.held) return;
        this.#clock.release();
        if(this.#running) this.wake();
        else void this.#run();
    }

    /** Resolves once the tick that is under way is over, with all that belongs to it; at once if there is none. @returns {Promise<void>} */
    get settled() {
        return this.#running ? new Promise(resolve => this.#turns.push(() => resolve(undefined))) : Promise.resolve();
    }

    #turn() {
        for(const turn of this.#turns.splice(0)) turn();
    }

    /** There is work again; said during a step, it counts for the sleep that would follow. */
    wake() {
        this.#woken = true;
        this.#wake?.();
    }

    /** Somebody was told something in this tick: he may want to hold the machine before the next. */
    stir() {
        this.#stirred = true;
    }

    async #run() {
        this.#running = true;
        try {
            if(this.virtual) await this.#runOnInstructions();
            else await this.#runOnWall();
        }
        finally {
            this.#running = false;
            this.#turn();
        }
    }

    async #runOnWall() {
        while(!this.held) {
            this.#woken = false;
            const began = wall(), wait = this.#stepper.step();
            this.worked += wall() - began;
            if(this.held) break;
            if(wait < 1 || this.#woken) await this.#pace.breathe();
            else await this.#sleep(wait);
        }
    }

    async #runOnInstructions() {
        await this.#pace.breathe();          // whoever is answered at once moves nothing
        if(this.#live) this.live = true;
        while(!this.held) {
            const began = wall();
            let wait = 0, reads = null;
            this.#stirred = this.#woken = false;
            for(;;) {
                wait = this.#stepper.step();
                reads = this.#stepper.settle();
                if(this.#live || reads) break;
                this.#stepper.idle(wait, false);
                if(this.held || this.#stirred || wall() - began > BATCH) break;
            }
            this.worked += wall() - began;
            await reads;
            if(this.#live) await this.#keepPace(wait);
            else if(reads) this.#stepper.idle(wait, false);
            await this.#pace.breathe();
            this.#turn();
        }
    }

    /** Sleep until the wall has come as far as the guest; what comes in ends it. @param {number} wait */
    async #keepPace(wait) {
        const live = /** @type {{guest: number, wall: number}} */ (this.#live), ahead = this.#clock.now() + wait - live.guest - (wall() - live.wall);
        if(ahead < -LATE) live.wall -= ahead;
        if(ahead < 1 || this.#woken) return this.#stepper.idle(wait, false);
        await this.#sleep(ahead);
        const left = this.#clock.now() + wait - live.guest - (wall() - live.wall);
        if(left < 1 || !wait) this.#stepper.idle(wait, false);
        else this.#stepper.idle(Math.max(0, wait - left), true);
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
