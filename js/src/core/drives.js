/**
 * The machine's drives: which medium is in each, and its content, which outlives an instance of the emulator.
 */

import { Disk } from "./disk.js";

export const DRIVES = /** @type {const} */ (["fda", "fdb", "hda", "hdb", "cdrom"]);

/** @typedef {import("./emulator.js").Medium} Medium */

export class Drives {
    /** @type {Record<string, Medium | null>} */
    media;
    /** @type {Record<string, Disk | Uint8Array | null>} */
    contents = {};
    #blobs;
    #reads;
    #onError;

    /**
     * @param {Record<string, Medium | null>} media
     * @param {import("./blobs.js").Blobs} blobs
     * @param {import("./reads.js").Reads | null} reads
     * @param {(drive: string, error: Error) => void} onError   a medium cannot be read
     */
    constructor(media, blobs, reads, onError) {
        this.media = media;
        this.#blobs = blobs;
        this.#reads = reads;
        this.#onError = onError;
    }

    /** Have what is in the drives at hand. */
    async ready() {
        await Promise.all(DRIVES.map(async drive => { this.contents[drive] ??= await this.load(drive, this.media[drive]); }));
    }

    /** @param {string} drive @param {Medium | null} medium @returns {Promise<Disk | Uint8Array | null>} */
    async load(drive, medium) {
        if(!medium) return null;
        if(drive === "fda" || drive === "fdb") return this.#blobs.get(medium.digest, { name: drive });
        const disk = new Disk(this.#blobs, medium.digest, medium.size, drive, this.#reads);
        disk.onError = error => this.#onError(drive, error);
        return disk;
    }

    /**
     * Put a medium into a drive of a running instance, or take it out.
     *
     * @param {"fda" | "fdb" | "cdrom"} drive @param {Medium | null} medium @param {Disk | Uint8Array | null} content
     * @param {import("./emulator.js").Emulator} emulator
     */
    change(drive, medium, content, emulator) {
        const { devices } = emulator.cpu;
        this.media = { ...this.media, [drive]: medium };
        this.contents[drive] = content;
        emulator.enter(() => {
            if(drive === "cdrom") {
                if(content instanceof Disk) {
                    content.deliver = read => void emulator.enter(read);
                    devices.cdrom.set_cdrom(content);
                }
                else devices.cdrom.eject();
                return;
            }
            const floppy = devices.fdc.drives[drive === "fda" ? 0 : 1];
            if(content instanceof Uint8Array) floppy.insert_disk(content.slice());
            else floppy.eject_disk();
        });
    }

    /** Floppies are whole buffers inside v86: a new instance gets what the old one wrote. @param {import("./emulator.js").Emulator | null} old */
    keepFloppies(old) {
        old?.cpu.devices.fdc.drives.forEach((/** @type {any} */ drive, /** @type {number} */ n) => {
            if(drive.buffer) this.contents[n === 0 ? "fda" : "fdb"] = new Uint8Array(drive.buffer.buffer.slice(0));
        });
    }

    /** A read is under way. */
    get pending() {
        return this.#disks.some(([, disk]) => disk.pending > 0);
    }

    get statistics() {
        return Object.fromEntries(this.#disks.map(([drive, disk]) => [drive, { requests: disk.requests, bytes: disk.bytesRead }]));
    }

    get #disks() {
        return /** @type {[string, Disk][]} */ (DRIVES.map(drive => [drive, this.contents[drive]]).filter(([, content]) => content instanceof Disk));
    }
}
