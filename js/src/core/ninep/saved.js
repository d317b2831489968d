/**
 * What a snapshot holds of shared files: all in which they differ from their manifest, and what the guest's client holds.
 *
 * Plain values that JSON can carry, and the pages that the guest wrote, one after the other. A snapshot may be a stranger's:
 * its types are checked, its counts are not believed (names are counted again), and what it refers to has to be there.
 */

import { fromBase64, join, toBase64 } from "../bytes.js";
import { RequestError } from "../fault.js";
import { PAGE } from "./contents.js";
import { CLOSED, Fid } from "./fid.js";
import { Inode } from "./inode.js";
import { lockOf } from "./locks.js";
import { MOST_NAME } from "./names.js";
import { LEAST_MESSAGE, MOST_MESSAGE } from "./wire.js";

/**
 * @typedef {import("./tree.js").Tree} Tree
 *
 * @typedef {object} Session   what the client holds
 * @property {number} msize
 * @property {Map<number, Fid>} fids
 * @property {import("./locks.js").Locks} locks
 *
 * @typedef {object} Saved
 * @property {number} msize
 * @property {number} next   the next inode's number
 * @property {any[][]} inodes   `[number, mode, uid, gid, atime, mtime, ctime, body, xattrs]` of those that changed
 * @property {any[][]} fids   `[fid, inode, uid, flags, folder, name, locks, end, xattr]`
 * @property {any[][]} locks   `[inode, type, start, end, process, client, fid]`
 */

/** @param {Tree} tree @param {Session} session @returns {{state: Saved, bytes: Uint8Array}} */
export function save(tree, { msize, fids, locks }) {
    const pages = /** @type {Uint8Array[]} */ ([]);
    const inodes = [...tree.inodes.values()].filter(inode => inode.changed).map(inode => {
        const { number, mode, uid, gid, atime, mtime, ctime, xattrs } = inode;
        return [number, mode, uid, gid, atime, mtime, ctime, bodyOf(inode, pages), [...xattrs ?? []].map(([name, value]) => [name, toBase64(value)])];
    });
    const state = {
        msize, next: tree.next, inodes,
        fids: [...fids].map(([number, { inode, uid, flags, folder, name, locks, end, xattr }]) => [
            number, inode.number, uid, flags, folder && tree.inodes.has(folder.number) ? folder.number : null, name, locks, end, xattr && { ...xattr, value: toBase64(xattr.value) },
        ]),
        locks: [...locks.all].flatMap(([inode, held]) => held.map(({ type, start, end, process, client, fid }) => [inode, type, `${start}`, `${end}`, process, client, fid])),
    };
    return { state, bytes: join(pages) };
}

/** @param {Inode} inode @param {Uint8Array[]} pages @returns {any} */
function bodyOf({ contents, directory, target, device }, pages) {
    if(contents) {
        const sorted = [...contents.pages].sort(([a], [b]) => a - b);
        pages.push(...sorted.map(([, page]) => page));
        return [contents.size, contents.kept, sorted.flatMap(([place, page]) => [place, page.length])];
    }
    if(directory) {
        const put = [...directory.entries].filter(([, { inode, base }]) => inode.number !== base);
        return [directory.next, [...directory.removed], put.map(([name, { inode, cookie }]) => [name, inode.number, cookie])];
    }
    return target || device;
}

/**
 * Make a tree that was just loaded what it was.
 *
 * @param {Tree} tree @param {Session} session   empty @param {any} state @param {Uint8Array} bytes @returns {number} msize
 */
