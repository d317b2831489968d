/**
 * Messages of 9P2000.L as bytes: u32 size | u8 type | u16 tag | fields, little-endian, strings with a u16 length before
 * them. (Linux: include/net/9p/9p.h; the protocol: github.com/chaos/diod/blob/master/protocol.md.)
 *
 * A reader never reads beyond its message: what is cut short is an error that the guest is told.
 */

import { EPROTO, fail } from "./errno.js";

export const LEAST_MESSAGE = 4096, MOST_MESSAGE = 1 << 20;       // Linux's virtio transport ends at 500 KiB
export const HEADER = 7;
export const READ_HEADER = HEADER + 4;       // of the answer to a read
const ERROR = 7;                             // Rlerror
const TWO32 = 2 ** 32;

/** The types of requests; an answer's is one more. */
export const T = /** @type {const} */ ({
    statfs: 8, lopen: 12, lcreate: 14, symlink: 16, mknod: 18, rename: 20, readlink: 22, getattr: 24, setattr: 26, xattrwalk: 30, xattrcreate: 32,
    readdir: 40, fsync: 50, lock: 52, getlock: 54, link: 70, mkdir: 72, renameat: 74, unlinkat: 76, version: 100, attach: 104, flush: 108,
    walk: 110, read: 116, write: 118, clunk: 120, remove: 122,
});

/** @typedef {{type: number, version: number, path: number}} Qid */

export class Reader {
    #bytes;
    #view;
    #at = 0;
    #end;

    /** @param {Uint8Array} bytes */
    constructor(bytes) {
        this.#bytes = bytes;
        this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        this.#end = bytes.length;
    }

    /** The message ends before its bytes do. @param {number} end */
    cut(end) {
        if(end < HEADER || end > this.#end) fail(EPROTO);
        this.#end = end;
    }

    /** @param {number} count @returns {number} where they begin */
    #take(count) {
        const at = this.#at;
        if(count > this.#end - at) fail(EPROTO);
        this.#at = at + count;
        return at;
    }

    u8() {
        return this.#view.getUint8(this.#take(1));
    }

    u16() {
        return this.#view.getUint16(this.#take(2), true);
    }

    u32() {
        return this.#view.getUint32(this.#take(4), true);
    }

    /** Above 2^53 not exact. */
    u64() {
        const at = this.#take(8);
        return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * TWO32;
    }

    i64() {
        const at = this.#take(8);
        return this.#view.getUint32(at, true) + this.#view.getInt32(at + 4, true) * TWO32;
    }

    exactU64() {
        return this.#view.getBigUint64(this.#take(8), true);
    }

    /** A string, each character one byte. */
    string() {
        const length = this.u16(), at = this.#take(length);
        let text = "";
        for(let n = at; n < at + length; n++) text += String.fromCharCode(this.#bytes[n]);
        return text;
    }

    /** A view. @param {number} count */
    bytes(count) {
        const at = this.#take(count);
        return this.#bytes.subarray(at, at + count);
    }
}

export class Writer {
    #bytes = new Uint8Array(64);
    #view = new DataView(this.#bytes.buffer);
    #at = HEADER;

    /** To be called before the view is used: it may be replaced. @param {number} count @returns {number} where they begin */
    #make(count) {
        const at = this.#at, end = at + count;
        if(end > this.#bytes.length) {
            const grown = new Uint8Array(Math.max(end, at * 2));
            grown.set(this.#bytes.subarray(0, at));
            this.#bytes = grown;
            this.#view = new DataView(grown.buffer);
        }
        this.#at = end;
        return at;
    }

    /** How long the message is. */
    get length() {
        return this.#at;
    }

    /** @param {number} value */
    u8(value) {
        const at = this.#make(1);
        this.#view.setUint8(at, value);
    }

    /** @param {number} value */
    u16(value) {
        const at = this.#make(2);
        this.#view.setUint16(at, value, true);
    }

    /** @param {number} value */
    u32(value) {
        const at = this.#make(4);
        this.#view.setUint32(at, value, true);
    }

    /** Signed ones too. @param {number} value   an integer */
    u64(value) {
        const at = this.#make(8);
        this.#view.setUint32(at, value >>> 0, true);
        this.#view.setUint32(at + 4, Math.floor(value / TWO32) >>> 0, true);
    }

    /** @param {bigint} value */
    exactU64(value) {
        const at = this.#make(8);
        this.#view.setBigUint64(at, value, true);
    }

    /** @param {string} text   each character one byte */
    string(text) {
        this.u16(text.length);
        const at = this.#make(text.length);
        for(let n = 0; n < text.length; n++) this.#bytes[at + n] = text.charCodeAt(n);
    }

    /** @param {Qid} qid */
    qid({ type, version, path }) {
        this.u8(type);
        this.u32(version);
        this.u64(path);
    }

    /** Zeros, to be filled in. @param {number} count */
    room(count) {
        const at = this.#make(count);
        return this.#bytes.subarray(at, at + count);
    }

    /** Write a number that was left out. @param {number} at @param {number} value */
    patch(at, value) {
        this.#view.setUint32(at, value, true);
    }

    /** The message. @param {number} type @param {number} tag */
    finish(type, tag) {
        const message = this.#bytes.subarray(0, this.#at);
        this.#view.setUint32(0, this.#at, true);
        this.#view.setUint8(4, type);
        this.#view.setUint16(5, tag, true);
        return message;
    }
}

/** The answer to a request that cannot be served. @param {number} tag @param {number} code */
export function errorMessage(tag, code) {
    const writer = new Writer();
    writer.u32(code);
    return writer.finish(ERROR, tag);
}
