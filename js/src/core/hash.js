/**
 * What a machine is, in one canonical form: to hash it, and to say where two machines differ.
 *
 * A machine is a list of sections with names that people know (a device, the RAM, a disk). A section has fields, small
 * values by name, and blocks, bytes by name: RAM pages, disk sectors, contents of files.
 *
 * Rules:
 * - never less than the machine: a device is all that v86's object for it holds, less what is listed here as no state of
 *   it. So nothing depends on what v86's `get_state` thinks of, and a device that this module does not know is hashed too;
 * - never more: no JIT, no TLB, nothing that a host decides, that only drawing changes, or that follows from other fields;
 * - one form for what is equal: booleans are 0 and 1, undefined is null, -0 is 0, every NaN is one, typed arrays are
 *   lists, keys are sorted; pages and sectors of zeros are left out of what is named by position;
 * - reading changes nothing. Above all the TSC is never read: v86 counts how often it is (`read_tsc`, src/rust/cpu/cpu.rs);
 * - all is read before anything is awaited: what a machine does while its hash is being computed does not get in.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { DRIVES } from "./drives.js";
import { queued } from "./snapshot.js";

const PAGE = 4096;
const SECTOR = 512;
const PIECE = 1 << 20;                       // bytes hashed at a time
const MOST_ELEMENTS = 256;                   // longer arrays are blocks
const SHORT = 16;                            // hex digits of a block's hash in a description
/** The browser's or Node's; pages that did not come over HTTPS or from this computer have none. @type {any} */
const subtle = /** @type {any} */ (globalThis).crypto?.subtle;

/** Statics of `read_tsc` in the wasm memory of v86 0.5.462, u64 each: what the guest will read next depends on them. */
const TSC = { offset: 0x91E8, last_value: 0x91F0, resolution: 0x8A88, same_readings: 0xC000, speed: 0x8A98 };
const REGISTERS = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs", "tr", "ldtr"];
/** Layouts of v86's `src/rust/cpu/{pic,apic,ioapic}.rs`; the APIC's `timer_last_tick` is an f64. */
const PIC = ["irq_mask", "irq_map", "isr", "irr", "master", "", "expect_icw4", "state", "read_isr", "auto_eoi", "elcr", "irq_value", "special_mask_mode"];
const APIC = [
    "apic_id", "timer_divider", "timer_divider_shift", "timer_initial_count", "timer_current_count", "", "timer_last_tick", "",
    "lvt_timer", "lvt_perf_counter", "lvt_int0", "lvt_int1", "lvt_error", "tpr", "icr0", "icr1", ...numbered("irr", 8), ...numbered("isr", 8), ...numbered("tmr", 8),
    "spurious_vector", "destination_format", "local_destination", "error", "read_error", "lvt_thermal_sensor",
];
const IOAPIC = [...numbered("config", 24), ...numbered("destination", 24), "ioregsel", "ioapic_id", "irr", "irq_value"];

/** The sections of v86's devices whose names are not for people. */
const NAMES = /** @type {Record<string, string>} */ ({
    fdc: "floppy", net: "network card", sb16: "sound", vmware: "vmware mouse", parallel0: "parallel port", virtio_9p: "virtio 9p",
    virtio_console: "virtio console", virtio_net: "virtio net", virtio_balloon: "virtio balloon",
});
/** Of any device: links to other parts, and what it was built with. */
const NO_STATE = ["cpu", "bus", "io", "dma", "pci", "name", "pci_space", "pci_bars", "pci_id", "pci_rom_size", "pci_rom_address"];
/** Of the virtio devices: aliases, and what is set when a state of an older v86 is restored. */
const VIRTIO = ["virtio", "queue_selected", "fix_wrapping"];
/** Of each device: its other views of the same bytes, sections of their own, and what belongs to a host or follows from other fields. */
const NO_STATE_OF = /** @type {Record<string, string[]>} */ ({
    pci: ["devices", "isa_bridge", "isa_bridge_space", "isa_bridge_space8", "pci_addr32", "pci_value32", "pci_response32", "pci_status32"],
    dma: ["unmask_listeners"],
    vga: [
        "vga_memory", "svga_memory", "plane0", "plane1", "plane2", "plane3",             // the section "vga memory"
        "screen", "layers", "image_data", "dest_buffet_offset", "pixel_buffer",          // drawing
        "diff_addr_min", "diff_addr_max", "diff_plot_min", "diff_plot_max", "stats",
        "update_vertical_retrace",                                                       // `Screen.refill` puts one there
    ],
    uart0: ["current_line"], uart1: ["current_line"], uart2: ["current_line"], uart3: ["current_line"],       // for v86's log
    parallel0: ["data_output_event", "control_output_event", "status_input_event"],
    fdc: ["cmd_table", "buffer"],
    ide: [
        "controller", "channel", "current_interface", "drive_connected", "buffer", "data16", "data32",
        "last_io_id", "in_progress_io_ids", "cancelled_io_ids",                          // reads under way: a held machine has none
    ],
    sb16: [
        "dac_buffers", "dma_buffer", "dma_buffer_int8", "dma_buffer_int16", "dma_buffer_uint16", "dma_syncbuffer",
        "mpu_read_buffer_last_value",                                                    // misspelt by v86's `set_state`, and never read
    ],
    vmware: ["host_pointer_locked"],
    net: ["id", "preserve_mac_from_state_image", "mac_address_translation", "mac_address_in_state"],
    virtio_9p: ["virtqueue", ...VIRTIO],
    virtio_console: [...VIRTIO],
    virtio_net: [...VIRTIO, "preserve_mac_from_state_image", "mac_address_translation"],
    virtio_balloon: [...VIRTIO, "virtqueue"],
});

