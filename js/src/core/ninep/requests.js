/**
 * The requests of 9P2000.L, each a function that reads its fields, does it and writes the answer's fields.
 *
 * Layouts: Linux's net/9p/client.c, which is the client. What is not said there follows QEMU's hw/9pfs.
 */

import { EBADF, EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOSPC, ENOTDIR, ENXIO, Errno, fail } from "./errno.js";
import { PAGE } from "./contents.js";
import { CLOSED, Fid } from "./fid.js";
import { PERMISSIONS, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from "./inode.js";
import { lengthOf, lockOf, UNLOCK } from "./locks.js";
import { chunkOf } from "./manifest.js";
import { MOST_NAME, MOST_TARGET } from "./names.js";
import { MOST_BYTES, MOST_NAMES } from "./tree.js";
import { READ_HEADER, T } from "./wire.js";

const V9FS_MAGIC = 0x01021997;
const AHEAD = 4;                             // chunks: 1 MiB
const MOST_WALK = 16;                        // names in one walk
const ENTRY = 24;                            // bytes of a directory's entry, besides the name
const OVERFLOW_ID = 65534;                   // Linux's, for an owner that is none
const NO_ID = 0xFFFFFFFF;
const TIMES = [-(2 ** 31), 2 ** 34 - 2 ** 31 - 1];           // seconds that ext4 can say
/** Flags of open, Linux's on x86. */
const O_EXCL = 0o200, O_TRUNC = 0o1000, O_DIRECTORY = 0o200000, O_ACCMODE = 3;
const AT_REMOVEDIR = 0x200;
const P9_GETATTR_BASIC = 0x7FFn;
const SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8, SET_ATIME = 0x10, SET_MTIME = 0x20, SET_ATIME_TO = 0x80, SET_MTIME_TO = 0x100;
const LOCK_STATUS = { granted: 0, blocked: 1, full: 2 };
const NODES = new Set([S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK]);

/**
 * @typedef {import("./server.js").Server} Server
 * @typedef {import("./server.js").Handler} Handler
 * @typedef {import("./wire.js").Reader} Reader
 * @typedef {import("./inode.js").Inode} Inode
 */

/** @param {number} id */
function owner(id) {
    return id === NO_ID ? OVERFLOW_ID : id;
}

// ---- finding ----

/** @type {Handler} */
function attach(server, request, answer) {
    const number = request.u32();
    request.u32();                           // of a fid that has authenticated itself
    request.string();
    request.string();
    const uid = request.u32(), { root } = server.tree;
    server.hold(number, new Fid(root, uid === NO_ID ? 0 : uid));
    answer.qid(root.qid);
}

/** @type {Handler} */
function walk(server, request, answer) {
    const number = request.u32(), newNumber = request.u32(), count = request.u16(), fid = server.file(number);
    if(count > MOST_WALK || newNumber !== number && server.fids.has(newNumber) || newNumber === number && fid.flags !== CLOSED) fail(EINVAL);
    const names = Array.from({ length: count }, () => request.string()), found = /** @type {Inode[]} */ ([]);
    const { uid } = fid;
    let { inode, folder, name } = fid;
    for(const next of names) {
        try {
            const child = server.tree.lookup(inode, next);
            [folder, name, inode] = [inode, next, child];
        }
        catch(error) {
            if(error instanceof Errno && found.length) break;
            throw error;
        }
        found.push(inode);
    }
    if(found.length === count) {
        if(newNumber !== number) server.hold(newNumber, new Fid(inode, uid, folder, name));
        else if(folder) fid.move(inode, folder, name);
    }
    answer.u16(found.length);
    for(const one of found) answer.qid(one.qid);
}

/** @type {Handler} */
function clunk(server, request) {
    server.clunk(request.u32());
}

/** @type {Handler} */
function statfs(server, request, answer) {
    server.fid(request.u32());
    const { baseBytes, bytes, names, baseNames } = server.tree, free = Math.max(0, Math.floor((MOST_BYTES - bytes) / PAGE));
    const spare = Math.max(0, MOST_NAMES - (names - baseNames));
    answer.u32(V9FS_MAGIC);
    answer.u32(PAGE);
    answer.u64(Math.ceil(baseBytes / PAGE) + MOST_BYTES / PAGE);
    answer.u64(free);
    answer.u64(free);
    answer.u64(names + 1 + spare);
    answer.u64(spare);
    answer.u64(0);                           // there is one file system
    answer.u32(MOST_NAME);
}

// ---- attributes ----

/** @type {Handler} */
function getattr(server, request, answer) {
    const { inode } = server.file(request.u32()), { mode, uid, gid, nlink, atime, mtime, ctime } = inode;
    answer.exactU64(P9_GETATTR_BASIC);
    answer.qid(inode.qid);
    answer.u32(mode);
    answer.u32(uid);
    answer.u32(gid);
    answer.u64(nlink);
    answer.u64(inode.deviceNumber);
    answer.u64(inode.size);
    answer.u64(PAGE);
    answer.u64(inode.contents?.sectors ?? 0);
    for(const [seconds, nanoseconds] of [atime, mtime, ctime, [0, 0]]) {         // the last would be when it was made
        answer.u64(seconds);
        answer.u64(nanoseconds);
    }
    answer.u64(0);                           // generation
    answer.u64(0);                           // data version
}

/** @type {Handler} */
function setattr(server, request) {
    const { inode } = server.file(request.u32()), valid = request.u32(), mode = request.u32(), uid = request.u32(), gid = request.u32(), size = request.u64();
    const atime = timeOf(request), mtime = timeOf(request), { tree } = server;
    if(!valid) return;
    if(valid & SET_SIZE) tree.truncate(inode, size);
    if(valid & SET_MODE) inode.mode = inode.kind | mode & PERMISSIONS;
    if(valid & SET_UID) inode.uid = owner(uid);
    if(valid & SET_GID) inode.gid = owner(gid);
    if(valid & SET_ATIME) inode.atime = valid & SET_ATIME_TO ? atime : server.now();
    if(valid & SET_MTIME) inode.mtime = valid & SET_MTIME_TO ? mtime : server.now();
    tree.changed(inode);
}

/** @param {Reader} request @returns {import("./inode.js").Time} */
function timeOf(request) {
    const seconds = request.i64(), nanoseconds = request.u64();
    return [Math.min(Math.max(seconds, TIMES[0]), TIMES[1]), Math.min(nanoseconds, 999_999_999)];
}

/** @type {Handler} */
function xattrwalk(server, request, answer) {
    const { inode, uid } = server.file(request.u32()), number = request.u32(), name = request.string(), fid = new Fid(inode, uid);
    const value = name === "" ? bytesOf(server.tree.xattrList(inode)) : inode.xattrs?.get(name) ?? fail(ENODATA);
    server.hold(number, fid);
    try {
        server.holdXattr(fid, { writes: false, name, flags: 0, value, written: 0 });
    }
    catch(error) {
        server.clunk(number);
        throw error;
    }
    answer.u64(value.length);
}

/** @param {string} text   each character one byte */
function bytesOf(text) {
    return Uint8Array.from(text, character => character.charCodeAt(0));
}

/** @type {Handler} */
function xattrcreate(server, request) {
    const fid = server.file(request.u32()), name = request.string(), size = request.u64(), flags = request.u32();
    if(fid.flags !== CLOSED) fail(EINVAL);
    server.tree.checkXattr(fid.inode, name, size, flags);
    server.holdXattr(fid, { writes: true, name, flags, value: new Uint8Array(size), written: 0 });
}

/** @type {Handler} */
function readlink(server, request, answer) {
    const { inode } = server.file(request.u32());
    if(inode.kind !== S_IFLNK) fail(EINVAL);
    answer.string(inode.target);
}

// ---- contents ----

/** @type {Handler} */
function lopen(server, request, answer) {
    const fid = server.file(request.u32()), flags = request.u32();
    if(fid.flags !== CLOSED) fail(EINVAL);
    open(server, fid, fid.inode, flags);
    answer.qid(fid.inode.qid);
    answer.u32(0);                           // as much at a time as fits into a message
}

/** @param {Server} server @param {Fid} fid @param {Inode} inode @param {number} flags */
function open(server, fid, inode, flags) {
    if(inode.kind === S_IFLNK) fail(ELOOP);
    if(inode.directory) {
        if(flags & O_ACCMODE || flags & O_TRUNC) fail(EISDIR);
        fid.end = inode.directory.next;
    }
    else if(flags & O_DIRECTORY) fail(ENOTDIR);
    else if(!inode.contents) fail(ENXIO);    // the guest's own kernel opens devices
    if(flags & O_TRUNC) server.tree.truncate(inode, 0);
    fid.flags = flags;
}

/** @type {Handler} */
function read(server, request, answer, room) {
    const fid = server.fid(request.u32()), offset = request.u64(), count = Math.max(0, Math.min(request.u32(), room - READ_HEADER));
    if(fid.xattr) return readXattr(fid.xattr, offset, count, answer);
    const { inode, inode: { contents } } = fid;
    if(!contents) fail(inode.directory ? EISDIR : EINVAL);
    if(fid.flags === CLOSED) fail(EBADF);
    const end = Math.min(offset + count, contents.size), chunks = offset < end ? contents.neededToRead(offset, end) : [];
    const serve = (/** @type {import("./contents.js").Fetched} */ fetched) => {
        const length = Math.max(0, Math.min(offset + count, contents.size) - offset);
        answer.u32(length);
        if(length) contents.read(offset, answer.room(length), fetched);
    };
    if(!chunks.length) return serve(new Map());
    lookAhead(server, inode, chunks[chunks.length - 1]);
    return { inode, chunks, serve };
}

/** A file that is read in order has its next chunks fetched already. @param {Server} server @param {Inode} inode @param {number} chunk */
function lookAhead({ tree, chunks }, inode, chunk) {
    if(chunk === inode.lastChunk + 1) {
        for(let next = chunk + 1; next <= chunk + AHEAD; next++) {
            if(inode.contents?.chunkAt(next)) chunks.expect(chunkOf(tree, inode, next));
        }
    }
    inode.lastChunk = chunk;
}

/** @param {import("./fid.js").Xattr} xattr @param {number} offset @param {number} count @param {import("./wire.js").Writer} answer */
function readXattr({ writes, value }, offset, count, answer) {
    if(writes) fail(EINVAL);
    const part = value.subarray(offset, offset + count);
    answer.u32(part.length);
    answer.room(part.length).set(part);
}

/** @type {Handler} */
function write(server, request, answer) {
    const fid = server.fid(request.u32()), offset = request.u64(), count = request.u32(), bytes = request.bytes(count), { inode } = fid, { contents } = inode;
    if(fid.xattr) writeXattr(fid.xattr, offset, bytes);
    else {
        if(!contents) fail(inode.directory ? EISDIR : EINVAL);
        if(fid.flags === CLOSED) fail(EBADF);
        server.tree.checkRoom(offset + count, count + 2 * PAGE);
        const chunks = count ? contents.neededToWrite(offset, offset + count) : [];
        const serve = (/** @type {import("./contents.js").Fetched} */ fetched) => {
            if(count) server.tree.write(inode, offset, bytes, fetched);
            answer.u32(count);
        };
        return chunks.length ? { inode, chunks, serve } : serve(new Map());
    }
    answer.u32(count);
}

/** @param {import("./fid.js").Xattr} xattr @param {number} offset @param {Uint8Array} bytes */
function writeXattr(xattr, offset, bytes) {
    if(!xattr.writes) fail(EINVAL);
    if(offset + bytes.length > xattr.value.length) fail(ENOSPC);
    xattr.value.set(bytes, offset);
    xattr.written = Math.max(xattr.written, offset + bytes.length);
}

/** @type {Handler} */
function fsync(server, request) {
    server.file(request.u32());
}

/** @type {Handler} */
function readdir(server, request, answer, room) {
    const fid = server.file(request.u32()), offset = request.u64(), count = Math.min(request.u32(), room - READ_HEADER);
    if(!fid.inode.directory) fail(ENOTDIR);
    if(fid.flags === CLOSED) fail(EBADF);
    const place = answer.length;
    answer.u32(0);
    fid.list(offset, (name, inode, cookie) => {
        if(answer.length - place - 4 + ENTRY + name.length > count) return false;
        answer.qid(inode.qid);
        answer.u64(cookie);
        answer.u8(inode.kind >> 12);
        answer.string(name);
        return true;
    });
    answer.patch(place, answer.length - place - 4);
}

// ---- names ----

/** @type {Handler} */
function lcreate(server, request, answer) {
    const fid = server.file(request.u32()), name = request.string(), flags = request.u32(), mode = request.u32(), gid = request.u32(), { tree } = server;
    if(fid.flags !== CLOSED) fail(EINVAL);
    const folder = fid.inode, had = folder.directory?.entries.get(name)?.inode;
    if(had && flags & O_EXCL) fail(EEXIST);
    const inode = had ?? tree.create(folder, name, S_IFREG | mode & PERMISSIONS, fid.uid, owner(gid));
    open(server, fid, inode, flags);
    fid.move(inode, folder, name);
    answer.qid(inode.qid);
    answer.u32(0);
}

/** @type {Handler} */
function symlink(server, request, answer) {
    const { inode: folder, uid } = server.file(request.u32()), name = request.string(), target = request.string(), gid = request.u32();
    if(!target) fail(ENOENT);
    if(target.length > MOST_TARGET) fail(ENAMETOOLONG);
    if(target.includes("\0")) fail(EINVAL);
    const inode = server.tree.create(folder, name, S_IFLNK | 0o777, uid, owner(gid));
    inode.target = target;
    answer.qid(inode.qid);
}

/** @type {Handler} */
function mknod(server, request, answer) {
    const { inode: folder, uid } = server.file(request.u32()), name = request.string(), mode = request.u32(), major = request.u32(), minor = request.u32(), gid = request.u32();
    const kind = mode & S_IFMT || S_IFREG, device = kind === S_IFCHR || kind === S_IFBLK;
    if(!NODES.has(kind) || device && (major >= 1 << 12 || minor >= 1 << 20)) fail(EINVAL);
    const inode = server.tree.create(folder, name, kind | mode & PERMISSIONS, uid, owner(gid));
    if(device) inode.device = [major, minor];
    answer.qid(inode.qid);
}

/** @type {Handler} */
function mkdir(server, request, answer) {
    const { inode: folder, uid } = server.file(request.u32()), name = request.string(), mode = request.u32(), gid = request.u32();
    answer.qid(server.tree.create(folder, name, S_IFDIR | mode & PERMISSIONS, uid, owner(gid)).qid);
}

/** @type {Handler} */
function link(server, request) {
    const { inode: folder } = server.file(request.u32()), { inode } = server.file(request.u32()), name = request.string();
    server.tree.link(folder, name, inode);
}

/** @type {Handler} */
function renameat(server, request) {
    const { inode: from } = server.file(request.u32()), name = request.string(), { inode: to } = server.file(request.u32()), newName = request.string();
    server.tree.rename(from, name, to, newName);
}

/** @type {Handler} */
function rename(server, request) {
    const fid = server.file(request.u32()), { inode: to } = server.file(request.u32()), newName = request.string(), { folder, name } = placeOf(fid);
    server.tree.rename(folder, name, to, newName);
    Object.assign(fid, { folder: to, name: newName });
}

/** @type {Handler} */
function unlinkat(server, request) {
    const { inode: folder } = server.file(request.u32()), name = request.string(), flags = request.u32();
    server.tree.unlink(folder, name, (flags & AT_REMOVEDIR) !== 0);
}

/** The fid goes, also when the file stays. @type {Handler} */
function remove(server, request) {
    const number = request.u32(), fid = server.file(number);
    try {
        const { folder, name } = placeOf(fid);
        server.tree.unlink(folder, name, null);
    }
    finally {
        server.clunk(number);
    }
}

/** The name by which a fid was found, or by which its file was found last. @param {Fid} fid @returns {{folder: Inode, name: string}} */
function placeOf({ inode, folder, name }) {
    for(const place of [{ folder, name }, inode.place]) {
        if(place?.folder?.directory?.entries.get(place.name)?.inode === inode) return { folder: place.folder, name: place.name };
    }
    return fail(inode.place ? ENOENT : EINVAL);              // the root has no name
}

// ---- locks ----

/** @type {Handler} */
function lock(server, request, answer) {
    const number = request.u32(), fid = server.file(number), type = request.u8();
    request.u32();                           // whether the client will ask again: it decides
    const start = request.exactU64(), length = request.exactU64(), process = request.u32(), client = request.string();
    if(fid.flags === CLOSED) fail(EBADF);
    if(type > UNLOCK) fail(EINVAL);
    const outcome = server.locks.set(fid.inode.number, lockOf(type, start, length, process, client, number));
    fid.locks = true;
    answer.u8(LOCK_STATUS[outcome]);
}

/** @type {Handler} */
function getlock(server, request, answer) {
    const number = request.u32(), fid = server.file(number), type = request.u8(), start = request.exactU64(), length = request.exactU64(), process = request.u32(), client = request.string();
    if(type > UNLOCK) fail(EINVAL);
    const asked = lockOf(type, start, length, process, client, number), found = server.locks.conflict(fid.inode.number, asked) ?? { ...asked, type: UNLOCK };
    answer.u8(found.type);
    answer.exactU64(found.start);
    answer.exactU64(lengthOf(found));
    answer.u32(found.process);
    answer.string(found.client);
}

/** @type {Record<number, Handler>} by the request's type */
export const REQUESTS = {
    [T.attach]: attach, [T.walk]: walk, [T.clunk]: clunk, [T.statfs]: statfs, [T.getattr]: getattr, [T.setattr]: setattr, [T.xattrwalk]: xattrwalk,
    [T.xattrcreate]: xattrcreate, [T.readlink]: readlink, [T.lopen]: lopen, [T.read]: read, [T.write]: write, [T.fsync]: fsync, [T.readdir]: readdir,
    [T.lcreate]: lcreate, [T.symlink]: symlink, [T.mknod]: mknod, [T.mkdir]: mkdir, [T.link]: link, [T.renameat]: renameat, [T.rename]: rename,
    [T.unlinkat]: unlinkat, [T.remove]: remove, [T.lock]: lock, [T.getlock]: getlock,
};
