/**
 * Requests in, answers out: the engine as its clients see it (the Hub, pages), apart from sockets and from where it runs.
 *
 * Every request is answered once, to the client that made it. A request may wait (a command, an expect); others are served
 * meanwhile; `cancel` ends it. Status, downloads and checkpoints are told to all, the rest to who watches it.
 */

import { Activity } from "./activity.js";
import { Client } from "./client.js";
import { RequestError } from "./fault.js";
import { Frames } from "./frames.js";
import { press } from "./keyboard.js";
import { Machine } from "./machine.js";
import { wall } from "./realm.js";

const AGENT_PATIENCE = 120;                  // s that a guest may take to boot to its agent
const INTERRUPT_PATIENCE = 2000;             // ms between SIGINT and SIGKILL, and for a killed command to be reported
const SIGINT = 2, SIGKILL = 9;
const TERMINAL_RESET = new TextEncoder().encode("\x1bc");     // ECMA-48 RIS

/**
 * @typedef {import("./machine.js").Host} Host
 * @typedef {import("./protocol.js").Request} Request
 * @typedef {{value?: object, payload?: Uint8Array}} Answer
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
            const { state, instructions } = await machine.capture();
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
        case "reset": return machine.reset();
        case "spawn": return this.#spawn(client, machine, request, signal);
        case "send": return this.#type(machine, request.payload);
        case "expect": return this.#expect(machine, request, signal);
        case "consume":
            machine.console.consume(request.count);
            return machine.releaseAfterExpect();
        case "read_screen": return this.#readScreen(machine, request, signal);
        case "read_pixels": {
            const { width, height, pixels } = this.#frames.picture();
            return { value: { width, height }, payload: pixels };
        }
        case "press":
            machine.rest.disturb();
            return press(() => machine.present(), request.steps, ms => this.#sleep(ms), signal);
        case "read_registers": return { value: machine.emulator.registers() };
        case "read_memory": return { payload: machine.emulator.readMemory(request.start, request.end) };
        case "write_memory": return machine.emulator.writeMemory(request.start, request.payload);
        case "change_medium": return machine.changeMedium(request.drive, request.medium);
        case "read_statistics": return { value: machine.statistics };
        case "capture": {
            const { state, ...value } = await machine.capture();
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
    async #boot({ image, state }) {
        const old = this.#machine;
        const machine = new Machine(image, this.#host, {
            status: (status, code, reason, registers) => this.#notifyAll({ type: "status", status, code, reason, registers }),
            console: bytes => this.#showConsole(bytes),
            tick: () => this.#frames.look(),
            download: (name, loaded, total) => this.#notifyAll({ type: "download", name, loaded, total }),
        });
        old?.standAside();
        this.#machine = machine;
        try {
            await machine.start(state, () => this.#present(machine));
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

    /** @param {Machine} machine @param {Uint8Array} bytes */
    #type(machine, bytes) {
        machine.assertAlive();
        machine.rest.disturb();
        machine.console.send(bytes);
        machine.console.pump(machine.emulator);
    }

    /** @param {Machine} machine @param {import("./protocol.js").Expect} request @param {AbortSignal} signal @returns {Promise<Answer>} */
    async #expect(machine, { patterns, timeout, seen }, signal) {
        machine.releaseAfterExpect();
        const { console } = machine;                         // what it has shown can be matched even when the guest is no more
        if(seen === null) {
            const { bytes, ...found } = await this.#within(timeout, signal, inner => console.expect(patterns, inner));
            return { value: found, payload: bytes };
        }
        await this.#within(timeout, signal, inner => console.outputBeyond(seen, inner));
        machine.holdForExpect();
        return { value: { received: console.received, dropped: console.dropped }, payload: console.unconsumed };
    }

    /** @param {Machine} machine @param {import("./protocol.js").ReadScreen} request @param {AbortSignal} signal @returns {Promise<Answer>} */
    async #readScreen(machine, { since, timeout }, signal) {
        if(since !== null) await this.#within(timeout, signal, inner => machine.screenChanged(since, inner));
        return { value: { ...machine.screen.info, version: machine.screen.version }, payload: machine.screen.cells.slice() };
    }

    /**
     * Run a command in the guest. A timeout kills its process group, a cancel interrupts it first; both answer with what
     * it had printed.
     *
     * @param {Client} client @param {Machine} machine @param {import("./protocol.js").Spawn} request @param {AbortSignal} signal @returns {Promise<Answer>}
     */
    async #spawn(client, machine, { id, argv, env, cwd, timeout, stream, limit, payload: input }, signal) {
        machine.assertAlive();
        const output = new CommandOutput(limit, stream ? (fd, bytes) => client.notify({ type: "output", id, fd }, bytes) : null);
        const deadline = timeout === null ? null : new Deadline(timeout, this.#host);
        const before = machine.instructions;
        this.#commands++;
        try {
            await this.#agentReady(machine, timeout, signal);
            const { session, done } = start(machine, { argv, env, cwd }, input, output);
            const ended = await Promise.race([done, aborted(signal), ...(deadline ? [deadline.passed] : [])]);
            if(typeof ended === "number") return output.answer({ returncode: ended, instructions: machine.instructions - before });
            if(ended === "aborted") {
                machine.agent.signal(session, SIGINT);
                await Promise.race([done, this.#sleep(INTERRUPT_PATIENCE)]);
            }
            machine.agent.signal(session, SIGKILL);
            await Promise.race([done, this.#sleep(INTERRUPT_PATIENCE)]);
            const { value, payload } = output.answer({});
            throw ended === "aborted" ? new RequestError("cancelled", "the command was interrupted", { value, payload })
                : new RequestError("timeout", `the command did not finish within ${timeout} s and was killed`, { value, payload });
        }
        catch(error) {
            if(error instanceof RequestError && !error.more.payload) Object.assign(error.more, output.answer({ ...error.more.value }));
            throw error;
        }
        finally {
            deadline?.cancel();
            this.#commands--;
            machine.rest.disturb();
        }
    }

    /** @param {Machine} machine @param {number | null} timeout   s that the caller gives it @param {AbortSignal} signal */
    async #agentReady(machine, timeout, signal) {
        if(machine.agent.ready) return;
        const patience = timeout ?? AGENT_PATIENCE;
        await this.#within(patience, signal, inner => Promise.race([
            machine.agent.greeted(), new Promise((_, reject) => inner.addEventListener("abort", () => reject(inner.reason))),
        ]), () => new RequestError(timeout === null ? "agent" : "timeout", `the guest's agent did not answer within ${patience} s`, {
            hint: "does this guest run the agent, and has it booted? vm.console.transcript shows what it printed",
        }));
    }

    /**
     * @template T @param {number | null} seconds @param {AbortSignal} signal @param {(signal: AbortSignal) => Promise<T>} work
     * @param {() => RequestError} [late] @returns {Promise<T>}
     */
    async #within(seconds, signal, work, late = () => new RequestError("timeout", `nothing matched within ${seconds} s`)) {
        const inner = new AbortController(), forward = () => inner.abort(signal.reason);
        signal.addEventListener("abort", forward);
        const cancel = seconds === null ? () => {} : this.#host.timer(Math.max(0, seconds * 1000), () => inner.abort(late()));
        try {
            return await work(inner.signal);
        }
        finally {
            cancel();
            signal.removeEventListener("abort", forward);
        }
    }

    /** @param {number} ms @returns {Promise<void>} */
    #sleep(ms) {
        return new Promise(resolve => void this.#host.timer(ms, resolve));
    }
}

