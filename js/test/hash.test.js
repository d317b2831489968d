// The hash of a machine: it counts everything that the guest could ever notice, and nothing else.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { Disk } from "../src/core/disk.js";
import { Emulator } from "../src/core/emulator.js";
import { describe, describeState, hashState } from "../src/core/hash.js";
import { Chunks } from "../src/core/ninep/chunks.js";
import { lockOf } from "../src/core/ninep/locks.js";
import { Server } from "../src/core/ninep/server.js";
import { setSource } from "../src/core/realm.js";
import { Screen } from "../src/core/screen.js";
import { apply, capture } from "../src/core/snapshot.js";

const PER_MS = 100_000;                      // instructions in a guest millisecond
const EPOCH = Date.UTC(2026, 0, 1);
const MEDIUM = { digest: "d".repeat(64), size: 1 << 20 };
const WORK = "echo hello > /mnt/file; mkdir /mnt/folder; echo x | dd of=/dev/sda bs=512 seek=3 conv=notrunc 2>/dev/null; sync; echo DO''NE\n";
/** Ports and what to write there. @type {[number, number][]} */
const VGA_GRAPHICS = [[0x3CE, 6], [0x3CF, 5], [0x3C0, 0x30], [0x3C0, 0x01]];
/** VBE's index and data ports, as Bochs has them: 320x200 in 32 bits. @type {[number, number][]} */
const SVGA_GRAPHICS = [[1, 320], [2, 200], [3, 32], [4, 0x41]].flatMap(([index, value]) => [[0x1CE, index], [0x1CF, value]]);
const MANIFEST = new TextEncoder().encode('{"format":"v86lab-tree","version":1,"chunk":262144,"inodes":[[16877,0,0,1,0,null]],"names":[]}');
const firmware = (/** @type {string} */ name) => new Uint8Array(readFileSync(new URL(`../../v86lab/firmware/${name}`, import.meta.url)));
const image = /** @type {import("../src/core/emulator.js").ImageConfig} */ ({
    name: "linux", memory: 128 << 20, video_memory: 8 << 20, cmdline: "console=ttyS0 quiet tsc=reliable mitigations=off random.trust_cpu=on",
    boot_order: ["floppy", "disk", "cdrom"], acpi: true, uarts: 4, consoles: 2, share: "tree", agent: true, epoch: EPOCH / 1000, mips: 100, jit: true,
});

/** One machine, with all that a machine can have, on a clock and a random generator of its own. */
class Rig {
    output = "";
    idle = 0;
    seed = 12345;
    emulator = /** @type {Emulator} */ (/** @type {unknown} */ (null));
    disks = /** @type {Record<string, Disk>} */ ({});
    input = { consoleInput: new Uint8Array([108, 115, 10]), agentQueue: new Uint8Array([1, 2, 3]) };
    media = /** @type {import("../src/core/hash.js").HostFacts["media"]} */ ({ fda: null, hda: MEDIUM });
    late = 0;

    get share() {
        return /** @type {Server} */ (this.emulator.share);
    }

    /** @param {string} name */
    file(name) {
        const { tree } = this.share;
        return tree.lookup(tree.root, name);
    }

    /** @param {boolean} cold */
    static async make(cold) {
        const rig = new Rig();
        setSource({ now: () => rig.now(), date: () => EPOCH + Math.floor(rig.now()), random: () => rig.random() });
        crypto.getRandomValues = /** @type {any} */ ((/** @type {Int32Array} */ words) => words.map(() => rig.random()));
        const blobs = /** @type {any} */ ({ range: async (/** @type {string} */ _, /** @type {number} */ start, /** @type {number} */ end) => new Uint8Array(end - start).fill(7) });
        for(const drive of ["hda", "cdrom"]) rig.disks[drive] = new Disk(blobs, MEDIUM.digest, MEDIUM.size, drive);
        const parts = /** @type {any} */ ({
            wasm: new WebAssembly.Module(readFileSync(new URL("../node_modules/v86/build/v86.wasm", import.meta.url))),
            bios: firmware("bios.bin"), vgaBios: firmware("vgabios.bin"), kernel: cold ? firmware("bzimage") : null, initrd: cold ? firmware("initramfs") : null,
            multiboot: null, fda: new Uint8Array(1440 * 1024), fdb: null, hdb: null, ...rig.disks, share: new Server(MANIFEST, new Chunks(blobs, async bytes => bytes, () => 0), () => EPOCH + Math.floor(rig.now()), null),
        });
        rig.emulator = await Emulator.create(image, parts, {
            serial: (_, byte) => { rig.output += String.fromCharCode(byte); }, console: () => {}, wake: () => {}, fault: fault => { throw fault; },
        });
        return rig;
    }

