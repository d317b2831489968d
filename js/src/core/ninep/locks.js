/**
 * POSIX record locks, as Linux's 9p client asks for them after it has taken the same lock in the guest's kernel.
 *
 * Rules:
 * - ranges are of 64 bits, both ends included; those of one owner that touch become one, and any part can be unlocked;
 * - an owner is a process of a client, or an open file: the client sends `flock` as such a lock too, takes it in one process
 *   and may give it back in another that has inherited the file;
 * - a lock is never waited for here: the answer is "blocked", and the client asks again.
 */

export const UNLOCK = 2;
const WRITE = 1;
const MOST_LOCKS = 1 << 16;
const MOST_END = (1n << 64n) - 1n;

/**
 * @typedef {object} Lock
 * @property {number} type   0 read, 1 write, 2 unlock
 * @property {bigint} start
 * @property {bigint} end
 * @property {number} process
 * @property {string} client
 * @property {number} fid
 */

/** @param {number} type @param {bigint} start @param {bigint} length   0: to the end @param {number} process @param {string} client @param {number} fid @returns {Lock} */
export function lockOf(type, start, length, process, client, fid) {
    const end = length === 0n ? MOST_END : start + length - 1n;
    return { type, start, end: end > MOST_END ? MOST_END : end, process, client, fid };
}

/** What a lock's range is on the wire. @param {Lock} lock */
export function lengthOf({ start, end }) {
    return end === MOST_END ? 0n : end - start + 1n;
}

export class Locks {
    /** By the number of the inode. @type {Map<number, Lock[]>} */
    #held = new Map();
    #count = 0;

    /** @param {number} inode @param {Lock} lock @returns {"granted" | "blocked" | "full"} */
    set(inode, lock) {
        const held = this.#held.get(inode) ?? [];
        if(lock.type !== UNLOCK && this.conflict(inode, lock)) return "blocked";
        let { start, end } = lock;
        const kept = /** @type {Lock[]} */ ([]);
        for(const other of held) {
            const same = lock.type === other.type && lock.process === other.process && lock.client === other.client && lock.fid === other.fid;
            if(same && other.start <= end + 1n && start <= other.end + 1n) {
                start = other.start < start ? other.start : start;
                end = other.end > end ? other.end : end;
            }
            else if(owns(lock, other) && other.start <= lock.end && lock.start <= other.end) {
                if(other.start < lock.start) kept.push({ ...other, end: lock.start - 1n });
                if(other.end > lock.end) kept.push({ ...other, start: lock.end + 1n });
            }
            else kept.push(other);
        }
        if(lock.type !== UNLOCK) kept.push({ ...lock, start, end });
        if(this.#count + kept.length - held.length > MOST_LOCKS) return "full";
        this.#replace(inode, held, kept);
        return "granted";
    }

    /** A lock that this one would have to wait for. @param {number} inode @param {Lock} lock */
    conflict(inode, lock) {
        return this.#held.get(inode)?.find(other =>
            !owns(lock, other) && other.start <= lock.end && lock.start <= other.end && (lock.type === WRITE || other.type === WRITE)) ?? null;
    }

    /** A file was closed. @param {number} inode @param {number} fid */
    release(inode, fid) {
        const held = this.#held.get(inode);
        if(held) this.#replace(inode, held, held.filter(lock => lock.fid !== fid));
    }

    clear() {
        this.#held.clear();
        this.#count = 0;
    }

    /** @returns {Iterable<[number, Lock[]]>} by the numbers of the inodes */
    get all() {
        return [...this.#held].sort(([a], [b]) => a - b);
    }

    /** @param {number} inode @param {Lock[]} held @param {Lock[]} kept */
    #replace(inode, held, kept) {
        this.#count += kept.length - held.length;
        if(kept.length) this.#held.set(inode, kept);
        else this.#held.delete(inode);
    }
}

/** @param {Lock} lock @param {Lock} other */
function owns(lock, other) {
    return lock.fid === other.fid || lock.process === other.process && lock.client === other.client;
}