export function load(tree, { fids, locks }, state, bytes) {
    /** @type {Check} */
    const check = new Check();
    const pages = new Pages(bytes, check);
    const first = tree.next, rows = check.list(state?.inodes).map(row => check.list(row)), names = new Map(), wanted = check.integer(state.next, first);
    for(const row of rows) {
        const number = check.integer(row[0], 0, wanted - 1);
        check.that(number >= first || tree.inodes.has(number));
        loadInode(tree, row, number, check, pages);
        if(tree.inodes.get(number)?.directory) names.set(number, row[7]);
    }
    for(const [number, body] of names) loadNames(tree, number, body, check);
    tree.next = wanted;
    for(const row of check.list(state.fids)) loadFid(tree, fids, row, check);
    recount(tree, check);
    for(const row of check.list(state.locks)) {
        const [inode, type, start, end, process, client, fid] = check.list(row), from = check.big(start), to = check.big(end);
        check.that(from <= to && fids.has(fid) && typeof client === "string");
        locks.set(check.inode(tree, inode).number, { ...lockOf(check.integer(type, 0, 1), from, 1n, check.integer(process, 0), client, fid), end: to });
    }
    return check.integer(state.msize, LEAST_MESSAGE, MOST_MESSAGE);
}

/** @param {Tree} tree @param {any[]} row @param {number} number @param {Check} check @param {Pages} pages */
function loadInode(tree, [, mode, uid, gid, atime, mtime, ctime, body, xattrs], number, check, pages) {
    const had = tree.inodes.get(number), inode = had ?? new Inode(number, check.integer(mode, 0, 0o177777), 0, 0, [0, 0]);
    check.that(((check.integer(mode, 0, 0o177777) ^ inode.mode) & 0o170000) === 0);
    Object.assign(inode, { mode, uid: check.integer(uid, 0), gid: check.integer(gid, 0), atime: check.time(atime), mtime: check.time(mtime), ctime: check.time(ctime), changed: true });
    inode.xattrs = new Map(check.list(xattrs).map(pair => [check.text(check.list(pair)[0]), check.base64(pair[1])]));
    if(inode.contents) {
        const [size, kept, places] = check.list(body), list = check.list(places), found = new Map();
        for(let n = 0; n < list.length; n += 2) found.set(check.integer(list[n], 0), pages.take(check.integer(list[n + 1], 1, PAGE)));
        const most = Math.min(check.integer(size, 0), inode.contents.kept);
        inode.contents.restore(size, check.integer(kept, 0, most), found);
    }
    else if(inode.directory) check.list(body);
    else if(typeof body === "string") inode.target = body;
    else inode.device = [check.integer(check.list(body)[0], 0), check.integer(body[1], 0)];
    tree.inodes.set(number, inode);
}

/** @param {Tree} tree @param {number} number @param {any[]} body @param {Check} check */
function loadNames(tree, number, [next, removed, put], check) {
    const directory = /** @type {import("./inode.js").Directory} */ (tree.inodes.get(number)?.directory);
    for(const name of check.list(removed)) directory.delete(check.text(name));
    let last = directory.next - 1;
    for(const row of check.list(put)) {
        const [name, place, cookie] = check.list(row), inode = check.inode(tree, place), had = directory.entries.get(check.name(name));
        if(!had) last = check.integer(cookie, last + 1);
        directory.entries.set(name, had ? { ...had, inode } : { inode, cookie, base: -1 });
    }
    directory.next = check.integer(next, last + 1);
}

/** @param {Tree} tree @param {Map<number, Fid>} fids @param {any} row @param {Check} check */
function loadFid(tree, fids, row, check) {
    const [number, place, uid, flags, folder, name, locks, end, xattr] = check.list(row);
    const fid = new Fid(check.inode(tree, place), check.integer(uid, 0), folder === null ? null : check.folder(tree, folder), check.text(name));
    Object.assign(fid, { flags: check.integer(flags, CLOSED), locks: Boolean(locks), end: check.integer(end, 0) });
    if(xattr) {
        const value = check.base64(xattr.value);
        fid.xattr = { writes: Boolean(xattr.writes), name: check.text(xattr.name), flags: check.integer(xattr.flags, 0), value, written: check.integer(xattr.written, 0, value.length) };
    }
    fid.inode.fids++;
    fids.set(check.integer(number, 0), fid);
}