    random() {
        this.seed ^= this.seed << 13;
        this.seed ^= this.seed >>> 17;
        return this.seed ^= this.seed << 5;
    }

    now() {
        const { emulator } = this;
        return this.idle + (emulator?.retired ?? 0) / PER_MS;
    }

    tick() {
        const wait = this.emulator.step();
        if(this.emulator.idle) this.idle += Math.max(wait, 0.02);
    }

    /** @param {string} text */
    async until(text) {
        for(let ticks = 0; !this.output.includes(text); ticks++) {
            assert.ok(ticks < 200_000, `the guest never showed ${text}: ${this.output.slice(-300)}`);
            this.tick();
            if(ticks % 16 === 0) await new Promise(resolve => setImmediate(resolve));
        }
    }

    /** @param {[number, number][]} writes @param {8 | 16} bits */
    write(writes, bits) {
        const { io } = this.emulator.cpu;
        this.emulator.enter(() => io.port_read8(0x3DA));             // the attribute controller expects an index next
        for(const [port, value] of writes) this.emulator.enter(() => io[`port_write${bits}`](port, value));
    }

    /** Have a person look. */
    draw() {
        const screen = new Screen(), { vga } = this.emulator.cpu.devices;
        screen.attach(vga);
        screen.set_size_graphical(vga.screen_width, vga.screen_height);
        Object.assign(vga, { diff_plot_min: 0, diff_plot_max: 0x3FF });                  // as when the guest has just drawn
        this.emulator.enter(() => screen.refill());
        assert.ok(vga.graphical_mode && screen.layers.length, "nothing was drawn");
    }

    get parts() {
        const { emulator, input, media, disks } = this;
        return { emulator, host: { clock: this.now() + this.late, instructions: emulator.instructions, ...input, media, disks } };
    }

    /** What is no RAM and no video memory, for tests that look at it hundreds of times. */
    get registers() {
        const { cpu } = this.emulator, none = new Uint8Array(0);
        const vga = Object.assign(Object.create(Object.getPrototypeOf(cpu.devices.vga)), cpu.devices.vga, { svga_memory: none, vga_memory: none });
        const small = Object.assign(Object.create(cpu), { mem8: none, devices: { ...cpu.devices, vga } });
        const sections = describe({ ...this.parts, emulator: /** @type {any} */ ({ cpu: small, v86: this.emulator.v86, fault: null }) });
        return Object.fromEntries(sections.map(({ name, fields, blocks }) => [name, JSON.stringify([fields, blocks.map(([key, bytes]) => [key, ...bytes])])]));
    }

    capture() {
        return capture(this.emulator, /** @type {any} */ ({ clock: this.now(), instructions: this.emulator.instructions, media: {}, agent: false, console: null, course: null }), null);
    }
}

/** @type {Rig} */
let rig;
/** @type {{hash: string, sections: Record<string, string>}} */
let first;

before(async () => {
    rig = await Rig.make(true);
    await rig.until("/ # ");
    for(const byte of new TextEncoder().encode(WORK)) {
        rig.emulator.enter(() => rig.emulator.bus.send("serial0-input", byte));
        while(rig.emulator.serialBacklog) rig.tick();
    }
    await rig.until("\nDONE");
    rig.write(VGA_GRAPHICS, 8);
    rig.emulator.cpu.devices.vga.vga_memory.fill(0x5A, 0, 0x40000);                // something to be drawn
    first = await hashState(rig.parts);
}, { timeout: 300_000 });

/** @param {Record<string, string>} a @param {Record<string, string>} b @returns {string[]} */
const differing = (a, b) => Object.keys({ ...a, ...b }).filter(name => a[name] !== b[name]);

test("the hash is the same when it is taken twice, and so is the machine", async () => {
    const memory = new Uint8Array(rig.emulator.cpu.wasm_memory.buffer), was = memory.slice();
    assert.deepEqual(await hashState(rig.parts), first);
    describeState(rig.parts);
    assert.equal(Buffer.compare(memory, was), 0);
    assert.match(first.hash, /^[0-9a-f]{64}$/);
});

test("whoever watches does not change it", async () => {
    rig.draw();
    assert.deepEqual(await hashState(rig.parts), first);
});

