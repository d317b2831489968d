/**
 * One v86 instance, made from an image, run a tick at a time.
 *
 * Rules:
 * - every call into the emulator goes through `enter`, which tells a guest's fault from our own defect; after a fault
 *   the instance is never run again (v86's memory is then in an unknown state);
 * - v86's own loop never runs: `step` calls `main_loop` and hands in what the JIT compiled only after it returned
 *   (inside, the JIT's state is borrowed and the call panics);
 * - compiled modules are kept, because they belong to a snapshot: they decide where ticks end.
 *
 * Addresses of CPU state in wasm memory are those of v86 0.5.462 (`src/cpu.js`).
 */

import { random32 } from "./realm.js";
import { V86 } from "v86";
import { classify, GuestFault } from "./fault.js";
import { connect } from "./ninep/transport.js";

const JIT_TABLE_OFFSET = 1024;               // v86's WASM_TABLE_OFFSET
const IF = 0x200;
const QEMU_PM1A_CONTROL = 0x604;             // QEMU's PIIX4 and our kernel power off here
const V86_PM1A_CONTROL = 0xB004;             // v86's own ACPI device
const SLEEP_ENABLE = 0x2000;
const MULTIBOOT_EXIT_PORT = 0xF4;
const MULTIBOOT_EXIT = "HALT";               // v86 throws this when a multiboot kernel writes to port 0xF4, as kvm-unit-tests do to exit
const BOOT_CODES = { floppy: 1, disk: 2, cdrom: 3 };        // as in the CMOS: lowest nibble first

/**
 * @typedef {object} Medium
 * @property {string} digest
 * @property {number} size   bytes
 *
 * @typedef {object} ImageConfig  an image as the engine needs it (`v86lab/image.py`)
 * @property {string} name
 * @property {number} memory
 * @property {number} video_memory
 * @property {string} bios
 * @property {string} vga_bios
 * @property {string | null} kernel
 * @property {string | null} initrd
 * @property {string} cmdline
 * @property {string | null} multiboot
 * @property {Medium | null} fda
 * @property {Medium | null} fdb
 * @property {Medium | null} hda
 * @property {Medium | null} hdb
 * @property {Medium | null} cdrom
 * @property {("floppy" | "disk" | "cdrom")[]} boot_order
 * @property {boolean} acpi
 * @property {number} uarts
 * @property {number} consoles
 * @property {string | null} share
 * @property {boolean} agent
 * @property {number} epoch   seconds since 1970 at which a virtual clock's calendar begins
 * @property {number} mips   of a virtual clock
 * @property {boolean} jit
 *
 * @typedef {object} Parts  what an instance is put together from, besides the image
 * @property {WebAssembly.Module} wasm
 * @property {Uint8Array} bios
 * @property {Uint8Array} vgaBios
 * @property {Uint8Array | null} kernel
 * @property {Uint8Array | null} initrd
 * @property {Uint8Array | null} multiboot
 * @property {Uint8Array | null} fda
 * @property {Uint8Array | null} fdb
 * @property {import("./disk.js").Disk | null} hda
 * @property {import("./disk.js").Disk | null} hdb
 * @property {import("./disk.js").Disk | null} cdrom
 * @property {import("./ninep/server.js").Server | null} share
 *
 * @typedef {object} Listeners
 * @property {(port: number, byte: number) => void} serial
 * @property {(port: number, bytes: Uint8Array) => void} console
 * @property {() => void} wake            an interrupt arrived while the CPU was halted
 * @property {(fault: unknown) => void} fault   a call into the emulator threw
 */

export class Emulator {
    /** @type {any} v86's CPU object; its fields are not declared by v86 */
    cpu = null;
    /** @type {any} */
    v86;
    /** The files that the guest sees over 9p. @type {import("./ninep/server.js").Server | null} */
    share = null;
    /** Live JIT modules by table index. @type {Map<number, Uint8Array>} */
    modules = new Map();
    /** "reboot" or "off" once the guest asked for it. @type {"reboot" | "off" | null} */
    asked = null;
    /** @type {GuestFault | Error | null} */
    fault = null;
    /** Instructions retired since power-on. */
    instructions = 0;

    /** @type {[number, number, number][]} */
    #compiled = [];
    #lastCounter = 0;
    #cut = 0;
    #timeReads = 0;
    #panic = "";
    #listeners;

    /** @param {Listeners} listeners */
    constructor(listeners) {
        this.#listeners = listeners;
    }

    /**
     * Build the instance; it has not run yet.
     *
     * @param {ImageConfig} image @param {Parts} parts @param {Listeners} listeners @returns {Promise<Emulator>}
     */
    static async create(image, parts, listeners) {
        const emulator = new Emulator(listeners);
        await emulator.#build(image, parts);
        return emulator;
    }

