/**
 * Fids: what a client holds of a file, by a number of its choice.
 *
 * A fid refers to an inode; it may be open, or be an extended attribute that is read or written. One that lists a directory
 * remembers where names end that were there when the listing began: what is added later is not shown, so that whoever
 * renames what he finds comes to an end.
 */

export const CLOSED = -1;
const DOT = 1, DOT_DOT = 2;                  // cookies

/**
 * @typedef {object} Xattr   an extended attribute that this fid is
 * @property {boolean} writes   it is written, and set when the fid goes
 * @property {string} name
 * @property {number} flags   of setxattr
 * @property {Uint8Array} value   what is read, or room for what is written
 * @property {number} written   bytes
 */

export class Fid {
    /** What it was opened with. */
    flags = CLOSED;
    /** @type {Xattr | null} */
    xattr = null;
    /** It may have taken locks. */
    locks = false;
    /** The first cookie that its listing does not show. */
    end = 0;
    /** Where the listing is: what comes after the cookie that was given out last. @type {{cookie: number, names: Iterator<[string, import("./inode.js").Entry]>, next: [string, import("./inode.js").Entry] | null} | null} */
    #cursor = null;

    /**
     * @param {import("./inode.js").Inode} inode
     * @param {number} uid   of whoever attached
     * @param {import("./inode.js").Inode | null} folder   where it was walked to
     * @param {string} name
     */
    constructor(inode, uid, folder = null, name = "") {
        this.inode = inode;
        this.uid = uid;
        this.folder = folder;
        this.name = name;
    }

    /** Another one of the same file, not open. */
    clone() {
        return new Fid(this.inode, this.uid, this.folder, this.name);
    }

    /** It is now another file. @param {import("./inode.js").Inode} inode @param {import("./inode.js").Inode} folder @param {string} name */
    move(inode, folder, name) {
        this.inode.fids--;
        inode.fids++;
        Object.assign(this, { inode, folder, name });
    }

    /**
     * The directory's entries whose cookies come after this one, until one is refused.
     *
     * @param {number} offset   0, or a cookie that was given out
     * @param {(name: string, inode: import("./inode.js").Inode, cookie: number) => boolean} take
     */
    list(offset, take) {
        const directory = /** @type {import("./inode.js").Directory} */ (this.inode.directory);
        if(offset === 0) {
            this.end = directory.next;
            this.#cursor = null;
        }
        if(offset < DOT && !take(".", this.inode, DOT) || offset < DOT_DOT && !take("..", directory.parent, DOT_DOT)) return;
        let cursor = this.#cursor;
        if(!cursor || cursor.cookie !== offset) cursor = this.#cursor = { cookie: offset, names: directory.entries.entries(), next: null };
        for(;;) {
            cursor.next ??= cursor.names.next().value ?? null;
            if(!cursor.next) return;
            const [name, { cookie }] = cursor.next, entry = directory.entries.get(name);
            if(cookie >= this.end) return;
            if(entry?.cookie === cookie && cookie > offset) {
                if(!take(name, entry.inode, cookie)) return;
                cursor.cookie = cookie;
            }
            cursor.next = null;
        }
    }
}