/**
 * @typedef {number | string | null} Scalar
 *
 * @typedef {object} Section
 * @property {string} name
 * @property {[string, Scalar][]} fields
 * @property {[string, Uint8Array][]} blocks   views of live memory, not copies
 *
 * @typedef {object} HostFacts   what belongs to the machine and lies outside of v86
 * @property {number} clock                  guest ms
 * @property {number} instructions
 * @property {Uint8Array} consoleInput       typed, not taken by the guest yet
 * @property {Uint8Array} agentQueue         for the agent, not taken by the guest yet
 * @property {Record<string, import("./emulator.js").Medium | null>} media
 * @property {Record<string, {get_state(): any[]} | Uint8Array | null>} disks
 *
 * @typedef {{emulator: import("./emulator.js").Emulator, host: HostFacts}} MachineParts
 *
 * @typedef {object} Description
 * @property {number} version
 * @property {{name: string, fields: [string, Scalar][], blocks: Record<string, string>}[]} sections
 */

/** @param {MachineParts} parts @returns {Promise<{hash: string, sections: Record<string, string>}>} */
export async function hashState(parts) {
    const hashes = await Promise.all(describe(parts).map(async section => [section.name, await hashSection(section)]));
    return { hash: await digest(utf8(hashes.map(([name, hash]) => `${name}:${hash}\n`).join(""))), sections: Object.fromEntries(hashes) };
}

/** The same, to be compared: every field, and of every block a short hash. @param {MachineParts} parts @returns {Description} */
export function describeState(parts) {
    return {
        version: 1,
        sections: describe(parts).map(({ name, fields, blocks }) => ({
            name, fields, blocks: Object.fromEntries(blocks.map(([key, bytes]) => [key, hexOf(sha256(bytes)).slice(0, SHORT)])),
        })),
    };
}

/** The machine's sections, always in the same order. @param {MachineParts} parts @returns {Section[]} */
export function describe({ emulator, host }) {
    const { cpu } = emulator, { devices } = cpu;
    const sections = [cpuSection(emulator), fpuSection(cpu), ramSection(cpu), firmwareSection(cpu), ...controllers(cpu)];
    for(const key of Object.keys(devices).sort()) {
        if(!devices[key] || key === "cdrom") continue;               // the CD-ROM drive is in `ide` too
        sections.push(key === "pci" ? pciSection(devices.pci) : key === "ide" ? ideSection(devices.ide) : deviceSection(key, devices[key]));
    }
    sections.push(videoMemory(cpu));
    for(const drive of DRIVES) sections.push(diskSection(drive, devices, host.disks[drive]));
    if(emulator.share) sections.push(filesSection(emulator.share));
    const clock = section("clock"), media = section("media"), input = section("console input");
    walk(clock, "", { milliseconds: host.clock, instructions: host.instructions }, new Set());
    walk(media, "", Object.fromEntries(DRIVES.map(drive => [drive, host.media[drive]])), new Set());
    input.blocks.push(["console", host.consoleInput], ["agent", host.agentQueue]);
    return [...sections, clock, media, input];
}

/**
 * The architecture's registers. Left out of v86's: how it remembers lazily computed flags (they are in eflags), where it
 * last fetched from (`last_virt_eip`, `eip_phys`), and what every instruction sets before it is used (`prefixes`,
 * `previous_ip`, `current_tsc`).
 *
 * @param {import("./emulator.js").Emulator} emulator
 */
