/**
 * Protocol frames over a socket that may be replaced: each arrives exactly once and in order. No I/O happens here.
 *
 * Both ends count the frames of each direction from 0 over the whole life of the engine. Beside frames (binary messages)
 * there is control (text, JSON):
 *
 *     {"received": n}   I have taken n frames in all
 *     {"ping": true}    answered at once by the above
 *     {"end": true}     no more: the machine was closed
 *
 * Rules: `received` is the first message on every new socket, from both ends; frames follow only once the other end's has
 * come, from the one it names on. A frame is kept until it is acknowledged: after `MANY` frames or `MUCH` bytes, or when
 * a timer of the owner says so. `v86lab/line.py` is the same in Python.
 */

import { RequestError } from "./fault.js";

const MANY = 64;                             // frames
const MUCH = 1 << 20;                        // bytes

export class Line {
    /** The other end said that nothing will follow. */
    ended = false;

    #transmit;
    /** Frames that the other end may not have. @type {Uint8Array[]} */
    #kept = [];
    /** How many it has for certain. */
    #delivered = 0;
    #open = false;
    /** Whether the other end has said on this socket where to go on. */
    #greeted = false;
    #taken = 0;
    #told = 0;
    #untold = 0;                             // bytes

    /** @param {(data: Uint8Array | string) => void} transmit   sends on the current socket */
    constructor(transmit) {
        this.#transmit = transmit;
    }

    /** A new socket is there. */
    opened() {
        this.#open = true;
        this.#greeted = false;
        this.#tell();
    }

    /** The socket is gone; what is sent from now on is kept for the next. */
    closed() {
        this.#open = this.#greeted = false;
    }

    /** @param {Uint8Array} frame */
    send(frame) {
        this.#kept.push(frame);
        if(this.#greeted) this.#transmit(frame);
    }

    /** A message came. @param {Uint8Array | string} data @returns {Uint8Array | null} a frame to hand on */
    receive(data) {
        if(typeof data === "string") {
            this.#control(data);
            return null;
        }
        this.#taken++;
        this.#untold += data.length;
        if(this.#taken - this.#told >= MANY || this.#untold >= MUCH) this.acknowledge();
        return data;
    }

    /** Say what has been taken, if that was not said yet; while frames come, to be called every second. */
    acknowledge() {
        if(this.#open && this.#taken > this.#told) this.#tell();
    }

    /** Ask whether the other end is still there; its answer is an acknowledgement. */
    ping() {
        if(this.#open) this.#transmit('{"ping":true}');
    }

    #tell() {
        this.#told = this.#taken;
        this.#untold = 0;
        this.#transmit(`{"received":${this.#taken}}`);
    }

    /** @param {string} text */
    #control(text) {
        /** @type {any} */
        let message;
        try {
            message = JSON.parse(text);
        }
        catch {
            throw violation(text);
        }
        if(message?.ping === true) this.#tell();
        else if(message?.end === true) this.ended = true;
        else if(Number.isSafeInteger(message?.received)) this.#deliver(message.received, text);
        else throw violation(text);
    }

    /** @param {number} count @param {string} text */
    #deliver(count, text) {
        const news = count - this.#delivered;
        if(news < 0 || news > this.#kept.length) throw violation(text);
        this.#kept.splice(0, news);
        this.#delivered = count;
        if(this.#greeted || !this.#open) return;
        this.#greeted = true;
        for(const frame of this.#kept) this.#transmit(frame);
    }
}

/** @param {string} seen */
function violation(seen) {
    return new RequestError("engine", "a control message does not follow the protocol", {
        expected: "what js/src/core/line.js describes", seen: seen.slice(0, 200), hint: "the two ends hold different versions of v86lab",
    });
}
