/**
 * States are packed on their way and in the Store: zstd frames from here, gzip from browsers. Node works on a thread of its own.
 */

import { promisify } from "node:util";
import { constants, gunzip, zstdCompress, zstdDecompress } from "node:zlib";

const compress = promisify(zstdCompress), decompress = promisify(zstdDecompress), decompressGzip = promisify(gunzip);
const MAGIC = 0xFD2FB528;                    // RFC 8878, 3.1.1
const GZIP = 0x8B1F;                         // RFC 1952, 2.3.1
const MOST = 3 * 2 ** 30;                    // bytes of a state: memory of 2 GiB at most, and what goes with it
const LEVEL = 9;                             // a tenth smaller than at 3, for a quarter of a second: states travel to browsers
const CHUNK = { chunkSize: 4 << 20, maxOutputLength: MOST };   // zlib's own chunks of 16 KiB cost as much as the work
const LEAST_CHUNK = 64;                      // Node's own bound
const OPTIONS = { ...CHUNK, params: { [constants.ZSTD_c_compressionLevel]: LEVEL } };

/** @param {Uint8Array} bytes */
export function isPacked(bytes) {
    return bytes.length > 4 && (isGzip(bytes) || new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === MAGIC);
}

/** @param {Uint8Array} bytes @returns {Promise<Uint8Array>} */
export async function pack(bytes) {
    return plain(await compress(bytes, { ...OPTIONS, pledgedSrcSize: bytes.length }));     // a page's decoder wants to know how much comes
}

/** @param {Uint8Array} bytes @param {number} [most]   bytes that it may become: where they are few, they come in one piece @returns {Promise<Uint8Array>} */
export async function unpack(bytes, most = MOST) {
    const options = { chunkSize: Math.max(LEAST_CHUNK, Math.min(CHUNK.chunkSize, most)), maxOutputLength: Math.max(1, most) };
    return plain(await (isGzip(bytes) ? decompressGzip : decompress)(bytes, options));
}

/** @param {Uint8Array} bytes */
function isGzip(bytes) {
    return (bytes[0] | bytes[1] << 8) === GZIP;
}

/** A Buffer's `slice` does not copy: the core gets plain arrays. @param {Buffer} buffer */
function plain(buffer) {
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}
