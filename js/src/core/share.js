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
    #reads;

    pending = 0;
    requests = 0;
    bytesRead = 0;
    /** @type {(error: Error) => void} */
    onError = () => {};

    /** @param {import("./blobs.js").Blobs} blobs @param {import("./reads.js").Reads | null} [reads]   where reads wait for their turn on a seeded machine */
    constructor(blobs, reads = null) {
        this.#blobs = blobs;
        this.#reads = reads;
    }

    /** @param {string} digest @param {number} offset @param {number} count @returns {Promise<Uint8Array>} */
    async read(digest, offset, count) {
        const whole = this.#whole(digest), ready = whole.catch(() => {});
        if(this.#reads) await new Promise(resolve => this.#reads?.add(ready, () => resolve(undefined)));
        return (await whole).subarray(offset, offset + count);
    }

    /** @param {string} digest @returns {Promise<Uint8Array>} */
    async #whole(digest) {
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
        return data;
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

/** Carry the shared files over to a new instance; locks belonged to the guest that is gone. @param {import("./emulator.js").Emulator} old @param {import("./emulator.js").Emulator} fresh */
export function keepFiles(old, fresh) {
    const from = old.v86.fs9p, to = fresh.v86.fs9p;
    for(const name of ["inodes", "inodedata", "qidcounter", "total_size", "used_size", "mounts"]) to[name] = from[name];
    for(const inode of to.inodes) inode.locks = [];
}
