/** What lies over the guest's picture while the machine does not run: why, and what can be done. */

import { element } from "./element.js";
import { icon } from "./icons.js";

export class Cover {
    node = element("div", { class: "cover", "data-v86lab": "cover", hidden: true });
    #request;
    #told = "";

    /** @param {(body: {type: string, [field: string]: unknown}) => Promise<unknown>} request */
    constructor(request) {
        this.#request = request;
    }

    /** @param {import("./condition.js").Condition} condition */
    set({ cover, sentence, remedies, tone }) {
        const told = JSON.stringify([cover, sentence, remedies, tone]);
        if(told === this.#told) return;
        this.#told = told;
        const focused = this.node.contains(/** @type {ShadowRoot} */ (this.node.getRootNode()).activeElement);
        this.node.hidden = !sentence || cover === "none";
        this.node.className = `cover ${cover} ${tone}`;
        const buttons = remedies.map(remedy => this.#button(remedy, cover === "paused"));
        const text = element("p", { "data-v86lab": "sentence" }, sentence);
        this.node.replaceChildren(element("div", { class: "card" }, ...(cover === "paused" ? [...buttons, text] : [text, element("div", { class: "answers" }, ...buttons)])));
        if(focused) buttons[0]?.focus();
    }

    /** @param {import("./condition.js").Remedy} remedy @param {boolean} big */
    #button({ label, name, body, primary }, big) {
        const button = element("button", { type: "button", class: `${big ? "big" : "plain"}${primary ? " primary" : ""}`, "data-v86lab": name, "aria-label": big ? label : null },
            ...(big ? [icon("run")] : []), label);
        button.addEventListener("click", async () => {
            button.disabled = true;
            await this.#request(body);
            button.disabled = false;
        });
        return button;
    }
}
