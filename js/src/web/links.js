/**
 * What carries frames between a page and Python: a WebSocket to the Hub, or the widget's messages.
 */

const GIVEN_UP = 4000;
const PATIENCE = 15000;                      // ms for a dial or a question

/** Whether the Hub, which refuses to open a socket there, knows an address: then something between it and the page does not let sockets pass. @param {string} address   as of http */
export async function isKnown(address) {
    const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
    return answer !== null && answer.status !== 404;
}

/**
 * @typedef {object} Model   what anywidget gives a view: the widget's traits and messages
 * @property {(name: string) => any} get
 * @property {(content: object, callbacks?: object, buffers?: (ArrayBuffer | ArrayBufferView)[]) => void} send
 * @property {(event: string, callback: (...args: any[]) => void) => void} on
 * @property {(event: string, callback: (...args: any[]) => void) => void} off
 */

export class SocketLink {
    /** Python said that there is nothing to dial for any more. */
    givenUp = false;
    /** @type {(frame: Uint8Array) => void} */
    onframe = () => {};
    /** Whether it came up. @type {Promise<boolean>} */
    opened;
    /** @type {Promise<void>} */
    closed;
    #socket;
    /** Ends it at once: Chromium waits a minute for the other end's goodbye. @type {(event: {code: number}) => void} */
    #leave = () => {};

    /** @param {string} address */
    constructor(address) {
        const socket = this.#socket = new WebSocket(address);
        socket.binaryType = "arraybuffer";
        socket.onmessage = event => { if(event.data instanceof ArrayBuffer) this.onframe(new Uint8Array(event.data)); };
        const closed = new Promise(resolve => { this.#leave = socket.onclose = resolve; });
        const late = setTimeout(() => { if(socket.readyState === WebSocket.CONNECTING) this.close(); }, PATIENCE);
        const hangUp = () => this.close();                   // another network: the connection is dead, whoever noticed
        addEventListener("online", hangUp);
        this.closed = closed.then(event => {
            clearTimeout(late);
            removeEventListener("online", hangUp);
            this.givenUp = event.code === GIVEN_UP;
        });
        this.opened = Promise.race([new Promise(resolve => { socket.onopen = () => resolve(true); }), this.closed.then(() => false)]);
    }

    /** @param {Uint8Array} frame */
    send(frame) {
        this.#socket.send(/** @type {any} */ (frame));
    }

    close() {
        this.onframe = () => {};
        this.#socket.close();
        this.#leave({ code: 0 });
    }
}

export class CommLink {
    /** @type {(frame: Uint8Array) => void} */
    onframe = () => {};
    /** @type {Promise<void>} */
    closed;
    #model;
    #hear;
    #close = () => {};

    /** @param {Model} model */
    constructor(model) {
        this.#model = model;
        this.closed = new Promise(resolve => { this.#close = resolve; });
        this.#hear = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
            if(content?.type !== "frame") return;
            const { buffer, byteOffset, byteLength } = buffers[0];
            this.onframe(new Uint8Array(buffer, byteOffset, byteLength));
        };
        model.on("msg:custom", this.#hear);
        model.on("comm_live_update", this.#end);             // the kernel was restarted, or the widget closed
        this.#say({ type: "join" });
    }

    /** @param {Uint8Array} frame */
    send(frame) {
        this.#say({ type: "frame" }, [frame]);
    }

    close() {
        this.#say({ type: "leave" });
        this.#end();
    }

    #end = () => {
        this.#model.off("msg:custom", this.#hear);
        this.#model.off("comm_live_update", this.#end);
        this.#close();
    };

    /** @param {object} content @param {Uint8Array[]} [buffers] */
    #say(content, buffers) {
        try {
            this.#model.send(content, undefined, buffers);
        }
        catch {
            this.#end();                     // the widget is dead
        }
    }
}
