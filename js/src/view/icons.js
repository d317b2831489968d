/** The toolbar's pictures: 16 by 16, drawn in the current colour. */

/** @type {Record<string, string>} */
const PATHS = {
    run: '<path d="M4.5 2.8v10.4L13 8z" fill="currentColor"/>',
    pause: '<path d="M5.25 3v10M10.75 3v10" stroke-width="2.5"/>',
    stop: '<path d="M4 4h8v8H4z" fill="currentColor"/>',
    reset: '<path d="M3.2 6.2A5.2 5.2 0 1 1 2.8 8.9M3 2.6v3.8h3.8"/>',
    snapshot: '<path d="M2 5.2h2.6l1.1-1.7h4.6l1.1 1.7H14v7.6H2z"/><circle cx="8" cy="8.8" r="2.2"/>',
    restore: '<path d="M2.6 8a5.4 5.4 0 1 1 1.6 3.8M2.4 12.4l1.7-.6.6 1.7M8 4.8V8l2.2 1.5"/>',
    keys: '<rect x="1.5" y="4" width="13" height="8" rx="1.2"/><path d="M4 6.6h.01M6.7 6.6h.01M9.4 6.6h.01M12 6.6h.01M4.8 9.5h6.4" stroke-width="1.6"/>',
    picture: '<path d="M8 2v7.5M4.8 6.6 8 9.8l3.2-3.2M2.5 11v2.5h11V11"/>',
    scale: '<path d="M9.5 2.5h4v4M13.5 2.5 9.6 6.4M6.5 13.5h-4v-4M2.5 13.5l3.9-3.9"/>',
    full: '<path d="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10"/>',
    unfull: '<path d="M6 2.5V6H2.5M13.5 6H10V2.5M10 13.5V10h3.5M2.5 10H6v3.5"/>',
    more: '<path d="M3 8h.01M8 8h.01M13 8h.01" stroke-width="2.4"/>',
    disk: '<ellipse cx="8" cy="4" rx="5.2" ry="1.9"/><path d="M2.8 4v8c0 1 2.3 1.9 5.2 1.9s5.2-.9 5.2-1.9V4M2.8 8c0 1 2.3 1.9 5.2 1.9s5.2-.9 5.2-1.9"/>',
    share: '<path d="M1.8 12.8V3.2h4.4l1.5 1.9h6.5v7.7z"/>',
    check: '<path d="m3 8.4 3.3 3.3L13 4.6"/>',
};

/** @param {string} name */
export function icon(name) {
    const template = document.createElement("template");
    template.innerHTML = `<svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.4"`
        + ` stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">${PATHS[name]}</svg>`;
    return /** @type {SVGElement} */ (template.content.firstElementChild);
}
