/**
 * Bytes from the Hub, by digest: whole blobs and ranges of them, with retries.
 *
 * Rules: a range request must be answered 206 with exactly the bytes asked for; whatever else arrives is an error that
 * says so. A failure is retried with exponential backoff, because a proxy that restarts must not end a guest.
 */

import { RequestError } from "./fault.js";

const TRIES = 6;
const FIRST_DELAY = 100;                    // ms; doubles: about 3 s until it is given up

export class Blobs {
    #base;
    #fetch;
    #sleep;
    #ahead;

    /**
     * @param {string} base   the Hub's URL, with a slash at its end
     * @param {typeof fetch} fetcher
     * @param {(ms: number) => Promise<void>} sleep
     * @param {Map<string, Promise<Uint8Array>>} [ahead]   blobs already under way by another path, each taken once
     */
    constructor(base, fetcher, sleep, ahead = new Map()) {
        this.#base = base;
        this.#fetch = fetcher;
        this.#sleep = sleep;
        this.#ahead = ahead;
    }

    /** @param {string} digest @param {AbortSignal} [signal] @returns {Promise<Uint8Array>} */
    async get(digest, signal) {
        const early = this.#ahead.get(digest);
        if(early && this.#ahead.delete(digest)) return early;
        return this.#retry(digest, async () => {
            const answer = await this.#fetch(`${this.#base}blob/${digest}`, { signal });
            if(answer.status !== 200) throw new Error(`status ${answer.status}`);
            return new Uint8Array(await answer.arrayBuffer());
        }, signal);
    }

    /**
     * The bytes from `start` up to, not including, `end`.
     *
     * @param {string} digest @param {number} start @param {number} end @param {AbortSignal} [signal]
     * @returns {Promise<Uint8Array>}
     */
    async range(digest, start, end, signal) {
        return this.#retry(`${digest} ${start}-${end - 1}`, async () => {
            const answer = await this.#fetch(`${this.#base}blob/${digest}`, { headers: { Range: `bytes=${start}-${end - 1}` }, signal });
            if(answer.status !== 206) throw new Error(`status ${answer.status} instead of 206`);
            const bytes = new Uint8Array(await answer.arrayBuffer());
            if(bytes.length !== end - start) throw new Error(`${bytes.length} bytes instead of ${end - start}`);
            return bytes;
        }, signal);
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
