/**
 * The engine in a Web Worker of a page: a realm of its own for one machine, as `node-worker.js` is.
 *
 * The page's first message says where the Hub is and brings v86 compiled; each `{port}` after it is a link to a page that
 * speaks the protocol without the Hub. The worker tells the page that it has begun (`{ready}`), what a person should know
 * (`{log}`), and how it ended (`{ended}`): Python gave the machine up, could never be dialled, or was not there for a minute.
 * It dies with its page.
 *
 * When the guest has come to rest the machine is kept in the browser, so that a reloaded page can go on from there.
 */

import { NestedWorker } from "./bare.js";
import { Engine } from "../core/engine.js";
import { ABI, encode } from "../core/protocol.js";
import { wall, wallDate } from "../core/realm.js";
import { Cache, digestOf } from "../web/cache.js";
import { Checkpoints, MOST_CHECKPOINT } from "../web/checkpoints.js";
import { Dial } from "../web/dial.js";
import { gzipAside, unpack } from "../web/pack.js";

const LOOK_EVERY = 1000;                     // ms
const RESTED = 2000;                         // ms that the guest rests before it is kept
const FIRST_CHECKPOINT = 10000;              // ms after the start, which needs the processor for itself
const CHECKPOINT_EVERY = 30000;
const LAST_PATIENCE = 5000;                  // ms for the last checkpoint

/**
 * @typedef {object} Place
 * @property {string} hub          the Hub's URL with its secret, ending in a slash
 * @property {string} hubId
 * @property {string} probe        where the Hub says who it is
 * @property {string} socket       the engine's address
 * @property {WebAssembly.Module} wasm
 * @property {string} wasmDigest
 * @property {string} machine
 *
 * @typedef {object} Realm   what is used of a worker's globals
 * @property {(message: object) => void} postMessage
 * @property {() => void} close
 * @property {((event: MessageEvent) => void) | null} onmessage
 * @property {(type: string, listener: (event: any) => void) => void} addEventListener
 */

const realm = /** @type {Realm} */ (/** @type {unknown} */ (globalThis));

/** @param {string} text */
const log = text => realm.postMessage({ log: text });

/** Resolves when messages and completions have had their turn: the fastest way in a worker. */
const breathe = (() => {
    const { port1, port2 } = new MessageChannel(), waiting = /** @type {(() => void)[]} */ ([]);
    port1.onmessage = () => waiting.shift()?.();
    return () => /** @type {Promise<void>} */ (new Promise(resolve => {
        waiting.push(resolve);
        port2.postMessage(null);
    }));
})();

class Worker {
    #place;
    #engine;
    #dial;
    #checkpoints = new Checkpoints(log);
    #keptAt = wall() + FIRST_CHECKPOINT - CHECKPOINT_EVERY;
    #ending = false;

    /** @param {Place} place */
    constructor(place) {
        this.#place = place;
        const cache = new Cache(log);
        this.#engine = new Engine({
            hub: place.hub,
            wasm: place.wasm,
            fetch: (...args) => fetch(...args),
            cached: async digest => await cache.get(digest) ?? await this.#checkpoints.get(digest),
            keep: (digest, bytes) => void cache.put(digest, bytes),
            breathe,
            timer: (ms, callback) => {
                const timer = setTimeout(callback, ms);
                return () => clearTimeout(timer);
            },
            compress: bytes => gzipAside(bytes, NestedWorker),
            decompress: (bytes, most) => unpack(bytes, place.wasm, most),
            random: count => crypto.getRandomValues(new Uint8Array(count)),
        }, frame => this.#dial.send(frame));
        this.#dial = new Dial(place, frame => this.#engine.receive(frame), reason => void this.#end(reason), wall,
            () => crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32);
        for(const frame of encode({ type: "hello", kind: "browser", abi: ABI, version: navigator.userAgent, wasm: place.wasmDigest })) this.#dial.send(frame);
        realm.addEventListener("error", event => this.#engine.crashed(event.error ?? event.message));
        realm.addEventListener("unhandledrejection", event => this.#engine.crashed(event.reason));
        setInterval(() => this.#look(), LOOK_EVERY);
        realm.postMessage({ ready: true });
    }

    /** What the page says after its first message. @param {{port?: MessagePort, watched?: boolean, hurry?: boolean}} message */
    receive({ port, watched, hurry }) {
        if(port) this.#link(port);
        if(watched !== undefined) this.#dial.watched = watched;
        if(hurry) this.#dial.hurry();
    }

    /** @param {MessagePort} port */
    #link(port) {
        const client = this.#engine.attach((/** @type {Uint8Array} */ frame) => port.postMessage(frame, [/** @type {ArrayBuffer} */ (frame.buffer)]));
        port.onmessage = event => client.receive(event.data);
    }

    #look() {
        if(this.#ending || wall() - this.#keptAt < CHECKPOINT_EVERY || !this.#engine.restsSince(RESTED)) return;
        this.#keptAt = wall();
        this.#keep().catch(error => log(`the machine could not be kept in this browser: ${error.message}`));
    }

    /** Keep the machine as it is, if it has changed since it was kept last. */
    async #keep() {
        const taken = await this.#engine.checkpoint();
        if(!taken) return;
        const digest = await digestOf(taken.state);
        if(digest === null) return;          // no secure context: the browser keeps nothing
        if(taken.state.length > MOST_CHECKPOINT) return log(`the machine is not kept in this browser: its state has ${taken.state.length >> 20} MiB`);
        const kept = { digest, size: taken.state.length, instructions: taken.instructions, at: wallDate() / 1000 };
        if(await this.#checkpoints.keep(this.#place.hubId, this.#place.machine, kept, taken.state)) this.#engine.announceCheckpoint(kept);
    }

    /** @param {"closed" | "given up" | "refused" | "unreachable"} reason */
    async #end(reason) {
        if(this.#ending) return;
        this.#ending = true;
        if(reason !== "closed") {
            const late = new Promise(resolve => setTimeout(resolve, LAST_PATIENCE));
            await Promise.race([this.#keep().catch(() => {}), late]);
        }
        realm.postMessage({ ended: reason });
        realm.close();
    }
}

/** @type {Worker | null} */
let worker = null;

realm.onmessage = event => {
    if(worker) worker.receive(event.data);
    else worker = new Worker(event.data);
};
