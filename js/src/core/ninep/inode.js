/**
 * Inodes: what a tree says of a file besides its names; and directories, which hold the names.
 *
 * A directory's entries have cookies by which a listing finds its place again, whatever was added and removed meanwhile:
 * they grow as names are added, and a name that gets another inode keeps its own. The root's "." and ".." come first.
 */

import { Contents } from "./contents.js";

export const S_IFMT = 0o170000, S_IFSOCK = 0o140000, S_IFLNK = 0o120000, S_IFREG = 0o100000, S_IFBLK = 0o60000, S_IFDIR = 0o40000,
    S_IFCHR = 0o20000, S_IFIFO = 0o10000, PERMISSIONS = 0o7777;
export const FIRST_COOKIE = 3;               // after "." and ".."
const QT_DIRECTORY = 0x80, QT_LINK = 0x02;   // types of qids

/**
 * @typedef {[number, number]} Time   seconds and nanoseconds since 1970
 * @typedef {{inode: Inode, cookie: number, base: number}} Entry   `base`: the inode that the manifest has there, or -1
 */

export class Inode {
    /** How many names it has; a directory's are counted as Linux does. */
    nlink = 0;
    /** How many fids refer to it: it lives as long as one does, or it has a name. */
    fids = 0;
    /** It is not what the manifest says. */
    changed = false;
    /** @type {[number, number]} of a device: major, minor */
    device = [0, 0];
    /** Of a symbolic link, each character one byte. */
    target = "";
    /** @type {Map<string, Uint8Array> | null} */
    xattrs = null;
    /** Where it was put last; of several names one. @type {{folder: Inode, name: string} | null} */
    place = null;
    /** The chunk that was read last; -2, so that the first is not taken for the next. */
    lastChunk = -2;

    /** @param {number} number @param {number} mode @param {number} uid @param {number} gid @param {Time} time */
    constructor(number, mode, uid, gid, time) {
        this.number = number;
        this.mode = mode;
        this.uid = uid;
        this.gid = gid;
        this.atime = this.mtime = this.ctime = time;
        /** @type {Contents | null} of a regular file */
        this.contents = this.kind === S_IFREG ? new Contents() : null;
        /** @type {Directory | null} */
        this.directory = this.kind === S_IFDIR ? new Directory(this) : null;
    }

    get kind() {
        return this.mode & S_IFMT;
    }

    /** Nobody but the guest changes files: its caches are always right, and the version says so. */
    get qid() {
        const kind = this.kind;
        return { type: kind === S_IFDIR ? QT_DIRECTORY : kind === S_IFLNK ? QT_LINK : 0, version: 0, path: this.number };
    }

    get size() {
        return this.contents?.size ?? this.target.length;
    }

    /** The device's number as Linux encodes it (`new_encode_dev`, include/linux/kdev_t.h). */
    get deviceNumber() {
        const [major, minor] = this.device;
        return (minor & 0xFF | major << 8 | (minor & ~0xFF) << 12) >>> 0;
    }
}

export class Directory {
    /** In the order of their cookies. @type {Map<string, Entry>} */
    entries = new Map();
    next = FIRST_COOKIE;
    /** Names of the manifest that are gone, though others may stand under them. @type {Set<string>} */
    removed = new Set();

    /** @param {Inode} self */
    constructor(self) {
        this.parent = self;
    }

    /** @param {string} name @param {Inode} inode @param {number} [base] */
    put(name, inode, base = -1) {
        const had = this.entries.get(name);
        this.entries.set(name, had ? { ...had, inode } : { inode, cookie: this.next++, base });
    }

    /** @param {string} name */
    delete(name) {
        if((this.entries.get(name)?.base ?? -1) >= 0) this.removed.add(name);
        this.entries.delete(name);
    }
}
