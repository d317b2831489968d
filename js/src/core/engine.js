/**
 * Requests in, answers out: the engine as its clients see it (the Hub, pages), apart from sockets and from where it runs.
 *
 * Every request is answered once, to the client that made it. A request may wait (a command, an expect); others are served
 * meanwhile; `cancel` ends it. Status, downloads and checkpoints are told to all, the rest to who watches it.
 */

import { Activity } from "./activity.js";
import { join } from "./bytes.js";
import { Client } from "./client.js";
import { RequestError } from "./fault.js";
import { Frames } from "./frames.js";
import { describeState, hashState } from "./hash.js";
import { press } from "./keyboard.js";
import { Machine } from "./machine.js";
import { packed } from "./ninep/manifest.js";
import { wall } from "./realm.js";

const AGENT_PATIENCE = 120;                  // s that a guest may take to boot to its agent
const INTERRUPT_PATIENCE = 2000;             // ms (on a seeded machine of guest time) between SIGINT and SIGKILL, and for a killed command to be reported
const SIGINT = 2, SIGKILL = 9;
const TERMINAL_RESET = new TextEncoder().encode("\x1bc");     // ECMA-48 RIS

/**
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
 * @property {(bytes: Uint8Array, most?: number) => Promise<Uint8Array>} decompress   to so many bytes at most
 * @property {(count: number) => Uint8Array} random                         from the host's generator
 *
 * @typedef {import("./protocol.js").Request} Request
 * @typedef {{value?: object, payload?: Uint8Array}} Answer
 * @typedef {{timeout: number | null, instructions: number | null, wall_timeout: number | null}} Budgets   seconds (on a seeded machine the guest's), instructions, seconds of the host's
 * @typedef {{budget: keyof Budgets, says: string}} Passed
 */

export class Engine {
    #host;
    #frames;
    #activity;
    /** @type {Machine | null} */
    #machine = null;
    /** @type {Set<Client>} */
    #clients = new Set();
    #hub;
    /** When the last checkpoint was made of this machine. */
    #kept = 0;
    /** How many commands run in the guest. */
    #commands = 0;

    /** @param {Host} host @param {(frame: Uint8Array) => void} send   to the Hub */
    constructor(host, send) {
        this.#host = host;
        this.#frames = new Frames(host.timer);
        this.#activity = new Activity(host.timer);
        this.#hub = new Client(send, true);
        this.#clients.add(this.#hub);
    }

    /** A frame from the Hub. @param {Uint8Array} frame */
    receive(frame) {
        this.#receive(this.#hub, frame);
    }

    /**
     * Another client, beside the Hub: a page that holds this engine.
     *
     * @param {(frame: Uint8Array) => void} send
     * @returns {{receive: (frame: Uint8Array) => void, detach: () => void}}
     */
    attach(send) {
        const client = new Client(send, false);
        this.#clients.add(client);
        return {
            receive: frame => this.#receive(client, frame),
            detach: () => {
                this.#clients.delete(client);
                this.#watch(client, { console: false, screen: false, activity: false });
                client.leave(new RequestError("cancelled", "the client is gone"));
            },
        };
    }

    /** Something threw outside every guarded call. @param {unknown} error */
    crashed(error) {
        this.#machine?.crashed(error);
    }

    /** Whether there is a machine that has rested for so long, and has not been kept since it came to rest. @param {number} ms */
    restsSince(ms) {
        const machine = this.#machine;
        return machine !== null && !this.#commands && machine.rest.lastBusy > this.#kept && wall() - machine.rest.lastBusy >= ms;
    }

