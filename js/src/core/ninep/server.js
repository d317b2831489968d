/**
 * A 9P2000.L server for one guest: what its kernel asks of shared files is answered from a tree in memory and from chunks
 * of the Hub.
 *
 * Rules:
 * - every request is answered once, whatever it says: one that makes no sense by an error;
 * - what needs bytes that have to be fetched waits for them; all else is answered before the guest goes on. On a seeded
 *   machine it also waits where the bytes are at hand, and answers come in the order of the requests (`reads.js`);
 * - what changes while a request waits, it finds changed: a read of a file that was cut meanwhile is shorter;
 * - times are those of the machine's clock; reading changes none;
 * - what a process may do, and which group its files get, is the client's business, as it is with QEMU.
 */

import { EBADF, EINVAL, EMSGSIZE, ENFILE, EOPNOTSUPP, Errno, fail } from "./errno.js";
import { describe } from "./describe.js";
import { Fid } from "./fid.js";
import { Locks } from "./locks.js";
import { chunkOf, fetched, manifestOf, treeOf } from "./manifest.js";
import { REQUESTS } from "./requests.js";
import { load, save } from "./saved.js";
import { errorMessage, LEAST_MESSAGE, MOST_MESSAGE, Reader, T, Writer } from "./wire.js";

const VERSION = "9P2000.L";
const MOST_FIDS = 1 << 20;                   // Linux keeps one for each name in its cache
const MOST_XATTR_FIDS = 1 << 10;             // each may hold 64 KiB
const NO_TAG = 0xFFFF;

/**
 * @typedef {object} Need   a request that needs bytes of a file
 * @property {import("./inode.js").Inode} inode
 * @property {number[]} chunks   their places
 * @property {(fetched: import("./contents.js").Fetched) => void} serve   writes the answer
 *
 * @typedef {(server: Server, request: Reader, answer: Writer, room: number) => Need | void} Handler   `room`: bytes that the answer may have
 */

export class Server {
    /** What is to be told when something cannot be fetched. @type {(error: Error) => void} */
    onError = () => {};
    /** Requests that wait for bytes. */
    pending = 0;
    msize = LEAST_MESSAGE;
    /** @type {Map<number, Fid>} */
    fids = new Map();
    locks = new Locks();
    now;
    #xattrFids = 0;
    #reads;
    /** What else is to be answered once the request with this tag is. @type {Map<number, (() => void)[]>} */
    #waiting = new Map();

    /**
     * @param {Uint8Array} manifest   as JSON
     * @param {import("./chunks.js").Chunks} chunks
     * @param {() => number} date   milliseconds since 1970, of the machine's clock
     * @param {import("../reads.js").Reads | null} reads   where answers wait for their turn on a seeded machine
     */
    constructor(manifest, chunks, date, reads) {
        this.now = () => {
            const ms = date(), seconds = Math.floor(ms / 1000);
            return /** @type {[number, number]} */ ([seconds, (ms - seconds * 1000) * 1e6]);
        };
        this.chunks = chunks;
        this.#reads = reads;
        this.tree = treeOf(manifest, this.now);
    }

    /** @param {Uint8Array} message @param {number} room   bytes that the answer may have @param {(message: Uint8Array) => void} reply */
    receive(message, room, reply) {
        const request = new Reader(message), answer = new Writer();
        let type = 0, tag = NO_TAG;
        const finish = (/** @type {number} */ code) => {
            if(!code && answer.length > room) code = EMSGSIZE;
            reply(code ? errorMessage(tag, code) : answer.finish(type + 1, tag));
        };
        let need = /** @type {Need | void} */ (undefined);
        let before = /** @type {(() => void)[] | undefined} */ (undefined);
        const code = attempt(() => {
            const size = request.u32();
            type = request.u8();
            tag = request.u16();
            request.cut(size);
            if(type === T.version) this.#begin(request, answer);
            else if(type === T.flush) before = this.#waiting.get(request.u16());
            else need = (REQUESTS[type] ?? fail(EOPNOTSUPP))(this, request, answer, Math.min(room, this.msize));
        });
        if(need) this.#fetch(tag, need, finish);
        else if(before) before.push(() => finish(code));     // the flushed request is answered first
        else finish(code);
    }