test("what a page without crypto.subtle computes is the same", async () => {
    Object.defineProperty(crypto, "subtle", { value: undefined, configurable: true });
    try {
        const again = "../src/core/hash.js?alone", alone = await import(again);
        assert.deepEqual(await alone.hashState(rig.parts), first);
    }
    finally {
        delete (/** @type {any} */ (crypto)).subtle;
    }
});

test("what happens while it is computed does not get in", async () => {
    const { mem8 } = rig.emulator.cpu, hashing = hashState(rig.parts);
    mem8[0xF0000] ^= 1;
    assert.deepEqual(await hashing, first);
    mem8[0xF0000] ^= 1;
});

test("equal values have one form", async () => {
    const { rtc, dma, uart1, parallel0 } = rig.emulator.cpu.devices, was = { update: rtc.update_interrupt, mask: dma.channel_mask };
    rtc.update_interrupt = Number(was.update);
    dma.channel_mask = [...was.mask];
    uart1.input = new Uint8Array(0);
    parallel0.status_latched = null;
    parallel0.control = -0;
    rig.share.fids = new Map([...rig.share.fids].reverse());
    const other = await hashState(rig.parts);
    rtc.update_interrupt = was.update;
    dma.channel_mask = was.mask;
    uart1.input = [];
    parallel0.status_latched = undefined;
    parallel0.control = 0;
    assert.deepEqual(other, first);
});

/** Change one thing, and tell how to undo it. @typedef {(rig: Rig) => () => void} Change */

/** Flip a bit of an element of an array, or of a field. @param {any} owner @param {string | number} key @param {number} [bit] */
function flip(owner, key, bit = 1) {
    const was = owner[key];
    owner[key] = typeof was === "boolean" ? !was : was ^ bit;
    assert.notEqual(owner[key], was);
    return () => { owner[key] = was; };
}

/** A byte of wasm memory. @param {Rig} rig @param {number} at */
const flipMemory = (rig, at) => flip(new Uint8Array(rig.emulator.cpu.wasm_memory.buffer), at);

