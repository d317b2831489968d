/** A menu below its button: arrow keys, Home, End and Escape; in the top layer, so that no cell cuts it off. */

import { element, moveFocus, setAttribute } from "./element.js";
import { icon } from "./icons.js";

/**
 * @typedef {object} MenuItem
 * @property {string} label
 * @property {string} name   of the `data-v86lab` attribute
 * @property {boolean} [checked]   a choice among others
 * @property {boolean} [toggled]   a switch of its own
 * @property {string} [disabled]   why it cannot be chosen
 * @property {() => void} act
 */

export class Menu {
    node = element("div", { class: "menu", role: "menu", popover: "manual" });
    #button;
    #items;

    /**
     * @param {HTMLElement} button @param {string} label @param {() => (MenuItem | string)[]} items   asked at each opening; a string is a heading
     */
    constructor(button, label, items) {
        this.#button = button;
        this.#items = items;
        this.node.setAttribute("aria-label", label);
        button.setAttribute("aria-haspopup", "menu");
        button.setAttribute("aria-expanded", "false");
        this.node.addEventListener("keydown", event => this.#handleKey(event));
        this.node.addEventListener("focusout", event => {
            const to = /** @type {Node | null} */ (event.relatedTarget);
            if(to !== button && !this.node.contains(to) && this.opened) this.node.hidePopover();
        });
        this.node.addEventListener("toggle", event => {
            setAttribute(button, "aria-expanded", String(/** @type {ToggleEvent} */ (event).newState === "open"));
        });
    }

    get opened() {
        return this.node.matches(":popover-open");
    }

    toggle() {
        if(this.opened) return this.node.hidePopover();
        this.node.replaceChildren(...this.#items().map(item => typeof item === "string" ? heading(item) : this.#item(item)));
        this.node.showPopover();
        this.#place();
        this.#focusable[0]?.focus();
    }

    get #focusable() {
        return /** @type {HTMLElement[]} */ ([...this.node.querySelectorAll("button")]);
    }

    #place() {
        const button = this.#button.getBoundingClientRect(), { offsetWidth, offsetHeight, style } = this.node;
        const below = innerHeight - button.bottom;
        style.left = `${Math.max(4, Math.min(button.left, innerWidth - offsetWidth - 4))}px`;
        style.top = `${below > offsetHeight + 8 || below > button.top ? button.bottom + 4 : Math.max(4, button.top - offsetHeight - 4)}px`;
        style.maxHeight = `${Math.max(below, button.top) - 12}px`;
    }

    /** @param {MenuItem} item */
    #item({ label, name, checked, toggled, disabled, act }) {
        const state = checked ?? toggled;
        const role = checked !== undefined ? "menuitemradio" : toggled !== undefined ? "menuitemcheckbox" : "menuitem";
        const made = element("button", {
            type: "button", role, tabindex: "-1", "data-v86lab": name, title: disabled, "aria-disabled": disabled ? "true" : null,
            "aria-checked": state === undefined ? null : String(state),
        }, element("span", { class: "mark" }, ...(state ? [icon("check")] : [])), element("span", { class: "label" }, label));
        made.addEventListener("click", () => {
            if(disabled) return;
            this.node.hidePopover();
            this.#button.focus();
            act();
        });
        return made;
    }

    /** @param {KeyboardEvent} event */
    #handleKey(event) {
        moveFocus(event, this.#focusable, "vertical");
        if(event.key === "Escape" || event.key === "Tab") {
            event.preventDefault();
            this.node.hidePopover();
            this.#button.focus();
        }
    }
}

/** @param {string} text */
function heading(text) {
    return element("div", { class: "heading", role: "presentation" }, text);
}
