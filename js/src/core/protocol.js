/**
 * The messages between the Hub and an engine, and how they look on the wire. No I/O happens here.
 *
 * `v86lab/protocol.py` is the other end and says what each message means; `tests/golden/messages.json` tests both.
 * A frame is u8 more | u32 header length | header (JSON) | payload, little-endian; payloads over 4 MiB go ahead in
 * frames with more = 1 and an empty header.
 */

/**
 * @typedef {object} Body
 * @property {string} type
 * @property {number} [id]
 * @property {Uint8Array} payload
 *
 * @typedef {import("./emulator.js").ImageConfig} ImageConfig
 * @typedef {import("./emulator.js").Medium} Medium
 * @typedef {{type: "boot", id: number, image: ImageConfig, state: string | null, seed: number | null, fresh: boolean, payload: Uint8Array}} Boot
 * @typedef {{type: "pause" | "resume" | "reset" | "read_registers" | "read_statistics" | "read_pixels" | "hash_state" | "describe_state" | "read_recording" | "read_fetches" | "export_tree", id: number, payload: Uint8Array}} Plain
 * @typedef {{type: "spawn", id: number, argv: string[], env: Record<string, string>, cwd: string, timeout: number | null, stream: boolean, limit: number, instructions: number | null, wall_timeout: number | null, payload: Uint8Array}} Spawn
 * @typedef {{type: "cancel", id: number, target: number, payload: Uint8Array}} Cancel
 * @typedef {{type: "send", id: number, payload: Uint8Array}} Send
 * @typedef {{type: "expect", id: number, patterns: unknown, timeout: number | null, seen: number | null, instructions: number | null, wall_timeout: number | null, payload: Uint8Array}} Expect
 * @typedef {{type: "consume", id: number, count: number, payload: Uint8Array}} Consume
 * @typedef {{type: "read_screen", id: number, since: number | null, timeout: number | null, instructions: number | null, wall_timeout: number | null, payload: Uint8Array}} ReadScreen
 * @typedef {{type: "advance", id: number, seconds: number | null, instructions: number | null, wall_timeout: number | null, payload: Uint8Array}} Advance
 * @typedef {{type: "replay", id: number, steps: number, instructions: number, payload: Uint8Array}} Replay
 * @typedef {{type: "capture", id: number, start: boolean, payload: Uint8Array}} Capture
 * @typedef {{type: "press", id: number, steps: import("./keyboard.js").KeyStep[], payload: Uint8Array}} Press
 * @typedef {{type: "read_memory", id: number, start: number, end: number, payload: Uint8Array}} ReadMemory
 * @typedef {{type: "write_memory", id: number, start: number, payload: Uint8Array}} WriteMemory
 * @typedef {{type: "change_medium", id: number, drive: "fda" | "fdb" | "cdrom", medium: Medium | null, payload: Uint8Array}} ChangeMedium
 * @typedef {{type: "watch", id: number, console: boolean, screen: boolean, activity: boolean, payload: Uint8Array}} Watch
 * @typedef {Boot | Plain | Watch | Spawn | Cancel | Send | Expect | Consume | ReadScreen | Advance | Replay | Capture | Press | ReadMemory | WriteMemory | ChangeMedium} Request
 *
 * @typedef {{type: "hello", kind: string, abi: number, version: string, wasm: string}} Hello
 * @typedef {{type: "reply", id: number, value: object}} Reply
 * @typedef {{type: "failure", id: number, code: string, message: string, expected: string | null, seen: string | null, hint: string | null, value: object}} Failure
 * @typedef {{type: "status", status: string, code: string | null, reason: string | null, registers: Record<string, number>}} Status
 * @typedef {{type: "output", id: number, fd: 1 | 2}} Output
 * @typedef {{type: "console_output"}} ConsoleOutput
 * @typedef {{type: "frame", size: number[], rect: number[], graphical: boolean, packed: boolean}} Frame
 * @typedef {{type: "activity", instructions: number, seconds: number, mips: number, busy: number, disk_requests: number, disk_bytes: number, share_requests: number, share_bytes: number}} Activity
 * @typedef {{type: "download", name: string, loaded: number, total: number | null}} Download
 * @typedef {{type: "checkpoint", digest: string, size: number, instructions: number, at: number}} Checkpoint
 * @typedef {Hello | Reply | Failure | Status | Output | ConsoleOutput | Frame | Activity | Download | Checkpoint} Notice   from the engine
 *
 * @typedef {Omit<Checkpoint, "type">} Kept
 * @typedef {{type: "join", id: number, page: string, able: boolean, hosts: string | null, kept: Kept | null}} Join
 * @typedef {{type: "start_here", id: number, checkpoint: string | null}} StartHere
 * @typedef {{type: "take_snapshot", id: number}} TakeSnapshot
 * @typedef {{type: "restore_snapshot", id: number, name: string}} RestoreSnapshot
 * @typedef {Join | StartHere | TakeSnapshot | RestoreSnapshot} PageRequest   from a page to Python
 *
 * @typedef {{type: "standing", name: string, status: string, reason: string | null, engine: "node" | "browser" | "none", why: string, here: boolean, snapshots: string[], current: string | null, kept: Kept | null, seed: number | null}} Standing
 * @typedef {{type: "offer", key: string, worker: string, wasm: string}} Offer
 * @typedef {{type: "log", text: string}} Log
 * @typedef {Standing | Offer | Log} PageNotice   from Python to a page
 */

