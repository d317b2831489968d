/**
 * What the VGA shows: v86's screen adapter for a realm without a DOM.
 *
 * v86 calls `put_char` hundreds of thousands of times in one boot, so cells are only stored and their rows marked; whoever
 * wants the text reads it here, whoever wants pixels has a `Raster` draw them. `version` counts changes, for those who
 * wait for one. Pixels of a graphics mode stay in v86 until `refill` asks for them.
 */

/**
 * @typedef {{columns: number, rows: number, cursor: [number, number] | null, graphical: boolean, width: number, height: number}} ScreenInfo
 *
 * @typedef {object} Layer   part of v86's image and where on the screen it stands
 * @property {{data: Uint8ClampedArray, width: number, height: number}} image_data
 * @property {number} screen_x
 * @property {number} screen_y
 * @property {number} buffer_x
 * @property {number} buffer_y
 * @property {number} buffer_width
 * @property {number} buffer_height
 *
 * @typedef {object} Font
 * @property {number} height   scan lines, 1 to 32
 * @property {number} width    8, 9 or 16 pixels
 * @property {boolean} lineGraphics   a ninth column repeats the eighth in characters 0xC0 to 0xDF
 * @property {Uint8Array} bitmap   eight pages of 256 characters of 32 bytes each
 */

const NO_FONT = new Uint8Array(0x10000);

export class Screen {
    /** v86 shifts these flags into the fourth argument of `put_char`. */
    FLAG_BLINKING = 0x01;
    FLAG_FONT_PAGE_B = 0x02;

    version = 0;
    graphical = false;
    width = 0;
    height = 0;
    columns = 80;
    rows = 25;
    cells = new Uint8Array(80 * 25);
    flags = new Uint8Array(80 * 25);
    /** 0xRRGGBB. */
    foreground = new Int32Array(80 * 25);
    background = new Int32Array(80 * 25);
    /** In each row the first and last column that changed since the raster drew it; none where first > last. */
    firstChanged = new Int16Array(25);
    lastChanged = new Int16Array(25).fill(79);
    cursor = { row: 0, column: 0, start: 14, end: 15, visible: true };
    /** @type {Font} */
    font = { height: 16, width: 9, lineGraphics: true, bitmap: NO_FONT };
    fontPages = [0, 0];
    /** What v86 drew anew of its image since this was last emptied. @type {Layer[]} */
    layers = [];
    /** The graphics screen was blanked since this was last false. */
    blanked = false;
    /** @type {any} v86's VGA */
    #vga = null;
    /** The layers that v86 drew last. @type {unknown} */
    #shown = null;
    /** Nothing is left of what v86 drew before. */
    #stale = true;
    /** Who waits for a change. @type {{since: number, resolve: () => void}[]} */
    #waits = [];
    /** Nothing will change any more. */
    #over = false;

    /** A new instance's VGA draws here from now on; it starts from a power-on state. @param {any} vga */
    attach(vga) {
        this.#vga = vga;
        this.layers = [];
        this.fontPages = [0, 0];
        this.font = { height: 16, width: 9, lineGraphics: true, bitmap: vga.plane2 };
        this.cursor = { row: 0, column: 0, start: 14, end: 15, visible: true };
        this.set_mode(vga.graphical_mode);
        this.clear_text_state();
        vga.screen = this;
    }

    /** @returns {ScreenInfo} */
    get info() {
        const { columns, rows, graphical, width, height, cursor } = this;
        return { columns, rows, graphical, width, height, cursor: cursor.visible ? [cursor.row, cursor.column] : null };
    }

