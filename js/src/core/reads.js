/**
 * Reads of a seeded machine that wait for bytes: all are answered between two ticks, in the order in which the guest asked,
 * while guest time stands still. So it makes no difference whether the bytes were at hand or came over a slow network.
 */

/** @typedef {{ready: Promise<unknown>, answer: () => void}} Read */

export class Reads {
    /** @type {Read[]} */
    #waiting = [];

    get pending() {
        return this.#waiting.length > 0;
    }

    /** @param {Promise<unknown>} ready   the bytes are there, or will never be @param {() => void} answer */
    add(ready, answer) {
        this.#waiting.push({ ready, answer });
    }

    /** Answer all that wait, and what is asked for because of that. @returns {Promise<void>} */
    async settle() {
        for(let read; (read = this.#waiting[0]);) {
            await read.ready;
            this.#waiting.shift();
            read.answer();
        }
    }
}
