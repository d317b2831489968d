/** Keys that a browser or a desktop keeps for itself, for a menu. */

/** On the keyboard, by the places of the keys. @type {[string, string][]} */
export const CHORDS = [
    ["Ctrl+Alt+Del", "ControlLeft AltLeft Delete"], ["Esc", "Escape"], ["Shift+Esc", "ShiftLeft Escape"], ["Tab", "Tab"], ["Alt+Tab", "AltLeft Tab"],
    ...[1, 2, 3, 4, 5, 6].map(n => /** @type {[string, string]} */ ([`Ctrl+Alt+F${n}`, `ControlLeft AltLeft F${n}`])),
    ["F11", "F11"], ["F12", "F12"], ["Print Screen", "PrintScreen"], ["Alt+SysRq", "AltLeft PrintScreen"], ["Pause", "Pause"], ["Ctrl+Break", "ControlLeft Pause"],
    ["Super", "MetaLeft"], ["Ctrl+W", "ControlLeft KeyW"], ["Ctrl+T", "ControlLeft KeyT"], ["Ctrl+N", "ControlLeft KeyN"],
];

/** On the serial console: what a terminal sends for them. @type {[string, string][]} */
export const CONTROLS = [
    ["Ctrl+C", "\x03"], ["Ctrl+D", "\x04"], ["Ctrl+Z", "\x1A"], ["Ctrl+\\", "\x1C"], ["Ctrl+V", "\x16"], ["Ctrl+W", "\x17"], ["Ctrl+T", "\x14"], ["Ctrl+N", "\x0E"],
    ["Esc", "\x1B"], ["Tab", "\t"],
];

/** The part of a `data-v86lab` attribute that names one: "key-ctrl-alt-del". @param {string} label */
export function keyName(label) {
    return "key-" + label.toLowerCase().replace("\\", "backslash").replaceAll(/[ +]/g, "-");
}
