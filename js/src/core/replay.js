/**
 * Takes a machine along a course that was recorded: after each tick come the events of that tick, in order, and the
 * instructions retired must be those of the recording.
 */

import { RequestError } from "./fault.js";

/**
 * @typedef {import("./course.js").Event} Event
 * @typedef {{steps: number, instructions: number}} End
 */

export class Replay {
    #events;
    #next = 0;
    #end;
    #machine;
    #course;
    /** @type {(held: boolean) => void} */
    #hold = () => {};
    #arrived = () => {};
    /** Events of the tick that is over are being done again. */
    #repeating = false;
    /** @type {(error: unknown) => void} */
    #lost = () => {};

    /** @param {unknown} events @param {End} end @param {import("./machine.js").Machine} machine @param {import("./course.js").Course} course */
    constructor(events, end, machine, course) {
        const right = (/** @type {any} */ event) => Array.isArray(event) && Number.isSafeInteger(event[0]) && Number.isSafeInteger(event[1]) && typeof event[2] === "string";
        if(!Array.isArray(events) || !events.every(right)) throw diverged("what it holds are no events");
        this.#events = /** @type {Event[]} */ (events);
        this.#end = end;
        this.#machine = machine;
        this.#course = course;
    }

    /** Resolves where the recording ends. @param {AbortSignal} signal @param {(held: boolean) => void} hold   the machine, between two ticks */
    async run(signal, hold) {
        this.#hold = hold;
        await this.#repeat(this.#due());
        if(this.#isOver()) return;
        const stop = this.#machine.drive();
        try {
            await new Promise((resolve, reject) => {
                this.#arrived = () => resolve(undefined);
                this.#lost = reject;
                signal.addEventListener("abort", () => reject(signal.reason));
                void this.#machine.ending().then(() => this.#machine.tickOver()).then(() => {
                    if(this.#machine.ended && !this.#repeating) reject(this.#endedEarly());
                });
            });
        }
        finally {
            const stopped = stop();
            hold(false);
            await stopped;
        }
    }

    /** A tick is over. @param {number} ms   that the guest idles unless the recording says otherwise */
    follow(ms) {
        try {
            const due = this.#due();
            if(!due.some(([, , kind]) => kind === "idle")) this.#machine.pass(ms, false);
            if(!due.length && !this.#isOver()) return;
            this.#hold(true);
            this.#repeating = true;
            this.#repeat(due).then(() => {
                this.#repeating = false;
                if(this.#isOver()) this.#arrived();
                else if(this.#machine.ended) this.#lost(this.#endedEarly());
                else this.#hold(false);
            }).catch(this.#lost);
        }
        catch(error) {
            this.#hold(true);
            this.#lost(error);
        }
    }

    #endedEarly() {
        return diverged(`the machine is ${this.#machine.status} after ${this.#course.steps} steps of ${this.#end.steps}`);
    }

    /** The events of the tick that is over, each given once. @returns {Event[]} */
    #due() {
        const { steps } = this.#course, { instructions } = this.#machine, first = this.#next;
        while(this.#next < this.#events.length && this.#events[this.#next][0] === steps) this.#next++;
        const due = this.#events.slice(first, this.#next), other = due.find(([, at]) => at !== instructions);
        if(other) throw diverged(`${instructions} instructions at step ${steps}, where the recording has ${other[1]}`);
        if(this.#next < this.#events.length && this.#events[this.#next][0] < steps) throw diverged(`an event of step ${this.#events[this.#next][0]} at step ${steps}`);
        return due;
    }

    #isOver() {
        const { steps } = this.#course, { instructions } = this.#machine;
        if(steps < this.#end.steps) return false;
        if(steps > this.#end.steps || instructions !== this.#end.instructions || this.#next < this.#events.length) {
            throw diverged(`${instructions} instructions after ${steps} steps, where the recording ends with ${this.#end.instructions} after ${this.#end.steps}`);
        }
        return true;
    }

    /** @param {Event[]} events */
    async #repeat(events) {
        for(const event of events) {
            if(event[2] === "idle") this.#machine.pass(Number(event[3]), true);
            else await this.#machine.inputs.repeat(event);
        }
    }
}

/** @param {string} seen */
function diverged(seen) {
    return new RequestError("image", "the machine does not follow this recording", {
        seen, hint: "it was made from another image or by another machine ABI, or it was changed",
    });
}
