/**
 * The screen as pixels: draws what a `Screen` holds, and says which rectangle changed.
 *
 * Text is drawn as a VGA does it, from the font that lies in plane 2, with 8, 9 or 16 pixels for a column; graphics are
 * copied out of v86's image, and only pixels that differ count as changed. Nothing is drawn twice, nothing without need.
 */

/** @typedef {[x: number, y: number, width: number, height: number]} Rect */

const MOST = 4096;                           // pixels of width or height: registers half set ask for more than any VGA shows
const OPAQUE = 0xFF000000 | 0;
const LINE_GRAPHICS = [0xC0, 0xDF];

export class Raster {
    width = 0;
    height = 0;
    graphical = false;
    #screen;
    #pixels = new Int32Array(0);
    #columns = 0;
    #cell = [0, 0];
    #bright = true;
    /** What has been drawn since it was last handed out, exclusive at its end. */
    #left = MOST;
    #top = MOST;
    #right = 0;
    #bottom = 0;

    /** @param {import("./screen.js").Screen} screen */
    constructor(screen) {
        this.#screen = screen;
    }

    /** Whether something on the screen blinks. */
    get blinks() {
        const { graphical, cursor, rows, columns, flags, FLAG_BLINKING } = this.#screen;
        return !graphical && (cursor.visible && cursor.row < rows && cursor.column < columns || flags.some(one => (one & FLAG_BLINKING) !== 0));
    }

    /**
     * Draw what changed.
     *
     * @param {boolean} bright   the phase in which what blinks can be seen
     * @returns {Rect | null}
     */
    draw(bright) {
        const screen = this.#screen;
        if(bright !== this.#bright) {
            this.#bright = bright;
            if(!screen.graphical) this.#touchBlinking();
        }
        if(screen.graphical) this.#drawGraphics();
        else this.#drawText();
        return this.#taken();
    }

    /** RGBA of a rectangle. @param {Rect} rect @returns {Uint8Array} */
    cut([x, y, width, height]) {
        const part = new Int32Array(width * height);
        for(let row = 0; row < height; row++) {
            const from = (y + row) * this.width + x;
            part.set(this.#pixels.subarray(from, from + width), row * width);
        }
        return new Uint8Array(part.buffer);
    }

    /** @param {number} width @param {number} height @param {boolean} graphical @returns {boolean} whether it is another size */
    #resize(width, height, graphical) {
        width = Math.min(width, MOST);
        height = Math.min(height, MOST);
        if(width === this.width && height === this.height && graphical === this.graphical) return false;
        Object.assign(this, { width, height, graphical });
        this.#pixels = new Int32Array(width * height).fill(OPAQUE);
        this.#left = this.#top = 0;
        this.#right = width;
        this.#bottom = height;
        return true;
    }

