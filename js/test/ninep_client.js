// A 9P2000.L client that speaks bytes, and trees for the server at its other end.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { zstdCompressSync } from "node:zlib";

import { Chunks } from "../src/core/ninep/chunks.js";
import { CHUNK } from "../src/core/ninep/contents.js";
import { Server } from "../src/core/ninep/server.js";
import { unpack } from "../src/hosts/zstd.js";

export const MIB = 1 << 20;
export const T = {
    statfs: 8, lopen: 12, lcreate: 14, symlink: 16, mknod: 18, rename: 20, readlink: 22, getattr: 24, setattr: 26, xattrwalk: 30, xattrcreate: 32,
    readdir: 40, fsync: 50, lock: 52, getlock: 54, link: 70, mkdir: 72, renameat: 74, unlinkat: 76, version: 100, attach: 104, flush: 108,
    walk: 110, read: 116, write: 118, clunk: 120, remove: 122,
};
const NOFID = 0xFFFFFFFF;

/** @typedef {["b" | "h" | "w" | "d" | "s" | "raw", any]} Field   u8, u16, u32, u64, string, bytes */

/** A message. @param {number} type @param {number} tag @param {Field[]} fields @returns {Uint8Array} */
export function message(type, tag, fields) {
    const parts = fields.map(([kind, value]) => {
        if(kind === "raw") return Buffer.from(value);
        if(kind === "s") {
            const text = Buffer.from(value, "latin1"), length = Buffer.alloc(2);
            length.writeUInt16LE(text.length);
            return Buffer.concat([length, text]);
        }
        const number = Buffer.alloc({ b: 1, h: 2, w: 4, d: 8 }[kind]);
        if(kind === "d") number.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
        else number.writeUIntLE(value, 0, number.length);
        return number;
    });
    const body = Buffer.concat(parts), header = Buffer.alloc(7);
    header.writeUInt32LE(body.length + 7);
    header.writeUInt8(type, 4);
    header.writeUInt16LE(tag, 5);
    return Uint8Array.from(Buffer.concat([header, body]));
}

/** Blobs of a Hub, and a tree of them. */
export class Hub {
    /** @type {Map<string, Uint8Array>} */
    blobs = new Map();
    /** Digests, in the order in which they were fetched. @type {string[]} */
    fetched = [];
    /** @type {Error | null} */
    failure = null;
    /** What fetches wait for. @type {Promise<unknown>} */
    gate = Promise.resolve();
    now = 0;
    /** @type {any[][]} */
    inodes = [[0o40755, 0, 0, 1000, 0, null]];
    /** @type {any[][]} */
    names = [];

    /** @param {string} digest */
    async get(digest) {
        this.fetched.push(digest);
        await this.gate;
        if(this.failure) throw this.failure;
        return /** @type {Uint8Array} */ (this.blobs.get(digest));
    }

    /** @param {Uint8Array} bytes */
    keep(bytes) {
        const digest = createHash("sha256").update(bytes).digest("hex");
        this.blobs.set(digest, bytes);
        return digest;
    }

    /** @param {number} folder @param {string} name   as in a manifest @param {any[]} inode @returns {number} its number */
    add(folder, name, inode) {
        this.names.push([folder, name, this.inodes.push(inode) - 1]);
        return this.inodes.length - 1;
    }

    /** @param {number} folder @param {string} name @param {Uint8Array | string} content @param {boolean} [packed] */
    file(folder, name, content, packed = false) {
        const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content, chunks = [];
        for(let at = 0; at < bytes.length; at += CHUNK) {
            const part = bytes.slice(at, at + CHUNK);
            chunks.push(packed ? `z${this.keep(new Uint8Array(zstdCompressSync(part, { pledgedSrcSize: part.length })))}` : this.keep(part));
        }
        return this.add(folder, name, [0o100644, 0, 0, 1_000_000_000, 123_456_789, [bytes.length, ...chunks]]);
    }

    /** @param {number} folder @param {string} name */
    folder(folder, name) {
        return this.add(folder, name, [0o40755, 0, 0, 1000, 0, null]);
    }

    get manifest() {
        return new TextEncoder().encode(JSON.stringify({ format: "v86lab-tree", version: 1, chunk: CHUNK, size: 0, inodes: this.inodes, names: this.names }));
    }

    /** @param {import("../src/core/reads.js").Reads | null} [reads] @param {Uint8Array} [manifest] */
    serve(reads = null, manifest = this.manifest) {
        const chunks = new Chunks(/** @type {any} */ (this), unpack, () => this.now);
        return new Server(manifest, chunks, () => 1_700_000_000_000 + this.now * 1000, reads);
    }
}

