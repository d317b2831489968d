/**
 * The machine: one emulator instance after another (a reset makes a new one), and what outlives an instance: the clock,
 * the loop, disks, shared files, media, console, agent and screen.
 *
 * Rules:
 * - the status is one of "starting", "running", "paused", "off", "faulted"; every change is announced;
 * - whoever waits (`expect`, a command, a screen) is told at once when the guest can no longer answer;
 * - what comes from outside comes in by `inputs`;
 * - a seeded machine, which has a course, moves only while a call drives it or it is live.
 */

import { Rest } from "./activity.js";
import { Agent, AGENT_PORT } from "./agent.js";
import { Board } from "./board.js";
import { WallClock } from "./clock.js";
import { Console } from "./console.js";
import { Course } from "./course.js";
import { GuestFault, RequestError } from "./fault.js";
import { Inputs } from "./inputs.js";
import { Loop } from "./loop.js";
import { Raster } from "./raster.js";
import { setSource, wallDate } from "./realm.js";
import { Replay } from "./replay.js";
import { Screen } from "./screen.js";
import { apply, capture } from "./snapshot.js";
import { Timers } from "./timers.js";

const RETRACE = 1000 / 60;                   // guest ms between two vertical retraces
const PANIC_TICKS = 100;                     // in kernel mode without a rest, after the kernel said that it panicked
const WITH_A_SHARE = "lab.images.linux(share=...)";
const WITH_A_SEED = "give it a seed: lab.Machine(seed=1)";
const STANDS_STILL = "it stands still between calls";