/** Count the names anew, and leave out what has neither names nor fids. @param {Tree} tree @param {Check} check */
function recount(tree, check) {
    for(const inode of tree.inodes.values()) {
        inode.nlink = inode === tree.root ? 2 : 0;
        if(inode.directory) inode.directory.parent = inode;
    }
    tree.names = 0;
    for(const folders = [tree.root]; folders.length; ) {
        const folder = /** @type {Inode} */ (folders.pop());
        for(const [name, { inode }] of folder.directory?.entries ?? []) {
            check.that(inode !== tree.root && !(inode.directory && inode.nlink));
            tree.names++;
            inode.nlink += inode.directory ? 2 : 1;
            inode.place = { folder, name };
            if(!inode.directory) continue;
            inode.directory.parent = folder;
            folder.nlink++;
            folders.push(inode);
        }
    }
    tree.bytes = 0;
    for(const inode of tree.inodes.values()) {
        for(const value of inode.xattrs?.values() ?? []) tree.bytes += value.length;
        tree.bytes += inode.contents?.bytes ?? 0;
        if(inode.directory && inode.nlink === 0) inode.directory.entries.clear();
        tree.release(inode);
    }
}

/** The pages of a snapshot, in their order. */
class Pages {
    #bytes;
    #at = 0;
    /** @type {Check} */
    #check;

    /** @param {Uint8Array} bytes @param {Check} check */
    constructor(bytes, check) {
        this.#bytes = bytes;
        this.#check = check;
    }

    /** @param {number} length */
    take(length) {
        this.#check.that(this.#at + length <= this.#bytes.length);
        return this.#bytes.slice(this.#at, this.#at += length);
    }
}

/** Refuses what no snapshot of ours holds. */
class Check {
    /** @param {unknown} sound @returns {asserts sound} */
    that(sound) {
        if(!sound) throw new RequestError("image", "this snapshot cannot be restored", { seen: "what it says of the shared files does not fit" });
    }

    /** @param {unknown} value @returns {any[]} */
    list(value) {
        this.that(Array.isArray(value));
        return value;
    }

    /** @param {unknown} value @param {number} least @param {number} [most] @returns {number} */
    integer(value, least, most = Number.MAX_SAFE_INTEGER) {
        this.that(typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most);
        return value;
    }

    /** Each character one byte. @param {unknown} value @returns {string} */
    text(value) {
        this.that(typeof value === "string" && /^[\0-\xff]*$/.test(value));
        return value;
    }

    /** @param {unknown} value */
    name(value) {
        const name = this.text(value);
        this.that(name && name.length <= MOST_NAME && name !== "." && name !== ".." && !/[/\0]/.test(name));
        return name;
    }

    /** @param {unknown} value @returns {Uint8Array} */
    base64(value) {
        this.that(typeof value === "string" && /^[A-Za-z0-9+/]*=*$/.test(value) && value.length % 4 === 0);
        return fromBase64(value);
    }

    /** @param {unknown} value @returns {bigint} */
    big(value) {
        this.that(typeof value === "string" && /^\d{1,20}$/.test(value));
        return BigInt(value);
    }

    /** @param {unknown} value @returns {[number, number]} */
    time(value) {
        const [seconds, nanoseconds] = this.list(value);
        return [this.integer(seconds, Number.MIN_SAFE_INTEGER), this.integer(nanoseconds, 0, 999_999_999)];
    }

    /** @param {Tree} tree @param {unknown} number @returns {Inode} */
    inode(tree, number) {
        const inode = tree.inodes.get(/** @type {number} */ (number));
        this.that(inode);
        return inode;
    }

    /** @param {Tree} tree @param {unknown} number */
    folder(tree, number) {
        const inode = this.inode(tree, number);
        this.that(inode.directory);
        return inode;
    }
}
