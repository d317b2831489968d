/** The line below the machine: its state and seed, what stops it or lets it go live, its speed, what its disks do, where it runs, and how to get the keyboard back. */

import { formatBytes, formatProgress, formatSpeed } from "./amount.js";
import { element, setAttribute, setText } from "./element.js";
import { icon } from "./icons.js";
import { WAY_OUT } from "./way_out.js";

const LIT = 1200;                            // ms that an activity lamp stays lit: activity is told once a second
const FLEETING = 300;                        // ms that a state which may be over at once is not told
const TOLD = 6000;                           // ms that a confirmation can be read
const STALE = 5000;                          // ms without news after which a download is believed to be over

/** @typedef {import("../core/protocol.js").Activity} Activity */

export class StatusLine {
    node;
    /** Tells a screen reader what changed. */
    announcement = element("div", { class: "unseen", role: "status", "aria-live": "polite", "data-v86lab": "announcement" });
    #word = element("span", { class: "word", "data-v86lab": "state" });
    #state = element("span", { class: "state" }, element("span", { class: "dot", "aria-hidden": "true" }), this.#word);
    #seed = element("span", { class: "seed", "data-v86lab": "seed", title: "Machines with the same seed that get the same calls are the same, bit for bit" });
    #drive = element("button", { type: "button", class: "plain", "data-v86lab": "drive", hidden: true });
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #stateTimer;
    #speed = element("span", { class: "speed", "data-v86lab": "speed", title: "Instructions of the guest, in millions a second" });
    #disk = lamp("disk", "Disk");
    #share = lamp("share", "Shared folder");
    #place = element("span", { class: "place", "data-v86lab": "place" });
    #told = element("span", { class: "told", "data-v86lab": "told" });
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    #toldTimer;
    #hint = element("span", { class: "hint", "data-v86lab": "hint" });
    /** @type {Activity | null} */
    #last = null;
    #runs = false;

    /** @param {() => void} drive   stop the machine, or let it go live */
    constructor(drive) {
        this.#drive.addEventListener("click", drive);
        this.node = element("div", { class: "status", "data-v86lab": "status" },
            this.#state, this.#drive, this.#seed, this.#speed, this.#disk.node, this.#share.node, this.#place, this.#told, this.#hint);
    }

    /** @param {import("./condition.js").Condition} condition @param {string} why the reason for the place */
    setCondition(condition, why) {
        clearTimeout(this.#stateTimer);
        if(condition.fleeting) this.#stateTimer = setTimeout(() => this.#setCondition(condition, why), FLEETING);
        else this.#setCondition(condition, why);
    }

    /** @param {import("./condition.js").Condition} condition @param {string} why */
    #setCondition({ word, tone, sentence, cover, place, runs, seed, drive }, why) {
        const covered = cover !== "none";
        if(this.#word.textContent !== word) setText(this.announcement, covered && sentence || word);
        setText(this.#word, word);
        this.#state.className = `state ${tone}`;
        setAttribute(this.#state, "title", covered ? null : sentence || null);
        setText(this.#seed, seed === null ? "" : `seed ${seed}`);
        this.#drive.hidden = seed === null || !drive;
        setText(this.#drive, drive?.label ?? "");
        setAttribute(this.#drive, "title", sentence || null);
        setText(this.#place, place && `${place === "server" ? "on the" : "in"} ${place}`);
        setAttribute(this.#place, "title", why || null);
        this.#runs = runs;
        if(!runs) setText(this.#speed, "");
    }

    /** Something that was asked for is done. @param {string} text */
    announce(text) {
        setText(this.announcement, text);
        setText(this.#told, text);
        clearTimeout(this.#toldTimer);
        this.#toldTimer = setTimeout(() => setText(this.#told, ""), TOLD);
    }

    /** @param {Activity} activity */
    setActivity(activity) {
        const last = this.#last;
        this.#last = activity;
        setText(this.#speed, this.#runs ? formatSpeed(activity.mips) : "");
        this.#disk.set(activity.disk_bytes, last !== null && activity.disk_bytes !== last.disk_bytes);
        this.#share.set(activity.share_bytes, last !== null && activity.share_bytes !== last.share_bytes);
    }

    /** @param {"guest" | "panel" | null} keyboard who has it */
    setKeyboard(keyboard) {
        setText(this.#hint, keyboard === "guest" ? `${WAY_OUT} leaves the guest` : keyboard === "panel" ? "Enter types into the guest" : "");
    }
}

/** @param {string} name @param {string} label */
function lamp(name, label) {
    const text = element("span"), node = element("span", { class: "lamp", "data-v86lab": name, hidden: true }, icon(name), text);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    return {
        node,
        /** @param {number} bytes @param {boolean} busy */
        set(bytes, busy) {
            node.hidden = bytes === 0;
            setText(text, formatBytes(bytes));
            setAttribute(node, "title", `${label}: ${formatBytes(bytes)} fetched`);
            if(!busy) return;
            node.classList.add("lit");
            clearTimeout(timer);
            timer = setTimeout(() => node.classList.remove("lit"), LIT);
        },
    };
}

/** What is on its way to the page, with names and bytes. */
export class Progress {
    node;
    #bar = element("div", { class: "track" }, element("div", { class: "filled" }));
    #label = element("span", { class: "label", "data-v86lab": "progress-label" });
    /** @type {Map<string, {loaded: number, total: number | null, timer: ReturnType<typeof setTimeout>}>} */
    #downloads = new Map();

    constructor() {
        this.node = element("div", { class: "progress", role: "progressbar", "aria-label": "Download", "aria-valuemin": "0", "data-v86lab": "progress", hidden: true },
            this.#label, this.#bar);
    }

    /** @param {{name: string, loaded: number, total: number | null}} download */
    set({ name, loaded, total }) {
        clearTimeout(this.#downloads.get(name)?.timer);
        this.#downloads.delete(name);                                  // the newest is the last
        if(total === null || loaded < total) {
            this.#downloads.set(name, { loaded, total, timer: setTimeout(() => this.#end(name), STALE) });
        }
        this.#show();
    }

    /** @param {string} name */
    #end(name) {
        this.#downloads.delete(name);
        this.#show();
    }

    #show() {
        const last = [...this.#downloads].at(-1);
        this.node.hidden = last === undefined;
        if(!last) return;
        const [name, { loaded, total }] = last, others = this.#downloads.size - 1;
        const text = `${name} ${formatProgress(loaded, total)}${others ? `, and ${others} more` : ""}`;
        setText(this.#label, text);
        setAttribute(this.node, "aria-valuetext", text);
        setAttribute(this.node, "aria-valuemax", total === null ? null : String(total));
        setAttribute(this.node, "aria-valuenow", total === null ? null : String(loaded));
        this.#bar.classList.toggle("unknown", total === null);
        /** @type {HTMLElement} */ (this.#bar.firstElementChild).style.width = total === null ? "" : `${100 * loaded / total}%`;
    }
}
