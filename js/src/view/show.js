/**
 * The view of a machine in a cell: terminal and screen as tabs, toolbar, status line.
 *
 * Rules: it lives in a shadow root, so that neither the page's style sheets nor another xterm.js's reach it; all it
 * acquires ends with the caller's signal; the guest gets the keyboard only while its terminal or screen has the focus,
 * and no key event goes on to JupyterLab; what nobody can see is not watched.
 */

import pageStyles from "./page.css";
import styles from "./theme.css";
import xtermStyles from "@xterm/xterm/css/xterm.css";

import { onThemeChange, readAppearance } from "./appearance.js";
import { conditionOf } from "./condition.js";
import { Cover } from "./cover.js";
import { element, moveFocus, setAttribute } from "./element.js";
import { Notices } from "./notices.js";
import { GuestScreen } from "./screen.js";
import { onSight } from "./sight.js";
import { CHORDS, CONTROLS, keyName } from "./special.js";
import { chordSteps } from "./keys.js";
import { Progress, StatusLine } from "./status.js";
import { SerialTerminal } from "./terminal.js";
import { Toolbar } from "./toolbar.js";
import { WAY_OUT } from "./way_out.js";

const PAGE_STYLES = "v86lab-page";
const BLANK = 2500;                          // ms that only the screen shows something, before it comes to the front

const TEXT_WAITS = "What you have typed waits for the next call.";
const KEYS_LOST = "The keys you have pressed did not reach it.";

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {"terminal" | "screen"} Tab */

/** @param {HTMLElement} el @param {Connection} connection @param {{signal: AbortSignal, model?: unknown}} context */
export function show(el, connection, { signal }) {
    if(signal.aborted) return;
    if(!document.getElementById(PAGE_STYLES)) document.head.append(element("style", { id: PAGE_STYLES }, pageStyles));
    const view = new View(connection, signal);
    el.append(view.node);
    signal.addEventListener("abort", () => view.node.remove());
}

class View {
    node = element("div", { class: "v86lab", "data-v86lab": "view", "data-lm-suppress-shortcuts": "true" });
    #connection;
    #signal;
    #frame = element("div", { class: "frame" });
    #stage = element("div", { class: "stage", "data-v86lab": "stage" });
    #tabs = { terminal: tab("terminal", "Terminal"), screen: tab("screen", "Screen") };
    #panels = { terminal: panel("terminal"), screen: panel("screen") };
    #notices = new Notices();
    #status = new StatusLine(() => this.#drive());
    #progress = new Progress();
    #terminal;
    #screen;
    #toolbar;
    #cover;
    #watch;
    /** @type {Tab} */
    #tab = "terminal";
    #chosen = false;
    #seen = false;
    #asking = false;
    #blankSince = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #lookTimer;
    #advice = "";
    #toldToWait = "";
    #snapshotting = false;
    #screenReader = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #readTimer;
    /** @type {import("./screen.js").Scale} */
    #scale = "fit";
    #condition;

