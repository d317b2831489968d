/**
 * A realm without workers of its own, imported before v86: where there are some, v86 starts one to be woken by.
 */

/** What was there. @type {(new (url: string) => any) | undefined} */
export const NestedWorker = /** @type {any} */ (globalThis).Worker;

/** @type {any} */ (globalThis).Worker = undefined;
