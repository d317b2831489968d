/**
 * Names of files: bytes, as Linux has them.
 *
 * In the server a name is a string in which each character is one byte, so that names compare and sort as their bytes do
 * and are the keys of a Map. In a manifest, and for people, it is text: UTF-8, where a byte that is none has U+DC00 added
 * to it (Python's surrogateescape).
 */

import { EEXIST, EINVAL, ENAMETOOLONG, ENOENT, fail } from "./errno.js";

export const MOST_NAME = 255;                // Linux: NAME_MAX
export const MOST_TARGET = 4095;             // Linux: PATH_MAX less the NUL
const ASCII = /^[\0-\x7f]*$/;

/** What a name is in a manifest. @param {string} text @returns {string | null} null for what no bytes could give */
export function fromText(text) {
    if(ASCII.test(text)) return text;
    const bytes = /** @type {number[]} */ ([]);
    for(const character of text) {
        const code = /** @type {number} */ (character.codePointAt(0));
        if(code < 0x80) bytes.push(code);
        else if(code >= 0xDC80 && code <= 0xDCFF) bytes.push(code - 0xDC00);
        else if(code >= 0xD800 && code <= 0xDFFF) return null;
        else if(code < 0x800) bytes.push(0xC0 | code >> 6, tail(code));
        else if(code < 0x10000) bytes.push(0xE0 | code >> 12, tail(code >> 6), tail(code));
        else bytes.push(0xF0 | code >> 18, tail(code >> 12), tail(code >> 6), tail(code));
    }
    return bytes.map(byte => String.fromCharCode(byte)).join("");
}

/** @param {string} name @returns {string} */
export function toText(name) {
    if(ASCII.test(name)) return name;
    let text = "";
    for(let at = 0; at < name.length; ) {
        const length = sequence(name, at), first = name.charCodeAt(at);
        if(length === 0) text += String.fromCharCode(0xDC00 + first);
        else if(length === 1) text += name[at];
        else {
            let code = first & 0x7F >> length;
            for(let n = 1; n < length; n++) code = code << 6 | name.charCodeAt(at + n) & 0x3F;
            text += String.fromCodePoint(code);
        }
        at += length || 1;
    }
    return text;
}

/** How many bytes the character has that begins here; 0 where none does (Unicode 15, table 3-7). @param {string} name @param {number} at */
function sequence(name, at) {
    const first = name.charCodeAt(at), second = name.charCodeAt(at + 1);
    if(first < 0x80) return 1;
    const length = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    const low = first === 0xE0 ? 0xA0 : first === 0xF0 ? 0x90 : 0x80, high = first === 0xED ? 0x9F : first === 0xF4 ? 0x8F : 0xBF;
    if(!(second >= low && second <= high)) return 0;
    for(let n = 2; n < length; n++) {
        const byte = name.charCodeAt(at + n);
        if(!(byte >= 0x80 && byte <= 0xBF)) return 0;
    }
    return length;
}

/** @param {number} code */
function tail(code) {
    return 0x80 | code & 0x3F;
}

/** Refuse what cannot be the name of an entry. @param {string} name */
export function check(name) {
    if(name === "") fail(ENOENT);
    if(name.length > MOST_NAME) fail(ENAMETOOLONG);
    if(name.includes("/") || name.includes("\0")) fail(EINVAL);
}

/** Refuse what cannot be the name of a new entry. @param {string} name */
export function checkNew(name) {
    check(name);
    if(name === "." || name === "..") fail(EEXIST);
}
