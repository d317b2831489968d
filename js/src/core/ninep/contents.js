/**
 * What a regular file holds: chunks of 256 KiB that the manifest names, and over them pages that the guest wrote.
 *
 * Rules:
 * - what nobody wrote is not here: a chunk is named by digest and fetched by whoever reads it (`chunks.js`), a hole is
 *   nothing at all;
 * - a byte is that of its page, else that of its chunk below `kept`, else zero. `kept` only shrinks: bytes that were cut
 *   off once never come back;
 * - a page that is shorter than 4 KiB ends in zeros, and so does what lies below it; it grows as it is written, so that
 *   small files stay small.
 */

export const CHUNK = 256 << 10;
export const PAGE = 4096;
const PAGES = CHUNK / PAGE;
const SECTOR = 512;                          // what st_blocks counts in

/** @typedef {Map<number, Uint8Array>} Fetched   chunks by their place in the file */

export class Contents {
    /** @type {Map<number, Uint8Array>} */
    pages = new Map();
    /** Bytes in pages. */
    bytes = 0;
    /** How many pages lie where there was nothing. */
    #overHoles = 0;
    #chunkSectors = 0;
    #fullSize;

    /** @param {readonly (string | null)[]} chunks @param {number} size */
    constructor(chunks = [], size = 0) {
        this.chunks = chunks;
        this.size = size;
        this.kept = size;
        this.#fullSize = size;
        this.#countSectors();
    }

    /** How long a chunk is that the manifest names. @param {number} index */
    chunkLength(index) {
        return Math.min(CHUNK, this.#fullSize - index * CHUNK);
    }

    /** The chunks that are needed to read from `start` to `end`. @param {number} start @param {number} end @returns {number[]} */
    neededToRead(start, end) {
        const needed = [], last = Math.min(end, this.kept);
        for(let index = Math.floor(start / CHUNK); index * CHUNK < last; index++) {
            if(this.chunks[index] === null) continue;
            const from = Math.floor(Math.max(start, index * CHUNK) / PAGE), to = Math.ceil(Math.min(last, (index + 1) * CHUNK) / PAGE);
            if(!this.pages.size || !this.#haveAll(from, to)) needed.push(index);
        }
        return needed;
    }

    /** @param {number} from @param {number} to */
    #haveAll(from, to) {
        for(let page = from; page < to; page++) {
            if(!this.pages.has(page)) return false;
        }
        return true;
    }

    /** The chunks that are needed to write there: of pages that are written in part. @param {number} start @param {number} end @returns {number[]} */
    neededToWrite(start, end) {
        const needed = new Set();
        for(const page of [Math.floor(start / PAGE), Math.floor((end - 1) / PAGE)]) {
            const from = page * PAGE, below = this.#below(page);
            if(!this.pages.has(page) && below && (start > from || end < from + below)) needed.add(Math.floor(page / PAGES));
        }
        return [...needed];
    }

    /** How many bytes of a chunk lie below a page. @param {number} page */
    #below(page) {
        return this.chunks[Math.floor(page / PAGES)] ? Math.max(0, Math.min(PAGE, this.kept - page * PAGE)) : 0;
    }

    /** Copy what lies from `start` on. @param {number} start @param {Uint8Array} into   zeros @param {Fetched} fetched   what was needed */
    read(start, into, fetched) {
        const end = start + into.length;
        for(const [index, chunk] of fetched) {
            const from = Math.max(start, index * CHUNK), to = Math.min(end, this.kept, (index + 1) * CHUNK);
            if(from < to) into.set(chunk.subarray(from - index * CHUNK, to - index * CHUNK), from - start);
        }
        if(!this.pages.size) return;
        for(let page = Math.floor(start / PAGE); page * PAGE < end; page++) {
            const data = this.pages.get(page);
            if(!data) continue;
            const from = Math.max(start, page * PAGE);
            into.set(data.subarray(from - page * PAGE, Math.min(end - page * PAGE, PAGE)), from - start);
        }
    }

    /** @param {number} start @param {Uint8Array} bytes @param {Fetched} fetched   what was needed */
    write(start, bytes, fetched) {
        const end = start + bytes.length;
        for(let at = start; at < end; ) {
            const page = Math.floor(at / PAGE), from = at - page * PAGE, to = Math.min(PAGE, end - page * PAGE);
            this.#page(page, to, fetched).set(bytes.subarray(at - start, at - start + to - from), from);
            at += to - from;
        }
        this.size = Math.max(this.size, end);
    }

    /** A page to write to, at least so long. @param {number} page @param {number} length @param {Fetched} fetched @returns {Uint8Array} */
    #page(page, length, fetched) {
        const had = this.pages.get(page);
        if(had && had.length >= length) return had;
        const below = had ? 0 : this.#below(page), made = new Uint8Array(had ? Math.min(PAGE, Math.max(length, had.length * 2)) : Math.max(length, below));
        if(had) made.set(had);
        else if(below) {
            const index = Math.floor(page / PAGES), at = page * PAGE - index * CHUNK, chunk = fetched.get(index);
            if(chunk) made.set(chunk.subarray(at, at + below));
        }
        else this.#overHoles++;
        this.bytes += made.length - (had?.length ?? 0);
        this.pages.set(page, made);
        return made;
    }

    /** @param {number} size */
    truncate(size) {
        if(size < this.size) {
            for(const [page, data] of this.pages) {
                const left = size - page * PAGE;
                if(left >= data.length) continue;
                this.bytes -= data.length - Math.max(0, left);
                if(left > 0) this.pages.set(page, data.slice(0, left));
                else this.pages.delete(page);
            }
            this.kept = Math.min(this.kept, size);
            this.#countSectors();
        }
        this.size = size;
    }

    /** As a snapshot has it. @param {number} size @param {number} kept @param {Map<number, Uint8Array>} pages */
    restore(size, kept, pages) {
        this.size = size;
        this.kept = kept;
        this.pages = pages;
        this.bytes = [...pages.values()].reduce((sum, page) => sum + page.length, 0);
        this.#countSectors();
    }

    #countSectors() {
        this.#chunkSectors = 0;
        for(let index = 0; index * CHUNK < this.kept; index++) {
            if(this.chunks[index]) this.#chunkSectors += Math.ceil(Math.min(CHUNK, this.kept - index * CHUNK) / PAGE) * (PAGE / SECTOR);
        }
        this.#overHoles = [...this.pages.keys()].filter(page => !this.#below(page)).length;
    }

    /** Sectors that hold something. */
    get sectors() {
        return this.#chunkSectors + this.#overHoles * (PAGE / SECTOR);
    }

    /** The places of chunks that are no longer as the manifest names them, and not all holes. @returns {Set<number>} */
    get changed() {
        const changed = new Set([...this.pages.keys()].map(page => Math.floor(page / PAGES))), cut = Math.floor(this.kept / CHUNK);
        const differs = this.kept < this.#fullSize || this.size > this.#fullSize;
        if(differs && cut * CHUNK < this.kept && this.chunks[cut]) changed.add(cut);
        return changed;
    }

    /** What the manifest names, and nobody has changed since. @param {number} index @returns {string | null} */
    chunkAt(index) {
        return index * CHUNK < this.kept ? this.chunks[index] : null;
    }
}
