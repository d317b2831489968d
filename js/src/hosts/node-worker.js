/**
 * The headless host, worker thread: a realm of its own for one machine.
 */

import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { webcrypto } from "node:crypto";
import process from "node:process";
import { Engine } from "../core/engine.js";
import { RequestError } from "../core/fault.js";
import { ABI, encode } from "../core/protocol.js";

const port = /** @type {import("node:worker_threads").MessagePort} */ (parentPort);
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 3 }, chunkSize: 4 << 20 };
const versions = JSON.parse(readFileSync(new URL("./VERSIONS.json", import.meta.url), "utf8"));
const compress = promisify(zstdCompress), decompress = promisify(zstdDecompress);

/** A Buffer's `slice` does not copy: the core gets plain arrays. @param {Buffer} buffer */
const plain = buffer => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);

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
    compress: async bytes => plain(await compress(bytes, LEVEL)),
    decompress: async bytes => plain(await decompress(bytes, { chunkSize: 4 << 20 })),
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