    /** @param {number} tag @param {Need} need @param {(code: number) => void} finish */
    #fetch(tag, { inode, chunks, serve }, finish) {
        const found = this.#reads ? [] : chunks.map(index => this.chunks.find(chunkOf(this.tree, inode, index).name));
        if(!this.#reads && found.every(Boolean)) {
            return finish(attempt(() => serve(new Map(chunks.map((index, n) => [index, /** @type {Uint8Array} */ (found[n])])))));
        }
        const after = /** @type {(() => void)[]} */ ([]);
        this.pending++;
        this.#waiting.set(tag, after);
        inode.fids++;                        // it must live so long
        /** @type {import("./contents.js").Fetched | Error} */
        let came;
        const ready = fetched(this.tree, inode, chunks, this.chunks).then(data => { came = data; }, error => { came = error; });
        const settle = () => {
            this.pending--;
            if(this.#waiting.get(tag) === after) this.#waiting.delete(tag);
            if(came instanceof Map) {
                const data = came;
                finish(attempt(() => serve(data)));
            }
            else this.onError(came);
            this.#leave(inode);
            for(const next of after) next();
        };
        if(this.#reads) this.#reads.add(ready, settle);
        else void ready.then(settle);
    }

    /** A client introduces itself: what another held is gone. @param {Reader} request @param {Writer} answer */
    #begin(request, answer) {
        const msize = Math.min(request.u32(), MOST_MESSAGE), known = request.string() === VERSION;
        if(msize < LEAST_MESSAGE) fail(EMSGSIZE);
        this.reset();
        this.msize = msize;
        answer.u32(msize);
        answer.string(known ? VERSION : "unknown");
    }

    /** The guest is gone; what it changed stays. */
    reset() {
        for(const number of [...this.fids.keys()]) this.#remove(number);
        this.locks.clear();
        this.msize = LEAST_MESSAGE;
    }

    // ---- fids, for `requests.js` ----

    /** @param {number} number @returns {Fid} */
    fid(number) {
        return this.fids.get(number) ?? fail(EBADF);
    }

    /** One that is a file. @param {number} number */
    file(number) {
        const fid = this.fid(number);
        if(fid.xattr) fail(EBADF);
        return fid;
    }

    /** @param {number} number @param {Fid} fid */
    hold(number, fid) {
        if(this.fids.has(number)) fail(EINVAL);
        if(this.fids.size >= MOST_FIDS) fail(ENFILE);
        this.fids.set(number, fid);
        fid.inode.fids++;
    }

    /** A fid is now an extended attribute. @param {Fid} fid @param {import("./fid.js").Xattr} xattr */
    holdXattr(fid, xattr) {
        if(this.#xattrFids >= MOST_XATTR_FIDS) fail(ENFILE);
        this.#xattrFids++;
        fid.xattr = xattr;
    }

    /** @param {number} number */
    #remove(number) {
        const fid = this.fid(number);
        this.fids.delete(number);
        if(fid.locks) this.locks.release(fid.inode.number, number);
        if(fid.xattr) this.#xattrFids--;
        this.#leave(fid.inode);
        return fid;
    }

    /** Let go of a fid; an attribute that was written is set now. @param {number} number */
    clunk(number) {
        const { inode, xattr } = this.#remove(number);
        if(!xattr?.writes) return;
        if(xattr.written !== xattr.value.length) fail(EINVAL);
        this.tree.setXattr(inode, xattr.name, xattr.value, xattr.flags);
    }

    /** @param {import("./inode.js").Inode} inode */
    #leave(inode) {
        inode.fids--;
        this.tree.release(inode);
    }

    // ---- for the machine ----

    /** All in which the files differ from their manifest, and what the client holds. */
    save() {
        return save(this.tree, this);
    }

    /** Go on as the one that was saved; nothing has been asked of this one. @param {any} state @param {Uint8Array} bytes */
    load(state, bytes) {
        this.msize = load(this.tree, this, state, bytes);
        this.#xattrFids = [...this.fids.values()].filter(fid => fid.xattr).length;
    }

    /** For `hash.js`. */
    describe() {
        return describe(this.tree, this);
    }

    /** The tree as it is, as a manifest and the chunks that are new. */
    export() {
        return manifestOf(this.tree, this.chunks);
    }
}

/** What an attempt ends with: 0, or the number of its error. @param {() => void} work */
function attempt(work) {
    try {
        work();
        return 0;
    }
    catch(error) {
        if(error instanceof Errno) return error.code;
        throw error;
    }
}