    /**
     * The machine, for the host to keep: null when there is none that runs, or nothing has happened since the last time.
     *
     * @returns {Promise<{state: Uint8Array, instructions: number} | null>}
     */
    async checkpoint() {
        const machine = this.#machine, now = wall();
        if(!machine || !["running", "paused"].includes(machine.status) || machine.rest.lastBusy <= this.#kept) return null;
        try {
            const { state, instructions } = await machine.capture(false);
            if(machine === this.#machine) this.#kept = now;
            return { state, instructions };
        }
        catch(error) {
            if(machine.ended) return null;
            throw error;
        }
    }

    /** The host has kept a checkpoint. @param {Omit<import("./protocol.js").Checkpoint, "type">} kept */
    announceCheckpoint({ digest, size, instructions, at }) {
        this.#notifyAll({ type: "checkpoint", digest, size, instructions, at });
    }

    /** @param {object} body */
    #notifyAll(body) {
        for(const client of this.#clients) client.notify(body);
    }

    /** @param {Client} client @param {Uint8Array} frame */
    #receive(client, frame) {
        const request = client.decode(frame);
        if(request?.type === "watch") this.#beginWatch(client, request);
        else if(request) void this.#answer(client, request);
    }

    /** @param {Client} client @param {Request} request */
    async #answer(client, request) {
        const { id } = request, abort = new AbortController();
        client.waiting.set(id, abort);
        try {
            const { value = {}, payload } = await this.#serve(client, request, abort.signal) ?? {};
            client.notify({ type: "reply", id, value }, payload);
        }
        catch(error) {
            const known = error instanceof RequestError ? error
                : new RequestError("engine", `a defect of the engine: ${describe(error)}`);
            const { expected = null, seen = null, hint = null, value = {}, payload } = known.more;
            client.notify({ type: "failure", id, code: known.code, message: known.message, expected, seen, hint, value }, payload);
        }
        finally {
            client.waiting.delete(id);
        }
    }

    /** @param {Client} client @param {Request} request @param {AbortSignal} signal @returns {Promise<Answer | void>} */
    async #serve(client, request, signal) {
        if(request.type === "boot") return this.#boot(request);
        if(request.type === "cancel") return void client.waiting.get(request.target)?.abort(new RequestError("cancelled", "the request was cancelled"));
        const machine = this.#machine;
        if(!machine) throw new RequestError("engine", "no machine has been started on this engine");
        await machine.settled();
        signal.throwIfAborted();
        switch(request.type) {
        case "pause": return machine.pause();
        case "resume": return machine.resume();
        case "reset": return machine.inputs.reset();
        case "spawn": return drive(machine, () => this.#spawn(client, machine, request, signal));
        case "send": return machine.inputs.type(request.payload);
        case "expect": return drive(machine, () => this.#expect(machine, request, signal));
        case "consume":
            machine.console.consume(request.count);
            return machine.releaseAfterExpect();
        case "read_screen": return request.since === null ? readScreen(machine) : drive(machine, () => this.#screenChange(machine, request, signal));
        case "read_pixels": {
            const { width, height, pixels } = this.#frames.picture();
            return { value: { width, height }, payload: pixels };
        }
        case "press":
            if(client !== this.#hub && machine.status === "paused" && machine.course) {
                throw new RequestError("guest", "the machine stands still between calls", { hint: "Go live lets it follow the wall clock" });
            }
            return drive(machine, () => press(machine, request.steps, ms => atMost(machine, ms, [aborted(signal)]), signal));
        case "advance": return drive(machine, () => this.#advance(machine, request, signal));
        case "hash_state": return { value: await hashState(machine.parts) };
        case "describe_state": return { payload: jsonBytes(describeState(machine.parts)) };
        case "read_recording": return { payload: jsonBytes(machine.recording) };
        case "replay":
            await machine.replay(JSON.parse(new TextDecoder().decode(request.payload)), request, signal);
            return { value: machine.statistics };
        case "read_registers": return { value: machine.emulator.registers() };
        case "read_memory": return { payload: machine.emulator.readMemory(request.start, request.end) };
        case "write_memory": return machine.inputs.writeMemory(request.start, request.payload);
        case "change_medium": return machine.inputs.changeMedium(request.drive, request.medium);
        case "read_statistics": return { value: machine.statistics };
        case "read_fetches": {
            const { fetches, forgotten } = machine.share.chunks;
            return { value: { forgotten }, payload: jsonBytes(fetches) };
        }
        case "export_tree": return packed(await machine.exportTree());
        case "capture": {
            const { state, ...value } = await machine.capture(request.start);
            return { value, payload: state };
        }
        default: throw new RequestError("engine", "the engine does not know this request", { seen: /** @type {any} */ (request).type });
        }
    }

    /** Answered at once: what comes after the answer is not in it, and nothing is lost between. @param {Client} client @param {import("./protocol.js").Watch} request */
    #beginWatch(client, request) {
        const machine = this.#machine, { status = "starting", ended = null } = machine ?? {};
        if(request.console) machine?.console.announce();      // to those who watch already; the answer holds it too
        const value = { status, code: ended?.code ?? null, reason: ended?.message ?? null };
        client.notify({ type: "reply", id: request.id, value }, request.console ? machine?.console.history : undefined);
        this.#watch(client, request);
    }

    /** @param {Client} client @param {import("./client.js").Wishes} wishes */
    #watch(client, { console, screen, activity }) {
        client.wishes = { console, screen, activity };
        this.#frames.watch(client, screen);
        this.#activity.watch(client, activity);
    }

    /** A machine in place of the one there was; that one stays if this fails. @param {import("./protocol.js").Boot} request */
    async #boot({ image, state, seed, fresh }) {
        const old = this.#machine;
        const machine = new Machine(image, this.#host, {
            status: (status, code, reason, registers) => this.#notifyAll({ type: "status", status, code, reason, registers }),
            console: bytes => this.#showConsole(bytes),
            tick: () => this.#frames.look(),
            download: (name, loaded, total) => this.#notifyAll({ type: "download", name, loaded, total }),
        }, seed, { state, fresh, image });
        old?.standAside();
        this.#machine = machine;
        try {
            await machine.start(state, fresh, () => this.#present(machine));
        }
        catch(error) {
            this.#machine = old;
            old?.comeBack();
            throw error;
        }
        old?.close();
        return { value: machine.statistics };
    }

