/**
 * Errors as the guest's kernel knows them: numbers of Linux (include/uapi/asm-generic/errno*.h), which 9P2000.L sends.
 */

export const EPERM = 1, ENOENT = 2, ENXIO = 6, E2BIG = 7, EBADF = 9, EEXIST = 17, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, ENFILE = 23,
    EFBIG = 27, ENOSPC = 28, EMLINK = 31, ERANGE = 34, ENAMETOOLONG = 36, ENOTEMPTY = 39, ELOOP = 40, ENODATA = 61, EPROTO = 71,
    EMSGSIZE = 90, EOPNOTSUPP = 95;

/** A request that cannot be served. No `Error`: guests look for files that are not there all the time, and a stack costs. */
export class Errno {
    /** @param {number} code */
    constructor(code) {
        this.code = code;
    }
}

/** @param {number} code @returns {never} */
export function fail(code) {
    throw new Errno(code);
}
