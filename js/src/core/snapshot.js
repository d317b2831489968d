/**
 * The machine as bytes, and back.
 *
 * A snapshot is the whole wasm memory by page, the live JIT modules, the clock, what the guest changed of shared files, and
 * v86's device state with what its `get_state` forgets. v86's own state file loses the JIT, which decides where ticks end, so a machine restored from it
 * goes on differently.
 *
 * A state that others start from borrows: pages that hold the same bytes as a blob of the image (the files of an initial
 * RAM disk, mostly) are named by their place in it, and need not travel twice.
 *
 * Layout, before compression: u32 magic, u32 header length, header (JSON), then the sections the header lists, each
 * starting at a multiple of 8.
 */

import { join } from "./bytes.js";
import { RequestError } from "./fault.js";

const MAGIC = 0x4C363856;                    // "V86L"
export const STATE_VERSION = 2;
const PAGE = 4096;
const WASM_PAGE = 65536;
const FIRMWARE_END = 1 << 20;                // BIOS and VGA BIOS lie below
/** Fields of v86's devices that its states leave out (v86 0.5.462, `get_state` of each). */
const FORGOTTEN = /** @type {Record<string, string[]>} */ ({
    acpi: ["timer_last_value", "timer_imprecision_offset", "last_timer"],
    vga: ["svga_offset_x", "svga_offset_y", "svga_version"],
    ps2: ["next_byte_is_ready", "next_byte_is_aux", "wheel_movement", "last_mouse_packet"],
    sb16: ["mpu_read_buffer_lastvalue", "fm_current_address0", "fm_current_address1", "fm_waveform_select_enable"],
    vmware: ["buttons", "last_x", "last_y", "tail_is_move", "clip_out_cursor", "clip_out_fresh", "clip_in_cursor", "rel_dx", "rel_dy"],
    ...Object.fromEntries(["ide0.0", "ide0.1", "ide1.0", "ide1.1"].map(name => [name, ["atapi_sense_key", "atapi_add_sense", "medium_changed"]])),
});
/** Their queues of bytes. */
const QUEUES = /** @type {const} */ ([["ps2", "kbd_buffer"], ["ps2", "mouse_buffer"], ["sb16", "write_buffer"], ["sb16", "read_buffer"], ["sb16", "mpu_read_buffer"]]);
/** CPU views that v86's `set_state` replaces by copies, so that later states would be stale. */
const REPLACED_VIEWS = ["last_result", "fpu_status_word", "mxcsr"];

/**
 * @typedef {object} Extra   what is saved beside memory and v86's device state
 * @property {number} clock
 * @property {number} instructions
 * @property {Record<string, import("./emulator.js").Medium | null>} media
 * @property {import("./console.js").Saved} console
 * @property {boolean} agent      whether the guest's agent had greeted
 * @property {import("./course.js").Saved & {agent: ReturnType<import("./agent.js").Agent["save"]>, retrace: number} | null} course   of a seeded machine
 */

/** @typedef {{digest: string, bytes: Uint8Array}} Lender */

/** @param {import("./emulator.js").Emulator} emulator @param {Extra} extra @param {Lender | null} lender @returns {Promise<Uint8Array>} */
export async function capture(emulator, extra, lender) {
    const cpu = emulator.cpu;
    const devices = await deviceState(emulator);
    const memory = new Uint8Array(cpu.wasm_memory.buffer), used = usedPages(memory, 0, memory.length);
    const borrowed = lender ? placesIn(lender.bytes, memory, used) : new Map(), pages = used.filter(page => !borrowed.has(page));
    const modules = [...emulator.modules], files = emulator.share?.save();
    const packed = new Uint8Array(pages.length * PAGE);
    pages.forEach((page, n) => packed.set(memory.subarray(page * PAGE, (page + 1) * PAGE), n * PAGE));
    const sections = {
        pages: bytesOf(Uint32Array.from(pages)), memory: packed, devices, borrowed: bytesOf(Uint32Array.from([...borrowed].flat())),
        moduleIndex: bytesOf(Uint32Array.from(modules.flatMap(([index, code]) => [index, code.length]))), modules: join(modules.map(([, code]) => code)),
        ...files && { files: files.bytes },
    };
    return pack({ version: STATE_VERSION, lender: lender?.digest ?? null, memoryLength: memory.length, forgotten: forgotten(emulator), files: files?.state, extra }, sections);
}