import { join } from "./bytes.js";
import { RequestError } from "./fault.js";

export const ABI = 2;
const CHUNK = 4 << 20;
const MOST_BYTES = 1 << 30;
const MOST_HEADER = 8 << 20;
const PREFIX = 5;

/** @param {object} body @param {Uint8Array} [payload] @returns {Uint8Array[]} */
export function encode(body, payload = new Uint8Array(0)) {
    const header = new TextEncoder().encode(JSON.stringify(body)), frames = [];
    let at = 0;
    for(; payload.length - at > CHUNK; at += CHUNK) frames.push(frame(1, new Uint8Array(0), payload.subarray(at, at + CHUNK)));
    frames.push(frame(0, header, payload.subarray(at)));
    return frames;
}

/** @param {0 | 1} more @param {Uint8Array} header @param {Uint8Array} payload */
function frame(more, header, payload) {
    const bytes = new Uint8Array(PREFIX + header.length + payload.length), view = new DataView(bytes.buffer);
    view.setUint8(0, more);
    view.setUint32(1, header.length, true);
    bytes.set(header, PREFIX);
    bytes.set(payload, PREFIX + header.length);
    return bytes;
}

/** Puts frames of one direction together to messages; what does not follow the protocol is a `RequestError`. */
export class Decoder {
    /** @type {Uint8Array[]} */
    #parts = [];
    #size = 0;

    /** @param {Uint8Array} bytes @returns {Body | null} the message that this frame completes */
    push(bytes) {
        if(bytes.length < PREFIX) throw violation(`a frame of ${bytes.length} bytes`);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        const more = view.getUint8(0), length = view.getUint32(1, true);
        if(more > 1 || length > Math.min(bytes.length - PREFIX, MOST_HEADER) || more && length) {
            throw violation(`a frame that begins with ${Array.from(bytes.subarray(0, PREFIX)).join(" ")}`);
        }
        this.#size += bytes.length - PREFIX;
        if(this.#size > MOST_BYTES) throw violation(`a message of more than ${MOST_BYTES} bytes`);
        this.#parts.push(bytes.subarray(PREFIX + length));
        if(more) return null;
        const payload = join(this.#parts.splice(0));
        this.#size = 0;
        return { ...parseBody(bytes.subarray(PREFIX, PREFIX + length)), payload };
    }
}

/** @param {Uint8Array} header @returns {{type: string, id?: number}} */
function parseBody(header) {
    /** @type {any} */
    let body;
    try {
        body = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(header));
    }
    catch(error) {
        throw violation(`a header that is no JSON (${/** @type {Error} */ (error).message})`);
    }
    if(typeof body?.type !== "string") throw violation("a header without a type");
    if(body.id !== undefined && !Number.isSafeInteger(body.id)) throw violation(`a ${body.type} whose id is no integer`);
    return body;
}

/** @param {string} seen */
function violation(seen) {
    return new RequestError("engine", "a message does not follow the protocol", {
        expected: "a frame as js/src/core/protocol.js describes", seen, hint: "the two ends hold different versions of v86lab",
    });
}