/** What a server answered. */
export class Answer {
    at = 0;

    /** @param {Buffer} bytes   the fields */
    constructor(bytes) {
        this.bytes = bytes;
    }

    /** @param {number} count */
    take(count) {
        assert.ok(this.at + count <= this.bytes.length, "the answer is cut short");
        return this.bytes.subarray(this.at, this.at += count);
    }

    b() {
        return this.take(1).readUInt8();
    }

    h() {
        return this.take(2).readUInt16LE();
    }

    w() {
        return this.take(4).readUInt32LE();
    }

    d() {
        return this.take(8).readBigUInt64LE();
    }

    n() {
        return Number(BigInt.asIntN(64, this.d()));
    }

    s() {
        return this.take(this.h()).toString("latin1");
    }

    qid() {
        return { type: this.b(), version: this.w(), path: this.n() };
    }
}

export class Client {
    #tag = 1;
    room = MIB;

    /** @param {Server} server */
    constructor(server) {
        this.server = server;
    }

    /** One that has been introduced, and whose fid 0 is the root. @param {Server} server @param {number} [uid] */
    static async attached(server, uid = 0) {
        const client = new Client(server);
        await client.call(T.version, ["w", 512 * 1024], ["s", "9P2000.L"]);
        await client.attach(0, uid);
        return client;
    }

    /** @param {Uint8Array} bytes @returns {Promise<Buffer>} the message that answers */
    raw(bytes) {
        return new Promise((resolve, reject) => {
            let answered = 0;
            this.server.receive(bytes, this.room, answer => {
                if(answered++) reject(new Error("answered twice"));
                resolve(Buffer.from(answer));
            });
        });
    }

    /** @param {number} type @param {...Field} fields @returns {Promise<Answer>} */
    async call(type, ...fields) {
        const tag = this.#tag++ & 0x7FFF, answer = await this.raw(message(type, tag, fields));
        assert.equal(answer.readUInt32LE(0), answer.length);
        assert.equal(answer.readUInt16LE(5), tag);
        const got = answer.readUInt8(4), body = new Answer(answer.subarray(7));
        if(got === 7) {
            const errno = body.w();
            throw Object.assign(new Error(`errno ${errno}`), { errno });
        }
        assert.equal(got, type + 1);
        return body;
    }

    /** @param {number} fid @param {number} [uid] */
    async attach(fid, uid = 0) {
        return (await this.call(T.attach, ["w", fid], ["w", NOFID], ["s", "root"], ["s", ""], ["w", uid])).qid();
    }

    /** @param {number} fid @param {number} newFid @param {...string} names */
    async walk(fid, newFid, ...names) {
        const answer = await this.call(T.walk, ["w", fid], ["w", newFid], ["h", names.length], ...names.map(name => /** @type {Field} */ (["s", name])));
        return Array.from({ length: answer.h() }, () => answer.qid());
    }

    /** @param {number} fid */
    clunk(fid) {
        return this.call(T.clunk, ["w", fid]);
    }

    /** @param {number} fid @param {number} [flags] */
    async open(fid, flags = 0) {
        return (await this.call(T.lopen, ["w", fid], ["w", flags])).qid();
    }

    /** The fid of the folder becomes the file's. @param {number} fid @param {string} name @param {{flags?: number, mode?: number, gid?: number}} [more] */
    async create(fid, name, { flags = 2, mode = 0o644, gid = 0 } = {}) {
        return (await this.call(T.lcreate, ["w", fid], ["s", name], ["w", flags], ["w", mode], ["w", gid])).qid();
    }

    /** @param {number} fid @param {number} offset @param {number} count */
    async read(fid, offset, count) {
        const answer = await this.call(T.read, ["w", fid], ["d", offset], ["w", count]), bytes = answer.take(answer.w());
        assert.equal(answer.at, answer.bytes.length);
        return Uint8Array.from(bytes);
    }

    /** @param {number} fid @param {number} offset @param {Uint8Array | string} data */
    async write(fid, offset, data) {
        const bytes = typeof data === "string" ? Buffer.from(data) : data;
        return (await this.call(T.write, ["w", fid], ["d", offset], ["w", bytes.length], ["raw", bytes])).w();
    }

