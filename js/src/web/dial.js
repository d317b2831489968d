/**
 * A worker's socket to the Hub: dialled again whenever it is lost, until Python says that it is over or has not been
 * there for too long.
 *
 * A proxy may turn "given up" (close code 4000) into a plain refusal, so that after a failed dial the Hub is asked who
 * it is: when it answers and still refuses, time and again, it means it.
 */

import { Line } from "../core/line.js";

const GIVEN_UP = 4000;
const REFUSALS = 3;                          // in a row, from a Hub that is there
const FIRST_REST = 100, LONGEST_REST = 5000; // ms
const BEAT = 1000;
const GRACE = 60000;                         // ms awake without the Hub
const PING_AFTER = 20000, SILENT_FOR = 35000;
const PATIENCE = 10000;                      // ms for a dial or a probe

export class Dial {
    #address;
    #probe;
    #deliver;
    #over;
    #clock;
    #line = new Line(data => this.#socket?.send(/** @type {any} */ (data)));
    /** @type {WebSocket | null} */
    #socket = null;
    #heard = 0;
    #pinged = false;
    #beat;
    #lastBeat;
    #alone = 0;                              // ms awake without the Hub
    #attempt = 0;
    #refused = 0;
    #closed = false;
    /** Ends the rest before the next dial. */
    #rested = () => {};
    /** Whether somebody looks at the page; nothing is sent only to keep a connection alive when nobody does. */
    watched = true;

    /**
     * @param {{socket: string, probe: string}} place
     * @param {(frame: Uint8Array) => void} deliver
     * @param {(reason: "closed" | "given up" | "unreachable") => void} over   said once
     * @param {() => number} clock   ms, the host's
     */
    constructor({ socket, probe }, deliver, over, clock) {
        this.#address = socket;
        this.#probe = probe;
        this.#deliver = deliver;
        this.#over = over;
        this.#clock = clock;
        this.#lastBeat = clock();
        this.#beat = setInterval(() => this.#tick(), BEAT);
        this.#dial();
    }

    /** @param {Uint8Array} frame */
    send(frame) {
        this.#line.send(frame);
    }

    /** Try at once: the network may be back. */
    hurry() {
        this.#attempt = 0;
        this.#rested();
    }

    close() {
        this.#closed = true;
        clearInterval(this.#beat);
        const socket = this.#socket;
        this.#socket = null;
        socket?.close();
    }

    #dial() {
        const socket = this.#socket = new WebSocket(this.#address);
        let opened = false;
        const late = setTimeout(() => { if(!opened) this.#lost(socket, false); }, PATIENCE);
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
            clearTimeout(late);
            if(socket !== this.#socket) return socket.close();
            opened = true;
            this.#hear();
            this.#line.opened();
        };
        socket.onmessage = event => {
            if(socket === this.#socket) this.#receive(event.data);
        };
        socket.onclose = event => {
            clearTimeout(late);
            if(event.code === GIVEN_UP && socket === this.#socket) this.#finish("given up");
            else this.#lost(socket, opened);
        };
    }

    /** @param {string | ArrayBuffer} data */
    #receive(data) {
        this.#attempt = this.#refused = 0;                   // an open socket may be a proxy's alone, a message is the Hub's
        this.#hear();
        const frame = this.#line.receive(typeof data === "string" ? data : new Uint8Array(data));
        if(frame) this.#deliver(frame);
        if(this.#line.ended) this.#finish("closed");
    }

    #hear() {
        this.#heard = this.#clock();
        this.#pinged = false;
        this.#alone = 0;
    }

    /** @param {WebSocket} socket @param {boolean} opened */
    async #lost(socket, opened) {
        if(this.#closed || socket !== this.#socket) return;
        this.#socket = null;
        this.#line.closed();
        socket.close();
        if(!opened) this.#refused = await this.#hubAnswers() ? this.#refused + 1 : 0;
        if(this.#refused >= REFUSALS) return this.#finish("given up");
        const ms = Math.min(LONGEST_REST, FIRST_REST * 2 ** Math.min(this.#attempt++, 10)) * (0.5 + Math.random() / 2);
        await new Promise(resolve => {
            const timer = setTimeout(resolve, ms);
            this.#rested = () => { clearTimeout(timer); resolve(undefined); };
        });
        if(!this.#closed) this.#dial();
    }

    async #hubAnswers() {
        try {
            return (await fetch(this.#probe, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) })).ok;
        }
        catch {
            return false;
        }
    }

    #tick() {
        const now = this.#clock(), awake = Math.min(now - this.#lastBeat, 2 * BEAT);     // a suspended computer was not alone
        this.#lastBeat = now;
        this.#line.acknowledge();
        if(this.#socket?.readyState !== WebSocket.OPEN) this.#alone += awake;
        else if(now - this.#heard > SILENT_FOR && this.#pinged) void this.#lost(this.#socket, true);
        else if(now - this.#heard > PING_AFTER && this.watched && !this.#pinged) {
            this.#pinged = true;
            this.#heard = now - PING_AFTER;                  // its answer gets its time, however long nobody looked
            this.#line.ping();
        }
        if(this.#alone > GRACE) this.#finish("unreachable");
    }

    /** @param {"closed" | "given up" | "unreachable"} reason */
    #finish(reason) {
        if(this.#closed) return;
        this.close();
        this.#over(reason);
    }
}