/** @type {[string, string, Change][]} */
const CHANGES = [
    ["a byte of RAM", "ram", ({ emulator: { cpu } }) => flip(cpu.mem8, 0x123456)],
    ["the last byte of RAM", "ram", ({ emulator: { cpu } }) => flip(cpu.mem8, (128 << 20) - 1)],
    ["where a page lies", "ram", ({ emulator: { cpu } }) => {
        const memory = new Uint8Array(cpu.wasm_memory.buffer, cpu.mem8.byteOffset);
        let at = 0;                          // a page that can move by one and still stand between the same two
        while(cpu.is_memory_zeroed(at, 0x1000) || !cpu.is_memory_zeroed(at + 0x1000, 0x1000)) at += 0x1000;
        memory.copyWithin(at + 0x1000, at, at + 0x1000).fill(0, at, at + 0x1000);
        return () => memory.copyWithin(at, at + 0x1000, at + 0x2000).fill(0, at + 0x1000, at + 0x2000);
    }],
    ["a register", "cpu", ({ emulator: { cpu } }) => flip(cpu.reg32, 3)],
    ["the instruction pointer", "cpu", ({ emulator: { cpu } }) => flip(cpu.instruction_pointer, 0)],
    ["a flag", "cpu", ({ emulator: { cpu } }) => flip(cpu.flags, 0, 0x200)],
    ["CR3", "cpu", ({ emulator: { cpu } }) => flip(cpu.cr, 3, 0x1000)],
    ["a segment's limit", "cpu", ({ emulator: { cpu } }) => flip(cpu.segment_limits, 4)],
    ["a task register's base", "cpu", ({ emulator: { cpu } }) => flip(cpu.segment_offsets, 6)],
    ["a debug register", "cpu", ({ emulator: { cpu } }) => flip(cpu.dreg, 7)],
    ["the TSC", "cpu", ({ emulator: { cpu } }) => {
        const memory = new Uint8Array(cpu.wasm_memory.buffer), was = memory.slice(0x8000, 0xD000);
        cpu.set_tsc(12345, 0);
        return () => memory.set(was, 0x8000);
    }],
    ["a bit of the FPU's stack", "fpu", ({ emulator: { cpu } }) => flip(cpu.fpu_st, 4 * 7 + 2)],
    ["an FPU tag", "fpu", ({ emulator: { cpu } }) => flip(cpu.fpu_stack_empty, 0)],
    ["the FPU's status", "fpu", ({ emulator: { cpu } }) => flip(cpu.fpu_status_word, 0)],
    ["a bit of XMM", "fpu", ({ emulator: { cpu } }) => flip(cpu.reg_xmm32s, 31, 1 << 31)],
    ["MXCSR", "fpu", ({ emulator: { cpu } }) => flip(cpu.mxcsr, 0)],
    ["how far the BIOS has read", "fw_cfg", ({ emulator: { cpu } }) => flip(cpu, "fw_pointer")],
    ["the PIC", "pic", rig => flipMemory(rig, rig.emulator.cpu.get_pic_addr_slave() + 12)],
    ["the APIC", "apic", rig => flipMemory(rig, rig.emulator.cpu.get_apic_addr() + 6 * 4)],
    ["the I/O APIC", "ioapic", rig => flipMemory(rig, rig.emulator.cpu.get_ioapic_addr() + 207)],
    ["the PIT", "pit", ({ emulator: { cpu } }) => flip(cpu.devices.pit.counter_start_time, 0)],
    ["the CMOS", "rtc", ({ emulator: { cpu } }) => flip(cpu.devices.rtc.cmos_data, 127)],
    ["the RTC", "rtc", ({ emulator: { cpu } }) => flip(cpu.devices.rtc, "nmi_disabled")],
    ["the DMA controller", "dma", ({ emulator: { cpu } }) => flip(cpu.devices.dma.channel_count_init, 7)],
    ["PCI configuration", "pci", ({ emulator: { cpu } }) => flip(cpu.devices.pci.device_spaces[0], 63)],
    ["the VGA", "vga", ({ emulator: { cpu } }) => flip(cpu.devices.vga.crtc, 24)],
    ["a colour", "vga", ({ emulator: { cpu } }) => flip(cpu.devices.vga.vga256_palette, 255)],
    ["a byte of VGA memory", "vga memory", ({ emulator: { cpu } }) => flip(cpu.devices.vga.vga_memory, 0x3FFFF)],
    ["a byte of SVGA memory", "vga memory", ({ emulator: { cpu } }) => flip(cpu.devices.vga.svga_memory, (8 << 20) - 1)],
    ["the keyboard", "ps2", ({ emulator: { cpu } }) => flip(cpu.devices.ps2, "next_byte_is_ready")],
    ["a key not read yet", "ps2", ({ emulator: { cpu } }) => {
        cpu.devices.ps2.kbd_buffer.push(0x1E);
        return () => cpu.devices.ps2.kbd_buffer.clear();
    }],
    ...[0, 1, 2, 3].flatMap(n => /** @type {[string, string, Change][]} */ ([
        [`UART ${n}`, `uart${n}`, ({ emulator: { cpu } }) => flip(cpu.devices[`uart${n}`], "scratch_register")],
        [`a byte that UART ${n} has received`, `uart${n}`, ({ emulator: { cpu } }) => {
            cpu.devices[`uart${n}`].input.push(0);
            return () => cpu.devices[`uart${n}`].input.pop();
        }],
    ])),
    ["an IDE master", "ide", ({ emulator: { cpu } }) => flip(cpu.devices.ide.primary.master, "features_reg")],
    ["an IDE slave's buffer", "ide", ({ emulator: { cpu } }) => flip(cpu.devices.ide.secondary.slave.data, 65535)],
    ["which drive is selected", "ide", ({ emulator: { cpu } }) => {
        const channel = cpu.devices.ide.primary, was = channel.current_interface;
        channel.current_interface = was === channel.master ? channel.slave : channel.master;
        return () => { channel.current_interface = was; };
    }],
    ["the CD-ROM's sense", "ide", ({ emulator: { cpu } }) => flip(cpu.devices.cdrom, "atapi_sense_key")],
    ["the floppy controller", "floppy", ({ emulator: { cpu } }) => flip(cpu.devices.fdc, "eot")],
    ["a floppy drive", "floppy", ({ emulator: { cpu } }) => flip(cpu.devices.fdc.drives[1], "curr_track")],
    ["a byte of the floppy", "disk fda", ({ emulator: { cpu } }) => flip(new Uint8Array(cpu.devices.fdc.drives[0].buffer.buffer), 1440 * 1024 - 1)],
    ["ACPI", "acpi", ({ emulator: { cpu } }) => flip(cpu.devices.acpi.gpe, 3)],
    ["the ACPI timer", "acpi", ({ emulator: { cpu } }) => flip(cpu.devices.acpi, "timer_imprecision_offset")],
    ["the network card", "network card", ({ emulator: { cpu } }) => flip(cpu.devices.net.memory, 32767)],
    ["the sound card", "sound", ({ emulator: { cpu } }) => flip(cpu.devices.sb16.mixer_registers, 255)],
    ["the parallel port", "parallel port", ({ emulator: { cpu } }) => flip(cpu.devices.parallel0, "control")],
    ["VMware's mouse", "vmware mouse", ({ emulator: { cpu } }) => flip(cpu.devices.vmware, "enabled")],
    ["a virtio console's queue", "virtio console", ({ emulator: { cpu } }) => flip(cpu.devices.virtio_console.virtio.queues[3], "avail_last_idx")],
    ["virtio's interrupt", "virtio 9p", ({ emulator: { cpu } }) => flip(cpu.devices.virtio_9p.virtio, "isr_status")],
    ["a file's content", "9p", rig => flip(rig.file("file").contents?.pages.get(0), 0)],
    ["a file's mode", "9p", rig => flip(rig.file("file"), "mode")],
    ["a folder's time", "9p", rig => flip(rig.file("folder").mtime, 1)],
    ["a file's name", "9p", ({ share: { tree } }) => {
        const { entries } = /** @type {any} */ (tree.root.directory), was = [...entries];
        entries.delete("file");
        entries.set("fils", was.find(([name]) => name === "file")[1]);
        return () => {
            entries.clear();
            was.forEach(([name, entry]) => entries.set(name, entry));
        };
    }],
    ["an extended attribute", "9p", rig => {
        const file = rig.file("file"), was = file.xattrs;
        file.xattrs = new Map([["user.a", Uint8Array.of(1)]]);
        return () => { file.xattrs = was; };
    }],
    ["an open file", "9p", ({ share }) => flip([...share.fids.values()][0], "uid")],
    ["a lock", "9p", ({ share }) => {
        share.locks.set(1, lockOf(1, 5n, 2n, 77, "guest", 3));
        return () => share.locks.clear();
    }],
    ["the clock", "clock", rig => flip(rig, "late")],
    ["how much has run", "clock", ({ emulator }) => flip(emulator, "instructions")],
    ["a byte yet to be typed", "console input", ({ input }) => flip(input.consoleInput, 2)],
    ["a byte for the agent", "console input", ({ input }) => flip(input.agentQueue, 0)],
    ["the medium in a drive", "media", ({ media }) => {
        media.cdrom = MEDIUM;
        return () => { delete media.cdrom; };
    }],
    ["a byte written to a disk", "disk hda", ({ disks: { hda } }) => {
        const was = hda.get_state(), data = was[3].slice();
        data[3 * 512] ^= 1;
        hda.set_state([was[0], was[1], was[2], data]);
        return () => hda.set_state(was);
    }],
    ["which sectors were written", "disk cdrom", ({ disks: { cdrom } }) => {
        cdrom.set(0, new Uint8Array(512), () => {});
        return () => cdrom.set_state([MEDIUM.size, new Uint32Array(0), new Uint8Array(0), new Uint8Array(0)]);
    }],
];