function cpuSection({ cpu, fault }) {
    const made = section("cpu"), { fields } = made;
    REGISTERS.forEach((name, n) => fields.push([name, hex(cpu.reg32[n], 8)]));
    fields.push(["eip", hex(cpu.instruction_pointer[0] - cpu.segment_offsets[1], 8)]);
    fields.push(["eflags", hex(fault ? cpu.flags[0] : cpu.get_eflags(), 8)]);
    SEGMENTS.forEach((name, n) => {
        fields.push([name, hex(cpu.sreg[n], 4)], [`${name}.base`, hex(cpu.segment_offsets[n], 8)], [`${name}.limit`, hex(cpu.segment_limits[n], 8)],
            [`${name}.access`, hex(cpu.segment_access_bytes[n], 2)], [`${name}.null`, cpu.segment_is_null[n]]);
    });
    for(const name of ["gdtr", "idtr"]) fields.push([`${name}.base`, hex(cpu[`${name}_offset`][0], 8)], [`${name}.limit`, hex(cpu[`${name}_size`][0], 4)]);
    for(let n = 0; n < 8; n++) fields.push([`cr${n}`, hex(cpu.cr[n], 8)]);
    for(let n = 0; n < 8; n++) fields.push([`dr${n}`, hex(cpu.dreg[n], 8)]);
    for(let n = 0; n < 4; n++) fields.push([`pdpte${n}`, hex(cpu.reg_pdpte[2 * n + 1], 8) + hex(cpu.reg_pdpte[2 * n], 8)]);
    for(const name of ["sysenter_cs", "sysenter_esp", "sysenter_eip"]) fields.push([name, hex(cpu[name][0], 8)]);
    for(const name of ["cpl", "in_hlt", "protected_mode", "is_32", "stack_size_32", "tss_size_32", "apic_enabled", "acpi_enabled"]) fields.push([name, cpu[name][0]]);
    const memory = new DataView(cpu.wasm_memory.buffer);
    for(const [name, at] of Object.entries(TSC)) fields.push([`tsc.${name}`, `${memory.getBigUint64(at, true)}`]);
    return made;
}

/** @param {any} cpu */
function fpuSection(cpu) {
    const made = section("fpu"), { fields } = made;
    for(let n = 0; n < 8; n++) {             // an F80 has 10 bytes and 6 of padding
        const [low, high, exponent] = [0, 1, 2].map(word => cpu.fpu_st[4 * n + word]);
        fields.push([`r${n}`, hex(exponent & 0xFFFF, 4) + hex(high, 8) + hex(low, 8)]);
    }
    for(const [name, digits] of /** @type {const} */ ([
        ["stack_empty", 2], ["stack_ptr", 2], ["control_word", 4], ["status_word", 4], ["opcode", 8], ["ip", 8], ["ip_selector", 8], ["dp", 8], ["dp_selector", 8],
    ])) fields.push([name, hex(cpu[`fpu_${name}`][0], digits)]);
    for(let n = 0; n < 8; n++) fields.push([`xmm${n}`, [3, 2, 1, 0].map(word => hex(cpu.reg_xmm32s[4 * n + word], 8)).join("")]);
    fields.push(["mxcsr", hex(cpu.mxcsr[0], 8)]);
    return made;
}

/** @param {any} cpu */
function ramSection(cpu) {
    const made = section("ram"), ram = memoryOf(cpu.mem8);
    made.fields.push(["size", ram.length]);
    for(let at = 0; at < ram.length; at += PAGE) {
        if(!cpu.is_memory_zeroed(at, PAGE)) made.blocks.push([`0x${hex(at, 8)}`, ram.subarray(at, at + PAGE)]);      // compiled: fast also the first time
    }
    return made;
}

/** What the BIOS was given through QEMU's fw_cfg port, and how far it has read. @param {any} cpu */
function firmwareSection(cpu) {
    const made = section("fw_cfg");
    walk(made, "", { value: cpu.fw_value, pointer: cpu.fw_pointer, option_roms: cpu.option_roms }, new Set());
    return made;
}

/** Both PICs, the APIC and the I/O APIC, which lie in wasm memory. @param {any} cpu */
function controllers(cpu) {
    const memory = new DataView(cpu.wasm_memory.buffer), pic = section("pic"), apic = section("apic"), ioapic = section("ioapic");
    for(const [name, at] of [["master", cpu.get_pic_addr_master()], ["slave", cpu.get_pic_addr_slave()]]) {
        PIC.forEach((register, n) => { if(register) pic.fields.push([`${name}.${register}`, memory.getUint8(at + n)]); });
    }
    for(const [made, names, at] of /** @type {[Section, string[], number][]} */ ([[apic, APIC, cpu.get_apic_addr()], [ioapic, IOAPIC, cpu.get_ioapic_addr()]])) {
        names.forEach((name, n) => {
            if(name === "timer_last_tick") made.fields.push([name, scalar(memory.getFloat64(at + 4 * n, true))]);
            else if(name) made.fields.push([name, hex(memory.getUint32(at + 4 * n, true), 8)]);
        });
    }
    return [pic, apic, ioapic];
}