    /** A machine is about to run: who watched the one before sees this one, from its beginning. @param {Machine} machine */
    #present(machine) {
        this.#kept = 0;
        this.#frames.show(machine);
        this.#activity.show(machine);
        const { history } = machine.console, replay = new Uint8Array(TERMINAL_RESET.length + history.length);
        replay.set(TERMINAL_RESET);
        replay.set(history, TERMINAL_RESET.length);
        for(const client of this.#clients) {
            if(client.wishes.console && !client.isHub) client.notify({ type: "console_output" }, replay);
        }
    }

    /** @param {Uint8Array} bytes */
    #showConsole(bytes) {
        for(const client of this.#clients) {
            if(client.isHub || client.wishes.console) client.notify({ type: "console_output" }, bytes);
        }
    }

    /** @param {Machine} machine @param {import("./protocol.js").Expect} request @param {AbortSignal} signal @returns {Promise<Answer>} */
    async #expect(machine, { patterns, seen, ...budgets }, signal) {
        machine.releaseAfterExpect();
        const { console } = machine;                         // what it has shown can be matched even when the guest is no more
        if(seen === null) {
            const { bytes, ...found } = await this.#within(machine, budgets, signal, inner => console.expect(patterns, inner));
            return { value: found, payload: bytes };
        }
        await this.#within(machine, budgets, signal, inner => console.outputBeyond(seen, inner));
        machine.holdForExpect();
        return { value: { received: console.received, dropped: console.dropped }, payload: console.unconsumed };
    }

    /** @param {Machine} machine @param {import("./protocol.js").ReadScreen} request @param {AbortSignal} signal @returns {Promise<Answer>} */
    async #screenChange(machine, { since, ...budgets }, signal) {
        await this.#within(machine, budgets, signal, inner => machine.screen.changed(/** @type {number} */ (since), inner));
        return readScreen(machine);
    }

    /** @param {Machine} machine @param {import("./protocol.js").Advance} request @param {AbortSignal} signal @returns {Promise<Answer>} */
    async #advance(machine, { seconds, instructions, wall_timeout }, signal) {
        const goal = this.#deadline(machine, { timeout: seconds, instructions, wall_timeout: null });
        try {
            await this.#within(machine, { timeout: null, instructions: null, wall_timeout }, signal,
                inner => Promise.race([goal.passed, machine.ending(), aborted(inner).then(() => { throw inner.reason; })]));
        }
        finally {
            goal.cancel();
        }
        return { value: machine.statistics };
    }

    /**
     * Run a command in the guest. A timeout kills its process group, a cancel interrupts it first; both answer with what
     * it had printed.
     *
     * @param {Client} client @param {Machine} machine @param {import("./protocol.js").Spawn} request @param {AbortSignal} signal @returns {Promise<Answer>}
     */
    async #spawn(client, machine, { id, argv, env, cwd, stream, limit, payload: input, ...budgets }, signal) {
        machine.assertAlive();
        const output = new CommandOutput(limit, stream ? (fd, bytes) => client.notify({ type: "output", id, fd }, bytes) : null);
        const before = machine.instructions, deadline = this.#deadline(machine, budgets);
        this.#commands++;
        try {
            await this.#agentReady(machine, budgets, signal);
            if(machine.course && !machine.live) await atMost(machine, machine.course.delay, [machine.ending(), aborted(signal)]);
            machine.assertAlive();
            const { session, done } = start(machine, { argv, env, cwd }, input, output);
            const ended = await Promise.race([done, aborted(signal), deadline.passed]);
            if(typeof ended === "number") return output.answer({ returncode: ended, instructions: machine.instructions - before });
            if(ended === "aborted") {
                machine.inputs.signal(session, SIGINT);
                await atMost(machine, INTERRUPT_PATIENCE, [done]);
            }
            machine.inputs.signal(session, SIGKILL);
            await atMost(machine, INTERRUPT_PATIENCE, [done]);
            const { value, payload } = output.answer({});
            throw ended === "aborted" ? new RequestError("cancelled", "the command was interrupted", { value, payload })
                : new RequestError("timeout", `the command did not finish within ${ended.says} and was killed`, { value: { ...value, budget: ended.budget }, payload });
        }
        catch(error) {
            if(error instanceof RequestError && !error.more.payload) Object.assign(error.more, output.answer({ ...error.more.value }));
            throw error;
        }
        finally {
            deadline.cancel();
            this.#commands--;
            machine.rest.disturb();
        }
    }

    /** @param {Machine} machine @param {Budgets} budgets   of the caller @param {AbortSignal} signal */
    async #agentReady(machine, budgets, signal) {
        if(machine.agent.ready) return;
        const own = budgets.timeout === null && budgets.instructions === null;
        await this.#within(machine, own ? { ...budgets, timeout: AGENT_PATIENCE } : budgets, signal, inner => Promise.race([
            machine.agent.greeted(), aborted(inner).then(() => { throw inner.reason; }),
        ]), ({ says, budget }) => new RequestError(own && budget === "timeout" ? "agent" : "timeout", `the guest's agent did not answer within ${says}`, {
            value: { budget }, hint: "does this guest run the agent, and has it booted? vm.console.transcript shows what it printed",
        }));
    }

    /**
     * @template T @param {Machine} machine @param {Budgets} budgets @param {AbortSignal} signal @param {(signal: AbortSignal) => Promise<T>} work
     * @param {(passed: Passed) => RequestError} [late] @returns {Promise<T>}
     */
    async #within(machine, budgets, signal, work, late = ({ says, budget }) => new RequestError("timeout", `nothing matched within ${says}`, { value: { budget } })) {
        const inner = new AbortController(), forward = () => inner.abort(signal.reason), deadline = this.#deadline(machine, budgets);
        signal.addEventListener("abort", forward);
        void deadline.passed.then(passed => inner.abort(late(passed)));
        try {
            return await work(inner.signal);
        }
        finally {
            deadline.cancel();
            signal.removeEventListener("abort", forward);
        }
    }

    /**
     * A point that a call must not outlive.
     *
     * @param {Machine} machine @param {Budgets} budgets @returns {{passed: Promise<Passed>, cancel: () => void}}
     */
    #deadline(machine, { timeout, instructions, wall_timeout }) {
        /** @type {(() => void)[]} */
        const cancels = [];
        /** @type {Promise<Passed>} */
        const passed = new Promise(resolve => {
            const kind = machine.course ? " of guest time" : "";
            if(timeout !== null) cancels.push(machine.after(Math.max(0, timeout * 1000), () => resolve({ budget: "timeout", says: `${timeout} s${kind}` })));
            if(instructions !== null) cancels.push(machine.afterInstructions(instructions, () => resolve({ budget: "instructions", says: `${instructions} instructions` })));
            if(wall_timeout !== null) cancels.push(this.#host.timer(wall_timeout * 1000, () => resolve({ budget: "wall_timeout", says: `${wall_timeout} s of wall time` })));
        });
        return { passed, cancel: () => { for(const cancel of cancels) cancel(); } };
    }
}

