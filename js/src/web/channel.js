/**
 * Requests and their answers over frames, however these travel: `v86lab/channel.py` for pages.
 */

import { Decoder, encode } from "../core/protocol.js";

/**
 * @typedef {{value: any, payload: Uint8Array}} Answer
 * @typedef {{resolve: (answer: Answer) => void, reject: (error: Error) => void}} Pending
 */

export class Channel {
    #send;
    #notice;
    #decoder = new Decoder();
    #lastId = 0;
    /** @type {Map<number, Pending>} */
    #pending = new Map();
    /** @type {Error | null} */
    #lost = null;

    /** @param {(frame: Uint8Array) => void} send @param {(message: any) => void} notice   hears what is no answer */
    constructor(send, notice) {
        this.#send = send;
        this.#notice = notice;
    }

    /** @param {object} body @param {Uint8Array} [payload] @returns {Promise<Answer>} */
    request(body, payload) {
        if(this.#lost) return Promise.reject(this.#lost);
        const id = ++this.#lastId;
        return new Promise((resolve, reject) => {
            this.#pending.set(id, { resolve, reject });
            for(const frame of encode({ ...body, id }, payload)) this.#send(frame);
        });
    }

    /** @param {Uint8Array} frame */
    receive(frame) {
        const message = /** @type {any} */ (this.#decoder.push(frame));
        if(message === null || this.#lost) return;
        if(message.type !== "reply" && message.type !== "failure") return this.#notice(message);
        const pending = this.#pending.get(message.id);
        this.#pending.delete(message.id);
        if(message.type === "reply") pending?.resolve({ value: message.value, payload: message.payload });
        else pending?.reject(Object.assign(new Error(message.hint ? `${message.message}: ${message.hint}` : message.message), { code: message.code }));
    }

    /** Nothing comes any more: what is under way fails, and what is asked later. @param {string} why */
    lose(why) {
        this.#lost ??= new Error(why);
        for(const { reject } of this.#pending.values()) reject(this.#lost);
        this.#pending.clear();
    }
}