    #touchBlinking() {
        const screen = this.#screen;
        if(screen.cursor.visible) screen.touchCursor();
        for(let row = 0, at = 0; row < screen.rows; row++) {
            for(let column = 0; column < screen.columns; column++, at++) {
                if(!(screen.flags[at] & screen.FLAG_BLINKING)) continue;
                if(column < screen.firstChanged[row]) screen.firstChanged[row] = column;
                if(column > screen.lastChanged[row]) screen.lastChanged[row] = column;
            }
        }
    }

    #drawText() {
        const screen = this.#screen, { columns, font } = screen;
        const resized = this.#resize(columns * font.width, screen.rows * font.height, false);
        if(resized || columns !== this.#columns || font.width !== this.#cell[0] || font.height !== this.#cell[1]) {
            this.#columns = columns;
            this.#cell = [font.width, font.height];
            screen.touchText();
        }
        const shownColumns = Math.min(columns, Math.floor(MOST / font.width)), shownRows = Math.min(screen.rows, Math.floor(MOST / font.height));
        for(let row = 0; row < shownRows; row++) {
            const first = screen.firstChanged[row], last = Math.min(screen.lastChanged[row], shownColumns - 1);
            if(first > last) continue;
            for(let column = first; column <= last; column++) this.#drawCell(row, column);
            this.#changed(first * font.width, row * font.height, (last + 1) * font.width, (row + 1) * font.height);
            screen.firstChanged[row] = columns;
            screen.lastChanged[row] = -1;
        }
    }

    /** @param {number} row @param {number} column */
    #drawCell(row, column) {
        const { font, fontPages, cells, flags, foreground, background, columns, cursor, FLAG_BLINKING, FLAG_FONT_PAGE_B } = this.#screen;
        const at = row * columns + column, character = cells[at], pixels = this.#pixels, stride = this.width;
        const ink = rgba(foreground[at]), paper = rgba(background[at]);
        const page = fontPages[flags[at] & FLAG_FONT_PAGE_B ? 1 : 0], glyph = page << 13 | character << 5;
        const shown = this.#bright || !(flags[at] & FLAG_BLINKING);
        const ninth = font.lineGraphics && character >= LINE_GRAPHICS[0] && character <= LINE_GRAPHICS[1];
        const underCursor = this.#bright && cursor.visible && cursor.row === row && cursor.column === column;
        for(let line = 0; line < font.height; line++) {
            const solid = underCursor && line >= cursor.start && line <= cursor.end;
            const bits = solid ? 0xFF : shown ? font.bitmap[glyph + line] : 0;
            let to = (row * font.height + line) * stride + column * font.width;
            for(let bit = 0x80; bit; bit >>= 1) {
                const pixel = bits & bit ? ink : paper;
                pixels[to++] = pixel;
                if(font.width === 16) pixels[to++] = pixel;
            }
            if(font.width === 9) pixels[to] = solid || ninth && bits & 1 ? ink : paper;
        }
    }

    #drawGraphics() {
        const screen = this.#screen;
        this.#resize(screen.width, screen.height, true);
        if(screen.blanked) {
            screen.blanked = false;
            this.#pixels.fill(OPAQUE);
            this.#changed(0, 0, this.width, this.height);
        }
        for(const layer of screen.layers) this.#drawLayer(layer);
        screen.layers = [];
    }

    /** As canvas's `putImageData` places part of an image. @param {import("./screen.js").Layer} layer */
    #drawLayer({ image_data: { data, width, height }, screen_x, screen_y, buffer_x, buffer_y, buffer_width, buffer_height }) {
        if(data.byteLength < width * height * 4) return;       // wasm memory has grown since: v86 makes another at the next call
        const source = new Int32Array(data.buffer, data.byteOffset, width * height), pixels = this.#pixels;
        const shiftX = buffer_x - screen_x, shiftY = buffer_y - screen_y;
        const left = Math.max(0, screen_x, -shiftX), right = Math.min(this.width, screen_x + buffer_width, width - shiftX);
        const top = Math.max(0, screen_y, -shiftY), bottom = Math.min(this.height, screen_y + buffer_height, height - shiftY);
        for(let y = top; y < bottom; y++) {
            const to = y * this.width, from = (y + shiftY) * width + shiftX;
            let x = left, end = right;
            while(x < end && pixels[to + x] === (source[from + x] | OPAQUE)) x++;
            if(x === end) continue;
            while(pixels[to + end - 1] === (source[from + end - 1] | OPAQUE)) end--;
            this.#changed(x, y, end, y + 1);
            for(; x < end; x++) pixels[to + x] = source[from + x] | OPAQUE;
        }
    }

    /** @param {number} left @param {number} top @param {number} right @param {number} bottom */
    #changed(left, top, right, bottom) {
        if(left < this.#left) this.#left = left;
        if(top < this.#top) this.#top = top;
        if(right > this.#right) this.#right = right;
        if(bottom > this.#bottom) this.#bottom = bottom;
    }

    /** @returns {Rect | null} */
    #taken() {
        const rect = /** @type {Rect} */ ([this.#left, this.#top, this.#right - this.#left, this.#bottom - this.#top]);
        this.#left = this.#top = MOST;
        this.#right = this.#bottom = 0;
        return rect[2] > 0 && rect[3] > 0 ? rect : null;
    }
}

/** @param {Rect | null} a @param {Rect | null} b @returns {Rect | null} the smallest rectangle that holds both */
export function union(a, b) {
    if(!a || !b) return a ?? b;
    const x = Math.min(a[0], b[0]), y = Math.min(a[1], b[1]);
    return [x, y, Math.max(a[0] + a[2], b[0] + b[2]) - x, Math.max(a[1] + a[3], b[1] + b[3]) - y];
}

/** @param {number} colour 0xRRGGBB @returns {number} as the four bytes R, G, B, A lie in memory */
function rgba(colour) {
    return (colour & 0xFF) << 16 | colour & 0xFF00 | colour >> 16 & 0xFF | OPAQUE;
}
