/**
 * The screen for those who watch it: frames of what changed, no more often than each can use them.
 *
 * Rules:
 * - nothing is drawn while nobody watches or nothing changed;
 * - each watcher gets the whole screen first, then for each frame the one rectangle that holds all that changed since its
 *   last;
 * - frames for the Hub travel to a page: they are packed, and fewer;
 * - what blinks does so while the machine runs; it stands in its bright phase otherwise.
 */

import { join } from "./bytes.js";
import { RequestError } from "./fault.js";
import { union } from "./raster.js";
import { wall } from "./realm.js";

const EVERY = 33;                            // ms between two frames in this browser
const EVERY_PACKED = 100;
const SOON = 4;                              // ms in which a guest that begins to draw gets further
const BLINK = 500;

/**
 * @typedef {import("./raster.js").Rect} Rect
 * @typedef {import("./client.js").Client} Client
 *
 * @typedef {object} Scene   what is watched: a machine
 * @property {string} status
 * @property {import("./raster.js").Raster} raster
 * @property {() => boolean} mayHaveChanged   whether its screen may show something that was not drawn
 * @property {(bright: boolean) => Rect | null} draw
 *
 * @typedef {object} Watcher
 * @property {Rect | null} pending
 * @property {number} next      when it may get the next frame
 * @property {boolean} packing
 */

export class Frames {
    #timer;
    /** @type {Scene | null} */
    #scene = null;
    /** @type {Map<Client, Watcher>} */
    #watchers = new Map();
    /** @type {(() => void) | null} */
    #cancelDraw = null;
    /** @type {(() => void) | null} */
    #cancelBlink = null;
    #bright = true;
    #drawn = 0;

    /** @param {(ms: number, callback: () => void) => () => void} timer */
    constructor(timer) {
        this.#timer = timer;
    }

    /** Another machine is on the screen from now on. @param {Scene | null} scene */
    show(scene) {
        this.#scene = scene;
        for(const watcher of this.#watchers.values()) watcher.next = 0;
        this.#draw(true);
    }

    /** @param {Client} client @param {boolean} wanted */
    watch(client, wanted) {
        if(!wanted) {
            this.#watchers.delete(client);
            if(this.#watchers.size) return;
            this.#cancelDraw?.();
            this.#cancelBlink?.();
            this.#cancelDraw = this.#cancelBlink = null;
            return;
        }
        this.#watchers.set(client, { pending: null, next: 0, packing: false });
        this.#accumulate(this.#scene?.draw(this.#bright) ?? null);
        /** @type {Watcher} */ (this.#watchers.get(client)).pending = this.#whole();
        this.#schedule();
    }

    /** The machine has run for a tick. */
    look() {
        if(!this.#watchers.size || !this.#scene) return;
        if(!this.#cancelDraw && this.#scene.mayHaveChanged()) {
            const earliest = Math.min(...Array.from(this.#watchers.values(), one => one.next));
            this.#plan(Math.max(SOON, earliest - wall(), this.#drawn + EVERY - wall()));
        }
        if(!this.#cancelBlink && this.#scene.raster.blinks) this.#cancelBlink = this.#timer(BLINK, () => this.#blink());
    }

    /** The whole screen, in its bright phase. @returns {{width: number, height: number, pixels: Uint8Array}} */
    picture() {
        const scene = this.#scene;
        if(!scene) throw new RequestError("engine", "the machine has not been started");
        this.#bright = true;
        this.#accumulate(scene.draw(true));
        this.#schedule();
        const { width, height } = scene.raster;
        return { width, height, pixels: scene.raster.cut([0, 0, width, height]) };
    }

    #blink() {
        this.#cancelBlink = null;
        const running = this.#scene?.status === "running";
        this.#draw(!running || !this.#bright);
        if(running) this.look();
    }

    /** @param {boolean} bright */
    #draw(bright) {
        if(!this.#watchers.size || !this.#scene) return;
        this.#bright = bright;
        this.#drawn = wall();
        this.#accumulate(this.#scene.draw(bright));
        for(const [client, watcher] of this.#watchers) this.#send(client, watcher);
        this.#schedule();
    }

    /** @param {Rect | null} rect */
    #accumulate(rect) {
        if(!rect) return;
        const [x, y, width, height] = this.#whole();
        for(const watcher of this.#watchers.values()) {
            const pending = union(watcher.pending, rect);
            const fits = pending && pending[0] + pending[2] <= width && pending[1] + pending[3] <= height;
            watcher.pending = fits ? pending : [x, y, width, height];              // the screen has become smaller
        }
    }

    /** @returns {Rect} */
    #whole() {
        const { width = 0, height = 0 } = this.#scene?.raster ?? {};
        return [0, 0, width, height];
    }

    /** @param {Client} client @param {Watcher} watcher */
    #send(client, watcher) {
        const { pending } = watcher, raster = this.#scene?.raster;
        if(!pending || !pending[2] || !raster || watcher.packing || wall() < watcher.next) return;
        watcher.pending = null;
        watcher.next = wall() + (client.isHub ? EVERY_PACKED : EVERY);
        const { width, height, graphical } = raster, pixels = raster.cut(pending);
        const frame = { type: "frame", size: [width, height], rect: pending, graphical, packed: client.isHub };
        if(!client.isHub) {
            client.notify(frame, pixels);
            return;
        }
        watcher.packing = true;
        void deflate(pixels).then(packed => {
            watcher.packing = false;
            if(this.#watchers.get(client) === watcher) client.notify(frame, packed);
            this.#schedule();
        });
    }

    /** Come back when a watcher for whom something waits may get it. */
    #schedule() {
        const times = [...this.#watchers.values()].filter(one => one.pending && one.pending[2] && !one.packing).map(one => one.next);
        if(times.length) this.#plan(Math.max(0, Math.min(...times) - wall()));
    }

    /** @param {number} ms */
    #plan(ms) {
        this.#cancelDraw ??= this.#timer(ms, () => {
            this.#cancelDraw = null;
            this.#draw(this.#bright);
        });
    }
}

/** @param {Uint8Array} bytes @returns {Promise<Uint8Array>} a zlib stream */
async function deflate(bytes) {
    const stream = new CompressionStream("deflate"), writer = stream.writable.getWriter(), reader = stream.readable.getReader();
    void writer.write(/** @type {any} */ (bytes)).then(() => writer.close());
    const parts = [];
    for(let one = await reader.read(); !one.done; one = await reader.read()) parts.push(one.value);
    return join(parts);
}
