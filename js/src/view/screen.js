/**
 * What the VGA shows, on a canvas, and the keyboard in front of it.
 *
 * Frames are drawn in the order in which they came, packed ones after they are inflated. One pixel of the guest is a
 * whole number of device pixels wherever there is room for that.
 */

import { HeldKeys, KeyQueue, MODIFIERS } from "./keys.js";
import { element, setText } from "./element.js";
import { isWayOut } from "./way_out.js";

/** @typedef {import("../core/protocol.js").Frame & {payload: Uint8Array}} Picture */
/** @typedef {"fit" | "1" | "2" | "3"} Scale */

/**
 * @typedef {object} ScreenContext
 * @property {() => boolean} accepts   the guest runs; else Tab is the page's, but keys are still let go
 * @property {(steps: import("./keys.js").KeyPress[]) => Promise<unknown>} press
 * @property {() => void} refused   a key was struck that the guest does not get
 * @property {(error: Error) => void} failed
 * @property {() => void} leave
 * @property {AbortSignal} signal
 */

export class GuestScreen {
    /** The scrollable place of the canvas. */
    node;
    canvas = element("canvas", { "data-v86lab": "canvas", tabindex: "-1", role: "application", width: "720", height: "400",
        "aria-label": "Screen of the guest", "aria-description": "Keys go to the guest. Shift+Escape leaves." });
    /** What the screen reads as, for a screen reader. */
    text = element("div", { class: "unseen", "data-v86lab": "screen-text", role: "log", "aria-label": "Text on the guest's screen" });
    graphical = false;
    /** Something was drawn. */
    drawn = false;
    keys;
    #context2d;
    #held = new HeldKeys();
    /** @type {Promise<void>} */
    #drawing = Promise.resolve();
    /** @type {Scale} */
    #scale = "fit";

    /** @param {HTMLElement} node @param {ScreenContext} context */
    constructor(node, { accepts, press, refused, failed, leave, signal }) {
        this.node = node;
        this.keys = new KeyQueue(press, failed);
        this.#context2d = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d", { alpha: false }));
        node.append(this.canvas, this.text);
        this.canvas.addEventListener("keydown", event => {
            if(event.code === "Tab" && !accepts()) return;
            event.preventDefault();
            if(isWayOut(event)) return leave();
            if(!accepts()) return MODIFIERS.has(event.code) ? undefined : refused();
            if(event.repeat && this.keys.behind) return;
            this.#send(this.#held.down(event));
        });
        this.canvas.addEventListener("keyup", event => {
            event.preventDefault();
            this.#send(this.#held.up(event));
            // macOS tells of no other key's release while Command is down.
            if(event.key === "Meta") this.release();
        });
        this.canvas.addEventListener("blur", () => this.release());
        const observer = new ResizeObserver(() => this.#layout());
        observer.observe(node);
        signal.addEventListener("abort", () => {
            observer.disconnect();
            this.release();
        });
    }

    focus() {
        this.canvas.focus({ preventScroll: true });
    }

    /** No key stays down in the guest. */
    release() {
        this.keys.push(...this.#held.releaseAll());
    }

    /** @param {Scale} scale */
    setScale(scale) {
        this.#scale = scale;
        this.#layout();
    }

    /** @param {Picture} picture @returns {Promise<void>} when it is drawn; rejects when it cannot be inflated */
    draw(picture) {
        const pixels = picture.packed ? inflate(picture.payload) : picture.payload;
        const drawn = this.#drawing.then(async () => this.#put(picture, await pixels));
        this.#drawing = drawn.catch(() => {});
        return drawn;
    }

    /** @param {Uint8Array} cells code page 437, of which a screen reader reads the ASCII @param {number} columns */
    setText(cells, columns) {
        const text = String.fromCharCode(...cells.map(cell => cell > 32 && cell < 127 ? cell : 32)), lines = [];
        for(let at = 0; at < text.length; at += columns) lines.push(text.slice(at, at + columns).trimEnd());
        setText(this.text, lines.filter(line => line).join("\n"));
    }

    /** @returns {Promise<Blob | null>} */
    png() {
        return new Promise(resolve => this.canvas.toBlob(resolve, "image/png"));
    }

    /** @param {import("./keys.js").KeyPress | null} step */
    #send(step) {
        if(step) this.keys.push(step);
    }

    /** @param {Picture} picture @param {Uint8Array} pixels */
    #put({ size: [width, height], rect: [x, y, w, h], graphical }, pixels) {
        this.graphical = graphical;
        this.drawn = true;
        if(this.canvas.width !== width || this.canvas.height !== height) {
            this.canvas.width = width;
            this.canvas.height = height;
            this.#layout();
        }
        if(!w || !h) return;
        const bytes = new Uint8ClampedArray(/** @type {ArrayBuffer} */ (pixels.buffer), pixels.byteOffset, w * h * 4);
        this.#context2d.putImageData(new ImageData(bytes, w, h), x, y);
    }

    #layout() {
        const { width, height } = this.canvas;
        const style = getComputedStyle(this.node), gap = parseFloat(style.paddingLeft) * 2;
        const room = Math.min((this.node.clientWidth - gap) / width, (this.node.clientHeight - gap) / height);
        if(room <= 0) return;
        const factor = this.#scale === "fit" ? wholePixels(room) : Number(this.#scale);
        this.canvas.style.width = `${width * factor}px`;
        this.canvas.style.height = `${height * factor}px`;
        this.canvas.classList.toggle("reduced", factor * devicePixelRatio < 1);
    }
}

/** @param {number} factor */
function wholePixels(factor) {
    const device = factor * devicePixelRatio;
    return device < 1 ? factor : Math.floor(device) / devicePixelRatio;
}

/** @param {Uint8Array} payload a zlib stream */
async function inflate(payload) {
    const stream = new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (payload)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
}