for(const [what, section, change] of CHANGES) {
    test(`${what} counts, and only for its section`, async () => {
        const undo = change(rig), changed = await hashState(rig.parts);
        undo();
        assert.deepEqual(differing(changed.sections, first.sections), [section]);
        assert.notEqual(changed.hash, first.hash);
        assert.deepEqual(await hashState(rig.parts), first);
    });
}

/** What a device object holds that is no state of the device. */
const NO_STATE = /** @type {Record<string, string[]>} */ ({
    pci: ["pci_addr32", "pci_value32", "pci_response32", "pci_status32"],
    vga: ["diff_addr_min", "diff_addr_max", "diff_plot_min", "diff_plot_max", "dest_buffet_offset", "pixel_buffer", "pci_rom_size", "pci_rom_address",
        "plane0", "plane1", "plane2", "plane3", "vga_memory", "svga_memory"],
    drive: ["data16", "data32", "last_io_id"],
    sb16: ["dma_buffer_int8", "dma_buffer_int16", "dma_buffer_uint16", "mpu_read_buffer_last_value"],
    vmware: ["host_pointer_locked"],
    net: ["id"],
});

test("every register of every device counts, also those that v86's own states forget", () => {
    const { devices } = rig.emulator.cpu, reference = rig.registers, { ide, fdc } = devices, seen = [];
    const objects = Object.entries(devices).flatMap(([name, device]) => [[name, device], ...device?.virtio ? [[name, device.virtio], ...device.virtio.queues.map((/** @type {any} */ queue) => [name, queue])] : []]);
    for(const channel of [ide.primary, ide.secondary]) objects.push(["ide", channel], ["drive", channel.master], ["drive", channel.slave]);
    objects.push(["fdc", fdc.drives[0]], ["fdc", fdc.drives[1]]);
    for(const [name, device] of objects) {
        for(const [key, value] of Object.entries(device ?? {})) {
            const fixed = key === "pci_id" || key === "fix_wrapping" || key.startsWith("is_") && value === undefined;
            if(fixed || NO_STATE[name === "cdrom" ? "drive" : name]?.includes(key)) continue;
            const array = value?.BYTES_PER_ELEMENT && value.length;
            if(!array && !["number", "boolean"].includes(typeof value) || Number.isNaN(value)) continue;
            const undo = array ? flip(value, value.length - 1) : flip(device, key);
            const changed = differing(rig.registers, reference);
            undo();
            assert.equal(changed.length, 1, `${name}.${key} changes [${changed}]`);
            seen.push(key);
        }
    }
    assert.ok(seen.length > 500, `only ${seen.length} were looked at`);
    assert.deepEqual(differing(rig.registers, reference), []);
});

