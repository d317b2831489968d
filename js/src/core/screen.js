/**
 * What the VGA shows: v86's screen adapter for a realm without a DOM.
 *
 * v86 calls `put_char` hundreds of thousands of times in one boot, so cells are only stored; whoever wants the text asks
 * for it. `version` counts changes, for those who wait for one.
 */

/** @typedef {{columns: number, rows: number, cursor: [number, number] | null, graphical: boolean, width: number, height: number}} ScreenInfo */

export class Screen {
    /** v86 shifts these flags into the third argument of `put_char`. */
    FLAG_BLINKING = 0x01;
    FLAG_FONT_PAGE_B = 0x02;

    version = 0;
    #columns = 80;
    #rows = 25;
    #cells = new Uint8Array(80 * 25);
    #cursor = [0, 0];
    #cursorShown = true;
    #graphical = false;
    #width = 0;
    #height = 0;

    /** The code page 437 characters, row by row. */
    get cells() {
        return this.#cells;
    }

    /** @returns {ScreenInfo} */
    get info() {
        return {
            columns: this.#columns, rows: this.#rows, graphical: this.#graphical, width: this.#width, height: this.#height,
            cursor: this.#cursorShown ? /** @type {[number, number]} */ ([...this.#cursor]) : null,
        };
    }

    /** @param {number} row @param {number} column @param {number} character */
    put_char(row, column, character) {
        if(row < this.#rows && column < this.#columns) {
            this.#cells[row * this.#columns + column] = character;
            this.version++;
        }
    }

    /** @param {number} columns @param {number} rows */
    set_size_text(columns, rows) {
        if(columns === this.#columns && rows === this.#rows) return;
        this.#columns = columns;
        this.#rows = rows;
        this.#cells = new Uint8Array(columns * rows);
        this.version++;
    }

    /** @param {number} width @param {number} height */
    set_size_graphical(width, height) {
        this.#width = width;
        this.#height = height;
        this.version++;
    }

    /** @param {boolean} graphical */
    set_mode(graphical) {
        this.#graphical = graphical;
        this.version++;
    }

    /** @param {number} row @param {number} column */
    update_cursor(row, column) {
        this.#cursor = [row, column];
        this.version++;
    }

    /** @param {number} start @param {number} _end @param {boolean} visible */
    update_cursor_scanline(start, _end, visible) {
        this.#cursorShown = visible && !(start & 0x20);
        this.version++;
    }

    clear_text_state() {
        this.#cells.fill(0);
        this.version++;
    }

    clear_screen() {
        this.#cells.fill(0);
        this.version++;
    }

    update_buffer() {
        this.version++;
    }

    set_font_bitmap() {}
    set_font_page() {}
    pause() {}
    continue() {}
    destroy() {}
}