    /** @param {Connection} connection @param {AbortSignal} signal */
    constructor(connection, signal) {
        this.#connection = connection;
        this.#signal = signal;
        this.#condition = conditionOf(connection);
        this.#terminal = new SerialTerminal(this.#panels.terminal, {
            accepts: () => this.#condition.runs, answers: () => this.#condition.answers,
            type: bytes => this.#send(bytes), leave: () => this.#leave(), signal,
        });
        this.#screen = new GuestScreen(this.#panels.screen, {
            accepts: () => this.#condition.runs,
            press: async steps => {
                if(this.#condition.waits) this.#tellToWait(KEYS_LOST);
                else if(this.#condition.usable) await connection.request({ type: "press", steps });
            },
            refused: () => this.#tellToWait(KEYS_LOST),
            failed: error => {
                if(this.#condition.seed !== null && /** @type {any} */ (error).code === "guest") this.#tellToWait(KEYS_LOST, true);     // it had just stopped
                else this.#complain(error);
            },
            leave: () => this.#leave(), signal,
        });
        this.#toolbar = new Toolbar(`Machine ${connection.name}`, this.#actions());
        this.#cover = new Cover(body => this.#request(body));
        this.#build();
        this.#listen();
        this.#select("terminal");
        this.#update();
        this.#watch = connection.watch({ console: true, screen: false, activity: false }, seen => this.#receive(seen));
        signal.addEventListener("abort", () => {
            this.#watch.close();
            clearTimeout(this.#readTimer);
            clearTimeout(this.#lookTimer);
        });
    }

    #build() {
        const root = this.node.attachShadow({ mode: "open" }), tabs = Object.values(this.#tabs);
        const list = element("div", { class: "tabs", role: "tablist", "aria-label": "Views of the machine" }, ...tabs);
        this.#stage.append(this.#panels.terminal, this.#panels.screen, this.#cover.node);
        this.#frame.setAttribute("role", "group");
        this.#frame.setAttribute("aria-label", `Machine ${this.#connection.name}`);
        this.#frame.append(element("div", { class: "bar" }, list, this.#toolbar.node), this.#notices.node, this.#progress.node,
            this.#stage, this.#status.node, this.#status.announcement);
        root.append(element("style", {}, xtermStyles + styles), this.#frame);
        list.addEventListener("keydown", event => moveFocus(event, tabs, "horizontal"));
        list.addEventListener("focusin", event => {
            const name = /** @type {Tab} */ (/** @type {HTMLElement} */ (event.target).dataset.tab);
            if(name !== this.#tab) this.#choose(name);
        });
    }

    #listen() {
        const signal = this.#signal, connection = this.#connection;
        for(const type of ["keydown", "keypress", "keyup", "paste", "copy", "cut", "contextmenu"]) {
            this.node.addEventListener(type, event => event.stopPropagation());
        }
        for(const name of /** @type {Tab[]} */ (["terminal", "screen"])) {
            this.#tabs[name].addEventListener("click", () => this.#choose(name));
            const shown = this.#panels[name];
            shown.addEventListener("click", () => this.#enter());
            shown.addEventListener("keydown", event => {
                if(event.target !== shown || event.key !== "Enter") return;
                event.preventDefault();
                this.#enter();
            });
            shown.addEventListener("focusin", event => this.#setKeyboard(event.target === shown ? "panel" : "guest"));
            shown.addEventListener("focusout", () => this.#setKeyboard(null));
        }
        connection.addEventListener("change", () => this.#update(), { signal });
        connection.addEventListener("download", event => this.#progress.set(/** @type {CustomEvent} */ (event).detail), { signal });
        connection.addEventListener("log", event => this.#notices.set("log", String(/** @type {CustomEvent} */ (event).detail)), { signal });
        document.addEventListener("fullscreenchange", () => this.#update(), { signal });
        const dress = () => this.#terminal.setAppearance(readAppearance(this.#panels.terminal));
        onThemeChange(dress, signal);
        onSight(this.node, seen => {
            this.#seen = seen;
            if(seen) dress();                // a cell that was not in the page had no style
            this.#terminal.setShown(seen && this.#tab === "terminal");
            this.#setWatch();
        }, signal);
    }

    /** @returns {import("./toolbar.js").Action[]} */
    #actions() {
        return [
            { name: "run", icon: "pause", label: "Pause", act: () => this.#drive() },
            { name: "reset", icon: "reset", label: "Reset", act: () => this.#askReset() },
            { name: "snapshot", icon: "snapshot", label: "Take a snapshot", act: () => this.#snapshot(), first: true },
            { name: "restore", icon: "restore", label: "Restore a snapshot", menu: () => this.#snapshots() },
            { name: "keys", icon: "keys", label: "Special keys", menu: () => this.#specialKeys(), first: true },
            { name: "picture", icon: "picture", label: "Save a picture", act: () => this.#save() },
            { name: "options", icon: "scale", label: "View options", menu: () => this.#options() },
            { name: "fullscreen", icon: "full", label: "Full screen", act: () => this.#toggleFullScreen() },
        ];
    }

    /** The connection changed: say so, and allow what can be done. */
    #update() {
        const { standing } = this.#connection;
        const condition = this.#condition = conditionOf(this.#connection);
        this.#status.setCondition(condition, standing?.why ?? "");
        this.#cover.set(condition);
        if(condition.advice !== this.#advice) this.#notices.set("advice", condition.advice);        // once: a person may have put it away
        this.#advice = condition.advice;
        this.#frame.dataset.cover = condition.cover;
        this.node.dataset.state = condition.word.toLowerCase();
        if(!condition.waits) {
            this.#toldToWait = "";
            this.#notices.dismiss("wait");
        }
        const { drive } = condition, fullScreen = document.fullscreenElement === this.node;
        const stopped = `the machine is ${condition.word.toLowerCase()}`;
        this.#toolbar.set("run", { label: drive?.label ?? "Pause", icon: drive?.icon ?? "pause", disabled: !drive && stopped });
        this.#toolbar.set("reset", { disabled: !condition.usable && stopped });
        this.#toolbar.set("snapshot", { disabled: this.#snapshotting ? "one is being taken" : drive ? condition.withoutPython : stopped });
        this.#toolbar.set("restore", { disabled: condition.withoutPython || !standing?.snapshots.length && "no snapshot has been taken" });
        this.#toolbar.set("keys", { disabled: !condition.runs && !condition.waits && stopped });
        this.#toolbar.set("fullscreen", {
            label: fullScreen ? "Leave full screen" : "Full screen", icon: fullScreen ? "unfull" : "full",
            disabled: !document.fullscreenEnabled && "this page does not allow it",
        });
        this.#updatePicture();
    }

    #updatePicture() {
        const screen = this.#tab === "screen";
        this.#toolbar.set("picture", {
            label: screen ? "Save the screen as PNG" : "Save the terminal as text",
            disabled: screen ? !this.#screen.drawn && "the screen is empty" : this.#terminal.empty && "the terminal is empty",
        });
    }

    /** @param {import("./connection.js").Seen} seen */
    #receive(seen) {
        if(seen.type === "console_output") {
            const wasEmpty = this.#terminal.empty;
            this.#terminal.write(seen.payload, seen.replay);
            if(seen.replay && this.#terminal.empty) this.#look();
            if(wasEmpty === this.#terminal.empty) return;
            this.#updatePicture();
            if(wasEmpty && !this.#chosen && !this.#screen.graphical) this.#select("terminal");     // a BIOS had the screen first
        }
        else if(seen.type === "frame") {
            const first = !this.#screen.drawn;
            this.#screen.draw(seen).then(() => first && this.#updatePicture(), error => this.#complain(error));
            this.#readLater();
        }
        else {
            this.#status.setActivity(seen);
            this.#look();
        }
    }

    /** Brings the screen to the front when there is something on it that the terminal does not show. */
    async #look() {
        if(this.#chosen || this.#tab === "screen" || this.#asking) return;
        this.#asking = true;
        const answer = await this.#connection.request({ type: "read_screen", since: null, timeout: null }).catch(() => null);
        this.#asking = false;
        if(!answer || this.#chosen || this.#signal.aborted) return;
        const text = this.#terminal.empty && answer.payload.some(cell => cell !== 0 && cell !== 32);
        this.#blankSince = text ? this.#blankSince || performance.now() : 0;
        if(answer.value.graphical || text && performance.now() - this.#blankSince >= BLANK) return this.#select("screen");
        clearTimeout(this.#lookTimer);
        if(text) this.#lookTimer = setTimeout(() => this.#look(), BLANK);       // a guest at rest tells of no activity
    }

    /** For a screen reader: the screen's text, once it has come to rest. */
    #readLater() {
        if(!this.#screenReader || this.#tab !== "screen" || this.#screen.graphical) return;
        clearTimeout(this.#readTimer);
        this.#readTimer = setTimeout(async () => {
            const answer = await this.#connection.request({ type: "read_screen", since: null, timeout: null }).catch(() => null);
            if(answer) this.#screen.setText(answer.payload, answer.value.columns);
        }, 500);
    }

    /** The person chose a tab. @param {Tab} name */
    #choose(name) {
        this.#chosen = true;
        this.#select(name);
    }

    /** @param {Tab} name */
    #select(name) {
        this.#tab = name;
        for(const each of /** @type {Tab[]} */ (["terminal", "screen"])) {
            const selected = each === name, had = !this.#panels[each].hidden && this.#frame.classList.contains("captured");
            setAttribute(this.#tabs[each], "aria-selected", String(selected));
            this.#tabs[each].tabIndex = selected ? 0 : -1;
            this.#panels[each].hidden = !selected;
            if(!selected && had) queueMicrotask(() => this.#enter());       // it switched by itself under the person's hands
        }
        this.#frame.dataset.tab = name;
        this.#terminal.setShown(this.#seen && name === "terminal");
        this.#updatePicture();
        this.#setWatch();
    }

    #setWatch() {
        this.#watch?.set({ console: true, screen: this.#seen && this.#tab === "screen", activity: this.#seen });
    }

    /** The keyboard goes to the guest. */
    #enter() {
        if(this.#tab === "terminal") this.#terminal.focus();
        else this.#screen.focus();
    }

    /** The person gets the keyboard back, at a place from which Tab leads out. */
    #leave() {
        this.#panels[this.#tab].focus({ preventScroll: true });
    }

    /** @param {"guest" | "panel" | null} keyboard */
    #setKeyboard(keyboard) {
        this.#frame.classList.toggle("captured", keyboard === "guest");
        this.#status.setKeyboard(keyboard);
    }

    /** @param {Uint8Array} bytes */
    #send(bytes) {
        const { runs, waits } = this.#condition;
        if(!runs && !waits) return;
        if(waits) this.#tellToWait(TEXT_WAITS);
        this.#connection.request({ type: "send" }, bytes).catch(error => this.#complain(error));
    }

    /** Somebody types to a machine that stands between two calls: say so, once. @param {string} what   becomes of it @param {boolean} [surely] */
    #tellToWait(what, surely = this.#condition.waits) {
        if(!surely || this.#toldToWait === what) return;
        this.#toldToWait = what;
        this.#notices.set("wait", `The machine stands still between calls; go live to type. ${what}`, { answers: [
            { label: "Go live", name: "wait-live", act: () => { this.#enter(); this.#request({ type: "resume" }); }, primary: true },
            { label: "Dismiss", name: "dismiss-wait", act: () => this.#enter() },
        ] });
    }

    /** Stop the guest, or let it run. */
    #drive() {
        const { drive } = this.#condition;
        if(drive) this.#request(drive.body);
    }

    /** @param {{type: string, [field: string]: unknown}} body @returns {Promise<any>} the reply's value; null when it failed, which is said */
    async #request(body) {
        this.#notices.dismiss("failure");
        try {
            return (await this.#connection.request(body)).value;
        }
        catch(error) {
            this.#complain(/** @type {Error} */ (error));
            return null;
        }
    }

    /** @param {Error} error */
    #complain(error) {
        if(!this.#signal.aborted) this.#notices.set("failure", error.message, { tone: "bad" });
    }

    #askReset() {
        const back = /** @type {HTMLElement} */ (this.#frame.querySelector("[data-v86lab=reset]"));
        this.#notices.ask("reset", "Reset the machine? Whatever runs in it ends at once.", [
            { label: "Reset", name: "reset-yes", act: () => this.#request({ type: "reset" }), primary: true },
            { label: "Cancel", name: "reset-no", act: () => {} },
        ], back);
    }

    async #snapshot() {
        this.#snapshotting = true;
        this.#update();
        const value = await this.#request({ type: "take_snapshot" });
        this.#snapshotting = false;
        if(value) this.#status.announce(`Snapshot ${value.name} taken.`);
        this.#update();
    }

    /** @returns {import("./menu.js").MenuItem[]} */
    #snapshots() {
        const { snapshots = [], current = null } = this.#connection.standing ?? {};
        return snapshots.map(name => ({
            label: name, name: "snapshot-item", checked: name === current, act: async () => {
                if(await this.#request({ type: "restore_snapshot", name })) this.#status.announce(`Snapshot ${name} restored.`);
            },
        }));
    }

    #specialKeys() {
        const chords = CHORDS.map(([label, chord]) => ({ label, name: keyName(label), act: () => {
            this.#screen.keys.push(...chordSteps(chord));
            if(this.#tab === "screen") this.#enter();
        } }));
        if(this.#tab === "screen") return chords;
        const controls = CONTROLS.map(([label, text]) => ({ label, name: keyName(label), act: () => {
            this.#terminal.type(text);
            this.#enter();
        } }));
        return ["To the terminal", ...controls, "To the PC's keyboard", chords[0]];
    }

    #options() {
        const disabled = this.#tab === "screen" ? undefined : "for the Screen tab";
        const scales = /** @type {[import("./screen.js").Scale, string][]} */ ([["fit", "Fit"], ["1", "1×"], ["2", "2×"], ["3", "3×"]]);
        return ["Scale of the screen", ...scales.map(([scale, label]) => ({
            label, name: `scale-${scale}`, checked: scale === this.#scale, disabled, act: () => {
                this.#scale = scale;
                this.#screen.setScale(scale);
            },
        })), "Accessibility", { label: "Screen reader mode", name: "screen-reader", toggled: this.#screenReader, act: () => {
            this.#screenReader = !this.#screenReader;
            this.#terminal.setScreenReader(this.#screenReader);
            this.#readLater();
        } }];
    }

    async #save() {
        const screen = this.#tab === "screen";
        const blob = screen ? await this.#screen.png() : new Blob([this.#terminal.text], { type: "text/plain" });
        if(!blob) return;
        const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "");
        const link = element("a", { href: URL.createObjectURL(blob), download: `${this.#connection.name.replaceAll(/[^\w.]+/g, "-") || "machine"}-${time}.${screen ? "png" : "txt"}` });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    }

    async #toggleFullScreen() {
        if(document.fullscreenElement) return document.exitFullscreen();
        try {
            await this.node.requestFullscreen();
            await /** @type {any} */ (navigator).keyboard?.lock?.(["Escape"]);      // Escape is the guest's; held long it leaves
        }
        catch(error) {
            this.#complain(/** @type {Error} */ (error));
        }
        this.#enter();
    }
}

/** @param {Tab} name @param {string} label */
function tab(name, label) {
    return element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, "data-tab": name, "data-v86lab": `tab-${name}` }, label);
}

/** @param {Tab} name */
function panel(name) {
    return element("div", {
        class: `panel ${name}`, role: "tabpanel", id: `panel-${name}`, tabindex: "0", "aria-labelledby": `tab-${name}`, "data-v86lab": name,
        "aria-description": `Enter gives the keyboard to the guest, ${WAY_OUT} takes it back.`,
    });
}
