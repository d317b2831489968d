/**
 * Automatic checkpoints of machines, kept in the browser: the newest of each machine, and a note that names it.
 */

import { Cache } from "./cache.js";

export const MOST_CHECKPOINT = 64 << 20;     // bytes of one
const MOST_CHECKPOINTS = 256 << 20;          // bytes of all

/** @typedef {import("../core/protocol.js").Kept} Kept */

export class Checkpoints {
    #cache;

    /** @param {(text: string) => void} [report]   see `Cache` */
    constructor(report) {
        this.#cache = new Cache(report, "v86lab checkpoints", MOST_CHECKPOINTS);
    }

    /** What is kept of a machine. @param {string} hubId @param {string} machine @returns {Promise<Kept | null>} */
    async find(hubId, machine) {
        const note = await this.#cache.read(noteKey(hubId, machine));
        try {
            return note && JSON.parse(new TextDecoder().decode(note));
        }
        catch {
            return null;                     // cut short, or of another version
        }
    }

    /** @param {string} digest */
    get(digest) {
        return this.#cache.get(digest);
    }

    /** @param {string} hubId @param {string} machine @param {Kept} kept @param {Uint8Array} bytes @returns {Promise<boolean>} whether it is kept */
    async keep(hubId, machine, kept, bytes) {
        const before = await this.find(hubId, machine);
        if(!await this.#cache.put(kept.digest, bytes) || !await this.#cache.put(noteKey(hubId, machine), new TextEncoder().encode(JSON.stringify(kept)))) return false;
        if(before && before.digest !== kept.digest) await this.#cache.remove(before.digest);
        return true;
    }
}

/** @param {string} hubId @param {string} machine */
function noteKey(hubId, machine) {
    return `note/${encodeURIComponent(hubId)}/${encodeURIComponent(machine)}`;
}
