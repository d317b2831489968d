/**
 * The headless host, main thread: owns the socket to the Hub and a watchdog; the machine runs in a worker thread.
 *
 * The first line of standard input says where the Hub is (never the command line: other users can read that) and brings
 * the first requests, so that the machine is being made while the socket connects; what it will need is fetched here
 * while the worker starts. The process ends when standard input ends, when its parent is gone, when the Hub closes the socket, or when the worker is
 * stuck: it never outlives the Python process that started it.
 */

import process from "node:process";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";
import { Blobs } from "../core/blobs.js";
import { Decoder } from "../core/protocol.js";
import { isPacked, unpack } from "./zstd.js";

const PARENT_CHECK = 1000;                   // ms; standard input may be held open by a fork of the parent
const PING_EVERY = 2000;
const PINGS_MISSED = 30;                     // a minute of this process's own time: a suspended computer misses none
const STUCK_STATUS = 86;

const parent = process.ppid;

setFlagsFromString("--no-wasm-inlining");    // where V8 knows it; see engine.py

/** @param {string} reason @param {number} status @returns {never} */
function end(reason, status) {
    if(reason) process.stderr.write(`v86lab engine: ${reason}\n`);
    process.exit(status);
}

/** What a machine asks for first; a state is decompressed here as well, while the worker is busy. @param {Uint8Array[]} frames @returns {{ahead: string[], state: string | null}} digests */
function neededBlobs(frames) {
    const decoder = new Decoder();
    for(const frame of frames) {
        const message = /** @type {any} */ (decoder.push(frame));
        if(message?.type !== "boot") continue;
        const { image, state, fresh } = message;
        const needed = [state, image.bios, image.vga_bios, ...(state ? [] : [image.kernel]), ...(state && !fresh ? [] : [image.initrd])];
        return { ahead: [...new Set(needed.filter(digest => digest))], state };
    }
    return { ahead: [], state: null };
}

/** @param {{hub: string, socket: string, frames: string[]}} place */
function start({ hub, socket: address, frames }) {
    const first = frames.map(frame => Uint8Array.from(Buffer.from(frame, "base64"))), { ahead, state } = neededBlobs(first);
    const worker = new Worker(new URL("./node-worker.mjs", import.meta.url), { workerData: { hub, frames: first, ahead } });
    const blobs = new Blobs(hub, fetch, ms => new Promise(resolve => setTimeout(resolve, ms)));
    for(const digest of ahead) {
        blobs.get(digest).then(bytes => digest === state && isPacked(bytes) ? unpack(bytes) : bytes).then(
            bytes => worker.postMessage({ ahead: digest, bytes }, [/** @type {ArrayBuffer} */ (bytes.buffer)]),
            error => worker.postMessage({ ahead: digest, error: error.message }));
    }
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    /** @type {Uint8Array[]} */
    const early = [];
    let unanswered = 0;

    socket.onopen = () => { for(const frame of early.splice(0)) socket.send(/** @type {BufferSource} */ (frame)); };
    socket.onmessage = event => worker.postMessage(new Uint8Array(event.data), [event.data]);
    socket.onclose = () => end("", 0);
    socket.onerror = () => end("the connection to the hub failed", 1);
    worker.on("message", frame => {
        unanswered = 0;
        if(frame === "pong") return;
        if(socket.readyState === WebSocket.OPEN) socket.send(frame);
        else early.push(frame);
    });
    worker.on("error", error => end(`the worker failed: ${error.stack ?? error}`, 1));
    worker.on("exit", status => end("the worker ended", status || 1));
    setInterval(() => {
        if(++unanswered > PINGS_MISSED) {
            void worker.terminate();
            end(`the guest kept the emulator busy for ${PINGS_MISSED * PING_EVERY / 1000} s without a pause; the engine was ended`, STUCK_STATUS);
        }
        worker.postMessage("ping");
    }, PING_EVERY);
}

setInterval(() => { if(process.ppid !== parent) end("", 0); }, PARENT_CHECK);
const input = createInterface({ input: process.stdin });
input.once("line", line => start(JSON.parse(line)));
input.once("close", () => end("", 0));