    /** @param {number} fid */
    async stat(fid) {
        const answer = await this.call(T.getattr, ["w", fid], ["d", 0x7FF]), valid = answer.n(), qid = answer.qid();
        const [mode, uid, gid] = [answer.w(), answer.w(), answer.w()], [nlink, rdev, size, blksize, blocks] = Array.from({ length: 5 }, () => answer.n());
        const [atime, mtime, ctime, btime] = Array.from({ length: 4 }, () => [answer.n(), answer.n()]);
        answer.take(16);
        assert.equal(answer.at, answer.bytes.length);
        return { valid, qid, mode, uid, gid, nlink, rdev, size, blksize, blocks, atime, mtime, ctime, btime };
    }

    /** @param {number} fid @param {number} valid @param {{mode?: number, uid?: number, gid?: number, size?: number, atime?: number[], mtime?: number[]}} values */
    setattr(fid, valid, { mode = 0, uid = 0, gid = 0, size = 0, atime = [0, 0], mtime = [0, 0] } = {}) {
        return this.call(T.setattr, ["w", fid], ["w", valid], ["w", mode], ["w", uid], ["w", gid], ["d", size], ...[...atime, ...mtime].map(value => /** @type {Field} */ (["d", value])));
    }

    /** @param {number} fid @param {number} size */
    truncate(fid, size) {
        return this.setattr(fid, 8, { size });
    }

    /** One answer's entries. @param {number} fid @param {number} offset @param {number} [count] */
    async readdir(fid, offset, count = 8192) {
        const answer = await this.call(T.readdir, ["w", fid], ["d", offset], ["w", count]), length = answer.w(), found = [];
        assert.equal(answer.bytes.length, length + 4);
        assert.ok(length <= count);
        while(answer.at < answer.bytes.length) found.push({ qid: answer.qid(), offset: answer.n(), type: answer.b(), name: answer.s() });
        return found;
    }

    /** All names in a directory, in their order. @param {number} fid   open @param {number} [count] @returns {Promise<string[]>} */
    async list(fid, count) {
        const names = [];
        for(let offset = 0, found; (found = await this.readdir(fid, offset, count)).length; offset = found[found.length - 1].offset) names.push(...found.map(one => one.name));
        assert.deepEqual(names.splice(0, 2), [".", ".."]);
        return names;
    }

    /** The same by path, on a fid of its own. @param {...string} names */
    async ls(...names) {
        await this.walk(0, 9999, ...names);
        await this.open(9999);
        const found = await this.list(9999);
        await this.clunk(9999);
        return found;
    }

    /** @param {number} folder @param {string} name @param {number} [mode] */
    async mkdir(folder, name, mode = 0o755) {
        return (await this.call(T.mkdir, ["w", folder], ["s", name], ["w", mode], ["w", 0])).qid();
    }

    /** @param {number} from @param {string} name @param {number} to @param {string} newName */
    rename(from, name, to, newName) {
        return this.call(T.renameat, ["w", from], ["s", name], ["w", to], ["s", newName]);
    }

    /** @param {number} folder @param {string} name @param {number} [flags]   0x200: a directory */
    unlink(folder, name, flags = 0) {
        return this.call(T.unlinkat, ["w", folder], ["s", name], ["w", flags]);
    }

    /** @param {number} fid @param {number} newFid @param {string} [name] */
    async xattr(fid, newFid, name = "") {
        const size = (await this.call(T.xattrwalk, ["w", fid], ["w", newFid], ["s", name])).n(), value = await this.read(newFid, 0, 65536);
        assert.equal(value.length, size);
        await this.clunk(newFid);
        return Buffer.from(value).toString("latin1");
    }

    /** The fid goes. @param {number} fid @param {string} name @param {string} value @param {number} [flags] */
    async setXattr(fid, name, value, flags = 0) {
        await this.call(T.xattrcreate, ["w", fid], ["s", name], ["d", value.length], ["w", flags]);
        if(value) await this.write(fid, 0, Buffer.from(value, "latin1"));
        await this.clunk(fid);
    }

    /** @param {number} fid @param {number} type @param {number | bigint} start @param {number | bigint} length @param {number} [process] */
    async lock(fid, type, start, length, process = 1) {
        return (await this.call(T.lock, ["w", fid], ["b", type], ["w", 0], ["d", start], ["d", length], ["w", process], ["s", "guest"])).b();
    }

    /** @param {number} fid @param {number} type @param {number | bigint} start @param {number | bigint} length @param {number} [process] */
    async getlock(fid, type, start, length, process = 1) {
        const answer = await this.call(T.getlock, ["w", fid], ["b", type], ["d", start], ["d", length], ["w", process], ["s", "guest"]);
        return { type: answer.b(), start: answer.d(), length: answer.d(), process: answer.w(), client: answer.s() };
    }
}