    /** @param {ImageConfig} image @param {Parts} parts */
    async #build(image, parts) {
        const buffer = (/** @type {Uint8Array | null} */ bytes) => bytes ? { buffer: ownBuffer(bytes) } : undefined;
        const order = image.boot_order.reduce((code, device, place) => code | BOOT_CODES[device] << 4 * place, 0);
        this.v86 = new V86(/** @type {any} */ ({
            wasm_fn: (/** @type {any} */ imports) => this.#instantiate(parts.wasm, imports),
            bios: buffer(parts.bios), vga_bios: buffer(parts.vgaBios),
            bzimage: buffer(parts.kernel), initrd: buffer(parts.initrd), multiboot: buffer(parts.multiboot), cmdline: image.cmdline,
            fda: buffer(parts.fda), fdb: buffer(parts.fdb),
            hda: parts.hda ?? undefined, hdb: parts.hdb ?? undefined, cdrom: parts.cdrom ?? undefined,
            boot_order: order || undefined,
            memory_size: image.memory, vga_memory_size: image.video_memory, acpi: image.acpi,
            uart1: image.uarts > 1, uart2: image.uarts > 2, uart3: image.uarts > 3,
            virtio_console: image.consoles > 0, filesystem: parts.share ? { handle9p: () => {} } : undefined,
            autostart: false, disable_keyboard: true, disable_mouse: true, disable_speaker: true, disable_jit: !image.jit,
        }));
        await new Promise(resolve => this.v86.add_listener("emulator-loaded", () => resolve(undefined)));
        const cpu = this.cpu = this.v86.v86.cpu;
        this.#lastCounter = cpu.instruction_counter[0];
        if(parts.share) connect(cpu.devices.virtio_9p, parts.share, answer => void this.enter(answer));
        this.share = parts.share;
        for(const disk of [parts.hda, parts.hdb, parts.cdrom]) {
            if(disk) disk.deliver = read => void this.enter(read);
        }
        cpu.stop_idling = () => this.#listeners.wake();
        cpu.reboot_internal = () => this.#leave("reboot");
        this.#registerPowerPorts();
        if(parts.multiboot) cpu.io.register_write(MULTIBOOT_EXIT_PORT, this, () => this.#leave("off"));   // v86's own comes when it boots
        for(let port = 0; port < image.uarts; port++) {
            this.v86.add_listener(`serial${port}-output-byte`, (/** @type {number} */ byte) => this.#listeners.serial(port, byte));
        }
        for(let port = 0; port < image.consoles; port++) {
            this.v86.add_listener(`virtio-console${port}-output-bytes`, (/** @type {Uint8Array} */ bytes) => this.#listeners.console(port, bytes));
        }
    }

    /** @param {WebAssembly.Module} module @param {any} imports */
    async #instantiate(module, imports) {
        const env = imports.env, { microtick } = env;
        env.get_rand_int = random32;
        env.microtick = () => {
            // The first look at the time is the tick's own; at the second the guest, or v86 at a quantum's end, asks.
            if(this.#cut && ++this.#timeReads === 2) this.#cutNow();
            return microtick();
        };
        env.codegen_finalize = (/** @type {number} */ index, /** @type {number} */ start, /** @type {number} */ flags, /** @type {number} */ at, /** @type {number} */ length) => {
            this.installModule(index, new Uint8Array(this.cpu.wasm_memory.buffer, at >>> 0, length >>> 0).slice());
            this.#compiled.push([index, start, flags]);
        };
        const clear = env.jit_clear_func, clearAll = env.jit_clear_all_funcs;
        env.jit_clear_func = (/** @type {number} */ index) => { this.modules.delete(index); clear(index); };
        env.jit_clear_all_funcs = () => { this.modules.clear(); clearAll(); };
        env.console_log_from_wasm = (/** @type {number} */ at, /** @type {number} */ length) => {
            const bytes = new Uint8Array(exports.memory.buffer, at >>> 0, length >>> 0).slice();
            this.#panic += new TextDecoder().decode(bytes) + "\n";
        };
        const instance = await WebAssembly.instantiate(module, imports);
        const exports = /** @type {any} */ (instance.exports);
        return exports;
    }

    /** @param {number} index @param {Uint8Array} code */
    installModule(index, code) {
        const instance = new WebAssembly.Instance(new WebAssembly.Module(/** @type {BufferSource} */ (code)), { e: this.cpu.jit_imports });
        this.cpu.wm.wasm_table.set(index + JIT_TABLE_OFFSET, instance.exports.f);
        this.modules.set(index, code);
    }

    #registerPowerPorts() {
        const io = this.cpu.io, acpi = this.cpu.devices.acpi;
        const off = (/** @type {number} */ value) => { if(value & SLEEP_ENABLE) this.#leave("off"); };
        io.register_write(QEMU_PM1A_CONTROL, this, undefined, off);
        if(acpi) {
            io.register_write(V86_PM1A_CONTROL, this, undefined, (/** @type {number} */ value) => {
                acpi.status = value;
                off(value);
            });
        }
    }

    /** The guest asked for its own end: halt it where it is. @param {"reboot" | "off"} asked */
    #leave(asked) {
        this.asked = asked;
        this.cpu.in_hlt[0] = 1;
        this.cpu.flags[0] &= ~IF;
    }

    /**
     * Have the tick's quantum end earlier, once the guest reads the time. v86 looks at its timers when it has retired 100 003
     * instructions, by a counter that is moved on here; what was not retired is not counted.
     *
     * @param {number} instructions
     */
    cutQuantum(instructions) {
        this.#cut = instructions;
        this.#timeReads = 0;
    }

    #cutNow() {
        const counter = this.cpu.instruction_counter;
        counter[0] += this.#cut;
        this.#lastCounter = (this.#lastCounter + this.#cut) >>> 0;
        this.#cut = 0;
    }

