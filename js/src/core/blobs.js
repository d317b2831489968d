/**
 * Bytes from the Hub, by digest: whole blobs and ranges of them, with retries.
 *
 * Rules: a range request must be answered 206 with exactly the bytes asked for; whatever else arrives is an error that
 * says so. A failure is retried with exponential backoff, because a proxy that restarts must not end a guest. What the
 * host has kept is not fetched. Whoever waits for many bytes is told how many have come.
 */

import { join } from "./bytes.js";
import { RequestError } from "./fault.js";
import { wall } from "./realm.js";

const TRIES = 6;
const FIRST_DELAY = 100;                    // ms; doubles: about 3 s until it is given up
const WORTH_TELLING = 256 * 1024;           // bytes
const TELL_EVERY = 100;                     // ms

/**
 * @typedef {object} Extras
 * @property {Map<string, Promise<Uint8Array>>} [ahead]   blobs already under way by another path, each taken once
 * @property {(digest: string) => Promise<Uint8Array | null>} [cached]   what the host has kept of earlier days
 * @property {(digest: string, bytes: Uint8Array) => void} [keep]
 * @property {(name: string, loaded: number, total: number | null) => void} [progress]
 *
 * @typedef {{name?: string, signal?: AbortSignal}} Options   the name is for people
 */

export class Blobs {
    #base;
    #fetch;
    #sleep;
    #extras;
    #nextTold = 0;

    /**
     * @param {string} base   the Hub's URL, with a slash at its end
     * @param {typeof fetch} fetcher
     * @param {(ms: number) => Promise<void>} sleep
     * @param {Extras} [extras]
     */
    constructor(base, fetcher, sleep, extras = {}) {
        this.#base = base;
        this.#fetch = fetcher;
        this.#sleep = sleep;
        this.#extras = extras;
    }

    /** @param {string} digest @param {Options} [options] @returns {Promise<Uint8Array>} */
    async get(digest, { name = "data", signal } = {}) {
        const { ahead, cached, keep } = this.#extras, early = ahead?.get(digest);
        if(early && ahead?.delete(digest)) return early;
        const kept = await cached?.(digest).catch(() => null);
        if(kept) return kept;
        const bytes = await this.#retry(digest, async () => {
            const answer = await this.#fetch(`${this.#base}blob/${digest}`, { signal });
            if(answer.status !== 200) throw new Error(`status ${answer.status}`);
            return this.#body(answer, name);
        }, signal);
        keep?.(digest, bytes);
        return bytes;
    }

    /**
     * The bytes from `start` up to, not including, `end`.
     *
     * @param {string} digest @param {number} start @param {number} end @param {Options} [options]
     * @returns {Promise<Uint8Array>}
     */
    async range(digest, start, end, { name = "data", signal } = {}) {
        return this.#retry(`${digest} ${start}-${end - 1}`, async () => {
            const answer = await this.#fetch(`${this.#base}blob/${digest}`, { headers: { Range: `bytes=${start}-${end - 1}` }, signal });
            if(answer.status !== 206) throw new Error(`status ${answer.status} instead of 206`);
            const bytes = await this.#body(answer, name);
            if(bytes.length !== end - start) throw new Error(`${bytes.length} bytes instead of ${end - start}`);
            return bytes;
        }, signal);
    }

    /** Read an answer to its end, and say how far it has come if it is long. @param {Response} answer @param {string} name */
    async #body(answer, name) {
        const { progress } = this.#extras, header = answer.headers?.get("content-length"), total = header ? Number(header) : null;
        if(!progress || !answer.body || total !== null && total < WORTH_TELLING) return new Uint8Array(await answer.arrayBuffer());
        const reader = answer.body.getReader(), parts = [];
        let loaded = 0;
        for(let one = await reader.read(); !one.done; one = await reader.read()) {
            parts.push(one.value);
            loaded += one.value.length;
            if(loaded === total || loaded < WORTH_TELLING || wall() < this.#nextTold) continue;
            this.#nextTold = wall() + TELL_EVERY;
            progress(name, loaded, total !== null && loaded > total ? null : total);
        }
        if(loaded >= WORTH_TELLING) progress(name, loaded, loaded);
        return join(parts);
    }

    /** @template T @param {string} what @param {() => Promise<T>} once @param {AbortSignal} [signal] @returns {Promise<T>} */
    async #retry(what, once, signal) {
        let delay = FIRST_DELAY;
        for(let attempt = 1; ; attempt++) {
            try {
                return await once();
            }
            catch(error) {
                signal?.throwIfAborted();
                if(attempt === TRIES) {
                    throw new RequestError("engine", `cannot read blob ${what} from the hub`, {
                        seen: String(/** @type {Error} */ (error).message), hint: "is the Python process that serves it still alive?",
                    });
                }
                await this.#sleep(delay);
                delay *= 2;
            }
        }
    }
}