/**
 * Make a fresh instance of the same configuration the machine that was saved.
 *
 * @param {import("./emulator.js").Emulator} emulator @param {Uint8Array} state
 * @param {(digest: string) => Promise<Uint8Array>} lend   the blob that pages were borrowed from
 * @returns {Promise<Extra>}
 */
export async function apply(emulator, state, lend) {
    const cpu = emulator.cpu, { header, sections } = unpack(state), lender = header.lender === null ? null : await lend(header.lender);
    const views = REPLACED_VIEWS.map(name => cpu[name]);
    cpu.unpack_memory = () => {};
    if(cpu.devices.net) cpu.devices.net.preserve_mac_from_state_image = true;        // and the card's memory with it
    try {
        await emulator.v86.restore_state(ownBuffer(sections.devices));
    }
    finally {
        delete cpu.unpack_memory;
    }
    REPLACED_VIEWS.forEach((name, n) => { cpu[name] = views[n]; });
    restoreForgotten(emulator, header.forgotten);
    emulator.share?.load(header.files, sections.files ?? new Uint8Array(0));
    const borrowed = new Uint32Array(ownBuffer(sections.borrowed));
    replaceMemory(cpu, header.memoryLength, new Uint32Array(ownBuffer(sections.pages)), sections.memory);
    if(lender) returnPages(new Uint8Array(cpu.wasm_memory.buffer), borrowed, lender);
    reconnectImage(cpu);
    installModules(emulator, new Uint32Array(ownBuffer(sections.moduleIndex)), sections.modules);
    emulator.setInstructions(header.extra.instructions);
    return header.extra;
}

/** v86's own serialisation, without what lies in wasm memory. @param {import("./emulator.js").Emulator} emulator */
async function deviceState(emulator) {
    const cpu = emulator.cpu, { vga } = cpu.devices, storeTsc = cpu.store_current_tsc, videoMemory = vga.svga_memory;
    cpu.pack_memory = () => ({ packed_memory: new Uint8Array(0), bitmap: { get_buffer: () => new ArrayBuffer(0) } });
    vga.svga_memory = new Uint8Array(0);             // lies in wasm memory, as the guest's does
    cpu.store_current_tsc = () => {};                // v86 counts how often the TSC is read
    try {
        return new Uint8Array(await emulator.v86.save_state());
    }
    finally {
        delete cpu.pack_memory;
        cpu.store_current_tsc = storeTsc;
        vga.svga_memory = videoMemory;
    }
}

/** @param {import("./emulator.js").Emulator} emulator */
function forgotten({ cpu }) {
    const devices = byName(cpu.devices);
    return {
        fields: Object.fromEntries(Object.entries(FORGOTTEN).filter(([name]) => devices[name])
            .map(([name, fields]) => [name, Object.fromEntries(fields.map(field => [field, devices[name][field]]))])),
        uarts: [0, 1, 2, 3].map(n => devices[`uart${n}`]?.input ?? []),
        roms: cpu.option_roms.map((/** @type {{name: string, data: Uint8Array}} */ { name, data }) => ({ name, data: [...data] })),
        queues: QUEUES.map(([name, queue]) => queued(devices[name][queue])),
        firmwarePointer: cpu.fw_pointer, multicast: devices.net ? [...devices.net.mar] : [],
        pointer: devices.vmware ? { queue: devices.vmware.queue, clip_in: [...devices.vmware.clip_in], clip_out: [...devices.vmware.clip_out] } : null,
    };
}

