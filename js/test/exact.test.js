// A restored machine goes on exactly as the saved one would have: on a clock that only the guest's own work drives, both
// retire the same instructions, show the same output and leave the same memory. (v86's own states do not do this.)
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Emulator } from "../src/core/emulator.js";
import { setSource } from "../src/core/realm.js";
import { apply, capture } from "../src/core/snapshot.js";

const PER_MS = 100_000;                      // instructions in a guest millisecond
const EPOCH = Date.UTC(2026, 0, 1);
const WORK = "i=0; while [ $i -lt 12 ]; do i=$((i+1)); find / -xdev 2>/dev/null | md5sum; date; done | md5sum; echo DO''NE\n";
const firmware = (/** @type {string} */ name) => new Uint8Array(readFileSync(new URL(`../../v86lab/firmware/${name}`, import.meta.url)));
const image = /** @type {import("../src/core/emulator.js").ImageConfig} */ ({
    name: "linux", memory: 128 << 20, video_memory: 8 << 20, cmdline: "console=ttyS0 quiet tsc=reliable mitigations=off random.trust_cpu=on init_on_free=1 noapic",
    boot_order: ["floppy", "disk", "cdrom"], acpi: true, uarts: 1, consoles: 2, share: null, agent: true, epoch: EPOCH / 1000, mips: 100, jit: true,
});

/** One machine on a clock and a random generator of its own. */
class Rig {
    output = "";
    /** @type {number[]} */
    typed = [];
    idle = 0;
    seed = 12345;
    emulator = /** @type {Emulator} */ (/** @type {unknown} */ (null));

    /** @param {boolean} cold */
    static async make(cold) {
        const rig = new Rig();
        rig.own();
        const parts = {
            wasm: new WebAssembly.Module(readFileSync(new URL("../node_modules/v86/build/v86.wasm", import.meta.url))),
            bios: firmware("bios.bin"), vgaBios: firmware("vgabios.bin"), kernel: cold ? firmware("bzimage") : null, initrd: cold ? firmware("initramfs") : null,
            multiboot: null, fda: null, fdb: null, hda: null, hdb: null, cdrom: null, share: null,
        };
        rig.emulator = await Emulator.create(image, parts, {
            serial: (_, byte) => { rig.output += String.fromCharCode(byte); }, console: () => {}, wake: () => {}, fault: fault => { throw fault; },
        });
        return rig;
    }

    /** Put this machine's time and randomness behind the realm's. */
    own() {
        const random = () => {
            this.seed ^= this.seed << 13;
            this.seed ^= this.seed >>> 17;
            return this.seed ^= this.seed << 5;
        };
        setSource({ now: () => this.now(), date: () => EPOCH + Math.floor(this.now()), random });
    }

    now() {
        return this.idle + (this.emulator?.retired ?? 0) / PER_MS;
    }

    async tick() {
        const { emulator } = this;
        if(this.typed.length && emulator.serialBacklog === 0) {
            const byte = /** @type {number} */ (this.typed.shift());
            emulator.enter(() => emulator.bus.send("serial0-input", byte));
        }
        const wait = emulator.step();
        if(emulator.idle) this.idle += Math.max(wait, 0.02);
    }

    /** @param {string} text */
    async until(text) {
        for(let ticks = 0; !this.output.includes(text); ticks++) {
            assert.ok(ticks < 200_000, `the guest never showed ${text}: ${this.output.slice(-300)}`);
            await this.tick();
            if(ticks % 512 === 0) await new Promise(resolve => setImmediate(resolve));
        }
    }

    /** What the machine has become. */
    get sum() {
        const { cpu } = this.emulator, ram = new Uint8Array(cpu.wasm_memory.buffer, cpu.mem8.byteOffset, image.memory);
        return { instructions: this.emulator.instructions, idle: this.idle, output: this.output, ram: createHash("sha256").update(ram).digest("hex") };
    }
}

test("a machine restored in the middle of work goes on exactly as the saved one", { timeout: 300_000 }, async () => {
    const original = await Rig.make(true);
    await original.until("/ # ");
    original.typed.push(...new TextEncoder().encode(WORK));
    for(let ticks = 0; ticks < 300; ticks++) await original.tick();
    assert.ok(!original.output.includes("\nDONE"), "the work was over before it could be saved");
    const { idle, seed, output, typed } = original;
    const state = await capture(original.emulator, {
        clock: original.now(), instructions: original.emulator.instructions, media: {}, agent: false, console: /** @type {any} */ (null), course: null,
    }, null);
    const modules = original.emulator.modules.size, saved = { idle, seed, output, typed: [...typed] };
    assert.ok(modules > 0, "nothing had been compiled yet: the test would prove too little");
    await original.until("\nDONE");
    const wanted = original.sum;

    const twin = await Rig.make(false);
    await apply(twin.emulator, state, async () => state);
    Object.assign(twin, saved);
    assert.equal(twin.emulator.modules.size, modules);
    await twin.until("\nDONE");
    assert.deepEqual(twin.sum, wanted);
});
