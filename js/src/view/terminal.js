/**
 * The serial console, by xterm.js.
 *
 * Rules: a flood is written some twelve times a second, because every redraw costs the page several milliseconds, the
 * echo of a key at the next frame; what comes while nobody looks waits for the return; what is typed goes out once per frame. The terminal answers the guest's questions (where is the cursor?) only while
 * it has the keyboard: else two views would answer twice, and a replayed history would be answered again; and not while
 * a call of Python moves a machine with a seed.
 */

import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { Terminal } from "@xterm/xterm";

import { isAnswer } from "./answers.js";
import { isWayOut } from "./way_out.js";

const SCROLLBACK = 5000;
const PACE = 120;                            // ms between writes
const ECHO = 400;                            // ms after a key in which an answer is awaited,
const MOST_ECHO = 2048;                      // bytes, which is no flood
const MOST_WAITING = 4 << 20;                // bytes: more than the scrollback holds

/**
 * @typedef {object} TerminalContext
 * @property {() => boolean} accepts   the guest runs; else Tab is the page's
 * @property {() => boolean} answers   what the terminal says by itself is for the guest, too
 * @property {(bytes: Uint8Array) => void} type
 * @property {() => void} leave   the person gives the keyboard back
 * @property {AbortSignal} signal
 */

