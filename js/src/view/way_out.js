/** How a person gets the keyboard back from the guest, since Tab goes to the guest: a chord that neither JupyterLab nor a guest needs. */

export const WAY_OUT = "Shift+Esc";

/** @param {{code: string, shiftKey: boolean, ctrlKey: boolean, altKey: boolean, metaKey: boolean}} event */
export function isWayOut(event) {
    return event.code === "Escape" && event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
}
