/**
 * Byte arrays: put together, and as text in JSON.
 */

/** @param {Uint8Array[]} parts @returns {Uint8Array<ArrayBuffer>} */
export function join(parts) {
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => { whole.set(part, at); return at + part.length; }, 0);
    return whole;
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
}

/** @param {string} text */
export function fromBase64(text) {
    return Uint8Array.from(atob(text), character => character.charCodeAt(0));
}
