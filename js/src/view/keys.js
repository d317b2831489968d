/**
 * Keys of the person's keyboard as scancodes of set 1, which is what the guest's PS/2 controller delivers.
 *
 * Rules: a key is known by its place (`KeyboardEvent.code`), so the guest's own layout applies; every key that went down
 * comes up, at the latest when the screen loses the keyboard. Source: "Keyboard scancodes", set 1, as in
 * `v86lab/keyboard.py`, which has the same codes by name.
 */

const RELEASE = 0x80;
const EXTENDED = 0xE0;

/** @typedef {{codes: number[]}} KeyPress   what one step of a `press` request holds */
/** @typedef {{code: string, repeat: boolean, altKey: boolean, ctrlKey: boolean, shiftKey: boolean}} KeyEvent   of a `KeyboardEvent` */

/** The first key's code, and the keys that follow it. @type {[number, string][]} */
const ROWS = [
    [0x01, "Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace"],
    [0x0F, "Tab KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter"],
    [0x1D, "ControlLeft KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote"],
    [0x2A, "ShiftLeft Backslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight"],
    [0x37, "NumpadMultiply AltLeft Space CapsLock F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock"],
    [0x47, "Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal"],
    [0x56, "IntlBackslash F11 F12 NumpadEqual"],
    [0x64, "F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23"],
    [0x70, "KanaMode"], [0x73, "IntlRo"], [0x76, "F24"], [0x79, "Convert"], [0x7B, "NonConvert"], [0x7D, "IntlYen NumpadComma"],
];
/** @type {Record<string, number>} */
const AFTER_E0 = {
    NumpadEnter: 0x1C, ControlRight: 0x1D, NumpadDivide: 0x35, AltRight: 0x38, Home: 0x47, ArrowUp: 0x48, PageUp: 0x49,
    ArrowLeft: 0x4B, ArrowRight: 0x4D, End: 0x4F, ArrowDown: 0x50, PageDown: 0x51, Insert: 0x52, Delete: 0x53,
    MetaLeft: 0x5B, MetaRight: 0x5C, ContextMenu: 0x5D,
};
export const MODIFIERS = new Set(["ShiftLeft", "ShiftRight", "ControlLeft", "ControlRight", "AltLeft", "AltRight", "MetaLeft", "MetaRight", "CapsLock", "NumLock"]);

/** @type {Map<string, number[]>} */
const MAKE = new Map([
    ...ROWS.flatMap(([first, keys]) => keys.split(" ").map((code, n) => /** @type {[string, number[]]} */ ([code, [first + n]]))),
    ...Object.entries(AFTER_E0).map(([code, scancode]) => /** @type {[string, number[]]} */ ([code, [EXTENDED, scancode]])),
]);

/** @param {number[]} make */
function breakOf(make) {
    return make.map(byte => byte === EXTENDED ? byte : byte | RELEASE);
}

/**
 * Keys held together and let go in the opposite order, for a menu: "ControlLeft AltLeft Delete".
 *
 * @param {string} chord @returns {KeyPress[]}
 */
export function chordSteps(chord) {
    const held = new HeldKeys(), codes = chord.split(" "), steps = [];
    const has = (/** @type {string} */ prefix) => codes.some(code => code.startsWith(prefix));
    const event = { repeat: false, altKey: has("Alt"), ctrlKey: has("Control"), shiftKey: has("Shift") };
    for(const code of codes) steps.push(held.down({ ...event, code }));
    for(const code of codes.toReversed()) steps.push(held.up({ code }));
    return steps.filter(step => step !== null);
}

/** Which keys the guest believes to be down. */
export class HeldKeys {
    /** How to release each held key: PrintScreen's way depends on what was held with it. @type {Map<string, number[]>} */
    #held = new Map();

    /** @param {KeyEvent} event @returns {KeyPress | null} null: the guest is told nothing */
    down(event) {
        const { code } = event;
        if(event.repeat && (MODIFIERS.has(code) || !this.#held.has(code))) return null;
        if(code === "Pause") {                                         // no break code: it comes with the make code
            return { codes: event.ctrlKey ? [0xE0, 0x46, 0xE0, 0xC6] : [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5] };
        }
        const [make, release] = code === "PrintScreen" ? printScreen(event) : [MAKE.get(code), undefined];
        if(!make) return null;
        this.#held.set(code, release ?? breakOf(make));
        return { codes: make };
    }

    /** @param {Pick<KeyEvent, "code">} event @returns {KeyPress | null} */
    up({ code }) {
        const release = this.#held.get(code);
        if(!release) {
            // Windows and some X servers tell of PrintScreen only when it is let go.
            if(code !== "PrintScreen") return null;
            const [make, end] = printScreen({ altKey: false, ctrlKey: false, shiftKey: false });
            return { codes: [...make, ...end] };
        }
        this.#held.delete(code);
        return { codes: release };
    }

    /** The keyboard is elsewhere now: nothing may stay down. @returns {KeyPress[]} */
    releaseAll() {
        const steps = [...this.#held.values()].reverse().map(codes => ({ codes }));
        this.#held.clear();
        return steps;
    }
}

/** @param {Pick<KeyEvent, "altKey" | "ctrlKey" | "shiftKey">} event @returns {[number[], number[]]} */
function printScreen({ altKey, ctrlKey, shiftKey }) {
    if(altKey) return [[0x54], [0xD4]];                                // SysRq
    if(ctrlKey || shiftKey) return [[0xE0, 0x37], [0xE0, 0xB7]];
    return [[0xE0, 0x2A, 0xE0, 0x37], [0xE0, 0xB7, 0xE0, 0xAA]];
}

/**
 * Steps on their way to the guest: one request at a time, so that keys cannot overtake each other; what is pressed
 * meanwhile goes together.
 */
export class KeyQueue {
    /** @type {KeyPress[]} */
    #waiting = [];
    #busy = false;
    #press;
    #failed;

    /** @param {(steps: KeyPress[]) => Promise<unknown>} press @param {(error: Error) => void} failed */
    constructor(press, failed) {
        this.#press = press;
        this.#failed = failed;
    }

    /** A guest that is slower than a key's repetition must not type on after the key is up. */
    get behind() {
        return this.#waiting.length > 8;
    }

    /** @param {KeyPress[]} steps */
    push(...steps) {
        this.#waiting.push(...steps);
        if(!this.#busy) this.#drain();
    }

    async #drain() {
        this.#busy = true;
        while(this.#waiting.length) {
            try {
                await this.#press(this.#waiting.splice(0));
            }
            catch(error) {
                this.#waiting = [];
                this.#failed(/** @type {Error} */ (error));
            }
        }
        this.#busy = false;
    }
}
