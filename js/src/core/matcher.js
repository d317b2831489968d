/**
 * What the console shows and nobody has consumed yet, and the search for patterns in it.
 *
 * Patterns arrive as literals or as programs that `v86lab/patterns.py` made of a user's regex; that file says what they
 * mean. The machine here runs all threads of a program side by side, in order of preference (Thompson's construction
 * as described by Pike and by Cox, https://swtch.com/~rsc/regexp/regexp2.html), so it finds what a backtracking
 * matcher finds, in time proportional to output times program. Rules:
 * - each byte is looked at once: a search goes on where the last one stopped;
 * - the match that begins earliest in all that is unconsumed wins; of several, the pattern that comes first;
 * - a `text` program runs on characters, decoded as Python's `bytes.decode(errors="replace")` does; a character that
 *   has not arrived completely waits;
 * - where output was cut off, the first byte kept is context: no match begins there, and `start` is not there;
 * - nothing that arrives from outside throws: `Matcher.fromWire` gives a `PatternError` back.
 */

const MOST_CODE = 1000;                     // instructions of a program, as in patterns.py
const MOST_RANGES = 100_000;                // of all sets of a program; \w has 734
const MOST_PATTERNS = 1000;
const REPLACEMENT = 0xFFFD;

/**
 * @typedef {["set", number] | ["split", number, number] | ["jump", number] | ["start"] | ["line"] | ["match"]} Instruction
 * @typedef {{literal: string} | {text: boolean, sets: number[][], code: Instruction[]}} WirePattern
 * @typedef {{index: number, start: number, end: number}} Found   byte positions from the start of what is unconsumed
 * @typedef {{text: boolean, sets: CharacterSet[], code: Instruction[]}} Program
 */

/** A pattern from the wire that cannot be used: which one of the list, and why. */
export class PatternError extends Error {
    /** @param {number} index @param {string} message */
    constructor(index, message) {
        super(`pattern ${index}: ${message}`);
        this.name = "PatternError";
        this.index = index;
    }
}

/**
 * The bytes that nobody has consumed. At most `limit` are kept: when there are more, all but the last half of the
 * limit are dropped, so that starting over after a cut costs little per byte.
 */
export class Unconsumed {
    #limit;
    #buffer = new Uint8Array(4096);
    #head = 0;
    #tail = 0;
    /** Bytes dropped since something was last consumed. */
    dropped = 0;
    /** Changes whenever the first byte does. */
    epoch = 0;

    /** @param {number} [limit] in bytes */
    constructor(limit = 1 << 20) {
        this.#limit = limit;
    }

    get length() {
        return this.#tail - this.#head;
    }

    /** All that is kept, valid until the next `append`. */
    get bytes() {
        return this.#buffer.subarray(this.#head, this.#tail);
    }

    /** Whether bytes before these were dropped. */
    get cut() {
        return this.dropped > 0;
    }

    /** @param {Uint8Array} bytes */
    append(bytes) {
        const excess = this.length + bytes.length - this.#limit;
        if(excess <= 0) {
            this.#copy(bytes);
            return;
        }
        const drop = excess + (this.#limit >> 1), own = Math.min(drop, this.length);
        this.#drop(own);
        this.#copy(bytes.subarray(drop - own));
        this.dropped += drop - own;
        // Begin with the last byte of a character, so that decoding gets into step at once. None has more than three
        // continuation bytes.
        for(let i = 0; i < 3 && this.length > 1 && isContinuation(this.bytes[1]); i++) this.#drop(1);
    }

    /**
     * Take the first `count` bytes away.
     *
     * @param {number} count
     * @returns {{bytes: Uint8Array, dropped: number}} them, and how many were dropped before them
     */
    consume(count) {
        const taken = { bytes: this.bytes.slice(0, count), dropped: this.dropped };
        if(count > 0) {
            this.#drop(taken.bytes.length);
            this.dropped = 0;
        }
        return taken;
    }

    /** @param {number} count */
    #drop(count) {
        this.#head += count;
        this.dropped += count;
        this.epoch++;
    }