/** A seeded machine moves while this waits. @template T @param {Machine} machine @param {() => Promise<T>} work @returns {Promise<T>} */
async function drive(machine, work) {
    const stop = machine.drive();
    try {
        return await work();
    }
    finally {
        await stop();
    }
}

/**
 * Wait for one of these, or for so long. No alarm stays behind: it would end the guest's next rest early.
 *
 * @param {Machine} machine @param {number} ms   see `Machine.after` @param {Promise<unknown>[]} events @returns {Promise<void>}
 */
async function atMost(machine, ms, events) {
    let cancel = () => {};
    try {
        await Promise.race([...events, new Promise(resolve => { cancel = machine.after(ms, () => resolve(undefined)); })]);
    }
    finally {
        cancel();
    }
}

/** @param {Machine} machine @returns {Answer} */
function readScreen({ screen }) {
    return { value: { ...screen.info, version: screen.version }, payload: screen.cells.slice() };
}

/** @param {object} value */
function jsonBytes(value) {
    return new TextEncoder().encode(JSON.stringify(value));
}

/** v86's own errors have a stack without their message. @param {unknown} error */
function describe(error) {
    return error instanceof Error ? `${error.message}\n${error.stack}` : String(error);
}

/** What a command prints: kept up to a limit for each stream, and handed on as it comes where that is wanted. */
class CommandOutput {
    /** @type {Record<1 | 2, Uint8Array[]>} */
    #parts = { 1: [], 2: [] };
    #kept = { 1: 0, 2: 0 };
    #cut = { 1: 0, 2: 0 };
    #limit;
    #onOutput;

