/**
 * Keys on their way to the PS/2 controller, paced so that a guest that polls, or a BIOS with a buffer of 16 keys, loses none.
 *
 * Which scancodes make a key is decided in Python (`v86lab/keyboard.py`); here they are only delivered.
 */

const INTERVAL = 10;                         // ms between keys: BIOS and DOS drop keys that come faster than they are read
const MOST_WAITING = 16;                     // bytes in the controller

/** @typedef {{codes: number[]} | {wait: number}} KeyStep   scancodes of one key (down, up), or milliseconds of rest */

/**
 * @param {() => import("./emulator.js").Emulator} emulator   the current instance: a key may reboot the machine
 * @param {KeyStep[]} steps
 * @param {(ms: number) => Promise<void>} sleep
 * @param {AbortSignal} signal
 */
export async function press(emulator, steps, sleep, signal) {
    for(const step of steps) {
        if("wait" in step) {
            await sleep(step.wait);
            continue;
        }
        while(!signal.aborted && emulator().cpu.devices.ps2.kbd_buffer.length > MOST_WAITING) await sleep(INTERVAL);
        signal.throwIfAborted();
        for(const code of step.codes) emulator().enter(() => emulator().bus.send("keyboard-code", code));
        await sleep(INTERVAL);
    }
}