/** @param {string} key @param {any} device */
function deviceSection(key, device) {
    const made = section(NAMES[key] ?? key), skip = skipped(key);
    walk(made, "", device, skip);
    if(device.virtio) {
        skip.delete("virtio");
        const { cpu: _, pci: __, ...virtio } = device.virtio;
        walk(made, "virtio", { ...virtio, queues: virtio.queues.map((/** @type {any} */ { virtio: _, ...queue }) => queue) }, skip);
    }
    return made;
}

/** @param {any} pci */
function pciSection(pci) {
    const made = section("pci"), { device_spaces, ...rest } = pci;
    walk(made, "", rest, skipped("pci"));
    device_spaces.forEach((/** @type {Int32Array | undefined} */ space, /** @type {number} */ n) => {
        const place = `${hex(n >> 3, 2)}.${n & 7}${pci.devices[n]?.name ? ` ${pci.devices[n].name}` : ""}`;
        space?.forEach((word, at) => made.fields.push([`${place} +0x${hex(at * 4, 2)}`, hex(word, 8)]));
    });
    return made;
}

/** @param {any} ide */
function ideSection(ide) {
    const made = section("ide"), skip = skipped("ide");
    walk(made, "", ide, skip);
    for(const channel of [ide.primary, ide.secondary]) {
        if(!channel) continue;
        made.fields.push([`${channel.name}.current_interface`, channel.current_interface === channel.master ? "master" : "slave"]);
        for(const drive of [channel.master, channel.slave]) made.fields.push([`${drive.name}.drive_connected`, drive.drive_connected ? 1 : 0]);   // to v86, a disk is true
    }
    return made;
}

/** @param {any} cpu */
function videoMemory(cpu) {
    const made = section("vga memory"), { vga } = cpu.devices;
    addParts(made, memoryOf(vga.vga_memory), PAGE, page => `vga 0x${hex(page * PAGE, 8)}`);
    addParts(made, memoryOf(vga.svga_memory), PAGE, page => `svga 0x${hex(page * PAGE, 8)}`);
    return made;
}

/** What was written to a disk; all of a floppy, which is in memory. @param {string} drive @param {any} devices @param {HostFacts["disks"][string] | undefined} disk */
function diskSection(drive, devices, disk) {
    const made = section(`disk ${drive}`), floppy = devices.fdc?.drives[["fda", "fdb"].indexOf(drive)]?.buffer;
    const whole = floppy ? new Uint8Array(floppy.buffer) : disk instanceof Uint8Array ? disk : null;
    const key = (/** @type {number} */ sector) => `sector ${sector}`;
    if(whole) {
        made.fields.push(["size", whole.length]);
        addParts(made, whole, SECTOR, key);
    }
    else if(disk && "get_state" in disk) {
        const [size, indices, masks, data] = disk.get_state(), count = indices.length, chunk = data.length / count, mask = masks.length / count;
        made.fields.push(["size", size]);
        for(let n = 0; n < count; n++) {
            for(let sector = 0; sector < mask * 8; sector++) {
                if(!(masks[n * mask + (sector >> 3)] & 1 << (sector & 7))) continue;
                const at = n * chunk + sector * SECTOR;
                made.blocks.push([key(indices[n] * mask * 8 + sector), data.subarray(at, at + SECTOR)]);
            }
        }
    }
    return made;
}

/** The files that the guest sees over 9p, a field for each, and what it has written. @param {import("./ninep/server.js").Server} share */
function filesSection(share) {
    return { ...section("9p"), ...share.describe() };
}

