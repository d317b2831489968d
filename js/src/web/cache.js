/**
 * Blobs kept in the browser by digest, so that a second start fetches nothing.
 *
 * Rules: what is taken out is verified again wherever the page may hash (a context that is not secure may not, and has no
 * Cache API either); the oldest go first when there is too much; a browser that keeps nothing is no error, it is said
 * once, in the same words for everything, and everything is fetched.
 */

const MOST_KEPT = 512 << 20;                 // bytes
const KEYS = "https://v86lab.invalid/";      // the Cache API wants a URL of https; nobody ever asks that host

/** @param {Uint8Array} bytes @returns {Promise<string | null>} hex sha256; null where the page may not hash */
export async function digestOf(bytes) {
    const { subtle } = globalThis.crypto;
    if(!subtle) return null;
    const digest = new Uint8Array(await subtle.digest("SHA-256", /** @type {BufferSource} */ (bytes)));
    return Array.from(digest, byte => byte.toString(16).padStart(2, "0")).join("");
}

export class Cache {
    #opened;
    #most;
    #report;
    /** Bytes kept, as far as is known; counted when something is first added. @type {number | null} */
    #size = null;

    /**
     * @param {(text: string) => void} [report]   told once when the browser does not keep what it is given
     * @param {string} [name] @param {number} [most]   bytes kept
     */
    constructor(report = () => {}, name = "v86lab", most = MOST_KEPT) {
        this.#most = most;
        this.#report = (/** @type {string} */ text) => { this.#report = () => {}; report(text); };
        this.#opened = open(name).catch(error => this.#cannot(error));       // a sandboxed page may not even look
    }

    /** @param {string} key @returns {Promise<Uint8Array | null>} */
    async read(key) {
        try {
            const answer = await (await this.#opened)?.match(KEYS + key);
            return answer ? new Uint8Array(await answer.arrayBuffer()) : null;
        }
        catch(error) {
            return this.#cannot(error) ?? null;
        }
    }

    /** @param {string} digest @returns {Promise<Uint8Array | null>} */
    async get(digest) {
        const bytes = await this.read(digest);
        if(!bytes || (await digestOf(bytes) ?? digest) === digest) return bytes;
        await this.remove(digest);
        return null;
    }

    /** Keep bytes under a key, in place of what it had. @param {string} key @param {Uint8Array} bytes @returns {Promise<boolean>} whether they are kept */
    async put(key, bytes) {
        try {
            const cache = await this.#opened;
            if(!cache || bytes.length > this.#most) return false;
            await this.#makeRoom(cache, bytes.length);
            await cache.put(KEYS + key, new Response(/** @type {BodyInit} */ (bytes), { headers: { "Content-Length": String(bytes.length) } }));
            return true;
        }
        catch(error) {
            this.#size = null;
            this.#cannot(error);
            return false;
        }
    }

    /** @param {string} key */
    async remove(key) {
        await (await this.#opened)?.delete(KEYS + key).catch(() => {});
        this.#size = null;
    }

    /** From the cache, else from `load`; bytes of another digest are an error. @param {string} digest @param {() => Promise<Uint8Array>} load */
    async fetch(digest, load) {
        const kept = await this.get(digest);
        if(kept) return kept;
        const bytes = await load(), seen = await digestOf(bytes) ?? digest;
        if(seen !== digest) throw new Error(`what came has the digest ${seen}, not ${digest}`);
        void this.put(digest, bytes);
        return bytes;
    }

    /** @param {globalThis.Cache} cache @param {number} wanted */
    async #makeRoom(cache, wanted) {
        this.#size = (this.#size ?? await sizeOf(cache)) + wanted;
        if(this.#size <= this.#most) return;
        this.#size = await sizeOf(cache) + wanted;           // other pages add and remove as well
        for(const key of await cache.keys()) {               // the order in which they were put
            if(this.#size <= this.#most) return;
            this.#size -= await lengthOf(cache, key);
            await cache.delete(key);
        }
    }

    /** @param {unknown} error @returns {undefined} */
    #cannot(error) {
        this.#report(`this browser keeps nothing (${/** @type {Error} */ (error).message}): each start downloads everything again, and a reloaded page boots the machine afresh`);
    }
}

/** @param {string} name @returns {Promise<globalThis.Cache>} */
async function open(name) {
    const { caches, isSecureContext } = globalThis;
    if(!caches) throw new Error(isSecureContext ? "it has no Cache API" : "it does so for pages of https alone");
    return caches.open(name);
}

/** @param {globalThis.Cache} cache */
async function sizeOf(cache) {
    const lengths = await Promise.all((await cache.keys()).map(key => lengthOf(cache, key)));
    return lengths.reduce((sum, length) => sum + length, 0);
}

/** @param {globalThis.Cache} cache @param {Request} key */
async function lengthOf(cache, key) {
    return Number((await cache.match(key))?.headers.get("Content-Length") ?? 0);
}