test("v86's own states hold nothing that is not described", () => {
    const { devices } = rig.emulator.cpu, described = describe(rig.parts).map(({ fields, blocks }) => [...fields, ...blocks].map(([path]) => path)).flat().join("\n");
    const elsewhere = new Set([
        "vga_memory", "svga_memory", "pixel_buffer", "device_spaces", "virtio", "tag_bufchain", "current_interface", "drives", "buffer", "master", "slave", "dma_syncbuffer",
        "mpu_read_buffer_last_value", "name"]);
    for(const [name, device] of Object.entries({ ...devices, ide: devices.ide.primary, drive: devices.cdrom, floppyDrive: devices.fdc.drives[0], queue: devices.virtio_9p.virtio.queues[0], transport: devices.virtio_9p.virtio })) {
        for(const [, field] of device?.get_state?.toString().matchAll(/\bthis\.(\w+)/g) ?? []) {
            assert.ok(elsewhere.has(field) || new RegExp(`(^|[.])${field}($|[.[ ])`, "m").test(described), `${name}.${field} is not described`);
        }
    }
});

test("the description is JSON of a bounded size and says where two machines differ", () => {
    const described = describeState(rig.parts), text = JSON.stringify(described);
    assert.ok(text.length < 8 << 20);
    assert.deepEqual(JSON.parse(text), described);
    const { mem8 } = rig.emulator.cpu;
    mem8[0x123456] ^= 1;
    const other = describeState(rig.parts), at = described.sections.findIndex(({ name }) => name === "ram");
    mem8[0x123456] ^= 1;
    assert.deepEqual(Object.keys(other.sections[at].blocks).filter(page => other.sections[at].blocks[page] !== described.sections[at].blocks[page]), ["0x00123000"]);
});

test("whoever watches a screen of high resolution does not change it", async () => {
    rig.write(SVGA_GRAPHICS, 16);
    assert.ok(rig.emulator.cpu.devices.vga.svga_enabled);
    const before = await hashState(rig.parts);
    rig.draw();
    assert.deepEqual(await hashState(rig.parts), before);
});

test("a snapshot does not change it, and a machine restored from it has the same", async () => {
    const { devices, fpu_st } = rig.emulator.cpu;
    devices.sb16.write_buffer.push(7);
    devices.ps2.mouse_buffer.push(8);
    devices.uart1.input.push(9);
    fpu_st[0] ^= 1;
    const before = await hashState(rig.parts), state = await rig.capture();
    assert.deepEqual(await hashState(rig.parts), before);
    const twin = await Rig.make(false);
    await apply(twin.emulator, state, async () => new Uint8Array(0));
    const { idle, input, media } = rig;
    Object.assign(twin, { idle, input, media });
    assert.deepEqual(differing((await hashState(twin.parts)).sections, before.sections), []);
    assert.equal((await hashState(twin.parts)).hash, before.hash);
    assert.deepEqual(describeState(twin.parts), describeState(rig.parts));
});
