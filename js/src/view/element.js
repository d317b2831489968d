/** Elements made in one expression; listeners end with a signal. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | boolean | null | undefined>} [attributes]   false, null and undefined leave one out
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for(const [name, value] of Object.entries(attributes)) {
        if(value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
}

/** Writes only what changed: a live region would be read again, a button under the pointer would flicker. @param {Element} target @param {string} name @param {string | null} value */
export function setAttribute(target, name, value) {
    if(value === null) target.removeAttribute(name);
    else if(target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/** @param {Element} target @param {string} text */
export function setText(target, text) {
    if(target.textContent !== text) target.textContent = text;
}

/** Moves focus among `items` as the arrow keys, Home and End ask. @param {KeyboardEvent} event @param {HTMLElement[]} items @param {"horizontal" | "vertical"} direction */
export function moveFocus(event, items, direction) {
    const [back, forth] = direction === "horizontal" ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
    const at = items.indexOf(/** @type {HTMLElement} */ (event.target));
    const target = { [back]: at - 1, [forth]: at + 1, Home: 0, End: items.length - 1 }[event.key];
    if(target === undefined || !items.length) return;
    event.preventDefault();
    items[(target + items.length) % items.length].focus();
}