/** v86's own errors have a stack without their message. @param {unknown} error */
function describe(error) {
    return error instanceof Error ? `${error.message}\n${error.stack}` : String(error);
}

/** A point in time that a command must not outlive. */
class Deadline {
    /** @type {() => void} */
    cancel = () => {};

    /** @param {number} seconds @param {Host} host */
    constructor(seconds, host) {
        /** @type {Promise<"late">} */
        this.passed = new Promise(resolve => { this.cancel = host.timer(seconds * 1000, () => resolve("late")); });
    }
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
        const payload = new Uint8Array(this.#kept[1] + this.#kept[2]);
        [...this.#parts[1], ...this.#parts[2]].reduce((at, part) => { payload.set(part, at); return at + part.length; }, 0);
        return { value: { ...value, stdout: this.#kept[1], cut: [this.#cut[1], this.#cut[2]] }, payload };
    }
}

/** @param {Machine} machine @param {{argv: string[], env: Record<string, string>, cwd: string}} command @param {Uint8Array} input @param {CommandOutput} output */
function start(machine, command, input, output) {
    let session = 0;
    /** @type {Promise<number>} */
    const done = new Promise((resolve, reject) => {
        session = machine.agent.spawn(command, input, { exit: resolve, fail: reject, output: (fd, bytes) => output.add(fd, bytes) });
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