/** All that a value holds. @param {Section} made @param {string} path @param {any} value @param {Set<string>} skip */
function walk(made, path, value, skip) {
    if(typeof value === "function") return;
    if(typeof value !== "object" || value === null) made.fields.push([path, scalar(value)]);
    else if(typeof value.peek === "function" && typeof value.shift === "function") walk(made, path, queued(value), skip);
    else if(value.BYTES_PER_ELEMENT && value.length > MOST_ELEMENTS) {
        made.fields.push([`${path}.length`, value.length]);
        addParts(made, memoryOf(value), PAGE, part => `${path} +0x${hex(part * PAGE, 4)}`);
    }
    else if(value.BYTES_PER_ELEMENT || Array.isArray(value)) {
        made.fields.push([`${path}.length`, value.length]);
        value.forEach((/** @type {unknown} */ element, /** @type {number} */ n) => {
            if(element !== undefined && element !== null) walk(made, `${path}[${n}]`, element, skip);
        });
    }
    else {
        const entries = value instanceof Map ? [...value] : value instanceof Set ? [...value].map(key => [key, 1]) : Object.entries(value);
        entries.map(([key, inner]) => [String(key), inner]).sort(([a], [b]) => a < b ? -1 : 1).forEach(([key, inner]) => {
            if(!skip.has(key)) walk(made, path ? `${path}.${key}` : key, inner, skip);
        });
    }
}

/** Add the parts of these bytes that are not all zero. @param {Section} made @param {Uint8Array} bytes @param {number} size @param {(part: number) => string} name */
function addParts(made, bytes, size, name) {
    const aligned = bytes.byteOffset % 4 === 0 && bytes.length % size === 0;
    const words = aligned ? new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4) : null, step = size / 4;
    for(let part = 0; part * size < bytes.length; part++) {
        const used = words ? anyWord(words, part * step, (part + 1) * step) : bytes.subarray(part * size, (part + 1) * size).some(byte => byte !== 0);
        if(used) made.blocks.push([name(part), bytes.subarray(part * size, (part + 1) * size)]);
    }
}

/** Whether one of them is not zero, eight at a time. @param {Int32Array} words @param {number} from @param {number} to */
function anyWord(words, from, to) {
    for(let at = from; at < to; at += 8) {
        if(words[at] | words[at + 1] | words[at + 2] | words[at + 3] | words[at + 4] | words[at + 5] | words[at + 6] | words[at + 7]) return true;
    }
    return false;
}

/** @param {Section} section @returns {Promise<string>} */
async function hashSection({ name, fields, blocks }) {
    const lengths = blocks.map(([key, bytes]) => [key, bytes.length]), pieces = await Promise.all(digestPieces(blocks));
    return digest(utf8(JSON.stringify([name, fields, lengths, pieces])));
}

/** The hashes of what these blocks are when joined, by piece: so their bytes need not be joined. @param {Section["blocks"]} blocks */
function digestPieces(blocks) {
    const pieces = /** @type {Promise<string>[]} */ ([]);
    let left = blocks.reduce((sum, [, bytes]) => sum + bytes.length, 0), filled = 0;
    const buffer = new Uint8Array(Math.min(PIECE, left));
    for(const [, bytes] of blocks) {
        for(let at = 0; at < bytes.length; ) {
            const part = bytes.subarray(at, at + buffer.length - filled);
            buffer.set(part, filled);
            filled += part.length;
            at += part.length;
            left -= part.length;
            if(filled < buffer.length && left) continue;
            pieces.push(digest(buffer.subarray(0, filled)));
            filled = 0;
        }
    }
    return pieces;
}

/** SHA-256 of these bytes as they are when it is called. @param {Uint8Array} bytes @returns {Promise<string>} */
async function digest(bytes) {
    return hexOf(subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : sha256(bytes));      // it copies them before it returns
}

/** @param {Uint8Array} bytes */
function hexOf(bytes) {
    return Array.from(bytes, byte => hex(byte, 2)).join("");
}

/** @param {string} name @returns {Section} */
function section(name) {
    return { name, fields: [], blocks: [] };
}

/** @param {string} key */
function skipped(key) {
    return new Set([...NO_STATE, ...NO_STATE_OF[key] ?? []]);
}

/** @param {any} value @returns {Scalar} */
function scalar(value) {
    if(value === undefined || value === null) return null;
    if(typeof value === "boolean") return Number(value);
    if(typeof value !== "number") return String(value);
    return Number.isFinite(value) ? value + 0 : String(value);           // -0 + 0 is 0
}

/** The bytes behind a typed array, also behind v86's proxies of them, which survive that wasm memory grows. @param {any} view */
function memoryOf(view) {
    return new Uint8Array(view.buffer, view.byteOffset, view.length * view.BYTES_PER_ELEMENT);
}

/** @param {string} name @param {number} count */
function numbered(name, count) {
    return Array.from({ length: count }, (_, n) => `${name}${n}`);
}

/** @param {number} value @param {number} digits */
function hex(value, digits) {
    return (value >>> 0).toString(16).padStart(digits, "0");
}

/** @param {string} text */
function utf8(text) {
    return new TextEncoder().encode(text);
}
