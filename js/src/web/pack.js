/**
 * States as bytes in a browser: gzip out, zstd and gzip in.
 *
 * zstd comes from Node engines and from the Store. v86 brings a decoder of its own for it, in WebAssembly, several times
 * as fast as one in JavaScript; it has to be asked for exact lengths, so it serves frames that state theirs (RFC 8878,
 * 3.1.1.1.1.4), and `fzstd` the others.
 */

import { Decompress } from "fzstd";

const ZSTD = 0xFD2FB528, GZIP = 0x8B1F;
const MOST = 3 * 2 ** 30;                    // bytes of a state: memory of 2 GiB at most, and what goes with it
const READ = 4 << 20;                        // bytes decoded at a time
const SMALL = 1 << 20;                       // bytes of a chunk of a file: there are many
const LEAST_FRAME = 9;                       // bytes of the shortest zstd frame (RFC 8878, 3.1.1); nothing shorter is a state
const FEED = 256 << 10;

const HELPER = `onmessage = async ({ data }) => {
    const packed = await new Response(new Response(data).body.pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
    postMessage(packed, [packed]);
};`;

/** @param {Uint8Array} bytes @returns {Promise<Uint8Array<ArrayBuffer>>} */
export function gzip(bytes) {
    return collect(pipe(bytes, new CompressionStream("gzip")), MOST);
}

/**
 * The same on a thread of its own: a browser compresses on the thread that asks for it, and the guest stands still for a
 * second.
 *
 * @param {Uint8Array} bytes @param {(new (url: string) => any) | undefined} Worker @returns {Promise<Uint8Array>}
 */
export async function gzipAside(bytes, Worker) {
    if(!Worker) return gzip(bytes);
    const url = URL.createObjectURL(new Blob([HELPER], { type: "text/javascript" }));
    const helper = new Worker(url);
    try {
        return await new Promise((resolve, reject) => {
            helper.onmessage = (/** @type {{data: ArrayBuffer}} */ { data }) => resolve(new Uint8Array(data));
            helper.onerror = reject;
            helper.postMessage(bytes);
        });
    }
    catch {
        return gzip(bytes);                  // a page's policy may forbid it
    }
    finally {
        helper.terminate();
        URL.revokeObjectURL(url);
    }
}

/**
 * Decompress what is compressed; anything else is given back.
 *
 * @param {Uint8Array} bytes @param {WebAssembly.Module} wasm   v86's @param {number} [most]   bytes
 * @returns {Promise<Uint8Array>}
 */
export async function unpack(bytes, wasm, most = MOST) {
    if(bytes.length < LEAST_FRAME) return bytes;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if(view.getUint16(0, true) === GZIP) return collect(pipe(bytes, new DecompressionStream("gzip")), most);
    if(view.getUint32(0, true) !== ZSTD) return bytes;
    const size = contentSize(view);
    if(size !== null && size > most) throw tooMuch(most);
    return size === null ? decode(bytes, most) : decodeByWasm(bytes, size, wasm);
}

/** What a zstd frame says of its content's length. @param {DataView} view @returns {number | null} */
export function contentSize(view) {
    const descriptor = view.getUint8(4), single = descriptor >> 5 & 1, flag = descriptor >> 6;
    const at = 5 + (single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3];
    if(at + (1 << flag) > view.byteLength) return null;
    switch(flag) {
    case 0: return single ? view.getUint8(at) : null;
    case 1: return view.getUint16(at, true) + 256;
    case 2: return view.getUint32(at, true);
    default: return Number(view.getBigUint64(at, true));
    }
}

/** An instance that decodes small frames: to make one takes longer than that. @type {Promise<WebAssembly.Instance> | null} */
let lasting = null;

/** @param {Uint8Array} bytes @param {number} size @param {WebAssembly.Module} wasm */
async function decodeByWasm(bytes, size, wasm) {
    if(size > SMALL) return decodeIn(await WebAssembly.instantiate(wasm, stubs(wasm)), bytes, size);      // it is left to the collector
    try {
        return decodeIn(await (lasting ??= WebAssembly.instantiate(wasm, stubs(wasm))), bytes, size);
    }
    catch(error) {
        lasting = null;                      // who knows what the frame has made of it
        throw error;
    }
}

/** @param {WebAssembly.Instance} instance @param {Uint8Array} bytes @param {number} size */
function decodeIn({ exports }, bytes, size) {
    const zstd = /** @type {any} */ (exports), context = zstd.zstd_create_ctx(bytes.length);
    new Uint8Array(zstd.memory.buffer, zstd.zstd_get_src_ptr(context) >>> 0, bytes.length).set(bytes);
    const result = new Uint8Array(size);
    for(let at = 0; at < size; at += READ) {
        const length = Math.min(READ, size - at), pointer = zstd.zstd_read(context, length) >>> 0;
        if(pointer === 0) throw new Error(`the zstd frame is damaged near byte ${at} of its content`);
        result.set(new Uint8Array(zstd.memory.buffer, pointer, length), at);
        zstd.zstd_read_free(pointer, length);
    }
    zstd.zstd_free_ctx(context);
    return result;
}

/** What an instance wants, doing nothing: its decoder calls none of it. @param {WebAssembly.Module} wasm @returns {WebAssembly.Imports} */
function stubs(wasm) {
    /** @type {Record<string, Record<string, any>>} */
    const imports = {};
    for(const { module, name, kind } of WebAssembly.Module.imports(wasm)) {
        (imports[module] ??= {})[name] = kind === "table" ? new WebAssembly.Table({ element: "anyfunc", initial: 1024 + 0x384 }) : () => 0;   // as v86's starter.js
    }
    return imports;
}

/** @param {Uint8Array} bytes @param {number} most */
function decode(bytes, most) {
    const parts = /** @type {Uint8Array[]} */ ([]);
    let size = 0;
    const stream = new Decompress(part => {
        size += part.length;
        if(size > most) throw tooMuch(most);
        parts.push(part);
    });
    for(let at = 0; at < bytes.length; at += FEED) stream.push(bytes.subarray(at, at + FEED), at + FEED >= bytes.length);
    return join(parts, size);
}

/** @param {Uint8Array} bytes @param {CompressionStream | DecompressionStream} transform */
function pipe(bytes, transform) {
    return new Response(/** @type {BodyInit} */ (bytes)).body?.pipeThrough(/** @type {any} */ (transform)) ?? new ReadableStream();
}

/** @param {ReadableStream<Uint8Array>} stream @param {number} most */
async function collect(stream, most) {
    const parts = /** @type {Uint8Array[]} */ ([]), reader = stream.getReader();
    let size = 0;
    for(;;) {
        const { done, value } = await reader.read();
        if(done) return join(parts, size);
        parts.push(value);
        if((size += value.length) > most) {
            void reader.cancel();
            throw tooMuch(most);
        }
    }
}

/** @param {Uint8Array[]} parts @param {number} size */
function join(parts, size) {
    const whole = new Uint8Array(size);
    parts.reduce((at, part) => { whole.set(part, at); return at + part.length; }, 0);
    return whole;
}

/** @param {number} most */
function tooMuch(most) {
    return new Error(`the state has more than ${most} bytes`);
}
