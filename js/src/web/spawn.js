/**
 * Starting the engine in a worker of this page. Its code comes by digest, from the browser's cache or from the Hub;
 * v86 is compiled once for all machines of the page.
 */

import { unzip } from "./code.js";
import { load } from "./hub.js";
import { registry } from "./registry.js";

const START_PATIENCE = 20000;                // ms from the worker's code to its first word

/** What this browser lacks to run machines; "" when nothing. */
export function missing() {
    const { Worker, WebAssembly, MessageChannel, CompressionStream } = globalThis;
    return Object.entries({ Worker, WebAssembly, MessageChannel, CompressionStream }).filter(([, value]) => !value).map(([name]) => name).join(", ");
}

/**
 * @typedef {object} Machine
 * @property {string} base      the Hub's URL with its secret
 * @property {string} hubId
 * @property {string} probe
 * @property {string} machine
 * @property {import("../core/protocol.js").Offer} offer
 *
 * @typedef {object} Listener
 * @property {(frame: Uint8Array) => void} frame
 * @property {(text: string) => void} log
 * @property {(reason: string) => void} ended
 *
 * @typedef {{worker: Worker, send: (frame: Uint8Array) => void, dismiss: () => void}} Started
 */

/**
 * @param {Machine} machine @param {import("./cache.js").Cache} cache @param {Listener} listener
 * @param {(name: string, loaded: number, total: number | null) => void} download
 * @returns {Promise<Started>} rejects with a reason for a person
 */
export async function spawn({ base, hubId, probe, machine, offer }, cache, listener, download) {
    const fetchBlob = async (/** @type {string} */ digest, /** @type {string} */ name) => unzip(await cache.fetch(digest, async () => {
        download(name, 0, null);
        const bytes = await load(base, digest);
        download(name, bytes.length, bytes.length);
        return bytes;
    }));
    const [code, wasm] = await Promise.all([fetchBlob(offer.worker, "engine"), module(offer.wasm, () => fetchBlob(offer.wasm, "emulator"))]);
    const url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (code)], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module", name: `v86lab ${machine}` });
    try {
        await new Promise((resolve, reject) => {
            const timer = setTimeout(() => reject(new Error("the worker did not start in time")), START_PATIENCE);
            worker.onerror = event => reject(new Error(event.message || "the page's security policy may forbid workers"));
            worker.onmessage = ({ data }) => {
                if(data.log) return listener.log(data.log);
                clearTimeout(timer);
                resolve(undefined);
            };
            worker.postMessage({ hub: base, hubId, probe, socket: `${base.replace(/^http/, "ws")}engine/${offer.key}`, wasm, wasmDigest: offer.wasm, machine });
        });
    }
    catch(error) {
        worker.terminate();
        throw error;
    }
    finally {
        URL.revokeObjectURL(url);
    }
    worker.onerror = event => listener.log(`the engine failed: ${event.message}`);
    worker.onmessage = ({ data }) => {
        if(data.log) listener.log(data.log);
        if(data.ended) listener.ended(data.ended);
    };
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = event => listener.frame(event.data);
    worker.postMessage({ port: port2 }, [port2]);
    return {
        worker,
        send: frame => port1.postMessage(frame, [/** @type {ArrayBuffer} */ (frame.buffer)]),
        dismiss: () => {
            port1.close();
            worker.terminate();
        },
    };
}

/** @param {string} digest @param {() => Promise<Uint8Array>} fetchBytes */
function module(digest, fetchBytes) {
    const { compiled } = registry();
    let module = compiled.get(digest);
    if(!module) {
        module = fetchBytes().then(bytes => WebAssembly.compile(/** @type {BufferSource} */ (bytes)));
        module.catch(() => compiled.delete(digest));
        compiled.set(digest, module);
    }
    return module;
}