    /** Resolves when it is no longer at version `since`, or never will be another. @param {number} since @param {AbortSignal} signal @returns {Promise<void>} */
    changed(since, signal) {
        if(this.version !== since || this.#over) return Promise.resolve();
        return new Promise((resolve, reject) => {
            const wait = { since, resolve: () => resolve(undefined) };
            this.#waits.push(wait);
            signal.addEventListener("abort", () => {
                this.#waits = this.#waits.filter(one => one !== wait);
                reject(signal.reason);
            });
        });
    }

    /** Let who waits for a change know of it. @param {boolean} over   nothing will change, until the next instance @returns {boolean} whether anybody was told */
    tell(over) {
        this.#over = over;
        if(!this.#waits.length || !over && this.#waits[0].since === this.version) return false;
        for(const wait of this.#waits.splice(0)) wait.resolve();
        return true;
    }

    /** Have v86 draw what changed of a graphics mode; it tells `update_buffer`. Must be called in the emulator's guard. */
    refill() {
        const vga = this.#vga;
        if(!this.graphical || !vga?.image_data) return;
        if(this.#stale) vga.complete_redraw();
        else if(!vga.svga_enabled && vga.diff_addr_min > vga.diff_addr_max && vga.layers === this.#shown) return;
        this.#stale = false;
        vga.update_vertical_retrace = () => {};          // the guest's own time makes those, not whoever looks
        try {
            vga.screen_fill_buffer();
        }
        finally {
            delete vga.update_vertical_retrace;
        }
        this.#shown = vga.layers;
    }

    /** @param {number} row @param {number} column @param {number} character @param {number} [flags] @param {number} [background] @param {number} [foreground] */
    put_char(row, column, character, flags = 0, background = 0, foreground = 0xAAAAAA) {
        if(row >= this.rows || column >= this.columns) return;
        const at = row * this.columns + column;
        if(this.cells[at] === character && this.flags[at] === flags && this.background[at] === background && this.foreground[at] === foreground) return;
        this.cells[at] = character;
        this.flags[at] = flags;
        this.background[at] = background;
        this.foreground[at] = foreground;
        if(column < this.firstChanged[row]) this.firstChanged[row] = column;
        if(column > this.lastChanged[row]) this.lastChanged[row] = column;
        this.version++;
    }

    /** @param {number} columns @param {number} rows */
    set_size_text(columns, rows) {
        if(columns === this.columns && rows === this.rows) return;
        const size = columns * rows;
        this.columns = columns;
        this.rows = rows;
        this.cells = new Uint8Array(size);
        this.flags = new Uint8Array(size);
        this.foreground = new Int32Array(size);
        this.background = new Int32Array(size);
        this.firstChanged = new Int16Array(rows);
        this.lastChanged = new Int16Array(rows);
        this.touchText();
    }

    /** @param {number} width @param {number} height */
    set_size_graphical(width, height) {
        this.width = width;
        this.height = height;
        this.#stale = true;
        this.version++;
    }

    /** @param {boolean} graphical */
    set_mode(graphical) {
        this.graphical = graphical;
        this.#stale = true;
        this.touchText();
    }

    /** @param {number} row @param {number} column */
    update_cursor(row, column) {
        if(row === this.cursor.row && column === this.cursor.column) return;
        this.touchCursor();
        this.cursor.row = row;
        this.cursor.column = column;
        this.touchCursor();
    }

    /** @param {number} start @param {number} end @param {boolean} visible */
    update_cursor_scanline(start, end, visible) {
        Object.assign(this.cursor, { start: start & 0x1F, end: end & 0x1F, visible: visible && !(start & 0x20) });
        this.touchCursor();
    }

    clear_text_state() {
        this.cells.fill(0);
        this.flags.fill(0);
        this.background.fill(0);
        this.touchText();
    }

    clear_screen() {
        this.blanked = true;
        this.layers = [];
        this.clear_text_state();
    }

    /** @param {Layer[]} layers */
    update_buffer(layers) {
        this.layers = layers;
        this.version++;
    }

    /**
     * @param {number} height @param {boolean} nine @param {boolean} double @param {boolean} lineGraphics @param {Uint8Array} bitmap
     * @param {boolean} changed   the bitmap is another than at the last call
     */
    set_font_bitmap(height, nine, double, lineGraphics, bitmap, changed) {
        const { font } = this, width = double ? 16 : nine ? 9 : 8;
        if(!changed && font.height === height && font.width === width && font.lineGraphics === lineGraphics) return;
        this.font = { height, width, lineGraphics, bitmap };
        this.touchText();
    }

    /** @param {number} a @param {number} b */
    set_font_page(a, b) {
        if(a === this.fontPages[0] && b === this.fontPages[1]) return;
        this.fontPages = [a, b];
        this.touchText();
    }

    /** The whole text is to be drawn anew. */
    touchText() {
        this.firstChanged.fill(0);
        this.lastChanged.fill(this.columns - 1);
        this.version++;
    }

    /** The cell under the cursor is. */
    touchCursor() {
        const { row, column } = this.cursor;
        if(row < this.rows && column < this.columns) {
            this.firstChanged[row] = Math.min(this.firstChanged[row], column);
            this.lastChanged[row] = Math.max(this.lastChanged[row], column);
        }
        this.version++;
    }

    pause() {}
    continue() {}
    destroy() {}
}