/** @param {import("./emulator.js").Emulator} emulator @param {ReturnType<typeof forgotten>} saved */
function restoreForgotten({ cpu }, saved) {
    const devices = byName(cpu.devices);
    for(const [name, fields] of Object.entries(FORGOTTEN)) {             // only what we list: a state may be a stranger's
        for(const field of fields) {
            const value = saved.fields[name]?.[field];
            if(devices[name] && ["number", "boolean"].includes(typeof value)) devices[name][field] = value;
        }
    }
    saved.uarts.forEach((/** @type {number[]} */ input, /** @type {number} */ n) => { if(devices[`uart${n}`]) devices[`uart${n}`].input = [...input]; });
    cpu.option_roms = saved.roms.map((/** @type {{name: string, data: number[]}} */ { name, data }) => ({ name, data: Uint8Array.from(data) }));
    QUEUES.forEach(([name, queue], n) => { for(const byte of saved.queues[n]) devices[name][queue].push(byte); });
    cpu.fw_pointer = saved.firmwarePointer;
    devices.net?.mar.set(saved.multicast);
    if(saved.pointer && devices.vmware) {
        const { queue, clip_in, clip_out } = saved.pointer;
        Object.assign(devices.vmware, { queue: [...queue], clip_in: Uint8Array.from(clip_in), clip_out: Uint8Array.from(clip_out) });
    }
}

/** The IDE drives too. @param {any} devices @returns {Record<string, any>} */
function byName(devices) {
    const drives = [devices.ide.primary, devices.ide.secondary].flatMap(channel => channel ? [channel.master, channel.slave] : []);
    return { ...devices, ...Object.fromEntries(drives.map(drive => [drive.name, drive])) };
}

/** What a v86 ByteQueue holds: taken out and put back, for its array is private. @param {any} queue @returns {number[]} */
export function queued(queue) {
    return Array.from({ length: queue.length }, () => {
        const byte = queue.shift();
        queue.push(byte);
        return byte;
    });
}

/** @param {Uint8Array} memory @param {number} from @param {number} to @returns {number[]} the numbers of the pages that are not all zero */
function usedPages(memory, from, to) {
    const words = new Int32Array(memory.buffer), perPage = PAGE / 4, pages = [];
    for(let page = Math.floor(from / PAGE); page < Math.ceil(to / PAGE); page++) {
        const end = (page + 1) * perPage;
        for(let at = page * perPage; at < end; at++) {
            if(words[at] !== 0) {
                pages.push(page);
                break;
            }
        }
    }
    return pages;
}

/** @param {any} cpu @param {number} length @param {Uint32Array} pages @param {Uint8Array} packed */
function replaceMemory(cpu, length, pages, packed) {
    const have = cpu.wasm_memory.buffer.byteLength;
    if(length > have) cpu.wasm_memory.grow((length - have) / WASM_PAGE);
    const memory = new Uint8Array(cpu.wasm_memory.buffer), saved = new Set(pages);
    const ram = cpu.mem8.byteOffset, afterRam = ram + cpu.mem8.length;
    // A fresh instance that will not boot has touched of its RAM only the first MiB; reading the rest costs a page fault each.
    for(const page of [...usedPages(memory, 0, ram + FIRMWARE_END), ...usedPages(memory, afterRam, memory.length)]) {
        if(!saved.has(page)) memory.fill(0, page * PAGE, (page + 1) * PAGE);
    }
    pages.forEach((page, n) => memory.set(packed.subarray(n * PAGE, (n + 1) * PAGE), page * PAGE));
}

/**
 * Where a blob holds the same bytes as pages of memory. Files in a cpio archive begin at multiples of 4.
 *
 * @param {Uint8Array} blob @param {Uint8Array} memory @param {number[]} pages @returns {Map<number, number>} page to offset
 */
function placesIn(blob, memory, pages) {
    const words = new Int32Array(ownBuffer(blob), 0, blob.length >> 2), memoryWords = new Int32Array(memory.buffer);
    const mark = (/** @type {Int32Array} */ from, /** @type {number} */ at) => Math.imul(from[at], 31) ^ Math.imul(from[at + 5], 17) ^ from[at + 33];
    /** @type {Map<number, number[]>} */
    const marks = new Map(), found = new Map();
    for(const page of pages) {
        const at = page * (PAGE / 4), key = mark(memoryWords, at);
        marks.set(key, [...marks.get(key) ?? [], page]);
    }
    for(let at = 0; at + PAGE / 4 <= words.length; at++) {
        for(const page of marks.get(mark(words, at)) ?? []) {
            const from = page * (PAGE / 4);
            let same = 0;
            while(same < PAGE / 4 && words[at + same] === memoryWords[from + same]) same++;
            if(same === PAGE / 4 && !found.has(page)) found.set(page, at * 4);
        }
    }
    return found;
}

