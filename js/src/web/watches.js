/**
 * What the views of a page want to hear of a machine, put together to what the page asks of the engine.
 *
 * The engine knows the page as one client and replays the console to it whenever it is asked again. So each listener
 * that wants the console is given the replay that was asked for on its behalf, and only what comes after it.
 */

/**
 * @typedef {object} Wanted   which notices a listener wants
 * @property {boolean} [console]
 * @property {boolean} [screen]
 * @property {boolean} [activity]
 *
 * @typedef {{type: "console_output", payload: Uint8Array, replay: boolean}
 *   | (import("../core/protocol.js").Frame & {payload: Uint8Array})
 *   | (import("../core/protocol.js").Activity & {payload: Uint8Array})} Seen   what a listener gets
 *
 * @typedef {object} Watch
 * @property {(wanted: Wanted) => void} set   replaces what was wanted
 * @property {() => void} close
 *
 * @typedef {import("./channel.js").Answer} Answer
 * @typedef {{wanted: Wanted, listener: (seen: Seen) => void, replayed: boolean}} One
 */

const NOTHING = JSON.stringify({ console: false, screen: false, activity: false });

export class Watches {
    /** @type {Set<One>} */
    #all = new Set();
    #ask;
    #questions = 0;
    #stale = false;
    #asked = "";

    /** @param {(wanted: Required<Wanted>) => Promise<Answer>} ask   sends the request `watch` */
    constructor(ask) {
        this.#ask = ask;
    }

    /** @param {Wanted} wanted @param {(seen: Seen) => void} listener */
    add(wanted, listener) {
        /** @type {One} */
        const one = { wanted: {}, listener, replayed: false };
        this.#all.add(one);
        const set = (/** @type {Wanted} */ wanted) => {
            const more = wanted.console && !one.replayed || wanted.screen && !one.wanted.screen;
            one.wanted = wanted;
            one.replayed &&= Boolean(wanted.console);
            if(this.#all.has(one) && (more || this.#union() !== this.#asked)) this.renew();
        };
        set(wanted);
        return {
            set,
            close: () => {
                if(this.#all.delete(one) && this.#union() !== this.#asked) this.renew();
            },
        };
    }

    /** Another engine, or another way to it: all begin anew. */
    restart() {
        for(const one of this.#all) one.replayed = false;
        this.#questions++;
        this.#asked = "";
        this.renew();
    }

    /** Ask again, soon: several views may change at once. */
    renew() {
        if(this.#stale) return;
        this.#stale = true;
        queueMicrotask(() => void this.#renew());
    }

    /** The last question counts; the answer to an earlier one may never come. */
    async #renew() {
        this.#stale = false;
        const question = ++this.#questions, union = this.#union();
        if(union === NOTHING && this.#asked === "") return;
        this.#asked = union;
        const fresh = [...this.#all].filter(one => one.wanted.console && !one.replayed);
        const answer = await this.#ask(JSON.parse(union)).catch(() => null);         // no engine now: whoever sees one again calls `restart`
        if(question !== this.#questions) return;
        if(!answer) this.#asked = "";
        for(const one of answer ? fresh : []) {
            if(!one.wanted.console || !this.#all.has(one)) continue;
            one.replayed = true;
            one.listener({ type: "console_output", payload: answer?.payload ?? new Uint8Array(0), replay: true });
        }
    }

    #union() {
        const wanted = (/** @type {keyof Wanted} */ name) => [...this.#all].some(one => one.wanted[name]);
        return JSON.stringify({ console: wanted("console"), screen: wanted("screen"), activity: wanted("activity") });
    }

    /** A notice of the engine. @param {any} notice */
    hear(notice) {
        for(const { wanted, replayed, listener } of [...this.#all]) {
            if(notice.type === "console_output" ? wanted.console && replayed : notice.type === "frame" ? wanted.screen : wanted.activity) {
                listener(notice.type === "console_output" ? { ...notice, replay: false } : notice);
            }
        }
    }
}
