/**
 * The last bytes of a stream, as many as fit.
 */

const KEPT = 256 * 1024;

export class History {
    #buffer = new Uint8Array(4096);
    #length = 0;

    /** The end of the stream; valid until the next `append`. */
    get bytes() {
        return this.#buffer.subarray(Math.max(0, this.#length - KEPT), this.#length);
    }

    /** @param {Uint8Array} bytes */
    append(bytes) {
        const part = bytes.subarray(-KEPT);
        if(this.#length + part.length > this.#buffer.length) this.#makeRoom(part.length);
        this.#buffer.set(part, this.#length);
        this.#length += part.length;
    }

    /** Twice what is kept, so that it moves seldom. @param {number} count */
    #makeRoom(count) {
        const kept = this.bytes, size = Math.min(2 * KEPT, 2 * (kept.length + count));
        if(size > this.#buffer.length) {
            const larger = new Uint8Array(size);
            larger.set(kept);
            this.#buffer = larger;
        }
        else this.#buffer.copyWithin(0, this.#length - kept.length, this.#length);
        this.#length = kept.length;
    }
}
