/**
 * The headless host, worker thread: a realm of its own for one machine.
 */

import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { webcrypto } from "node:crypto";
import process from "node:process";
import { Engine } from "../core/engine.js";
import { RequestError } from "../core/fault.js";
import { ABI, encode } from "../core/protocol.js";
import { isPacked, pack, unpack } from "./zstd.js";

const port = /** @type {import("node:worker_threads").MessagePort} */ (parentPort);
const versions = JSON.parse(readFileSync(new URL("./VERSIONS.json", import.meta.url), "utf8"));

/** @param {Uint8Array} frame */
const send = frame => port.postMessage(frame, [/** @type {ArrayBuffer} */ (frame.buffer)]);

/** What the main thread fetches for us. @type {Map<string, {resolve: (bytes: Uint8Array) => void, reject: (error: Error) => void}>} */
const coming = new Map();
const ahead = new Map(workerData.ahead.map((/** @type {string} */ digest) => [digest, new Promise((resolve, reject) => coming.set(digest, { resolve, reject }))]));

const engine = new Engine({
    hub: workerData.hub,
    wasm: new WebAssembly.Module(readFileSync(new URL("./v86.wasm", import.meta.url))),
    fetch: globalThis.fetch,
    ahead,
    breathe: () => new Promise(resolve => setImmediate(resolve)),
    timer: (ms, callback) => {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
    },
    compress: pack,
    decompress: async (bytes, most) => isPacked(bytes) ? unpack(bytes, most) : bytes,
    random: count => webcrypto.getRandomValues(new Uint8Array(count)),
}, send);

port.on("message", message => {
    if(message === "ping") port.postMessage("pong");
    else if(message.error) coming.get(message.ahead)?.reject(new RequestError("engine", message.error));
    else if(message.ahead) coming.get(message.ahead)?.resolve(message.bytes);
    else engine.receive(message);
});
process.on("uncaughtException", error => engine.crashed(error));
process.on("unhandledRejection", error => engine.crashed(error));
for(const frame of workerData.frames) engine.receive(frame);
for(const frame of encode({ type: "hello", kind: "node", abi: ABI, version: process.version, wasm: versions.files["v86.wasm"] })) send(frame);
