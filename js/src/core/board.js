/**
 * What a machine's instances are put together from, and what outlives each: the bytes of its image, its drives, and the
 * files that it shares.
 */

import { Blobs } from "./blobs.js";
import { DRIVES, Drives } from "./drives.js";
import { Emulator } from "./emulator.js";
import { RequestError } from "./fault.js";
import { Chunks } from "./ninep/chunks.js";
import { MOST_JSON } from "./ninep/manifest.js";
import { Server } from "./ninep/server.js";
import { Reads } from "./reads.js";

const SHARE = "shared files";                // in what people see

/** @typedef {{now(): number, date(): number}} Clock */

export class Board {
    drives;
    blobs;
    /** The files that the guest sees over 9p. @type {Server | null} */
    share = null;
    /** What waits for bytes on a seeded machine. @type {Reads | null} */
    reads;
    #image;
    #host;
    #clock;
    #onError;

    /**
     * @param {import("./emulator.js").ImageConfig} image @param {import("./engine.js").Host} host @param {Clock} clock
     * @param {boolean} seeded
     * @param {(name: string, loaded: number, total: number | null) => void} progress   of downloads
     * @param {(what: string, error: Error) => void} onError   something cannot be read
     */
    constructor(image, host, clock, seeded, progress, onError) {
        this.#image = image;
        this.#host = host;
        this.#clock = clock;
        this.#onError = onError;
        this.reads = seeded ? new Reads() : null;
        const { hub, fetch, timer, ahead, cached, keep } = host;
        this.blobs = new Blobs(hub, fetch, ms => new Promise(resolve => void timer(ms, () => resolve(undefined))), { ahead, cached, keep, progress });
        this.drives = new Drives(Object.fromEntries(DRIVES.map(drive => [drive, image[drive]])), this.blobs, this.reads, onError);
    }

    /**
     * Put an instance together.
     *
     * @param {boolean} cold   it will boot: its kernel is needed @param {import("./emulator.js").Listeners} listeners @returns {Promise<Emulator>}
     */
    async assemble(cold, listeners) {
        const image = this.#image, get = (/** @type {string | null} */ digest, /** @type {string} */ name) => digest === null ? null : this.blobs.get(digest, { name });
        const [bios, vgaBios, kernel, initrd, multiboot] = await Promise.all([
            this.blobs.get(image.bios, { name: "BIOS" }), this.blobs.get(image.vga_bios, { name: "VGA BIOS" }),
            cold ? get(image.kernel, "kernel") : null, cold ? get(image.initrd, "initial RAM disk") : null, get(image.multiboot, "kernel"),
            this.drives.ready(), this.#serve(image.share),
        ]);
        this.share?.reset();
        const parts = { .../** @type {any} */ (this.drives.contents), wasm: this.#host.wasm, bios, vgaBios, kernel, initrd, multiboot, share: this.share };
        return Emulator.create(image, parts, listeners);
    }

    /** @param {string | null} digest   of the shared files' manifest */
    async #serve(digest) {
        if(digest === null || this.share) return;
        const chunks = new Chunks(this.blobs, this.#host.decompress, () => this.#clock.now() / 1000);
        const manifest = await this.blobs.get(digest, { name: SHARE }).then(bytes => this.#host.decompress(bytes, MOST_JSON));
        this.share = new Server(manifest, chunks, () => this.#clock.date(), this.reads);
        this.share.onError = error => this.#onError(SHARE, error);
    }

    /** What a start state borrows pages from. @returns {Promise<import("./snapshot.js").Lender | null>} */
    async lender() {
        const digest = this.#image.initrd;
        return digest === null ? null : { digest, bytes: await this.lend(digest) };
    }

    /** @param {string} digest */
    async lend(digest) {
        if(digest !== this.#image.initrd) throw new RequestError("image", "this snapshot cannot be restored", { seen: "it borrows from a blob that is not its image's" });
        return this.blobs.get(digest, { name: "initial RAM disk" });
    }

    /** Reads are under way. */
    get pending() {
        return this.drives.pending || (this.share?.pending ?? 0) > 0;
    }

    get statistics() {
        const chunks = this.share?.chunks;
        return { disks: this.drives.statistics, share: { requests: chunks?.requests ?? 0, bytes: chunks?.bytesRead ?? 0 } };
    }
}
