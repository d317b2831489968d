/**
 * What one page shares between the widgets in it: each of them imports our modules anew.
 */

/**
 * @typedef {object} Registry
 * @property {string} page                                         a name of this page, new with each load
 * @property {Map<string, Promise<any>>} views                     the module of the view, by digest
 * @property {Map<string, any>} connections                        by Hub and machine
 * @property {Map<string, Promise<WebAssembly.Module>>} compiled   by digest
 */

const KEY = Symbol.for("v86lab");

/** @returns {Registry} */
export function registry() {
    const shared = /** @type {any} */ (globalThis);
    return shared[KEY] ??= {
        page: Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, "0")).join(""),
        views: new Map(), connections: new Map(), compiled: new Map(),
    };
}
