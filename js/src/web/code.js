/**
 * Code as it travels: a gzip file where Python packed it, since the Hub never encodes an answer.
 */

/** @param {Uint8Array} bytes @returns {Promise<Uint8Array>} */
export async function unzip(bytes) {
    if(bytes[0] !== 0x1F || bytes[1] !== 0x8B) return bytes;         // RFC 1952, 2.3.1
    const stream = new Blob([/** @type {BlobPart} */ (bytes)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}
