/**
 * Where the bytes of a shared tree come from: blobs of the Hub, a chunk of a file each, fetched when they are read.
 *
 * Rules:
 * - whoever wants a chunk that is under way waits for the same fetch; chunks are kept, up to `MOST_BYTES` together, those
 *   that were used last;
 * - what was fetched is written down, with guest time and the file for which it was;
 * - a chunk that has another length than its file says is an error, like one that cannot be had.
 */

import { RequestError } from "../fault.js";

const MOST_BYTES = 128 << 20;
const MOST_FETCHES = 10_000;                 // written down; older ones go
const PACKED = "z";                          // before the digest of a zstd frame

/**
 * @typedef {{seconds: number, path: string, bytes: number}} Fetch   guest time, and bytes as they travelled
 * @typedef {{name: string, length: number, path: () => string}} Chunk   as the manifest names it
 */

export class Chunks {
    /** In order of last use. @type {Map<string, Uint8Array>} */
    #kept = new Map();
    #bytes = 0;
    /** @type {Map<string, Promise<Uint8Array>>} */
    #coming = new Map();
    #blobs;
    #decompress;
    #seconds;

    requests = 0;
    bytesRead = 0;
    /** @type {Fetch[]} */
    fetches = [];
    /** How many are no longer in the list. */
    forgotten = 0;

    /**
     * @param {import("../blobs.js").Blobs} blobs
     * @param {import("../engine.js").Host["decompress"]} decompress
     * @param {() => number} seconds   guest time
     */
    constructor(blobs, decompress, seconds) {
        this.#blobs = blobs;
        this.#decompress = decompress;
        this.#seconds = seconds;
    }

    /** A chunk that is at hand. @param {string} name */
    find(name) {
        const chunk = this.#kept.get(name);
        if(chunk) this.#keep(name, chunk);
        return chunk;
    }

    /** @param {Chunk} chunk @returns {Promise<Uint8Array>} */
    get(chunk) {
        const { name } = chunk, kept = this.find(name);
        if(kept) return Promise.resolve(kept);
        let coming = this.#coming.get(name);
        if(!coming) {
            coming = this.#fetch(chunk).finally(() => this.#coming.delete(name));
            this.#coming.set(name, coming);
        }
        return coming;
    }

    /** Have a chunk fetched that will probably be wanted. If it cannot be had, whoever wants it will hear of it. @param {Chunk} chunk */
    expect(chunk) {
        this.get(chunk).catch(() => {});
    }

    /** @param {Chunk} chunk */
    async #fetch({ name, length, path }) {
        const packed = name.startsWith(PACKED), bytes = await this.#blobs.get(packed ? name.slice(PACKED.length) : name, { name: "shared files" });
        this.requests++;
        this.bytesRead += bytes.length;
        this.fetches.push({ seconds: this.#seconds(), path: path(), bytes: bytes.length });
        if(this.fetches.length > MOST_FETCHES) {
            this.fetches.shift();
            this.forgotten++;
        }
        const data = packed ? await this.#decompress(bytes, length) : bytes;
        if(data.length !== length) {
            throw new RequestError("image", `a part of ${path()} is damaged`, { expected: `${length} bytes`, seen: `${data.length}` });
        }
        this.#keep(name, data);
        return data;
    }

    /** As the most recently used one, which stands last. @param {string} name @param {Uint8Array} data */
    #keep(name, data) {
        if(!this.#kept.delete(name)) this.#bytes += data.length;
        this.#kept.set(name, data);
        for(const [oldest, bytes] of this.#kept) {
            if(this.#bytes <= MOST_BYTES) break;
            this.#kept.delete(oldest);
            this.#bytes -= bytes.length;
        }
    }
}
