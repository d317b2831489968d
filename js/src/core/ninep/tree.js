/**
 * The tree that the guest sees: the manifest's, and what the guest made of it.
 *
 * Rules:
 * - what a guest asks is checked as a file system would, and refused by the number that Linux expects; whether the process
 *   may do it, its own kernel has checked;
 * - an inode without names lives until the last fid leaves it;
 * - numbers of inodes are never used again, so that equal histories give equal trees;
 * - the guest may add `MOST_BYTES` and `MOST_NAMES`, and no more.
 */

import { EINVAL, EISDIR, EFBIG, EMLINK, ENODATA, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EEXIST, EOPNOTSUPP, EPERM, ERANGE, E2BIG, fail } from "./errno.js";
import { Inode } from "./inode.js";
import { check, checkNew, toText } from "./names.js";

export const MOST_BYTES = 2 ** 31;
export const MOST_NAMES = 1 << 20;
const MOST_SIZE = 2 ** 44;                   // of a file; Linux on 32 bits ends there, too
const MOST_LINKS = 65000;                    // of an inode, as on ext4
const MOST_VALUE = 65536, MOST_LIST = 65536; // Linux: XATTR_SIZE_MAX, XATTR_LIST_MAX
const MOST_PATH = 4096;                      // in what people see
const NAMESPACES = /^(user|trusted|security|system)\.[^\0]/;
const XATTR_CREATE = 1, XATTR_REPLACE = 2;

/** @typedef {import("./inode.js").Time} Time */

export class Tree {
    /** @type {Map<number, Inode>} */
    inodes = new Map();
    /** The next inode's number. */
    next = 0;
    /** Bytes in pages that the guest wrote, and in extended attributes. */
    bytes = 0;
    /** Names that there are, and those that the manifest has. */
    names = 0;
    baseNames = 0;
    /** Bytes of the manifest's files. */
    baseBytes = 0;
    #now;

    /** @param {() => Time} now */
    constructor(now) {
        this.#now = now;
    }

    get root() {
        return /** @type {Inode} */ (this.inodes.get(0));
    }

    /** @param {number} mode @param {number} uid @param {number} gid @param {Time} time @returns {Inode} */
    add(mode, uid, gid, time) {
        const inode = new Inode(this.next++, mode, uid, gid, time);
        this.inodes.set(inode.number, inode);
        return inode;
    }

