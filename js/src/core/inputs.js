/**
 * What comes into a machine from outside, each kind by one method: it is recorded where there is a course, and then done.
 */

import { fromBase64, toBase64 } from "./bytes.js";
import { RequestError } from "./fault.js";

const NOBODY = { exit: () => {}, fail: () => {}, output: () => {} };

export class Inputs {
    #machine;

    /** @param {import("./machine.js").Machine} machine */
    constructor(machine) {
        this.#machine = machine;
    }

    /** Type into the serial console. @param {Uint8Array} bytes */
    type(bytes) {
        const machine = this.#machine;
        machine.assertAlive();
        this.#record("type", toBase64(bytes));
        machine.console.send(bytes);
        machine.console.pump(machine.emulator);
        this.#disturb();
    }

    /**
     * Run a command by the agent.
     *
     * @param {{argv: string[], env: Record<string, string>, cwd: string}} command @param {Uint8Array} input
     * @param {Parameters<import("./agent.js").Agent["spawn"]>[2]} listener @returns {number} its session, for `signal`
     */
    spawn(command, input, listener) {
        this.#record("spawn", command, toBase64(input));
        this.#machine.course?.drawDelay();
        return this.#machine.agent.spawn(command, input, listener);
    }

    /** Signal a command's process group. @param {number} session @param {number} signal */
    signal(session, signal) {
        this.#record("signal", session, signal);
        this.#machine.agent.signal(session, signal);
    }

    /** @param {number[]} codes   scancodes */
    key(codes) {
        const { emulator } = this.#machine;
        this.#record("key", codes);
        for(const code of codes) emulator.enter(() => emulator.bus.send("keyboard-code", code));
        this.#disturb();
    }

    /** @param {number} start @param {Uint8Array} bytes */
    writeMemory(start, bytes) {
        this.#record("write", start, toBase64(bytes));
        this.#machine.emulator.writeMemory(start, bytes);
    }

    /** @param {"fda" | "fdb" | "cdrom"} drive @param {import("./emulator.js").Medium | null} medium */
    async changeMedium(drive, medium) {
        const machine = this.#machine, { drives } = machine, content = await drives.load(drive, medium);
        await machine.settled();             // the guest may have rebooted meanwhile
        const { emulator } = machine;
        this.#record("medium", drive, medium);
        drives.change(drive, medium, content, emulator);
        this.#disturb();
    }

    async reset() {
        await this.#machine.settled();
        await this.#machine.tickOver(true);
        this.#record("reset");
        await this.#machine.reset();
    }

    /** Do again what was recorded, but for the time that passed. @param {import("./course.js").Event} event */
    async repeat([, , kind, ...data]) {
        switch(kind) {
        case "type": return this.type(fromBase64(data[0]));
        case "spawn": return void this.spawn(data[0], fromBase64(data[1]), NOBODY);
        case "signal": return this.signal(data[0], data[1]);
        case "key": return this.key(data[0]);
        case "write": return this.writeMemory(data[0], fromBase64(data[1]));
        case "medium": return this.changeMedium(data[0], data[1]);
        case "reset": return this.reset();
        default: throw new RequestError("image", "the recording has an event of no meaning", { seen: String(kind).slice(0, 80) });
        }
    }

    /** @param {string} kind @param {...any} data */
    #record(kind, ...data) {
        this.#machine.course?.record(kind, ...data);
    }

    #disturb() {
        this.#machine.rest.disturb();
        this.#machine.wake();
    }
}
