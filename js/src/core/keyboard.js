/**
 * Keys on their way to the PS/2 controller, paced so that a guest that polls, or a BIOS with a buffer of 16 keys, loses none.
 *
 * Which scancodes make a key is decided in Python (`v86lab/keyboard.py`); here they are only delivered.
 */

import { RequestError } from "./fault.js";

const INTERVAL = 10;                         // ms between keys: BIOS and DOS drop keys that come faster than they are read
const PATIENCE = 30_000;                     // ms for a guest to read what is waiting
const MOST_WAITING = 16;                     // bytes in the controller

/** @typedef {{codes: number[]} | {wait: number}} KeyStep   scancodes of one key (down, up), or milliseconds of rest */

/**
 * @param {{present: () => Promise<import("./emulator.js").Emulator>, inputs: {key: (codes: number[]) => void}}} machine   a key may reboot it
 * @param {KeyStep[]} steps
 * @param {(ms: number) => Promise<void>} sleep
 * @param {AbortSignal} signal
 */
export async function press(machine, steps, sleep, signal) {
    /** @type {Promise<void>} */
    const aborted = new Promise(resolve => signal.addEventListener("abort", () => resolve()));
    const rest = async (/** @type {number} */ ms) => {
        await Promise.race([sleep(ms), aborted]);
        signal.throwIfAborted();
    };
    for(const step of steps) {
        if("wait" in step) {
            await rest(step.wait);
            continue;
        }
        let current = await machine.present();
        for(let rests = 0; current.cpu.devices.ps2.kbd_buffer.length > MOST_WAITING; rests++) {
            if(rests * INTERVAL > PATIENCE) throw new RequestError("timeout", `the guest has not read its keyboard for ${PATIENCE / 1000} s`);
            await rest(INTERVAL);
            current = await machine.present();
        }
        machine.inputs.key(step.codes);
        await rest(INTERVAL);
    }
}