    /** @param {Inode} folder */
    #directory({ directory, nlink }) {
        if(!directory) fail(ENOTDIR);
        if(nlink === 0) fail(ENOENT);
        return directory;
    }

    /** @param {Inode} folder @param {string} name @returns {Inode} */
    lookup(folder, name) {
        if(!folder.directory) fail(ENOTDIR);
        check(name);
        if(name === ".") return folder;
        return name === ".." ? folder.directory.parent : folder.directory.entries.get(name)?.inode ?? fail(ENOENT);
    }

    // ---- names ----

    /** @param {Inode} folder @param {string} name @param {number} mode @param {number} uid @param {number} gid @returns {Inode} */
    create(folder, name, mode, uid, gid) {
        this.#checkFree(folder, name);
        const inode = this.add(mode, uid, gid, this.#now());
        inode.changed = true;
        this.enter(folder, name, inode);
        this.#modified(folder);
        return inode;
    }

    /** @param {Inode} folder @param {string} name @param {Inode} inode */
    link(folder, name, inode) {
        if(inode.directory) fail(EPERM);
        this.#checkFree(folder, name);
        if(inode.nlink === 0) fail(ENOENT);
        if(inode.nlink >= MOST_LINKS) fail(EMLINK);
        this.enter(folder, name, inode);
        this.changed(inode);
        this.#modified(folder);
    }

    /** @param {Inode} folder @param {string} name */
    #checkFree(folder, name) {
        const { entries } = this.#directory(folder);
        checkNew(name);
        if(entries.has(name)) fail(EEXIST);
        if(this.names - this.baseNames >= MOST_NAMES) fail(ENOSPC);
    }

    /** Give an inode a name. @param {Inode} folder @param {string} name @param {Inode} inode @param {number} [base] */
    enter(folder, name, inode, base) {
        const directory = /** @type {import("./inode.js").Directory} */ (folder.directory);
        if(!directory.entries.has(name)) this.names++;
        directory.put(name, inode, base);
        inode.place = { folder, name };
        inode.nlink++;
        if(inode.directory) {
            inode.directory.parent = folder;
            inode.nlink++;                   // its "."
            folder.nlink++;                  // its ".."
        }
    }

    /** Take a name from an inode. @param {Inode} folder @param {Inode} inode */
    #leave(folder, inode) {
        inode.nlink--;
        if(inode.directory) {
            inode.nlink--;
            inode.directory.parent = inode;
            folder.nlink--;
        }
        this.changed(inode);
    }

    /** @param {Inode} folder @param {string} name @param {boolean | null} directory   what it must be */
    unlink(folder, name, directory) {
        const { entries } = this.#directory(folder);
        check(name);
        if(name === ".") fail(EINVAL);
        if(name === "..") fail(ENOTEMPTY);
        const inode = entries.get(name)?.inode ?? fail(ENOENT);
        if(directory === false && inode.directory) fail(EISDIR);
        if(directory && !inode.directory) fail(ENOTDIR);
        if(inode.directory?.entries.size) fail(ENOTEMPTY);
        folder.directory?.delete(name);
        this.names--;
        this.#leave(folder, inode);
        this.#modified(folder);
        this.release(inode);
    }

    /** @param {Inode} from @param {string} name @param {Inode} to @param {string} newName */
    rename(from, name, to, newName) {
        const source = this.#directory(from), { entries } = this.#directory(to);
        for(const one of [name, newName]) {
            check(one);
            if(one === "." || one === "..") fail(EINVAL);
        }
        const inode = source.entries.get(name)?.inode ?? fail(ENOENT), target = entries.get(newName)?.inode;
        if(target === inode) return;
        if(inode.directory) {
            for(let up = to; up !== this.root; up = this.#directory(up).parent) {
                if(up === inode) fail(EINVAL);
            }
            if(target && !target.directory) fail(ENOTDIR);
        }
        else if(target?.directory) fail(EISDIR);
        if(target?.directory?.entries.size) fail(ENOTEMPTY);
        source.delete(name);
        this.names--;
        this.#leave(from, inode);
        if(target) this.#leave(to, target);
        this.enter(to, newName, inode);
        this.#modified(from);
        if(to !== from) this.#modified(to);
        if(target) this.release(target);
    }

    /** Let go of an inode that has neither names nor fids. @param {Inode} inode */
    release(inode) {
        if(inode.nlink || inode.fids) return;
        this.inodes.delete(inode.number);
        this.bytes -= inode.contents?.bytes ?? 0;
        for(const value of inode.xattrs?.values() ?? []) this.bytes -= value.length;
    }

    /** Where an inode is, or was. @param {Inode} inode @returns {string} */
    pathOf(inode) {
        let path = "";
        for(let at = inode; at.place && path.length < MOST_PATH; at = at.place.folder) path = `/${toText(at.place.name)}${path}`;
        return path || "/";
    }

    // ---- what inodes hold ----

    /** Its attributes are others. @param {Inode} inode */
    changed(inode) {
        inode.ctime = this.#now();
        inode.changed = true;
    }

    /** @param {Inode} inode */
    #modified(inode) {
        this.changed(inode);
        inode.mtime = inode.ctime;
    }

    /** Refuse to write where a file cannot reach, or more than there may be. @param {number} end @param {number} length */
    checkRoom(end, length) {
        if(end > MOST_SIZE) fail(EFBIG);
        if(this.bytes + length > MOST_BYTES) fail(ENOSPC);
    }

    /** @param {Inode} inode @param {number} start @param {Uint8Array} bytes @param {import("./contents.js").Fetched} fetched */
    write(inode, start, bytes, fetched) {
        this.#resize(inode, contents => contents.write(start, bytes, fetched));
    }

    /** @param {Inode} inode @param {number} size */
    truncate(inode, size) {
        if(inode.directory) fail(EISDIR);
        if(!inode.contents) fail(EINVAL);
        if(size > MOST_SIZE) fail(EFBIG);
        this.#resize(inode, contents => contents.truncate(size));
    }

    /** @param {Inode} inode @param {(contents: import("./contents.js").Contents) => void} change */
    #resize(inode, change) {
        const contents = /** @type {import("./contents.js").Contents} */ (inode.contents), before = contents.bytes;
        change(contents);
        this.bytes += contents.bytes - before;
        this.#modified(inode);
    }

    /** The names of an inode's extended attributes, each with a NUL after it. @param {Inode} inode */
    xattrList({ xattrs }) {
        return [...xattrs?.keys() ?? []].sort().map(name => `${name}\0`).join("");
    }

    /** Refuse to set an extended attribute where that will fail. @param {Inode} inode @param {string} name @param {number} size @param {number} flags */
    checkXattr({ xattrs }, name, size, flags) {
        if(!NAMESPACES.test(name)) fail(EOPNOTSUPP);
        if(name.length > 255) fail(ERANGE);
        if(size > MOST_VALUE) fail(E2BIG);
        const had = xattrs?.get(name);
        if(flags & XATTR_CREATE && had) fail(EEXIST);
        if(flags & XATTR_REPLACE && !had) fail(ENODATA);
        const list = [...xattrs?.keys() ?? []].reduce((sum, one) => sum + one.length + 1, had ? 0 : name.length + 1);
        if(list > MOST_LIST) fail(ENOSPC);
        this.checkRoom(0, size);
    }

    /**
     * Linux's client removes an attribute by replacing it with nothing (`__vfs_removexattr`, fs/xattr.c); an empty value is
     * set without that flag.
     *
     * @param {Inode} inode @param {string} name @param {Uint8Array} value @param {number} flags
     */
    setXattr(inode, name, value, flags) {
        this.checkXattr(inode, name, value.length, flags);
        const xattrs = inode.xattrs ??= new Map();
        this.bytes -= xattrs.get(name)?.length ?? 0;
        xattrs.delete(name);
        if(value.length || !(flags & XATTR_REPLACE)) {
            xattrs.set(name, value);
            this.bytes += value.length;
        }
        this.changed(inode);
    }
}