    /** @param {Uint8Array} bytes */
    #copy(bytes) {
        if(this.#tail + bytes.length > this.#buffer.length) {
            const kept = this.bytes, needed = kept.length + bytes.length;
            if(2 * needed > this.#buffer.length) this.#buffer = new Uint8Array(2 * needed);
            this.#buffer.set(kept);
            this.#head = 0;
            this.#tail = kept.length;
        }
        this.#buffer.set(bytes, this.#tail);
        this.#tail += bytes.length;
    }
}

/** The search for the first match of a list of patterns. It remembers how far it has looked. */
export class Matcher {
    #runs;
    /** @type {Unconsumed | null} */
    #seen = null;
    #epoch = 0;

    /** @param {Program[]} programs   checked: see `fromWire` */
    constructor(programs) {
        this.#runs = programs.map(program => new Run(program));
    }

    /**
     * @param {unknown} patterns   `WirePattern[]`, if the other side keeps its word
     * @returns {Matcher | PatternError}
     */
    static fromWire(patterns) {
        if(!Array.isArray(patterns) || patterns.length === 0 || patterns.length > MOST_PATTERNS) {
            return new PatternError(0, `expected a list of 1 to ${MOST_PATTERNS} patterns`);
        }
        const programs = [];
        for(const [index, pattern] of patterns.entries()) {
            const program = readPattern(pattern);
            if(typeof program === "string") return new PatternError(index, program);
            programs.push(program);
        }
        return new Matcher(programs);
    }

    /** @param {Unconsumed} unconsumed @returns {Found | null} */
    search(unconsumed) {
        if(this.#seen !== unconsumed || this.#epoch !== unconsumed.epoch) {
            this.#seen = unconsumed;
            this.#epoch = unconsumed.epoch;
            for(const run of this.#runs) run.restart(unconsumed.cut ? 1 : 0);
        }
        /** @type {Found | null} */
        let first = null;
        for(const [index, run] of this.#runs.entries()) {
            const span = run.feed(unconsumed.bytes);
            if(span && (!first || span.start < first.start)) first = { index, ...span };
        }
        return first;
    }
}

/** One program running over what is unconsumed. */
class Run {
    #program;
    #first;
    #now;
    #then;
    /** @type {{start: number, end: number} | null} */
    #found = null;
    #at = 0;
    // The character that is being decoded: how many bytes it lacks, its value so far, what its next byte may be, where it began.
    #lacks = 0;
    #value = 0;
    #low = 0x80;
    #high = 0xBF;
    #began = 0;

    /** @param {Program} program */
    constructor(program) {
        this.#program = program;
        this.#first = firstBytes(program);
        this.#now = new Threads(program.code.length);
        this.#then = new Threads(program.code.length);
    }

    /** @param {number} at   where a match may begin at the earliest */
    restart(at) {
        this.#at = at;
        this.#lacks = 0;
        this.#found = null;
        this.#now.clear();
    }

