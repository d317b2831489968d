/**
 * The machine: one emulator instance after another (a reset makes a new one), and what outlives an instance: the clock,
 * the loop, disks, shared files, media, console, agent and screen.
 *
 * Rules:
 * - the status is one of "starting", "running", "paused", "off", "faulted"; every change is announced;
 * - whoever waits (`expect`, a command, a screen) is told at once when the guest can no longer answer.
 */

import { Rest } from "./activity.js";
import { Agent, AGENT_PORT } from "./agent.js";
import { Blobs } from "./blobs.js";
import { Clock } from "./clock.js";
import { Console } from "./console.js";
import { Disk } from "./disk.js";
import { Emulator } from "./emulator.js";
import { GuestFault, RequestError } from "./fault.js";
import { Loop } from "./loop.js";
import { Raster } from "./raster.js";
import { setTimeSource, wallDate } from "./realm.js";
import { Screen } from "./screen.js";
import { ShareStorage } from "./share.js";
import { apply, capture } from "./snapshot.js";

const DRIVES = /** @type {const} */ (["fda", "fdb", "hda", "hdb", "cdrom"]);
const RETRACE = 1000 / 60;                   // guest ms between two vertical retraces
const PANIC_TICKS = 100;                     // in kernel mode without a rest, after the kernel said that it panicked

/**
 * @typedef {import("./emulator.js").ImageConfig} ImageConfig
 * @typedef {import("./emulator.js").Medium} Medium
 * @typedef {"starting" | "running" | "paused" | "off" | "faulted"} Status
 *
 * @typedef {object} Host   what the core needs of where it runs
 * @property {string} hub                                                   the Hub's URL
 * @property {WebAssembly.Module} wasm
 * @property {typeof fetch} fetch
 * @property {Map<string, Promise<Uint8Array>>} [ahead]                     blobs that the host fetches by itself
 * @property {(digest: string) => Promise<Uint8Array | null>} [cached]      a blob that the host has kept
 * @property {(digest: string, bytes: Uint8Array) => void} [keep]           a blob that it may keep, and must not change
 * @property {() => Promise<void>} breathe
 * @property {(ms: number, callback: () => void) => () => void} timer
 * @property {(bytes: Uint8Array) => Promise<Uint8Array>} compress           zstd or gzip
 * @property {(bytes: Uint8Array) => Promise<Uint8Array>} decompress
 * @property {(count: number) => Uint8Array} random                         from the host's generator
 *
 * @typedef {object} Announce
 * @property {(status: Status, code: string | null, reason: string | null, registers: Record<string, number>) => void} status
 * @property {(bytes: Uint8Array) => void} console
 * @property {() => void} tick
 * @property {(name: string, loaded: number, total: number | null) => void} download
 */

export class Machine {
    /** @type {Status} */
    status = "starting";
    /** @type {RequestError | null} why the guest cannot answer */
    ended = null;
    console;
    agent;
    screen = new Screen();
    raster = new Raster(this.screen);
    rest = new Rest();
    clock = new Clock();
    /** @type {Emulator | null} */
    #emulator = null;
    /** @type {ImageConfig} */
    #image;
    /** What is in each drive. @type {Record<string, Medium | null>} */
    #media;
    /** @type {Record<string, Disk | Uint8Array | null>} */
    #contents = {};
    /** @type {ShareStorage | null} */
    #storage = null;
    #loop;
    #blobs;
    #host;
    #announce;
    #instructionsBefore = 0;                 // of instances that a reset ended
    #kernelTicks = 0;
    #nextRetrace = 0;
    /** The version of the screen that was drawn last. */
    #drawn = -1;
    /** @type {Promise<void> | null} */
    #resetting = null;
    /** @type {((error: unknown) => void) | null} */
    #failBuild = null;
    /** @type {{since: number, resolve: () => void}[]} */
    #screenWaits = [];

