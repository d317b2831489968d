/** Sentences between the toolbar and the machine: questions, errors, advice. Each says one thing and can be put away. */

import { element } from "./element.js";

const MOST = 3;

/** @typedef {{label: string, name: string, act: () => void, primary?: boolean}} Answer */

export class Notices {
    node = element("div", { class: "notices", "data-v86lab": "notices" });
    /** @type {Map<string, HTMLElement>} */
    #shown = new Map();

    /**
     * @param {string} key   a later sentence with this key takes its place
     * @param {string} text   "" takes it away
     * @param {{tone?: "bad" | "rest", answers?: Answer[]}} [more]
     */
    set(key, text, { tone = "rest", answers = [] } = {}) {
        const old = this.#shown.get(key);
        if(old?.dataset.text === text) return;
        old?.remove();
        this.#shown.delete(key);
        if(!text) return;
        const notice = element("div", { class: `notice ${tone}`, role: tone === "bad" ? "alert" : "status", "data-v86lab": `notice-${key}`, "data-text": text },
            element("span", { class: "text" }, text));
        for(const answer of answers.length ? answers : [{ label: "Dismiss", name: `dismiss-${key}`, act: () => {} }]) {
            notice.append(this.#answer(key, answer));
        }
        this.#shown.set(key, notice);
        this.node.append(notice);
        if(this.#shown.size > MOST) this.dismiss(/** @type {string} */ (this.#shown.keys().next().value));
    }

    /** A question takes the focus, and gives it back when it is answered. @param {string} key @param {string} text @param {Answer[]} answers @param {HTMLElement} back */
    ask(key, text, answers, back) {
        const done = (/** @type {() => void} */ act) => () => { back.focus(); act(); };
        this.set(key, text, { answers: answers.map(answer => ({ ...answer, act: done(answer.act) })) });
        this.#shown.get(key)?.querySelector("button")?.focus();
    }

    /** @param {string} key */
    dismiss(key) {
        this.#shown.get(key)?.remove();
        this.#shown.delete(key);
    }

    /** @param {string} key @param {Answer} answer */
    #answer(key, { label, name, act, primary = false }) {
        const button = element("button", { type: "button", class: primary ? "plain primary" : "plain", "data-v86lab": name }, label);
        button.addEventListener("click", () => {
            this.dismiss(key);
            act();
        });
        return button;
    }
}
