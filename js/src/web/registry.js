/**
 * What one page shares between the widgets in it: each of them imports our modules anew.
 */

/**
 * @typedef {object} Registry
 * @property {string} page                                         a name of this tab, the same after a reload
 * @property {Map<string, Promise<any>>} views                     the module of the view, by digest
 * @property {Map<string, any>} connections                        by Hub and machine
 * @property {Map<string, Promise<WebAssembly.Module>>} compiled   by digest
 */

const KEY = Symbol.for("v86lab");
const NAME = "v86lab:tab";

/** @returns {Registry} */
export function registry() {
    const shared = /** @type {any} */ (globalThis);
    return shared[KEY] ??= {
        page: nameOfTab(),
        views: new Map(), connections: new Map(), compiled: new Map(),
    };
}

/** Python knows by it that the page which ran a machine was reloaded, and need not wait for its engine. */
function nameOfTab() {
    const fresh = Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, "0")).join("");
    try {
        const name = sessionStorage.getItem(NAME) ?? fresh;
        sessionStorage.setItem(NAME, name);
        return name;
    }
    catch {
        return fresh;                        // a page may be forbidden to store anything
    }
}
