/**
 * One end that speaks the protocol with the engine: the Hub, or a page that holds the engine in a worker.
 *
 * Each has requests of its own with ids of its own, and says by `watch` which notices it wants.
 */

import { Decoder, encode } from "./protocol.js";

/** @typedef {{console: boolean, screen: boolean, activity: boolean}} Wishes */

export class Client {
    /** @type {Wishes} */
    wishes = { console: false, screen: false, activity: false };
    /** Requests that wait. @type {Map<number, AbortController>} */
    waiting = new Map();
    gone = false;
    #send;
    #decoder = new Decoder();

    /** @param {(frame: Uint8Array) => void} send @param {boolean} isHub   it always hears the console, and gets frames packed */
    constructor(send, isHub) {
        this.#send = send;
        this.isHub = isHub;
    }

    /** @param {Uint8Array} frame @returns {import("./protocol.js").Request | null} the request that this frame completes */
    decode(frame) {
        return /** @type {any} */ (this.#decoder.push(frame));
    }

    /** @param {object} body @param {Uint8Array} [payload] */
    notify(body, payload) {
        if(this.gone) return;
        for(const frame of encode(body, payload)) this.#send(frame);
    }

    /** Nothing more reaches it, and what it waited for is given up. @param {unknown} why */
    leave(why) {
        this.gone = true;
        for(const abort of this.waiting.values()) abort.abort(why);
    }
}
