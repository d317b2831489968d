/**
 * Alarms on guest time and on instructions: they ring between two ticks, once what they wait for has come.
 */

const ROUNDING = 1e-6;

/** @typedef {{at: number, of: "ms" | "instructions", ring: () => void}} Alarm */

export class Timers {
    /** @type {Set<Alarm>} */
    #alarms = new Set();
    #now;

    /** @param {() => {ms: number, instructions: number}} now */
    constructor(now) {
        this.#now = now;
    }

    /** @param {"ms" | "instructions"} of @param {number} count   from now on @param {() => void} ring @returns {() => void} cancels it */
    after(of, count, ring) {
        const alarm = { at: this.#now()[of] + count, of, ring };
        this.#alarms.add(alarm);
        return () => void this.#alarms.delete(alarm);
    }

    /** The guest time of the next alarm. */
    get next() {
        let next = Infinity;
        for(const { at, of } of this.#alarms) if(of === "ms" && at < next) next = at;
        return next;
    }

    /** @returns {boolean} whether one rang */
    look() {
        if(!this.#alarms.size) return false;
        const now = this.#now();
        let rang = false;
        for(const alarm of [...this.#alarms]) {
            if(now[alarm.of] < alarm.at - ROUNDING) continue;
            this.#alarms.delete(alarm);
            alarm.ring();
            rang = true;
        }
        return rang;
    }
}
