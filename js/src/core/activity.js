/**
 * What a machine does, once a second, for those who watch it; and whether it rests.
 *
 * A watcher is told of a second in which the guest worked or something was read, and once of its rest; then nothing until
 * that changes.
 */

import { wall } from "./realm.js";

const EVERY = 1000;                          // ms
const WINDOW = 250;                          // ms over which work is measured
const RESTING = 300;                         // instructions in a ms: an idle Linux wakes up for its timers

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {object} Worker   a machine
 * @property {number} worked      ms that the host spent on it
 * @property {{instructions: number, seconds: number, disks: Record<string, {requests: number, bytes: number}>, share: {requests: number, bytes: number}}} statistics
 */

/** Since when a guest has had next to nothing to do. */
export class Rest {
    /** When it was last busy, on the host's clock. */
    lastBusy = wall();
    #began = wall();
    #instructions = 0;

    /** @param {number} instructions   retired until now */
    note(instructions) {
        const now = wall(), ms = now - this.#began;
        if(ms < WINDOW) return;
        if(Math.abs(instructions - this.#instructions) > RESTING * ms) this.lastBusy = now;
        this.#began = now;
        this.#instructions = instructions;
    }

    /** Something happened to the guest that its work does not show. */
    disturb() {
        this.lastBusy = wall();
    }
}

export class Activity {
    #timer;
    /** @type {Worker | null} */
    #worker = null;
    /** What each watcher was told last. @type {Map<Client, string>} */
    #told = new Map();
    /** @type {(() => void) | null} */
    #cancel = null;
    #last = { at: 0, instructions: 0, worked: 0 };

    /** @param {(ms: number, callback: () => void) => () => void} timer */
    constructor(timer) {
        this.#timer = timer;
    }

    /** Another machine from now on. @param {Worker | null} worker */
    show(worker) {
        this.#worker = worker;
        this.#begin();
    }

    /** @param {Client} client @param {boolean} wanted */
    watch(client, wanted) {
        if(!wanted) this.#told.delete(client);
        else if(!this.#told.has(client)) this.#told.set(client, "");
        if(!this.#told.size) {
            this.#cancel?.();
            this.#cancel = null;
        }
        else if(!this.#cancel) {
            this.#begin();
            this.#cancel = this.#timer(EVERY, () => this.#tell());
        }
    }

    #begin() {
        this.#last = { at: wall(), instructions: this.#worker?.statistics.instructions ?? 0, worked: this.#worker?.worked ?? 0 };
    }

    #tell() {
        this.#cancel = this.#timer(EVERY, () => this.#tell());
        if(!this.#worker) return;
        const { instructions, seconds, disks, share } = this.#worker.statistics, { at, instructions: before, worked } = this.#last;
        this.#begin();
        const ms = this.#last.at - at, perMs = Math.max(0, instructions - before) / ms;
        const rests = perMs < RESTING, read = Object.values(disks);
        const record = {
            type: "activity", instructions, seconds,
            mips: rests ? 0 : Math.round(perMs / 100) / 10, busy: rests ? 0 : Math.min(1, Math.round((this.#last.worked - worked) / ms * 100) / 100),
            disk_requests: sum(read.map(one => one.requests)), disk_bytes: sum(read.map(one => one.bytes)),
            share_requests: share.requests, share_bytes: share.bytes,
        };
        const told = JSON.stringify([record.mips, record.disk_requests, record.disk_bytes, share]);
        for(const [client, last] of this.#told) {
            if(rests && last === told) continue;
            this.#told.set(client, told);
            client.notify(record);
        }
    }
}

/** @param {number[]} numbers */
function sum(numbers) {
    return numbers.reduce((total, one) => total + one, 0);
}