/** @param {Uint8Array} memory @param {Uint32Array} borrowed   pages and offsets by turns @param {Uint8Array} lender */
function returnPages(memory, borrowed, lender) {
    for(let n = 0; n < borrowed.length; n += 2) memory.set(lender.subarray(borrowed[n + 1], borrowed[n + 1] + PAGE), borrowed[n] * PAGE);
}

/** v86's image lies in wasm memory, which is now the saved machine's: ask for the buffer that it has there. @param {any} cpu */
function reconnectImage(cpu) {
    const { vga } = cpu.devices, size = vga.virtual_width * vga.virtual_height;
    if(!vga.graphical_mode || !size) return;
    vga.dest_buffet_offset = cpu.svga_allocate_dest_buffer(size) >>> 0;
    vga.image_data = new (/** @type {any} */ (globalThis).ImageData)(
        new Uint8ClampedArray(cpu.wasm_memory.buffer, vga.dest_buffet_offset, 4 * size), vga.virtual_width, vga.virtual_height);
    vga.update_layers();
}

/** @param {import("./emulator.js").Emulator} emulator @param {Uint32Array} index @param {Uint8Array} code */
function installModules(emulator, index, code) {
    for(let n = 0, at = 0; n < index.length; n += 2) {
        emulator.installModule(index[n], code.slice(at, at + index[n + 1]));
        at += index[n + 1];
    }
}

/** @param {object} header @param {Record<string, Uint8Array>} sections */
function pack(header, sections) {
    const lengths = Object.entries(sections).map(([name, bytes]) => [name, bytes.length]);
    const json = new TextEncoder().encode(JSON.stringify({ ...header, sections: lengths }));
    const size = Object.values(sections).reduce((at, bytes) => align(at) + bytes.length, align(8 + json.length));
    const state = new Uint8Array(align(size)), view = new DataView(state.buffer);
    view.setUint32(0, MAGIC, true);
    view.setUint32(4, json.length, true);
    state.set(json, 8);
    let at = align(8 + json.length);
    for(const bytes of Object.values(sections)) {
        state.set(bytes, at);
        at = align(at + bytes.length);
    }
    return state;
}

/** @param {Uint8Array} state @returns {{header: any, sections: Record<string, Uint8Array>}} */
function unpack(state) {
    const view = new DataView(state.buffer, state.byteOffset, state.length);
    if(state.length < 8 || view.getUint32(0, true) !== MAGIC) throw damaged("its first bytes are not a snapshot's");
    const headerLength = view.getUint32(4, true);
    if(headerLength > state.length - 8) throw damaged("it is cut short");
    const header = JSON.parse(new TextDecoder().decode(state.subarray(8, 8 + headerLength)));
    if(header.version !== STATE_VERSION) throw damaged(`it has version ${header.version}, not ${STATE_VERSION}`);
    /** @type {Record<string, Uint8Array>} */
    const sections = {};
    let at = align(8 + headerLength);
    for(const [name, length] of header.sections) {
        if(at + length > state.length) throw damaged("it is cut short");
        sections[name] = state.subarray(at, at + length);
        at = align(at + length);
    }
    return { header, sections };
}

/** @param {string} how */
function damaged(how) {
    return new RequestError("image", "this snapshot cannot be restored", { seen: how });
}

/** @param {number} at */
function align(at) {
    return Math.ceil(at / 8) * 8;
}

/** @param {Uint32Array} words */
function bytesOf(words) {
    return new Uint8Array(words.buffer);
}

/** @param {Uint8Array} bytes @returns {ArrayBuffer} */
function ownBuffer(bytes) {
    return /** @type {ArrayBuffer} */ (bytes.slice().buffer);
}
