/**
 * A worker's socket to the Hub: dialled again whenever it is lost, until Python says that it is over or has not been
 * there for too long.
 *
 * A proxy may turn "given up" (close code 4000) into a plain refusal, and may refuse by itself. So after a dial without a
 * word from Python it is asked by plain HTTP: only a Hub that is there and does not know the address means it.
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
    #random;
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
    #met = false;                            // the Hub was heard once,
    #spoken = false;                         // and on this socket
    #closed = false;
    /** Ends the rest before the next dial. */
    #rested = () => {};
    /** Whether somebody looks at the page; nothing is sent only to keep a connection alive when nobody does. */
    watched = true;

    /**
     * @param {{socket: string, probe: string}} place
     * @param {(frame: Uint8Array) => void} deliver
     * @param {(reason: "closed" | "given up" | "refused" | "unreachable") => void} over   said once
     * @param {() => number} clock   ms, the host's
     * @param {() => number} random   from 0 to 1, the host's
     */
    constructor({ socket, probe }, deliver, over, clock, random) {
        this.#address = socket;
        this.#probe = probe;
        this.#deliver = deliver;
        this.#over = over;
        this.#clock = clock;
        this.#random = random;
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
        const late = setTimeout(() => { if(socket.readyState === WebSocket.CONNECTING) this.#lost(socket); }, PATIENCE);
        this.#spoken = false;
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
            clearTimeout(late);
            if(socket !== this.#socket) return socket.close();
            this.#heard = this.#clock();
            this.#pinged = false;
            this.#line.opened();
        };
        socket.onmessage = event => {
            if(socket === this.#socket) this.#receive(event.data);
        };
        socket.onclose = event => {
            clearTimeout(late);
            if(event.code === GIVEN_UP && socket === this.#socket) this.#finish("given up");
            else this.#lost(socket);
        };
    }

    /** @param {string | ArrayBuffer} data */
    #receive(data) {
        this.#spoken = this.#met = true;                     // an open socket may be a proxy's alone, a message is the Hub's
        this.#attempt = this.#refused = this.#alone = 0;
        this.#heard = this.#clock();
        this.#pinged = false;
        const frame = this.#line.receive(typeof data === "string" ? data : new Uint8Array(data));
        if(frame) this.#deliver(frame);
        if(this.#line.ended) this.#finish("closed");
    }

    /** @param {WebSocket} socket */
    async #lost(socket) {
        if(this.#closed || socket !== this.#socket) return;
        this.#socket = null;
        this.#line.closed();
        socket.close();
        if(!this.#spoken) {
            const there = await this.#status(this.#probe) === 200;
            const known = there && await this.#status(this.#address.replace(/^ws/, "http")) !== 404;
            this.#refused = there ? this.#refused + 1 : 0;
            if(this.#refused >= REFUSALS && !known) return this.#finish("given up");
            if(this.#refused >= REFUSALS && !this.#met) return this.#finish("refused");
        }
        const ms = Math.min(LONGEST_REST, FIRST_REST * 2 ** Math.min(this.#attempt++, 10)) * (0.5 + this.#random() / 2);
        await new Promise(resolve => {
            const timer = setTimeout(resolve, ms);
            this.#rested = () => { clearTimeout(timer); resolve(undefined); };
        });
        if(!this.#closed) this.#dial();
    }

    /** @param {string} address @returns {Promise<number>} 0 without an answer */
    async #status(address) {
        try {
            return (await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) })).status;
        }
        catch {
            return 0;
        }
    }

    #tick() {
        const now = this.#clock(), awake = Math.min(now - this.#lastBeat, 2 * BEAT);     // a suspended computer was not alone
        this.#lastBeat = now;
        this.#line.acknowledge();
        if(!this.#spoken || this.#socket?.readyState !== WebSocket.OPEN) this.#alone += awake;
        else if(now - this.#heard > SILENT_FOR && this.#pinged) void this.#lost(this.#socket);
        else if(now - this.#heard > PING_AFTER && this.watched && !this.#pinged) {
            this.#pinged = true;
            this.#heard = now - PING_AFTER;                  // its answer gets its time, however long nobody looked
            this.#line.ping();
        }
        if(this.#alone > GRACE) this.#finish("unreachable");
    }

    /** @param {"closed" | "given up" | "refused" | "unreachable"} reason */
    #finish(reason) {
        if(this.#closed) return;
        this.close();
        this.#over(reason);
    }
}
