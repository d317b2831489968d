/**
 * A disk whose content is a blob on the Hub: read in ranges when the guest asks, written into an overlay of its own.
 *
 * v86 accepts any object with `get`, `get_and_cache`, `get_from_cache`, `set`, `load`, `get_state` and `set_state` as a disk (its `src/buffer.js` is the
 * model of the interface). v86's own range loader has no cache, no retry and no error path; this one
 *
 * - reads chunks of 64 KiB and, when reads are sequential, up to 1 MiB ahead in one request;
 * - keeps clean chunks in a bounded cache, dirty ones for good;
 * - tells `onError` when a read fails for good, instead of letting the guest wait for ever.
 *
 * Its state is the overlay: the numbers of the chunks written to, which of their sectors are dirty, and their bytes.
 */

import { RequestError } from "./fault.js";

const SECTOR = 512;
const CHUNK = 64 * 1024;
const SECTORS_PER_CHUNK = CHUNK / SECTOR;
const MASK_BYTES = SECTORS_PER_CHUNK / 8;
const MOST_AHEAD = 16;                      // chunks in one request: 1 MiB
const MOST_CLEAN = 1024;                    // chunks kept: 64 MiB

/**
 * @typedef {object} Chunk
 * @property {Uint8Array} data
 * @property {boolean} loaded            the clean sectors hold the blob's bytes
 * @property {Uint8Array | null} mask    a bit for each dirty sector
 */

/** @typedef {(read: () => void) => void} Deliver runs a completion inside the emulator's guard */

export class Disk {
    /** @type {Map<number, Chunk>} in order of last use */
    #chunks = new Map();
    /** @type {Map<number, Promise<void>>} */
    #fetching = new Map();
    #clean = 0;
    #ahead = 1;
    #nextExpected = -1;
    #blobs;
    #digest;
    #name;
    #reads;

    /** Called by v86 when `load` is done. @type {((event: object) => void) | undefined} */
    onload;
    /** @type {Deliver} */
    deliver = read => read();
    /** @type {(error: Error) => void} */
    onError = () => {};

    requests = 0;
    bytesRead = 0;
    pending = 0;

    /**
     * @param {import("./blobs.js").Blobs} blobs
     * @param {string} digest
     * @param {number} size   bytes
     * @param {string} [name]   the drive it is in
     * @param {import("./reads.js").Reads | null} [reads]   where reads wait for their turn on a seeded machine
     */
    constructor(blobs, digest, size, name = "disk", reads = null) {
        this.#name = name;
        this.#reads = reads;
        this.#blobs = blobs;
        this.#digest = digest;
        this.byteLength = size;
    }

    load() {
        this.onload?.({});
    }

    /**
     * @param {number} start
     * @param {number} length
     * @param {(data: Uint8Array) => void} done
     * @param {{signal?: AbortSignal}} [options]
     */
    get(start, length, done, options = {}) {
        this.#read(start, length, done, options, this.#reads);
    }

    /**
     * @param {number} start @param {number} length @param {(data: Uint8Array) => void} done @param {{signal?: AbortSignal}} options
     * @param {import("./reads.js").Reads | null} reads
     */
    #read(start, length, done, options, reads) {
        const first = Math.floor(start / CHUNK), last = Math.floor((start + length - 1) / CHUNK);
        const missing = this.#missing(first, last);
        this.#ahead = first === this.#nextExpected || first === this.#nextExpected - 1 ? Math.min(this.#ahead * 2, MOST_AHEAD) : 1;
        this.#nextExpected = last + 1;
        if(missing.length === 0 && !reads) {
            done(this.#copy(start, length));
            return;
        }
        this.pending++;
        /** @type {Error | null} */
        let failed = null;
        const answer = () => {
            const given = options.signal?.aborted, data = given || failed ? null : this.#copy(start, length);
            this.#settle();
            if(data) this.deliver(() => done(data));
            else if(failed && !given) this.onError(failed);
        };
        const ready = this.#load(missing).catch(error => { failed = error; });
        if(reads) reads.add(ready, answer);
        else void ready.then(answer);
    }

    /** v86 asks for the partition table ahead of the boot by this name. @param {number} start @param {number} length @param {(data: Uint8Array) => void} done */
    get_and_cache(start, length, done) {
        this.#read(start, length, done, {}, null);
    }

    /** The same, when it has to be there already: v86 takes the disk's geometry from it. @param {number} start @param {number} length */
    get_from_cache(start, length) {
        const missing = this.#missing(Math.floor(start / CHUNK), Math.floor((start + length - 1) / CHUNK));
        return missing.length ? undefined : this.#copy(start, length);
    }

    /**
     * @param {number} start          IDE writes whole sectors: both ends lie on a sector's border
     * @param {Uint8Array} bytes
     * @param {() => void} done
     */
    set(start, bytes, done) {
        for(let at = 0; at < bytes.length; ) {
            const index = Math.floor((start + at) / CHUNK), offset = (start + at) % CHUNK;
            const part = bytes.subarray(at, at + CHUNK - offset);
            const chunk = this.#writable(index);
            chunk.data.set(part, offset);
            for(let sector = Math.floor(offset / SECTOR); sector * SECTOR < offset + part.length; sector++) {
                chunk.mask[sector >> 3] |= 1 << (sector & 7);
            }
            at += part.length;
        }
        done();
    }

