/**
 * The terminal's colours and font, from what the page's style sheets make of the terminal's element, so that they
 * follow JupyterLab's theme and any other page's.
 */

/** The sixteen colours on a light ground and on a dark one; xterm.js mends what still lacks contrast. */
const LIGHT = {
    black: "#24292f", red: "#b3261e", green: "#116329", yellow: "#7a4e00", blue: "#0b57c4", magenta: "#8236b3", cyan: "#0f6674", white: "#6e7781",
    brightBlack: "#57606a", brightRed: "#c5221f", brightGreen: "#1a7f37", brightYellow: "#8a5a00", brightBlue: "#1a66d6", brightMagenta: "#9334c5", brightCyan: "#1b7c83", brightWhite: "#424a53",
};
const DARK = {
    black: "#3b4048", red: "#ff7b72", green: "#56d364", yellow: "#e3b341", blue: "#79b8ff", magenta: "#d2a8ff", cyan: "#56d4dd", white: "#c9d1d9",
    brightBlack: "#8b949e", brightRed: "#ffa198", brightGreen: "#7ee787", brightYellow: "#f2cc60", brightBlue: "#a5d0ff", brightMagenta: "#e2c5ff", brightCyan: "#b3f0ff", brightWhite: "#ffffff",
};

/** @typedef {{theme: import("@xterm/xterm").ITheme, fontFamily: string, fontSize: number}} Appearance */

/** @param {Element} terminal @returns {Appearance} */
export function readAppearance(terminal) {
    const { backgroundColor, color, outlineColor, fontFamily, fontSize } = getComputedStyle(terminal);
    const [background, foreground, accent] = solid([backgroundColor, color, outlineColor]);
    const [r, g, b] = background, dark = 0.299 * r + 0.587 * g + 0.114 * b < 128;
    const text = rgb(foreground), ground = rgb(background);
    return {
        fontFamily, fontSize: parseFloat(fontSize) || 13,
        theme: {
            ...(dark ? DARK : LIGHT), background: ground, foreground: text, cursor: text, cursorAccent: ground,
            selectionBackground: rgb(accent, 0.35), selectionInactiveBackground: rgb(accent, 0.2),
            scrollbarSliderBackground: rgb(foreground, 0.2), scrollbarSliderHoverBackground: rgb(foreground, 0.35),
            scrollbarSliderActiveBackground: rgb(foreground, 0.45),
        },
    };
}

/** Calls back when the theme has changed. @param {() => void} changed @param {AbortSignal} signal */
export function onThemeChange(changed, signal) {
    // JupyterLab names its theme on the body; others mark the root element.
    const observer = new MutationObserver(() => requestAnimationFrame(() => { if(!signal.aborted) changed(); }));
    const attributeFilter = ["data-jp-theme-name", "data-jp-theme-light", "class", "data-theme"];
    observer.observe(document.body, { attributeFilter });
    observer.observe(document.documentElement, { attributeFilter });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed, { signal });
    signal.addEventListener("abort", () => observer.disconnect());
}

/** The colours as they look on the first one, whatever CSS wrote them with. @param {string[]} colors */
function solid(colors) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });     // not every browser has an OffscreenCanvas
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if(!context) return [[255, 255, 255], [0, 0, 0], [33, 150, 243]];
    return colors.map(color => {
        for(const fill of ["#fff", colors[0], color]) {
            context.fillStyle = fill;
            context.fillRect(0, 0, 1, 1);
        }
        return [...context.getImageData(0, 0, 1, 1).data.subarray(0, 3)];
    });
}

/** @param {number[]} color @param {number} [alpha] */
function rgb([r, g, b], alpha = 1) {
    return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}