    /** Instructions retired since power-on, exact also within a tick. */
    get retired() {
        return this.instructions + (this.cpu ? (this.cpu.instruction_counter[0] - this.#lastCounter) >>> 0 : 0);
    }

    /** Have nothing compiled, as after power-on. */
    forgetCompiled() {
        this.enter(() => this.cpu.jit_clear_cache());
    }

    /** Run one tick, at most about a millisecond of guest time. @returns {number} milliseconds until the guest has work again */
    step() {
        return this.enter(() => {
            const wait = this.cpu.main_loop();
            this.#cut = 0;
            let one;
            while((one = this.#compiled.shift())) this.cpu.codegen_finalize_finished(...one);
            return wait;
        }) ?? 0;
    }

    /**
     * Call into the emulator. A guest's fault and a defect of ours both end the instance; neither is thrown.
     *
     * @template T @param {() => T} call @returns {T | undefined}
     */
    enter(call) {
        if(this.fault) return undefined;
        try {
            const result = call();
            this.#count();
            return result;
        }
        catch(error) {
            if(error === MULTIBOOT_EXIT) this.#leave("off");
            else this.crashed(error);
            return undefined;
        }
    }

    /** The instance is at its end because of `error`. @param {unknown} error */
    crashed(error) {
        if(this.fault) return;
        this.fault = /** @type {Error} */ (classify(error, this.#panic));
        this.#listeners.fault(this.fault);
    }

    #count() {
        if(!this.cpu) return;
        const counter = this.cpu.instruction_counter[0];
        this.instructions += (counter - this.#lastCounter) >>> 0;           // the counter has 32 bits and wraps
        this.#lastCounter = counter;
    }

    /** Go on counting from here, after wasm memory was replaced. @param {number} instructions */
    setInstructions(instructions) {
        this.instructions = instructions;
        this.#lastCounter = this.cpu.instruction_counter[0];
    }

    /** Halted with interrupts off: nothing but a reset can wake it. */
    get haltedForGood() {
        return this.cpu.in_hlt[0] === 1 && (this.cpu.flags[0] & IF) === 0;
    }

    get inUserMode() {
        return this.cpu.cpl[0] === 3;
    }

    get idle() {
        return this.cpu.in_hlt[0] === 1;
    }

    get bus() {
        return this.v86.bus;
    }

    get serialBacklog() {
        return this.cpu.devices.uart0.input.length;
    }

    /** @returns {Record<string, number>} */
    registers() {
        const cpu = this.cpu, names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
        const segments = ["es", "cs", "ss", "ds", "fs", "gs"];
        const flags = this.fault ? cpu.flags[0] : cpu.get_eflags();
        return {
            ...Object.fromEntries(names.map((name, n) => [name, cpu.reg32[n] >>> 0])),
            eip: (cpu.instruction_pointer[0] - cpu.segment_offsets[1]) >>> 0,
            eflags: flags >>> 0,
            ...Object.fromEntries(segments.map((name, n) => [name, cpu.sreg[n]])),
            ...Object.fromEntries([0, 2, 3, 4].map(n => [`cr${n}`, cpu.cr[n] >>> 0])),
            cpl: cpu.cpl[0],
        };
    }

    /** Physical memory. @param {number} start @param {number} end @returns {Uint8Array} */
    readMemory(start, end) {
        return this.cpu.mem8.slice(start, end);
    }

    /** @param {number} start @param {Uint8Array} bytes */
    writeMemory(start, bytes) {
        this.enter(() => this.cpu.write_blob(bytes, start));
    }
}

/** v86 keeps and changes the buffers it is given: hand out copies. @param {Uint8Array} bytes @returns {ArrayBuffer} */
function ownBuffer(bytes) {
    return /** @type {ArrayBuffer} */ (bytes.slice().buffer);
}