    /** @param {ImageConfig} image @param {Host} host @param {Announce} announce */
    constructor(image, host, announce) {
        this.#image = image;
        this.#host = host;
        this.#announce = announce;
        this.#media = Object.fromEntries(DRIVES.map(drive => [drive, image[drive]]));
        const { hub, fetch, timer, ahead, cached, keep } = host;
        this.#blobs = new Blobs(hub, fetch, ms => new Promise(resolve => void timer(ms, () => resolve(undefined))), { ahead, cached, keep, progress: announce.download });
        this.#loop = new Loop(() => this.#tick(), host, this.clock);
        this.console = new Console(bytes => announce.console(bytes), host.timer);
        this.agent = new Agent(bytes => this.#toConsole(AGENT_PORT, bytes));
    }

    /**
     * Build the machine and let it run.
     *
     * @param {string | null} state   digest of the state to start from
     * @param {() => void} ready   it is about to run
     */
    async start(state, ready) {
        this.ownRealm();
        await this.#building(async () => {
            if(state === null) this.#emulator = await this.#make(true);
            else await this.#restore(state);
        });
        ready();
        this.#setStatus("running");
        this.#loop.release("start");
    }

    /** Put this machine's clock behind the realm's time. */
    ownRealm() {
        setTimeSource(this.clock);
    }

    /** Stand still while another machine is tried in this one's place. */
    standAside() {
        this.#loop.hold("replace");
    }

    comeBack() {
        this.ownRealm();
        this.#loop.release("replace");
    }

    /** @returns {Emulator} */
    get emulator() {
        if(!this.#emulator) throw new RequestError("engine", "the machine has not been started");
        return this.#emulator;
    }

    get instructions() {
        return this.#instructionsBefore + (this.#emulator?.instructions ?? 0);
    }

    pause() {
        this.assertAlive();
        this.#loop.hold("pause");
        this.console.announce();
        this.#setStatus("paused");
    }

    resume() {
        this.assertAlive();
        this.#setStatus("running");
        this.#loop.release("pause");
    }

    /** Hold the guest while Python matches what the console shows. */
    holdForExpect() {
        this.#loop.hold("expect");
    }

    releaseAfterExpect() {
        this.#loop.release("expect");
    }

    /** Power-cycle; disks, shared files and media stay. One at a time: a guest may reboot while it is reset. @returns {Promise<void>} */
    reset() {
        this.#resetting ??= this.#powerCycle().catch(error => {
            this.crashed(error);
            throw error;
        }).finally(() => { this.#resetting = null; });
        return this.#resetting;
    }

    /** Resolves when no reset is under way; at once most often. */
    async settled() {
        await this.#resetting?.catch(() => {});
    }

    /** The current instance, once no reset is under way; throws when the guest can no longer answer. */
    async present() {
        await this.settled();
        this.assertAlive();
        return this.emulator;
    }

    /** Who waits for the console goes on waiting: the guest boots again. */
    async #powerCycle() {
        this.#loop.hold("reset");
        this.agent.abandon(new RequestError("guest", "the machine was reset"));
        await this.#quiesce();
        const old = this.#emulator;
        this.#instructionsBefore += old?.instructions ?? 0;
        this.#keepFloppies(old);
        this.#emulator = null;
        this.clock.set(0);
        this.#nextRetrace = 0;
        const fresh = await this.#building(() => this.#make(true));
        if(old && this.#storage) keepFiles(old, fresh);
        this.#emulator = fresh;
        this.ended = null;
        this.#kernelTicks = 0;
        this.console.clear();
        this.#setStatus("running");
        this.#loop.release("pause");
        this.#loop.release("end");
        this.#loop.release("reset");
    }

    /** The whole machine, compressed, with its statistics of then. */
    async capture() {
        const emulator = this.emulator;
        this.assertAlive();
        let captured;
        this.#loop.hold("snapshot");
        try {
            await this.#quiesce();
            this.assertAlive();              // a read that was waited for may have failed for good
            this.console.announce();
            const state = await capture(emulator, {
                clock: this.clock.now(), instructions: this.instructions, media: this.#media, console: this.console.save(),
                agent: this.agent.begun,
            });
            captured = { state, media: this.#media, ...this.statistics };
        }
        finally {
            this.#loop.release("snapshot");
        }
        return { ...captured, state: await this.#host.compress(captured.state) };
    }

    /** @param {"fda" | "fdb" | "cdrom"} drive @param {Medium | null} medium */
    async changeMedium(drive, medium) {
        const { devices } = this.emulator.cpu;
        this.#media = { ...this.#media, [drive]: medium };
        const content = this.#contents[drive] = await this.#load(drive, medium);
        this.emulator.enter(() => {
            if(drive === "cdrom") {
                if(content instanceof Disk) {
                    content.deliver = read => void this.#emulator?.enter(read);
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

    /** Resolves when the screen is no longer at version `since`. @param {number} since @param {AbortSignal} signal @returns {Promise<void>} */
    screenChanged(since, signal) {
        if(this.screen.version !== since || this.ended) return Promise.resolve();
        return new Promise((resolve, reject) => {
            const wait = { since, resolve: () => resolve(undefined) };
            this.#screenWaits.push(wait);
            signal.addEventListener("abort", () => {
                this.#screenWaits = this.#screenWaits.filter(one => one !== wait);
                reject(signal.reason);
            });
        });
    }

    /** Whether the screen may show something that was not drawn: of a graphics mode only v86 knows. */
    mayHaveChanged() {
        return this.screen.graphical || this.screen.version !== this.#drawn;
    }

    /** Draw what changed of the screen. @param {boolean} bright @returns {import("./raster.js").Rect | null} */
    draw(bright) {
        this.#emulator?.enter(() => this.screen.refill());
        this.#drawn = this.screen.version;
        return this.raster.draw(bright);
    }

    /** Milliseconds of the host's time that it took. */
    get worked() {
        return this.#loop.worked;
    }

    get statistics() {
        const disks = DRIVES.map(drive => [drive, this.#contents[drive]]).filter(([, content]) => content instanceof Disk);
        return {
            instructions: this.instructions, seconds: this.clock.now() / 1000,
            disks: Object.fromEntries(/** @type {[string, Disk][]} */ (disks).map(([drive, disk]) => [drive, { requests: disk.requests, bytes: disk.bytesRead }])),
            share: { requests: this.#storage?.requests ?? 0, bytes: this.#storage?.bytesRead ?? 0 },
        };
    }

    /** Throw when the guest can no longer answer. */
    assertAlive() {
        if(this.ended) throw this.ended;
    }

    /** Something outside a guarded call went wrong, such as a promise of v86's file system. @param {unknown} error */
    crashed(error) {
        if(this.#failBuild) this.#failBuild(error);
        else if(this.#emulator) this.#emulator.crashed(error);
        else this.#faulted(error);
    }

    /** Build an instance: what v86 throws meanwhile, outside of what it lets us await, ends it too. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
    #building(work) {
        return new Promise((resolve, reject) => {
            this.#failBuild = reject;
            work().then(resolve, reject);
        }).finally(() => { this.#failBuild = null; });
    }

    /** End whatever waits, before the engine goes. */
    close() {
        this.#loop.hold("end");
        this.#failWaiting(new RequestError("engine", "the machine was closed"));
    }

    /** @returns {number} milliseconds until there is work */
    #tick() {
        const emulator = this.emulator, wait = emulator.step();
        if(emulator.fault) return 0;
        this.console.pump(emulator);
        if(this.agent.busy) emulator.enter(() => this.agent.pump());
        this.console.settle();
        this.#tellScreenWaits();
        this.#retrace(emulator);
        this.rest.note(this.instructions);
        this.#announce.tick();
        if(emulator.asked === "off") this.#end("off", new RequestError("off", "the guest has powered off", { hint: "vm.reset() switches it on again" }));
        else if(emulator.asked === "reboot") this.reset().catch(() => {});     // it is told by the status
        else if(emulator.haltedForGood) this.#faulted(new GuestFault("halted", "the guest halted its processor with interrupts off: nothing can wake it"));
        else if(this.console.panicked) this.#watchPanic(emulator);
        return wait;
    }

    /** v86 leaves the vertical retrace to whoever draws; guests wait for it also while nobody looks. @param {Emulator} emulator */
    #retrace(emulator) {
        const now = this.clock.now(), { vga } = emulator.cpu.devices;
        if(!vga.graphical_mode || now < this.#nextRetrace) return;
        this.#nextRetrace = now + RETRACE;
        emulator.enter(() => vga.update_vertical_retrace());
    }

    /** The kernel said that it panicked: believe it once it spins in kernel mode, for anyone can print those words. @param {Emulator} emulator */
    #watchPanic(emulator) {
        this.#kernelTicks = emulator.inUserMode || emulator.idle ? 0 : this.#kernelTicks + 1;
        if(this.#kernelTicks > PANIC_TICKS) this.#faulted(new GuestFault("panic", this.console.panicked ?? ""));
    }

    /** @param {unknown} fault */
    #faulted(fault) {
        const guest = fault instanceof GuestFault, message = /** @type {Error} */ (fault).message;
        this.#end("faulted", new RequestError(guest ? "fault" : "engine", guest ? message : `a defect of the engine: ${message}`, {
            hint: "vm.reset() starts the machine again", value: guest ? { kind: fault.kind } : {},
        }));
    }

    /** @param {"off" | "faulted"} status @param {RequestError} why */
    #end(status, why) {
        if(this.ended) return;
        this.#loop.hold("end");
        this.ended = why;
        this.console.settle();
        this.console.announce();
        this.#setStatus(status);
        this.#failWaiting(why);
    }

    /** @param {RequestError} why */
    #failWaiting(why) {
        this.console.end(why);
        this.agent.end(why);
        for(const wait of this.#screenWaits.splice(0)) wait.resolve();
    }

    #tellScreenWaits() {
        if(!this.#screenWaits.length || this.#screenWaits[0].since === this.screen.version) return;
        for(const wait of this.#screenWaits.splice(0)) wait.resolve();
    }

    /** @param {Status} status */
    #setStatus(status) {
        this.status = status;
        const registers = status === "faulted" && this.#emulator ? this.#emulator.registers() : {};
        this.#announce.status(status, this.ended?.code ?? null, this.ended?.message ?? null, registers);
    }

    /** Wait until no read of a disk or of a shared file is under way. */
    async #quiesce() {
        const busy = () => Object.values(this.#contents).some(content => content instanceof Disk && content.pending) || this.#storage?.pending;
        while(busy()) await this.#host.breathe();
        await this.#host.breathe();
    }

    /** @param {number} port @param {Uint8Array} bytes @returns {boolean} whether the guest had a buffer for them */
    #toConsole(port, bytes) {
        const emulator = this.#emulator, queue = emulator?.cpu?.devices.virtio_console?.virtio.queues[port === 0 ? 0 : port * 2 + 2];
        if(!emulator || emulator.fault || !queue?.is_configured() || !queue.has_request()) return false;
        emulator.enter(() => emulator.bus.send(`virtio-console${port}-input-bytes`, bytes));
        this.#loop.wake();
        return true;
    }

    /** Put an instance together. @param {boolean} cold   it will boot: kernel and shared tree are needed @returns {Promise<Emulator>} */
    async #make(cold) {
        const image = this.#image, get = (/** @type {string | null} */ digest, /** @type {string} */ name) => digest === null ? null : this.#blobs.get(digest, { name });
        const [bios, vgaBios, kernel, initrd, multiboot] = await Promise.all([
            this.#blobs.get(image.bios, { name: "BIOS" }), this.#blobs.get(image.vga_bios, { name: "VGA BIOS" }),
            cold ? get(image.kernel, "kernel") : null, cold ? get(image.initrd, "initial RAM disk") : null, get(image.multiboot, "kernel"),
            ...DRIVES.map(async drive => { this.#contents[drive] ??= await this.#load(drive, this.#media[drive]); }),
        ]);
        if(image.share !== null && !this.#storage) {
            this.#storage = new ShareStorage(this.#blobs);
            this.#storage.onError = error => this.#cannotRead("the shared folder", error);
        }
        const parts = { .../** @type {any} */ (this.#contents), wasm: this.#host.wasm, bios, vgaBios, kernel, initrd, multiboot, storage: this.#storage };
        const emulator = await Emulator.create(image, parts, {
            serial: (port, byte) => { if(port === 0) this.console.receive(byte); },
            console: (port, bytes) => { if(port === AGENT_PORT && this.#image.agent) this.agent.receive(bytes); },
            wake: () => this.#loop.wake(),
            fault: fault => this.#faulted(fault),
        });
        if(image.share !== null && cold) {
            const tree = JSON.parse(new TextDecoder().decode(await this.#blobs.get(image.share, { name: "shared folder" })));
            emulator.v86.fs9p.load_from_json(tree);
        }
        this.screen.attach(emulator.cpu.devices.vga);
        return emulator;
    }

    /** @param {string} drive @param {Medium | null} medium @returns {Promise<Disk | Uint8Array | null>} */
    async #load(drive, medium) {
        if(!medium) return null;
        if(drive === "fda" || drive === "fdb") return this.#blobs.get(medium.digest, { name: drive });
        const disk = new Disk(this.#blobs, medium.digest, medium.size, drive);
        disk.onError = error => this.#cannotRead(drive, error);
        return disk;
    }

    /** @param {string} what @param {Error} error */
    #cannotRead(what, error) {
        this.#end("faulted", new RequestError("engine", `${what} cannot be read: ${error.message}`, {
            seen: error instanceof RequestError ? error.more.seen : undefined, hint: "the guest was stopped; vm.reset() starts it again",
        }));
    }

    /** @param {string} digest */
    async #restore(digest) {
        const [bytes, emulator] = await Promise.all([this.#blobs.get(digest, { name: "start state" }), this.#make(false)]);
        const extra = await this.#host.decompress(bytes).then(state => apply(emulator, state)).catch(error => {
            if(error instanceof RequestError) throw error;
            throw new RequestError("image", "this snapshot cannot be restored", { expected: "a machine's state", seen: error.message });
        });
        this.#emulator = emulator;
        this.clock.set(extra.clock);
        this.console.load(extra.console);
        if(!this.#image.agent) return;
        if(extra.agent) {
            this.agent.resynchronise(this.#host.random(8));
            this.#refresh();
        }
        else this.agent.greeted().then(() => this.#refresh(), () => {});         // saved while it booted: nobody would hear us yet
    }

    /** Give the guest the right time and randomness of its own. */
    #refresh() {
        this.agent.setClock(wallDate());
        this.agent.addEntropy(this.#host.random(32));
    }

    /** Floppies are whole buffers inside v86: a new instance gets what the old one wrote. @param {Emulator | null} old */
    #keepFloppies(old) {
        old?.cpu.devices.fdc.drives.forEach((/** @type {any} */ drive, /** @type {number} */ n) => {
            if(drive.buffer) this.#contents[n === 0 ? "fda" : "fdb"] = new Uint8Array(drive.buffer.buffer.slice(0));
        });
    }
}

/** Carry the shared files over to a new instance; locks belonged to the guest that is gone. @param {Emulator} old @param {Emulator} fresh */
function keepFiles(old, fresh) {
    const from = old.v86.fs9p, to = fresh.v86.fs9p;
    for(const name of ["inodes", "inodedata", "qidcounter", "total_size", "used_size", "mounts"]) to[name] = from[name];
    for(const inode of to.inodes) inode.locks = [];
}
