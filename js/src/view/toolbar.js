/** The buttons above the machine. One of them is in the tab order, the arrow keys go on from there. */

import { element, moveFocus, setAttribute } from "./element.js";
import { icon } from "./icons.js";
import { Menu } from "./menu.js";

/**
 * @typedef {object} Action
 * @property {string} name   of the `data-v86lab` attribute
 * @property {string} icon
 * @property {string} label
 * @property {() => void} [act]
 * @property {() => (import("./menu.js").MenuItem | string)[]} [menu]   opens one instead
 * @property {boolean} [first]   begins a group
 *
 * @typedef {{label?: string, icon?: string, disabled?: string | false}} Look   `disabled`: the reason
 */

export class Toolbar {
    node;
    /** @type {Map<string, HTMLButtonElement>} */
    #buttons = new Map();

    /** @param {string} label @param {Action[]} actions */
    constructor(label, actions) {
        this.node = element("div", { class: "tools", role: "toolbar", "aria-label": label, "data-v86lab": "toolbar" });
        for(const action of actions) this.#add(action);
        const buttons = [...this.#buttons.values()];
        buttons[0].tabIndex = 0;
        this.node.addEventListener("keydown", event => {
            if(/** @type {Element} */ (event.target).closest("[role=menu]")) return;
            moveFocus(event, buttons, "horizontal");
            if(event.key === "ArrowDown" && /** @type {Element} */ (event.target).getAttribute("aria-haspopup")) {
                event.preventDefault();
                /** @type {HTMLElement} */ (event.target).click();
            }
        });
        this.node.addEventListener("focusin", event => {
            const target = /** @type {HTMLButtonElement} */ (event.target);
            if(!buttons.includes(target)) return;
            for(const button of buttons) button.tabIndex = button === target ? 0 : -1;
        });
    }

    /** @param {Action} action */
    #add({ name, icon: picture, label, act, menu, first }) {
        const button = element("button", {
            type: "button", tabindex: "-1", "data-v86lab": name, "data-icon": picture, "aria-label": label, title: label, class: first ? "first" : null,
        }, icon(picture));
        this.#buttons.set(name, button);
        this.node.append(button);
        if(menu) {
            const made = new Menu(button, label, menu);
            this.node.append(made.node);
            act = () => made.toggle();
        }
        button.addEventListener("click", () => {
            if(button.getAttribute("aria-disabled") !== "true") act?.();
        });
    }

    /** @param {string} name @param {Look} look */
    set(name, { label, icon: picture, disabled }) {
        const button = /** @type {HTMLButtonElement} */ (this.#buttons.get(name));
        if(label) setAttribute(button, "aria-label", label);
        setAttribute(button, "aria-disabled", disabled ? "true" : null);
        setAttribute(button, "title", /** @type {string} */ (button.getAttribute("aria-label")) + (disabled ? ` (${disabled})` : ""));
        if(picture && button.dataset.icon !== picture) {
            button.dataset.icon = picture;
            button.replaceChildren(icon(picture));
        }
    }
}
