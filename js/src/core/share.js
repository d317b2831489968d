/**
 * The files of a 9p tree, fetched whole from the Hub when the guest opens them.
 *
 * v86's file system (`lib/filesystem.js`) asks its storage by the name that stands in the tree; ours are full digests.
 * Contents live in a bounded cache; a changed file lives in the file system itself, not here.
 */

const MOST_BYTES = 256 * 1024 * 1024;

export class ShareStorage {
    /** @type {Map<string, Uint8Array>} in order of last use */
    #files = new Map();
    #bytes = 0;
    #blobs;

    pending = 0;
    requests = 0;
    bytesRead = 0;
    /** @type {(error: Error) => void} */
    onError = () => {};

    /** @param {import("./blobs.js").Blobs} blobs */
    constructor(blobs) {
        this.#blobs = blobs;
    }

    /** @param {string} digest @param {number} offset @param {number} count @returns {Promise<Uint8Array>} */
    async read(digest, offset, count) {
        let data = this.#files.get(digest);
        if(!data) {
            this.pending++;
            try {
                data = await this.#blobs.get(digest, { name: "shared folder" });
            }
            catch(error) {
                this.onError(/** @type {Error} */ (error));
                throw error;
            }
            finally {
                this.pending--;
            }
            this.requests++;
            this.bytesRead += data.length;
        }
        await this.cache(digest, data);
        return data.subarray(offset, offset + count);
    }

    /** Keep a file as the most recently used one, which stands last. @param {string} digest @param {Uint8Array} data */
    async cache(digest, data) {
        if(!this.#files.delete(digest)) this.#bytes += data.length;
        this.#files.set(digest, data);
        for(const [oldest, bytes] of this.#files) {
            if(this.#bytes <= MOST_BYTES || oldest === digest) break;
            this.#files.delete(oldest);
            this.#bytes -= bytes.length;
        }
    }

    /** v86 calls this when a file is closed; the bounded cache decides for itself. */
    uncache() {}
}