    /** @param {number} limit   bytes kept of each stream @param {((fd: 1 | 2, bytes: Uint8Array) => void) | null} onOutput */
    constructor(limit, onOutput) {
        this.#limit = limit;
        this.#onOutput = onOutput;
    }

    /** @param {1 | 2} fd @param {Uint8Array} bytes */
    add(fd, bytes) {
        this.#onOutput?.(fd, bytes);
        const kept = bytes.subarray(0, this.#limit - this.#kept[fd]);
        if(kept.length) this.#parts[fd].push(kept);
        this.#kept[fd] += kept.length;
        this.#cut[fd] += bytes.length - kept.length;
    }

    /** @param {object} value @returns {{value: Record<string, unknown>, payload: Uint8Array}} */
    answer(value) {
        return { value: { ...value, stdout: this.#kept[1], cut: [this.#cut[1], this.#cut[2]] }, payload: join([...this.#parts[1], ...this.#parts[2]]) };
    }
}

/** @param {Machine} machine @param {{argv: string[], env: Record<string, string>, cwd: string}} command @param {Uint8Array} input @param {CommandOutput} output */
function start(machine, command, input, output) {
    let session = 0;
    /** @type {Promise<number>} */
    const done = new Promise((resolve, reject) => {
        session = machine.inputs.spawn(command, input, { exit: resolve, fail: reject, output: (fd, bytes) => output.add(fd, bytes) });
    });
    done.catch(() => {});                    // whoever races with it handles it, or no longer cares
    return { session, done };
}

/** @param {AbortSignal} signal @returns {Promise<"aborted">} */
function aborted(signal) {
    return new Promise(resolve => {
        if(signal.aborted) resolve("aborted");
        signal.addEventListener("abort", () => resolve("aborted"));
    });
}
