// A real engine in this process, with a Hub made of files and a client that speaks the protocol.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";

import { Engine } from "../src/core/engine.js";
import { Decoder, encode } from "../src/core/protocol.js";
import { isPacked, pack, unpack } from "../src/hosts/zstd.js";

const BUDGETS = { timeout: null, instructions: null, wall_timeout: null };
/** What Python would say where a test says nothing. */
const DEFAULTS = {
    boot: { state: null, seed: null, fresh: false }, expect: { ...BUDGETS, seen: null }, read_screen: { ...BUDGETS, since: null },
    spawn: { ...BUDGETS, env: {}, cwd: "", stream: false, limit: 1 << 20 }, advance: { seconds: null, instructions: null, wall_timeout: null }, capture: { start: false },
};
const FLOPPY = 1440 * 1024;
const firmware = (/** @type {string} */ name) => new Uint8Array(readFileSync(new URL(`../../v86lab/firmware/${name}`, import.meta.url)));

/** @typedef {Record<string, any> & {type: string, payload: Uint8Array}} Notice */

/** One client of an engine: its requests, and what it is told. */
export class TestClient {
    /** @type {Notice[]} */
    notices = [];
    #decoder = new Decoder();
    #next = 1;
    /** @type {Map<number, {resolve: (answer: any) => void, reject: (error: Error) => void}>} */
    #asked = new Map();
    /** @type {((frame: Uint8Array) => void)} */
    deliver = () => {};

    /** A frame from the engine. @param {Uint8Array} frame */
    receive = frame => {
        const message = /** @type {Notice} */ (/** @type {unknown} */ (this.#decoder.push(frame)));
        if(!message) return;
        const asked = this.#asked.get(message.id);
        if(message.type === "reply") asked?.resolve({ ...message.value, payload: message.payload });
        else if(message.type === "failure") asked?.reject(Object.assign(new Error(message.message), { code: message.code }));
        else this.notices.push(message);
    };

    /** @param {object} body @param {Uint8Array} [payload] @returns {Promise<any>} */
    ask(body, payload) {
        const defaults = /** @type {Record<string, object>} */ (DEFAULTS)[/** @type {any} */ (body).type];
        const id = this.#next++;
        return new Promise((resolve, reject) => {
            this.#asked.set(id, { resolve, reject });
            for(const frame of encode({ ...defaults, ...body, id }, payload)) this.deliver(frame);
        });
    }

    /** @param {{console?: boolean, screen?: boolean, activity?: boolean}} wishes */
    watch(wishes) {
        return this.ask({ type: "watch", console: false, screen: false, activity: false, ...wishes });
    }

    /** @param {string} type */
    all(type) {
        return this.notices.filter(one => one.type === type);
    }

    get text() {
        return Buffer.concat(this.all("console_output").map(one => one.payload)).toString("latin1");
    }
}

export class TestEngine {
    /** @type {Map<string, Uint8Array>} */
    blobs = new Map();
    hub = new TestClient();

    /** @param {object} [host]   what to put in place of the test's */
    constructor(host = {}) {
        this.engine = new Engine({
            hub: "http://hub/", wasm: new WebAssembly.Module(readFileSync(new URL("../node_modules/v86/build/v86.wasm", import.meta.url))),
            fetch: /** @type {any} */ (async (/** @type {string} */ url) => new Response(/** @type {any} */ (this.blobs.get(url.slice("http://hub/blob/".length))))),
            breathe: () => new Promise(resolve => setImmediate(resolve)),
            timer: (ms, callback) => {
                const timer = setTimeout(callback, ms);
                return () => clearTimeout(timer);
            },
            compress: pack, decompress: async (bytes, most) => isPacked(bytes) ? unpack(bytes, most) : bytes, random: count => randomBytes(count), ...host,
        }, this.hub.receive);
        this.hub.deliver = frame => this.engine.receive(frame);
    }

    /** @param {Uint8Array} bytes @returns {string} its digest */
    keep(bytes) {
        const digest = createHash("sha256").update(bytes).digest("hex");
        this.blobs.set(digest, bytes);
        return digest;
    }

    /** Another client. */
    attach() {
        const client = new TestClient(), end = this.engine.attach(client.receive);
        client.deliver = end.receive;
        return Object.assign(client, { detach: end.detach });
    }

    /** @param {object} more */
    image(more) {
        return {
            name: "test", memory: 32 << 20, video_memory: 8 << 20, bios: this.keep(firmware("bios.bin")), vga_bios: this.keep(firmware("vgabios.bin")),
            kernel: null, initrd: null, cmdline: "", multiboot: null, fda: null, fdb: null, hda: null, hdb: null, cdrom: null,
            boot_order: ["floppy"], acpi: false, uarts: 1, consoles: 0, share: null, agent: false, epoch: Date.UTC(2026, 0, 1) / 1000, mips: 100, jit: true, ...more,
        };
    }

    /** Boot this code from a floppy, or go on from a state of it. @param {number[]} code @param {string | null} [state] */
    async bootSector(code, state = null) {
        const floppy = new Uint8Array(FLOPPY);
        floppy.set(code);
        floppy.set([0x55, 0xAA], 510);
        await this.hub.ask({ type: "boot", image: this.image({ fda: { digest: this.keep(floppy), size: FLOPPY } }), state });
    }

    /** @param {number | null} [seed] @param {string | null} [state] @param {object} [more]   of the image @param {boolean} [fresh] */
    async bootLinux(seed = null, state = null, more = {}, fresh = false) {
        const image = this.image({
            memory: 128 << 20, kernel: this.keep(firmware("bzimage")), initrd: this.keep(firmware("initramfs")), consoles: 2, agent: true, acpi: true,
            cmdline: "console=ttyS0 quiet tsc=reliable mitigations=off random.trust_cpu=on init_on_free=1 noapic", ...more,
        });
        await this.hub.ask({ type: "boot", image, state, seed, fresh });
        return image;
    }

    /** Wait for text on the console. @param {string} literal */
    async expect(literal) {
        await this.hub.ask({ type: "expect", patterns: [{ literal }], timeout: 120, seen: null });
    }

    /** @returns {Promise<string>} the digest of the machine's state */
    async capture() {
        return this.keep((await this.hub.ask({ type: "capture" })).payload);
    }

    /** Let the process end. */
    async stop() {
        await this.hub.watch({});
        await this.hub.ask({ type: "pause" });
    }
}

/** The RGB of one pixel. @param {{width: number, payload: Uint8Array}} picture @param {number} x @param {number} y */
export function pixel({ width, payload }, x, y) {
    const at = (y * width + x) * 4;
    assert.equal(payload[at + 3], 255);
    return [...payload.subarray(at, at + 3)];
}

/** @param {() => boolean} condition @param {string} what */
export async function until(condition, what) {
    for(let tries = 0; !condition(); tries++) {
        assert.ok(tries < 1000, `never: ${what}`);
        await new Promise(resolve => setTimeout(resolve, 20));
    }
}