/**
 * @typedef {import("./emulator.js").Emulator} Emulator
 * @typedef {import("./emulator.js").ImageConfig} ImageConfig
 * @typedef {import("./emulator.js").Medium} Medium
 * @typedef {"starting" | "running" | "paused" | "off" | "faulted"} Status
 *
 * @typedef {import("./engine.js").Host} Host
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
    clock;
    /** Where a seeded machine goes. @type {Course | null} */
    course = null;
    inputs = new Inputs(this);
    /** @type {Emulator | null} */
    #emulator = null;
    /** @type {ImageConfig} */
    #image;
    drives;
    #board;
    #timers;
    #loop;
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
    /** Who waits for the machine's end. @type {(() => void)[]} */
    #endWaits = [];
    /** How many calls let a seeded machine move. */
    #driving = 0;
    /** How many events there were when the tick was over. */
    #eventsAtStep = 0;
    /** @type {Replay | null} */
    #replay = null;

    /**
     * @param {ImageConfig} image @param {Host} host @param {Announce} announce
     * @param {number | null} seed @param {import("./course.js").Origin} origin   what a seeded machine is booted from
     */
    constructor(image, host, announce, seed, origin) {
        this.#image = image;
        this.#host = host;
        this.#announce = announce;
        const stir = () => this.#loop.stir(), retired = () => this.#instructionsBefore + (this.#emulator?.retired ?? 0);
        if(seed !== null) this.course = new Course(seed, image, origin, retired);
        this.clock = this.course?.clock ?? new WallClock(() => new DataView(host.random(4).buffer).getInt32(0));
        this.#timers = new Timers(() => ({ ms: this.clock.now(), instructions: this.instructions }));
        this.#board = new Board(image, host, this.clock, seed !== null, announce.download, (what, error) => this.#cannotRead(what, error));
        this.drives = this.#board.drives;
        const { reads } = this.#board, stepper = {
            step: () => this.#tick(), idle: (/** @type {number} */ ms, /** @type {boolean} */ cut) => this.#idle(ms, cut),
            settle: () => reads?.pending ? reads.settle() : null,
        };
        this.#loop = new Loop(stepper, host, this.clock, this.course !== null);
        if(this.course) this.#loop.hold("calls");
        this.console = new Console(bytes => announce.console(bytes), host.timer, stir);
        this.agent = new Agent(bytes => this.#toConsole(AGENT_PORT, bytes), stir);
    }

    /**
     * Build the machine and let it run.
     *
     * @param {string | null} state   digest of the state to start from
     * @param {boolean} fresh   of that state's course nothing is taken over
     * @param {() => void} ready   it is about to run
     */
    async start(state, fresh, ready) {
        this.ownRealm();
        await this.#building(async () => {
            if(state !== null) return this.#restore(state, fresh);
            this.#emulator = await this.#make(true);
            this.course?.shift();
        });
        ready();
        this.#settleStatus();
        this.#loop.release("start");
    }

    /** Put this machine's clock behind the realm's time. */
    ownRealm() {
        setSource(this.clock);
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

    /** Stop guest time; a live machine then moves by calls alone. */
    pause() {
        this.assertAlive();
        this.console.announce();
        if(!this.course) {
            this.#loop.hold("pause");
            this.#setStatus("paused");
            return;
        }
        this.#loop.live = false;
        if(!this.#driving) this.#loop.hold("calls");
        this.#settleStatus();
    }

    /** Let guest time go on; that of a seeded machine follows the wall's: it goes live. */
    resume() {
        this.assertAlive();
        if(this.course) {
            this.#loop.live = true;
            this.#loop.release("calls");
        }
        this.#loop.release("pause");
        this.#settleStatus();
    }

    get live() {
        return this.#loop.live;
    }

    /**
     * Let a seeded machine move until what is returned is called. What that gives is to be awaited before anybody hears of
     * it: only then is the last tick over, and what comes next comes after it.
     *
     * @returns {() => Promise<void>}
     */
    drive() {
        if(!this.course) return () => Promise.resolve();
        if(this.#driving++ === 0) {
            this.#loop.release("calls");
            this.#settleStatus();
        }
        return () => {
            if(--this.#driving > 0 || this.live) return Promise.resolve();
            this.#loop.hold("calls");
            this.#settleStatus();
            return this.#loop.settled;
        };
    }

    /** Guest time on a seeded machine, the host's on another. @param {number} ms @param {() => void} ring @returns {() => void} cancels it */
    after(ms, ring) {
        return this.course ? this.#timers.after("ms", ms, ring) : this.#host.timer(ms, ring);
    }

    /** @param {number} instructions @param {() => void} ring @returns {() => void} cancels it */
    afterInstructions(instructions, ring) {
        return this.#timers.after("instructions", instructions, ring);
    }

    /** Hold the guest while Python matches what the console shows. */
    holdForExpect() {
        this.#loop.hold("expect");
    }

    releaseAfterExpect() {
        this.#loop.release("expect");
    }

    /**
     * Go where a recording went, from where it began.
     *
     * @param {unknown} events @param {import("./replay.js").End} end @param {AbortSignal} signal
     */
    async replay(events, end, signal) {
        if(!this.course) throw new RequestError("image", "only a seeded machine can replay a recording", { hint: WITH_A_SEED });
        const replay = this.#replay = new Replay(events, end, this, this.course);
        try {
            await replay.run(signal, held => held ? this.#loop.hold("replay") : this.#loop.release("replay"));
        }
        finally {
            this.#replay = null;
        }
    }

    /** Resolves once the tick that is under way is over. @param {boolean} [stand]   for a reset: none may follow */
    async tickOver(stand = false) {
        if(stand) this.#loop.hold("reset");
        if(this.course) await this.#loop.settled;
    }

    /** There is work again. */
    wake() {
        this.#loop.wake();
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
        this.drives.keepFloppies(old);
        this.#emulator = null;
        if(!this.course) this.clock.set(0);
        this.#nextRetrace = 0;
        this.#emulator = await this.#building(() => this.#make(true));
        this.ended = null;
        this.#kernelTicks = 0;
        this.console.clear();
        this.#loop.release("pause");
        this.#settleStatus();
        this.#loop.release("end");
        this.#loop.release("reset");
    }

    /** The whole machine, compressed, with its statistics of then. @param {boolean} start   for others to start from: nothing is compiled, and it has no course */
    async capture(start) {
        const { emulator, course } = this;
        this.assertAlive();
        let captured;
        this.#loop.hold("snapshot");
        try {
            await this.#quiesce();
            this.assertAlive();              // a read that was waited for may have failed for good
            this.console.announce();
            if(start) emulator.forgetCompiled();
            const going = course && !start ? { ...course.save(), agent: this.agent.save(), retrace: this.#nextRetrace } : null;
            const state = await capture(emulator, {
                clock: this.clock.now(), instructions: this.instructions, media: this.drives.media, console: this.console.save(),
                agent: this.agent.begun, course: going,
            }, start ? await this.#board.lender() : null);
            captured = { state, media: this.drives.media, ...this.statistics };
        }
        finally {
            this.#loop.release("snapshot");
        }
        return { ...captured, state: await this.#host.compress(captured.state) };
    }

    /** The files that the guest sees over 9p. */
    get share() {
        return this.#board.share ?? missingShare();
    }

    /** The shared files as they are now, from between two ticks. */
    async exportTree() {
        const { share } = this;
        this.#loop.hold("export");
        try {
            await this.#quiesce();
            return await share.export();
        }
        finally {
            this.#loop.release("export");
        }
    }

    /** What the machine is now, for `hash.js`. */
    get parts() {
        const { console, agent, clock, instructions, emulator } = this, { media, contents } = this.drives;
        return { emulator, host: { clock: clock.now(), instructions, consoleInput: console.waiting, agentQueue: agent.waiting, media, disks: contents } };
    }

    /** What has made a seeded machine what it is. */
    get recording() {
        const { course } = this;
        if(!course) throw new RequestError("image", "only a seeded machine is recorded", { hint: WITH_A_SEED });
        const { seed, events, steps, origin } = course;
        return { seed, ...origin, events, steps, instructions: this.instructions, seconds: this.clock.now() / 1000 };
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
        return {
            instructions: this.instructions, seconds: this.clock.now() / 1000, ...this.#board.statistics,
            seed: this.course?.seed ?? null, live: this.live, steps: this.course?.steps ?? 0,
        };
    }

    /** Throw when the guest can no longer answer. */
    assertAlive() {
        if(this.ended) throw this.ended;
    }

    /** Resolves when the machine can no longer answer; at once if it is over. @returns {Promise<void>} */
    ending() {
        return this.ended ? Promise.resolve() : new Promise(resolve => this.#endWaits.push(() => resolve(undefined)));
    }

    /** Something outside a guarded call went wrong. @param {unknown} error */
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
        const { emulator, course } = this;
        if(course) emulator.cutQuantum(course.cut());
        const wait = emulator.step();
        if(course) {
            course.steps++;
            this.#eventsAtStep = course.events.length;
        }
        if(emulator.fault) return 0;
        this.console.pump(emulator);
        if(this.agent.busy) emulator.enter(() => this.agent.pump());
        this.console.settle();
        if(this.screen.tell(false)) this.#loop.stir();
        this.#retrace(emulator);
        this.rest.note(this.instructions);
        this.#announce.tick();
        if(emulator.asked === "off") this.#end("off", new RequestError("off", "the guest has powered off", { hint: "vm.reset() switches it on again" }));
        else if(emulator.asked === "reboot") this.reset().catch(() => {});     // it is told by the status
        else if(emulator.haltedForGood) this.#faulted(new GuestFault("halted", "the guest halted its processor with interrupts off: nothing can wake it"));
        else if(this.console.panicked) this.#watchPanic(emulator);
        if(course) return emulator.idle ? course.idleTime(wait) : 0;
        this.#timers.look();
        return wait;
    }

    /** A tick of a seeded machine is over, and what it read has been answered. @param {number} ms   that the guest idles, if it still does @param {boolean} cut */
    #idle(ms, cut) {
        const passing = cut || this.#emulator?.idle ? ms : 0;
        if(this.#replay) this.#replay.follow(passing);
        else this.pass(passing, cut || (this.course?.events.length ?? 0) > this.#eventsAtStep);
    }

    /** Let guest time pass. @param {number} ms @param {boolean} unusual   a replay could not tell by itself how much passes here */
    pass(ms, unusual) {
        const course = /** @type {Course} */ (this.course), passing = Math.min(ms, Math.max(0, this.#timers.next - this.clock.now()));
        if(unusual || passing < ms) course.record("idle", passing);
        course.clock.idle += passing;
        if(this.#timers.look()) this.#loop.stir();
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
        this.screen.tell(true);
        for(const resolve of this.#endWaits.splice(0)) resolve();
        this.#loop.stir();
    }

    /** Say how it stands, unless it has ended. */
    #settleStatus() {
        if(!this.ended) this.#setStatus(!this.course || this.live || this.#driving ? "running" : "paused");
    }

    /** @param {Status} status */
    #setStatus(status) {
        this.status = status;
        const registers = status === "faulted" && this.#emulator ? this.#emulator.registers() : {};
        const reason = this.ended?.message ?? (this.course && status === "paused" ? STANDS_STILL : null);
        this.#announce.status(status, this.ended?.code ?? null, reason, registers);
    }

    /** Wait until no read of a disk or of a shared file is under way. */
    async #quiesce() {
        if(this.course) await this.#loop.settled;
        while(this.#board.pending) await this.#host.breathe();
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

    /** @param {boolean} cold   it will boot @returns {Promise<Emulator>} */
    async #make(cold) {
        const emulator = await this.#board.assemble(cold, {
            serial: (port, byte) => { if(port === 0) this.console.receive(byte); },
            console: (port, bytes) => { if(port === AGENT_PORT && this.#image.agent) this.agent.receive(bytes); },
            wake: () => this.#loop.wake(),
            fault: fault => this.#faulted(fault),
        });
        this.screen.attach(emulator.cpu.devices.vga);
        return emulator;
    }

    /** @param {string} what @param {Error} error */
    #cannotRead(what, error) {
        this.#end("faulted", new RequestError("engine", `${what} cannot be read: ${error.message}`, {
            seen: error instanceof RequestError ? error.more.seen : undefined, hint: "the guest was stopped; vm.reset() starts it again",
        }));
    }

    /** @param {string} digest @param {boolean} fresh */
    async #restore(digest, fresh) {
        const { course } = this;
        const [bytes, emulator] = await Promise.all([this.#board.blobs.get(digest, { name: "start state" }), this.#make(false)]);
        const extra = await this.#host.decompress(bytes).then(state => apply(emulator, state, digest => this.#board.lend(digest))).catch(error => {
            if(error instanceof RequestError) throw error;
            throw new RequestError("image", "this snapshot cannot be restored", { expected: "a machine's state", seen: error.message });
        });
        this.#emulator = emulator;
        this.console.load(extra.console);
        if(course && !fresh && extra.course?.seed === course.seed) {
            course.load(extra.course);
            this.#nextRetrace = extra.course.retrace;
            this.agent.load(extra.course.agent);
            return;
        }
        this.clock.set(extra.clock);
        course?.shift();
        if(!this.#image.agent) return;
        if(extra.agent) {
            this.agent.resynchronise(this.#random(8));
            this.#refresh();
        }
        else this.agent.greeted().then(() => this.#refresh(), () => {});         // saved while it booted: nobody would hear us yet
    }

    /** Give the guest the right time and randomness of its own. */
    #refresh() {
        this.agent.setClock(this.course ? this.clock.date() : wallDate());
        this.agent.addEntropy(this.#random(32));
    }

    /** @param {number} count */
    #random(count) {
        return this.course ? this.course.random.bytes(count) : this.#host.random(count);
    }
}

/** @returns {never} */
function missingShare() {
    throw new RequestError("image", "this machine shares no files", { hint: WITH_A_SHARE });
}