    /** @param {Uint8Array} bytes   those of the last call, and more @returns {{start: number, end: number} | null} */
    feed(bytes) {
        while(this.#at < bytes.length) {
            if(this.#now.count === 0 && this.#lacks === 0) {
                if(this.#found) break;
                while(this.#at < bytes.length && !this.#first[bytes[this.#at]]) this.#at++;
                if(this.#at === bytes.length) break;
            }
            if(this.#program.text) this.#decode(bytes);
            else this.#step(bytes, bytes[this.#at], this.#at, this.#at + 1);
            this.#at++;
        }
        return this.#found;
    }

    /**
     * One byte of UTF-8, as the WHATWG's Encoding Standard decodes it ("UTF-8 decoder"); Python does the same.
     *
     * @param {Uint8Array} bytes
     */
    #decode(bytes) {
        const at = this.#at, byte = bytes[at];
        if(this.#lacks) {
            if(byte >= this.#low && byte <= this.#high) {
                this.#value = this.#value << 6 | byte & 0x3F;
                this.#low = 0x80;
                this.#high = 0xBF;
                if(--this.#lacks === 0) this.#step(bytes, this.#value, this.#began, at + 1);
                return;
            }
            this.#lacks = 0;
            this.#step(bytes, REPLACEMENT, this.#began, at);
        }
        if(byte < 0x80) {
            this.#step(bytes, byte, at, at + 1);
            return;
        }
        if(byte < 0xC2 || byte > 0xF4) {
            this.#step(bytes, REPLACEMENT, at, at + 1);
            return;
        }
        this.#began = at;
        this.#lacks = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
        this.#value = byte & 0x3F >> this.#lacks;
        this.#low = byte === 0xE0 ? 0xA0 : byte === 0xF0 ? 0x90 : 0x80;
        this.#high = byte === 0xED ? 0x9F : byte === 0xF4 ? 0x8F : 0xBF;
    }

    /** @param {Uint8Array} bytes @param {number} character @param {number} start @param {number} end   its bytes */
    #step(bytes, character, start, end) {
        const now = this.#now, then = this.#then;
        if(!this.#found) {
            if(now.count === 0) now.clear();
            this.#follow(now, 0, start, start, bytes);
        }
        then.clear();
        for(let i = 0; i < now.count; i++) {
            const at = now.places[i], set = this.#program.sets[Number(this.#program.code[at][1])];
            if(set.has(character) && this.#follow(then, at + 1, now.starts[i], end, bytes)) break;
        }
        this.#now = then;
        this.#then = now;
    }

    /**
     * Add a thread, and all that it leads to without a character. A thread that matches ends those of less preference.
     *
     * @param {Threads} threads @param {number} place   in the code @param {number} start   of the match
     * @param {number} at   in the bytes @param {Uint8Array} bytes
     * @returns {boolean} whether it matches here
     */
    #follow(threads, place, start, at, bytes) {
        for(let next = place; threads.visit(next);) {
            const instruction = this.#program.code[next];
            switch(instruction[0]) {
                case "set":
                    threads.add(next, start);
                    return false;
                case "split":
                    if(this.#follow(threads, instruction[1], start, at, bytes)) return true;
                    next = instruction[2];
                    break;
                case "jump":
                    next = instruction[1];
                    break;
                case "start":
                    if(at !== 0) return false;
                    next++;
                    break;
                case "line":
                    if(at !== 0 && bytes[at - 1] !== 0x0A) return false;
                    next++;
                    break;
                case "match":
                    this.#found = { start, end: at };
                    return true;
            }
        }
        return false;
    }
}

/** Threads by preference: where each is in the code, and where its match began. At most one per place. */
class Threads {
    count = 0;
    places;
    starts;
    #visited;
    #round = 1;

    /** @param {number} size */
    constructor(size) {
        this.places = new Int32Array(size);
        this.starts = new Int32Array(size);
        this.#visited = new Float64Array(size);
    }

    clear() {
        this.count = 0;
        this.#round++;
    }

    /** @param {number} place @returns {boolean} whether nothing has been there yet */
    visit(place) {
        if(this.#visited[place] === this.#round) return false;
        this.#visited[place] = this.#round;
        return true;
    }

    /** @param {number} place @param {number} start */
    add(place, start) {
        this.places[this.count] = place;
        this.starts[this.count++] = start;
    }
}

/** Characters, from ranges in ascending order: first, last, first, last. */
class CharacterSet {
    #ranges;
    #low = new Uint8Array(256);

    /** @param {number[]} ranges */
    constructor(ranges) {
        this.#ranges = ranges;
        for(let i = 0; i < ranges.length; i += 2) {
            if(ranges[i] < 256) this.#low.fill(1, ranges[i], Math.min(ranges[i + 1], 255) + 1);
        }
    }

    /** @param {number} character @returns {boolean} */
    has(character) {
        if(character < 256) return this.#low[character] === 1;
        let from = 0, to = this.#ranges.length >> 1;     // the range is in from..to-1, if in any
        while(from < to) {
            const middle = (from + to) >> 1;
            if(character < this.#ranges[2 * middle]) to = middle;
            else if(character > this.#ranges[2 * middle + 1]) from = middle + 1;
            else return true;
        }
        return false;
    }
}

/** @param {number} byte */
function isContinuation(byte) {
    return (byte & 0xC0) === 0x80;
}

/** The places that are reached without a character, assertions taken to hold. @param {Instruction[]} code */
function reachable(code) {
    const places = new Set([0]);
    for(const place of places) {
        const instruction = code[place];
        if(instruction[0] === "split" || instruction[0] === "jump") {
            for(const target of instruction.slice(1)) places.add(Number(target));
        } else if(instruction[0] === "start" || instruction[0] === "line") {
            places.add(place + 1);
        }
    }
    return places;
}

/** Which bytes a match can begin with: others are skipped quickly. @param {Program} program */
function firstBytes({ text, sets, code }) {
    const first = new Uint8Array(256);
    if(text) first.fill(1, 0x80);
    for(const place of reachable(code)) {
        const instruction = code[place];
        if(instruction[0] !== "set") continue;
        for(let byte = 0; byte < (text ? 0x80 : 256); byte++) {
            if(sets[instruction[1]].has(byte)) first[byte] = 1;
        }
    }
    return first;
}

/** @param {any} pattern @returns {Program | string} a program that cannot fail, or what is wrong */
function readPattern(pattern) {
    if(typeof pattern !== "object" || pattern === null) return "expected an object";
    const program = "literal" in pattern ? readLiteral(pattern.literal) : readProgram(pattern);
    if(typeof program !== "string" && [...reachable(program.code)].some(place => program.code[place][0] === "match")) {
        return "it can match nothing at all";
    }
    return program;
}

/** @param {unknown} literal @returns {Program | string} */
function readLiteral(literal) {
    if(typeof literal !== "string" || literal.length >= MOST_CODE) return `expected a literal of less than ${MOST_CODE} bytes`;
    const codes = Array.from(literal, character => Number(character.codePointAt(0)));
    if(codes.some(code => code > 0xFF)) return "expected one character for each byte of the literal";
    const values = [...new Set(codes)];
    return {
        text: false,
        sets: values.map(code => new CharacterSet([code, code])),
        code: [...codes.map(code => /** @type {Instruction} */ (["set", values.indexOf(code)])), ["match"]],
    };
}

/** @param {Record<string, unknown>} wire @returns {Program | string} */
function readProgram({ text, sets, code }) {
    if(typeof text !== "boolean") return "expected `text` to be true or false";
    if(!Array.isArray(sets) || !sets.every(isRanges)) return "expected sets of ascending ranges";
    if(sets.reduce((sum, ranges) => sum + ranges.length / 2, 0) > MOST_RANGES) return `more than ${MOST_RANGES} ranges`;
    if(!Array.isArray(code) || code.length === 0 || code.length > MOST_CODE) return `expected 1 to ${MOST_CODE} instructions`;
    const bad = code.findIndex((instruction, at) => !isInstruction(instruction, at, code.length, sets.length));
    if(bad >= 0) return `instruction ${bad} is not one`;
    return { text, sets: sets.map(ranges => new CharacterSet(ranges)), code };
}

/** @param {unknown} ranges @returns {boolean} */
function isRanges(ranges) {
    return Array.isArray(ranges) && ranges.length % 2 === 0 && ranges.every((edge, i) => Number.isInteger(edge) &&
        edge <= 0x10FFFF && edge >= (i === 0 ? 0 : i % 2 ? ranges[i - 1] : ranges[i - 1] + 1));
}

/** @param {unknown} instruction @param {number} at @param {number} length   of the code @param {number} sets */
function isInstruction(instruction, at, length, sets) {
    if(!Array.isArray(instruction)) return false;
    const [name, ...operands] = instruction;
    /** @param {number} count @param {number} limit */
    const has = (count, limit) => operands.length === count && operands.every(n => Number.isInteger(n) && n >= 0 && n < limit);
    switch(name) {
        case "set": return has(1, sets) && at + 1 < length;
        case "start": case "line": return has(0, 0) && at + 1 < length;
        case "split": return has(2, length);
        case "jump": return has(1, length);
        case "match": return has(0, 0);
        default: return false;
    }
}
