/**
 * Trees as manifests, in and out; `v86lab/tree9p.py` describes the format.
 *
 * A manifest may be a stranger's: all of it is checked, without recursion, and what is wrong with it is an error.
 */

import { fromBase64, join, toBase64 } from "../bytes.js";
import { RequestError } from "../fault.js";
import { CHUNK, Contents } from "./contents.js";
import { PERMISSIONS, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from "./inode.js";
import { MOST_NAME, MOST_TARGET, fromText, toText } from "./names.js";
import { Tree } from "./tree.js";

export const MOST_JSON = 256 << 20;
const FORMAT = "v86lab-tree", VERSION = 1;
const KINDS = new Set([S_IFSOCK, S_IFLNK, S_IFREG, S_IFBLK, S_IFDIR, S_IFCHR, S_IFIFO]);
const MOST_CHUNKS = 1 << 22;                 // in an exported manifest: a TiB of files, holes included
const MOST_PARTS = 1_000_000_000;            // bytes that go out with it in one message
const CHUNK_NAME = /^z?[0-9a-f]{64}$/;

/** @typedef {import("./inode.js").Inode} Inode */

/** @param {Uint8Array} json @param {() => import("./inode.js").Time} now @returns {Tree} */
export function treeOf(json, now) {
    const { format, version, chunk, inodes, names } = parse(json);
    if(format !== FORMAT || version !== VERSION) throw damaged(`a manifest of format ${format}, version ${version}`);
    if(chunk !== CHUNK || !Array.isArray(inodes) || !Array.isArray(names)) throw damaged("no inodes and names");
    const tree = new Tree(now);
    for(const row of inodes) addInode(tree, row);
    if(!tree.inodes.size || !tree.root.directory) throw damaged("a tree without a root");
    tree.root.nlink = 2;
    for(const row of names) addName(tree, row);
    for(const inode of tree.inodes.values()) {
        if(inode.nlink === 0) throw damaged(`inode ${inode.number} without a name`);
        inode.changed = false;
        tree.baseBytes += inode.contents?.size ?? 0;
    }
    tree.baseNames = tree.names;
    return tree;
}

/** @param {Uint8Array} json @returns {any} */
function parse(json) {
    try {
        return JSON.parse(new TextDecoder().decode(json)) ?? {};
    }
    catch(error) {
        throw damaged(/** @type {Error} */ (error).message);
    }
}

/** @param {Tree} tree @param {any} row */
function addInode(tree, row) {
    if(!Array.isArray(row) || row.length < 6 || !row.slice(0, 5).every(Number.isSafeInteger)) throw damaged("an inode that is none");
    const [mode, uid, gid, seconds, nanoseconds, body, xattrs = []] = row;
    if(!KINDS.has(mode & S_IFMT) || mode < 0 || mode > (S_IFMT | PERMISSIONS) || nanoseconds < 0 || nanoseconds >= 1e9) throw damaged(`inode ${tree.next}`);
    const inode = tree.add(mode, uid, gid, [seconds, nanoseconds]), wrong = () => damaged(`inode ${inode.number}`);
    if(inode.kind === S_IFREG) {
        if(!Array.isArray(body) || !isSize(body[0]) || body.length - 1 !== Math.ceil(body[0] / CHUNK)) throw wrong();
        const [size, ...chunks] = body;
        if(!chunks.every(one => one === null || typeof one === "string" && CHUNK_NAME.test(one))) throw wrong();
        inode.contents = new Contents(chunks, size);
    }
    else if(inode.kind === S_IFLNK) {
        const target = typeof body === "string" ? fromText(body) : null;
        if(!target || target.length > MOST_TARGET || target.includes("\0")) throw wrong();
        inode.target = target;
    }
    else if(inode.kind === S_IFCHR || inode.kind === S_IFBLK) {
        if(!Array.isArray(body) || body.length !== 2 || !body.every(isSize)) throw wrong();
        inode.device = [body[0], body[1]];
    }
    if(!Array.isArray(xattrs)) throw wrong();
    for(const pair of xattrs) {
        const xattr = xattrOf(pair);
        if(!xattr) throw wrong();
        (inode.xattrs ??= new Map()).set(...xattr);
        tree.bytes += xattr[1].length;
    }
}

/** A name and its value, as JSON has them. @param {unknown} pair @returns {[string, Uint8Array] | null} */
function xattrOf(pair) {
    if(!Array.isArray(pair) || typeof pair[0] !== "string" || typeof pair[1] !== "string") return null;
    const name = fromText(pair[0]);
    if(!name || name.length > MOST_NAME || name.includes("\0")) return null;
    try {
        return [name, fromBase64(pair[1])];
    }
    catch {
        return null;
    }
}

/** @param {unknown} value */
function isSize(value) {
    return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** @param {Tree} tree @param {any} row */
function addName(tree, row) {
    const [place, text, number] = Array.isArray(row) ? row : [], folder = tree.inodes.get(place), inode = tree.inodes.get(number);
    const name = typeof text === "string" ? fromText(text) : null;
    if(!folder?.directory || !folder.nlink || !inode || inode === tree.root || !name) throw damaged("a name that leads nowhere");
    if(name.length > MOST_NAME || name === "." || name === ".." || /[/\0]/.test(name)) throw damaged("a name that cannot be");
    if(folder.directory.entries.has(name) || inode.directory && inode.nlink) throw damaged("a name that is there twice");
    tree.enter(folder, name, inode, inode.number);
}

/** @param {string} seen */
export function damaged(seen) {
    return new RequestError("image", "the shared tree is damaged", { expected: "what v86lab.tree9p describes", seen });
}

/**
 * A tree as a manifest, with the chunks that the guest changed beside it: `n0`, `n1`, ... Inodes are numbered as they are met,
 * names sorted by their bytes, each directory before what lies in it.
 *
 * @param {Tree} tree @param {import("./chunks.js").Chunks} chunks
 * @returns {Promise<{manifest: Uint8Array, parts: Uint8Array[]}>}
 */
export async function manifestOf(tree, chunks) {
    const numbers = new Map([[tree.root, 0]]), names = /** @type {[number, string, number][]} */ ([]), parts = /** @type {Uint8Array[]} */ ([]);
    for(const stack = listing(tree.root); stack.length; ) {
        const { folder, name, inode } = /** @type {{folder: Inode, name: string, inode: Inode}} */ (stack.pop()), known = numbers.get(inode);
        const number = known ?? numbers.size;
        names.push([/** @type {number} */ (numbers.get(folder)), toText(name), number]);
        if(known !== undefined) continue;
        numbers.set(inode, number);
        stack.push(...listing(inode));
    }
    const count = [...numbers.keys()].reduce((sum, inode) => sum + Math.ceil((inode.contents?.size ?? 0) / CHUNK), 0);
    if(count > MOST_CHUNKS) throw tooBig(`files of ${MOST_CHUNKS * CHUNK} bytes`, `${count * CHUNK}`);
    const changed = [...numbers.keys()].reduce((sum, inode) => sum + sizeOfParts(inode), 0);
    if(changed > MOST_PARTS) throw tooBig(`${MOST_PARTS} changed bytes`, `${changed}`);
    const rows = [];
    let size = 0;
    for(const inode of numbers.keys()) {
        const { mode, uid, gid, mtime: [seconds, nanoseconds], xattrs } = inode;
        const row = [mode, uid, gid, seconds, nanoseconds, await bodyOf(tree, inode, chunks, parts)];
        if(xattrs?.size) row.push([...xattrs].sort(([a], [b]) => a < b ? -1 : 1).map(([name, value]) => [toText(name), toBase64(value)]));
        rows.push(row);
        size += inode.contents?.size ?? 0;
    }
    return { manifest: new TextEncoder().encode(JSON.stringify({ format: FORMAT, version: VERSION, chunk: CHUNK, size, inodes: rows, names })), parts };
}

/** How much of a file will lie beside the manifest, at most. @param {Inode} inode */
function sizeOfParts({ contents }) {
    return contents ? [...contents.changed].reduce((sum, index) => sum + Math.min(CHUNK, contents.size - index * CHUNK), 0) : 0;
}

/** @param {string} expected @param {string} seen */
function tooBig(expected, seen) {
    return new RequestError("guest", "this tree is too big to be taken out of the machine", { expected: `at most ${expected}`, seen });
}

/** What lies in a directory, the first name last. @param {Inode} folder */
function listing(folder) {
    const names = [...folder.directory?.entries.keys() ?? []].sort().reverse();
    return names.map(name => ({ folder, name, inode: /** @type {Inode} */ (folder.directory?.entries.get(name)?.inode) }));
}

/** @param {Tree} tree @param {Inode} inode @param {import("./chunks.js").Chunks} chunks @param {Uint8Array[]} parts @returns {Promise<any>} */
async function bodyOf(tree, inode, chunks, parts) {
    const { contents } = inode;
    if(inode.kind === S_IFLNK) return toText(inode.target);
    if(inode.kind === S_IFCHR || inode.kind === S_IFBLK) return inode.device;
    if(!contents) return null;
    const { changed, size } = contents, body = /** @type {(number | string | null)[]} */ ([size]);
    for(let index = 0; index * CHUNK < size; index++) {
        if(!changed.has(index)) {
            body.push(contents.chunkAt(index));
            continue;
        }
        const start = index * CHUNK, bytes = new Uint8Array(Math.min(CHUNK, size - start));
        contents.read(start, bytes, await fetched(tree, inode, contents.neededToRead(start, start + bytes.length), chunks));
        if(bytes.every(byte => byte === 0)) body.push(null);
        else body.push(`n${parts.push(bytes) - 1}`);
    }
    return body;
}

/** The chunks of a file that are needed. @param {Tree} tree @param {Inode} inode @param {number[]} needed @param {import("./chunks.js").Chunks} chunks @returns {Promise<import("./contents.js").Fetched>} */
export async function fetched(tree, inode, needed, chunks) {
    const found = await Promise.all(needed.map(index => chunks.get(chunkOf(tree, inode, index))));
    return new Map(needed.map((index, n) => [index, found[n]]));
}

/** What the manifest says of a chunk. @param {Tree} tree @param {Inode} inode @param {number} index @returns {import("./chunks.js").Chunk} */
export function chunkOf(tree, inode, index) {
    const contents = /** @type {Contents} */ (inode.contents);
    return { name: /** @type {string} */ (contents.chunks[index]), length: contents.chunkLength(index), path: () => tree.pathOf(inode) };
}

/** What an export's answer is made of. @param {{manifest: Uint8Array, parts: Uint8Array[]}} exported */
export function packed({ manifest, parts }) {
    return { value: { manifest: manifest.length, parts: parts.map(part => part.length) }, payload: join([manifest, ...parts]) };
}
