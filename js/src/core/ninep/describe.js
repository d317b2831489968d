/**
 * What shared files are, for `hash.js`: all that the guest could ever see of them, and nothing of what happens to be fetched.
 */

import { toText } from "./names.js";

const MOST_PATH = 1000;                      // characters; what lies deeper is named by its directory's inode

/** @typedef {import("./inode.js").Inode} Inode */

/**
 * @param {import("./tree.js").Tree} tree @param {import("./saved.js").Session} session
 * @returns {{fields: [string, string | number][], blocks: [string, Uint8Array][]}}
 */
export function describe(tree, { msize, fids, locks }) {
    const fields = /** @type {[string, string | number][]} */ ([]), blocks = /** @type {[string, Uint8Array][]} */ ([]), seen = new Set();
    const show = (/** @type {string} */ path, /** @type {string} */ cookie, /** @type {Inode} */ inode) => {
        fields.push([path, cookie + attributes(inode)]);
        if(!seen.has(inode)) blocks.push(...pagesOf(path, inode));
        seen.add(inode);
    };
    show("/", "", tree.root);
    for(const folders = [{ path: "", inode: tree.root }]; folders.length; ) {
        const { path, inode } = /** @type {{path: string, inode: Inode}} */ (folders.pop());
        for(const [name, entry] of inode.directory?.entries ?? []) {
            const own = `${path.length > MOST_PATH ? `inode ${inode.number}` : path}/${toText(name)}`;
            show(own, `${entry.cookie}: `, entry.inode);
            if(entry.inode.directory) folders.push({ path: own, inode: entry.inode });
        }
    }
    for(const inode of tree.inodes.values()) {
        if(!seen.has(inode)) show(`inode ${inode.number}`, "", inode);
    }
    fields.push(["msize", msize], ["next inode", tree.next], ["bytes", tree.bytes]);
    for(const [number, { inode, uid, flags, end, xattr, folder, name }] of [...fids].sort(([a], [b]) => a - b)) {
        const place = folder && tree.inodes.has(folder.number) ? `${folder.number}/${toText(name)}` : "";
        fields.push([`fid ${number}`, `inode=${inode.number} uid=${uid} flags=${flags} end=${end} place=${place}`]);
        if(!xattr) continue;
        fields.push([`fid ${number} xattr`, `${toText(xattr.name)} writes=${xattr.writes} flags=${xattr.flags} written=${xattr.written}`]);
        blocks.push([`fid ${number} xattr`, xattr.value]);
    }
    for(const [inode, held] of locks.all) {
        held.forEach(({ type, start, end, process, client, fid }, n) => fields.push([`inode ${inode} lock ${n}`, `${type} ${start}-${end} ${process}@${client} fid=${fid}`]));
    }
    return { fields, blocks };
}

/** @param {Inode} inode */
function attributes({ number, mode, uid, gid, nlink, device, target, atime, mtime, ctime, contents, directory, xattrs }) {
    const says = [`inode=${number} mode=0${mode.toString(8)} owner=${uid}:${gid} nlink=${nlink}`, ...[atime, mtime, ctime].map(([s, ns]) => `${s}.${ns}`)];
    if(contents) says.push(`size=${contents.size} kept=${contents.kept}`, ...contents.chunks.map(chunk => chunk?.slice(0, 9) ?? "-"));
    else if(directory) says.push(`next=${directory.next}`);
    else if(target) says.push(`target=${toText(target)}`);
    else says.push(`device=${device}`);
    for(const name of [...xattrs?.keys() ?? []].sort()) says.push(`${toText(name)}=${xattrs?.get(name)}`);
    return says.join(" ");
}

/** The pages that the guest wrote, as far as they are not zeros at their end. @param {string} path @param {Inode} inode @returns {[string, Uint8Array][]} */
function pagesOf(path, { contents }) {
    return [...contents?.pages ?? []].sort(([a], [b]) => a - b).map(([place, page]) => {
        let end = page.length;
        while(end && !page[end - 1]) end--;
        return [`${path} page ${place}`, page.subarray(0, end)];
    });
}