    /** @returns {any[]} */
    get_state() {
        const dirty = [...this.#chunks].filter(([, chunk]) => chunk.mask).sort(([a], [b]) => a - b);
        const masks = new Uint8Array(dirty.length * MASK_BYTES), data = new Uint8Array(dirty.length * CHUNK);
        dirty.forEach(([, chunk], n) => {
            const mask = /** @type {Uint8Array} */ (chunk.mask);
            masks.set(mask, n * MASK_BYTES);
            for(let sector = 0; sector < SECTORS_PER_CHUNK; sector++) {         // clean sectors are not part of the state
                if(mask[sector >> 3] & (1 << (sector & 7))) {
                    data.set(chunk.data.subarray(sector * SECTOR, (sector + 1) * SECTOR), n * CHUNK + sector * SECTOR);
                }
            }
        });
        return [this.byteLength, Uint32Array.from(dirty, ([index]) => index), masks, data];
    }

    /** @param {any[]} state */
    set_state([size, indices, masks, data]) {
        if(size !== this.byteLength || masks?.length !== indices?.length * MASK_BYTES || data?.length !== indices?.length * CHUNK) {
            throw new RequestError("image", "this snapshot cannot be restored", { seen: "what it says of a disk does not fit" });
        }
        this.#chunks.clear();
        this.#clean = 0;
        /** @type {Uint32Array} */ (indices).forEach((index, n) => {
            this.#chunks.set(index, {
                data: data.slice(n * CHUNK, (n + 1) * CHUNK), mask: masks.slice(n * MASK_BYTES, (n + 1) * MASK_BYTES), loaded: false,
            });
        });
    }

    /** @param {number} first @param {number} last @returns {number[]} */
    #missing(first, last) {
        const missing = [];
        for(let index = first; index <= last; index++) {
            const chunk = this.#touch(index);
            if(!chunk || !chunk.loaded && !chunk.mask?.every(bits => bits === 0xFF)) missing.push(index);
        }
        return missing;
    }

    /** Fetch these chunks, and what probably comes next, in as few requests as possible. @param {number[]} missing */
    async #load(missing) {
        const last = missing[missing.length - 1], chunkCount = Math.ceil(this.byteLength / CHUNK);
        const wanted = [...missing];
        for(let index = last + 1; index < Math.min(last + this.#ahead, chunkCount); index++) {
            if(!this.#chunks.has(index)) wanted.push(index);
        }
        const fresh = wanted.filter(index => !this.#fetching.has(index));
        for(let n = 0; n < fresh.length; ) {
            let end = n + 1;
            while(end < fresh.length && fresh[end] === fresh[end - 1] + 1) end++;
            const run = fresh.slice(n, end), fetched = this.#fetch(run[0], run.length);
            fetched.catch(() => {});         // nobody may be waiting for what was read ahead
            for(const index of run) this.#fetching.set(index, fetched);
            n = end;
        }
        await Promise.all(missing.map(index => this.#fetching.get(index)));
    }

    /** @param {number} first @param {number} count */
    async #fetch(first, count) {
        try {
            const start = first * CHUNK, end = Math.min(start + count * CHUNK, this.byteLength);
            this.requests++;
            const bytes = await this.#blobs.range(this.#digest, start, end, { name: this.#name });
            this.bytesRead += bytes.length;
            for(let n = 0; n < count; n++) this.#fill(first + n, bytes.subarray(n * CHUNK, (n + 1) * CHUNK));
        }
        finally {
            for(let n = 0; n < count; n++) this.#fetching.delete(first + n);
        }
    }

    /** @param {number} index @param {Uint8Array} bytes */
    #fill(index, bytes) {
        const chunk = this.#chunks.get(index);
        if(chunk?.mask) {                                    // written while it was under way: dirty sectors stay
            for(let sector = 0; sector * SECTOR < bytes.length; sector++) {
                if(!(chunk.mask[sector >> 3] & (1 << (sector & 7)))) {
                    chunk.data.set(bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR), sector * SECTOR);
                }
            }
            chunk.loaded = true;
            return;
        }
        const data = new Uint8Array(CHUNK);
        data.set(bytes);
        if(!chunk) this.#clean++;
        this.#chunks.set(index, { data, loaded: true, mask: null });
    }

    /** A read has ended; while others are under way, no chunk may go that they have found or fetched. */
    #settle() {
        this.pending--;
        if(this.pending === 0 && this.#clean > MOST_CLEAN) this.#evict();
    }

    /** Make a chunk the most recently used one, which stands last. @param {number} index */
    #touch(index) {
        const chunk = this.#chunks.get(index);
        if(chunk) {
            this.#chunks.delete(index);
            this.#chunks.set(index, chunk);
        }
        return chunk;
    }

    #evict() {
        for(const [index, chunk] of this.#chunks) {
            if(this.#clean <= MOST_CLEAN / 2) break;
            if(chunk.mask) continue;
            this.#chunks.delete(index);
            this.#clean--;
        }
    }

    /** @param {number} index @returns {Chunk & {mask: Uint8Array}} */
    #writable(index) {
        let chunk = this.#chunks.get(index);
        if(!chunk) {
            chunk = { data: new Uint8Array(CHUNK), loaded: false, mask: null };
            this.#chunks.set(index, chunk);
        }
        else if(!chunk.mask) this.#clean--;
        chunk.mask ??= new Uint8Array(MASK_BYTES);
        return /** @type {Chunk & {mask: Uint8Array}} */ (chunk);
    }

    /** @param {number} start @param {number} length */
    #copy(start, length) {
        const result = new Uint8Array(length);
        for(let at = 0; at < length; ) {
            const index = Math.floor((start + at) / CHUNK), offset = (start + at) % CHUNK;
            const chunk = /** @type {Chunk} */ (this.#touch(index));
            const part = chunk.data.subarray(offset, Math.min(CHUNK, offset + length - at));
            result.set(part, at);
            at += part.length;
        }
        return result;
    }
}