export class SerialTerminal {
    /** Where the terminal goes; it appears once this has a size. */
    node;
    #terminal = new Terminal({
        allowProposedApi: true, scrollback: SCROLLBACK, fontSize: 13, minimumContrastRatio: 4.5, cursorBlink: false,
        ignoreBracketedPasteMode: true, convertEol: false, rescaleOverlappingGlyphs: true, cursorInactiveStyle: "outline",
        logLevel: "off",                     // a guest may write what it likes: systemd shortens lines within their colour codes
    });
    #fit = new FitAddon();
    #opened = false;
    #sized = false;
    #shown = false;
    #empty = true;
    /** @type {Uint8Array[]} */
    #output = [];
    #outputSize = 0;
    #clears = false;
    #replaying = 0;
    /** @type {Uint8Array<ArrayBuffer>[]} */
    #input = [];
    #frame = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #pause;
    #wroteAt = 0;
    #typedAt = 0;
    #context;

    /** @param {HTMLElement} node @param {TerminalContext} context */
    constructor(node, context) {
        this.node = node;
        this.#context = context;
        const terminal = this.#terminal;
        terminal.loadAddon(this.#fit);
        terminal.loadAddon(new Unicode11Addon());
        terminal.unicode.activeVersion = "11";
        const encoder = new TextEncoder();
        terminal.onData(text => {
            if(context.answers() || !isAnswer(text)) this.#type(encoder.encode(text));
        });
        terminal.onBinary(text => this.#type(Uint8Array.from(text, character => character.charCodeAt(0))));
        terminal.attachCustomKeyEventHandler(event => this.#handleKey(event));
        terminal.attachCustomWheelEventHandler(() => this.focused);      // else a notebook could not be scrolled past it
        const observer = new ResizeObserver(() => this.#remeasure());
        observer.observe(node);
        context.signal.addEventListener("abort", () => {
            observer.disconnect();
            cancelAnimationFrame(this.#frame);
            clearTimeout(this.#pause);
            terminal.dispose();
        });
    }

    get focused() {
        const { textarea } = this.#terminal;
        return textarea !== undefined && /** @type {ShadowRoot} */ (textarea.getRootNode()).activeElement === textarea;
    }

    /** The console has shown nothing yet. */
    get empty() {
        return this.#empty;
    }

    focus() {
        this.#terminal.focus();
    }

    /** Bytes from the guest. @param {Uint8Array} bytes @param {boolean} replay this is all of it: what is shown goes away */
    write(bytes, replay) {
        if(replay) {
            this.#output = [];
            this.#outputSize = 0;
            this.#clears = true;
            this.#empty = true;
        }
        if(bytes.length) {
            this.#empty = false;
            this.#output.push(bytes);
            this.#outputSize += bytes.length;
            while(this.#outputSize > MOST_WAITING && this.#output.length > 1) this.#outputSize -= /** @type {Uint8Array} */ (this.#output.shift()).length;
        }
        if(this.#shown && this.#pause === undefined) this.#schedule();
    }

    /** Nothing is drawn and nothing is written while this is false. @param {boolean} shown */
    setShown(shown) {
        this.#shown = shown;
        this.#remeasure();
    }

    /** What a menu item stands for; the focus need not be here. @param {string} text */
    type(text) {
        this.#input.push(new TextEncoder().encode(text));
        this.#schedule();
    }

    /** @param {{theme: import("@xterm/xterm").ITheme, fontFamily: string, fontSize: number}} appearance */
    setAppearance({ theme, fontFamily, fontSize }) {
        Object.assign(this.#terminal.options, { theme, fontFamily, fontSize });
        this.#remeasure();
    }

    /** @param {boolean} on */
    setScreenReader(on) {
        this.#terminal.options.screenReaderMode = on;
    }

    /** All lines, with the scrollback; lines that were wrapped are whole again. */
    get text() {
        const { active } = this.#terminal.buffer, lines = /** @type {string[]} */ ([]);
        for(let row = 0; row < active.length; row++) {
            const line = active.getLine(row);
            if(!line) break;
            const continues = active.getLine(row + 1)?.isWrapped ?? false, text = line.translateToString(!continues);
            if(line.isWrapped) lines.push(lines.pop() + text);
            else lines.push(text);
        }
        return lines.join("\n").trimEnd() + "\n";
    }

    /** @param {Uint8Array<ArrayBuffer>} bytes */
    #type(bytes) {
        if(!this.focused || this.#replaying) return;
        this.#input.push(bytes);
        this.#schedule();
    }

    #remeasure() {
        this.#sized = false;
        this.#schedule();
    }

    #schedule() {
        this.#frame ||= requestAnimationFrame(() => {
            this.#frame = 0;
            this.#refit();
            this.#flush();
        });
    }

    #refit() {
        if(this.#sized || !this.#shown || !this.node.clientHeight) return;
        this.#sized = true;
        if(!this.#opened) {
            this.#opened = true;
            this.#terminal.open(this.node);
            const { textarea } = this.#terminal;
            if(textarea) {
                textarea.tabIndex = -1;      // the panel is in the tab order; Enter there leads here
                textarea.setAttribute("aria-label", "Terminal of the guest. Shift+Escape leaves.");
                textarea.dataset.v86lab = "terminal-input";
            }
        }
        this.#fit.fit();
    }

    #flush() {
        const now = performance.now();
        if(this.#input.length) {
            this.#context.type(joined(this.#input.splice(0)));
            this.#typedAt = now;
        }
        if(!this.#shown || !this.#opened || !this.#output.length && !this.#clears) return;
        const echo = now - this.#typedAt < ECHO && this.#outputSize < MOST_ECHO, rest = echo ? 0 : this.#wroteAt + PACE - now;
        if(rest > 0) {
            clearTimeout(this.#pause);
            this.#pause = setTimeout(() => {
                this.#pause = undefined;
                this.#schedule();
            }, rest);
            return;
        }
        this.#wroteAt = now;
        const replay = this.#clears, bytes = joined(this.#output.splice(0));
        this.#outputSize = 0;
        this.#clears = false;
        if(!replay) return this.#terminal.write(bytes);
        this.#terminal.reset();
        this.#replaying++;
        this.#terminal.write(bytes, () => { this.#replaying--; });
    }

    /** @param {KeyboardEvent} event @returns {boolean} whether xterm.js handles it */
    #handleKey(event) {
        if(isWayOut(event)) {
            if(event.type === "keydown") this.#context.leave();
            event.preventDefault();
            return false;
        }
        if(event.code === "Tab" && !this.#context.accepts()) return false;
        // As in JupyterLab's own terminal: Ctrl+C copies a selection, Ctrl+V pastes; the browser does both.
        if(event.ctrlKey && !event.altKey && !event.metaKey) {
            if(event.code === "KeyC" && (event.shiftKey || this.#terminal.hasSelection())) {
                if(event.shiftKey && event.type === "keydown" && this.#terminal.hasSelection()) {
                    event.preventDefault();
                    document.execCommand("copy");
                }
                return false;
            }
            if(event.code === "KeyV") return false;
        }
        return true;
    }
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
    if(parts.length === 1) return /** @type {Uint8Array<ArrayBuffer>} */ (parts[0]);
    const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
    return all;
}
