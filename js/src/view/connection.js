/**
 * One machine as a page knows it, shared by all its views: what Python says of it, and the engine, wherever that runs.
 *
 * Rules:
 * - Python is reached by a WebSocket to the Hub, or, where there is no way to the Hub, by the widget's messages; the Hub is
 *   preferred as soon as it can be reached, and looked for some ten minutes of somebody's looking at the page;
 * - when Python offers it, the machine runs in a worker of this page, and what concerns the engine goes straight there;
 * - what this page cannot do is told to Python, which then runs the machine elsewhere: there is always a way on.
 */

import { Cache } from "../web/cache.js";
import { Channel } from "../web/channel.js";
import { Checkpoints } from "../web/checkpoints.js";
import { CommLink, isKnown, SocketLink } from "../web/links.js";
import { registry } from "../web/registry.js";
import { missing, spawn } from "../web/spawn.js";
import { Watches } from "../web/watches.js";

const FOR_PYTHON = ["join", "start_here", "take_snapshot", "restore_snapshot"];
const WATCHED = ["console_output", "frame", "activity"];
const NOTHING = { console: false, screen: false, activity: false };
const REFUSALS = 3;                          // of the socket, in a row, by a Hub that is there
const TRIES_BEFORE_COMM = 3;
const PATIENT_TRIES = 8;                     // some 15 s
const MOST_TRIES = 60;                       // some 10 minutes (`rest`)
const SILENCE = 20000;                       // ms after which a socket is asked, and again until it counts as dead
const BROKEN = "the connection to Python broke; it is being made again";
const LET_GO = "Python has let go of this machine: run the cell again for a new view";
const GONE = "Python was not reached for ten minutes, so this view has stopped looking for it: run the cell again";
const NO_PROXY = "this page cannot reach the kernel's machine, so it is shown by way of the notebook's messages: "
    + "jupyter-server-proxy, installed beside the notebook server, makes it run here";
const NO_SOCKETS = "something on the way refuses WebSockets to the kernel's machine, so it is shown by way of the notebook's messages, "
    + "and runs on the server";

/**
 * @typedef {import("../core/protocol.js").Standing} Standing
 * @typedef {import("../core/protocol.js").Offer} Offer
 *
 * @typedef {import("../web/links.js").Model} Model
 * @typedef {import("../web/watches.js").Wanted} Wanted
 * @typedef {import("../web/watches.js").Seen} Seen
 * @typedef {import("../web/watches.js").Watch} Watch
 *
 * @typedef {object} Hub   the loader's (`web/hub.js`)
 * @property {string} id
 * @property {(fresh?: boolean) => Promise<string>} open
 * @property {(attempt: number, signal?: AbortSignal) => Promise<void>} rest
 *
 * @typedef {"connecting" | "open" | "lost" | "ended"} Phase
 * @typedef {{link: SocketLink, channel: Channel, base: string}} Dialled
 */

/**
 * Events: "change" (`standing`, `live`, `phase`, `explanation` or `transport` changed), "download" (`detail`: `{name, loaded, total}`),
 * "log" (`detail`: a text for a person).
 */
export class Connection extends EventTarget {
    name;
    /** @type {Standing | null} */
    standing = null;
    /** Whether a machine with a seed follows the clock on the wall; else only Python's calls move it. */
    live = false;
    /** How things stand with Python; a machine in this page goes on when it is lost. @type {Phase} */
    phase = "connecting";
    /** One sentence for a person: why it is lost, ended or slow; "" when all is well. */
    explanation = "";
    /** The path of engine requests: the worker in this page, the Hub, or widget messages. @type {"worker" | "socket" | "comm"} */
    transport = "socket";

    #hub;
    #machine;
    #model;
    #cache = new Cache(text => this.#log(text));
    #checkpoints = new Checkpoints();
    #watches = new Watches(wanted => this.request({ type: "watch", ...wanted }));
    /** To Python. @type {Channel | null} */
    #python = null;
    /** @type {{key: string, channel: Channel, dismiss: () => void, worker: Worker} | null} */
    #here = null;
    /** The key of the engine that is being started here, or runs here. @type {string | null} */
    #hosts = null;
    /** What keeps this page from running machines. */
    #unable = missing();
    /** The Hub's URL while it is reached. @type {string | null} */
    #base = null;
    /** Tries to reach the Hub since that last succeeded. */
    #tries = 0;
    /** Questions whether the machine is live. */
    #questions = 0;
    /** Dials that a Hub which is there has refused, in a row. */
    #refusals = 0;
    /** @type {Set<string>} */
    #said = new Set();
    #over = new AbortController();

    /** @param {{model: Model, hub: Hub}} context */
    constructor({ model, hub }) {
        super();
        this.name = String(model.get("name"));
        this.#hub = hub;
        this.#model = model;
        this.#machine = String(model.get("machine"));
        const { signal } = this.#over;
        document.addEventListener("visibilitychange", () => this.#here?.worker.postMessage({ watched: !document.hidden }), { signal });
        addEventListener("online", () => this.#here?.worker.postMessage({ hurry: true }), { signal });
        void this.#run();
    }

    /** A newer widget of this machine: an older one may be gone with its way to the kernel. @param {{model: Model, hub: Hub}} context */
    adopt({ model, hub }) {
        this.#model = model;
        this.#hub = hub;
    }

    /**
     * Ask the engine, or Python (`start_here`, `take_snapshot`, `restore_snapshot`); the id is added here.
     *
     * @param {{type: string, [field: string]: unknown}} body @param {Uint8Array} [payload]
     * @returns {Promise<{value: any, payload: Uint8Array}>} rejects with an `Error` whose message is for a person
     */
    request(body, payload) {
        const channel = this.#here && !FOR_PYTHON.includes(body.type) ? this.#here.channel : this.#python;
        if(!channel) return Promise.reject(new Error(this.explanation || "not connected yet"));
        const answer = channel.request(body, payload);
        if(body.type === "resume" || body.type === "pause") answer.then(() => this.#askLive(), () => {});      // within a call its standing stays the same
        return answer;
    }

    /**
     * Listen to the machine. A listener that wants the console first gets all of it with `replay: true`, and again after
     * every interruption: it then clears its terminal.
     *
     * @param {Wanted} wanted @param {(seen: Seen) => void} listener @returns {Watch}
     */
    watch(wanted, listener) {
        return this.#watches.add(wanted, listener);
    }

    // -- Python ------------------------------------------------------------------------------------------------------

    async #run() {
        const { signal } = this.#over;
        /** @type {Dialled | null} */
        let dialled = null;
        while(!signal.aborted) {
            try {
                const { link, channel, base } = dialled ?? await this.#dial();
                dialled = null;
                await this.#speak(link, channel, "socket", base);
                if(link.givenUp) return this.#end(LET_GO);
            }
            catch(error) {
                const { name, message } = /** @type {Error} */ (error);
                if(name === "Dismissed") return this.#end(LET_GO);
                if(this.#tries >= MOST_TRIES) return this.#end(GONE);
                const again = this.#tries < PATIENT_TRIES ? BROKEN : "Python cannot be reached: if its kernel was restarted, run the cell again";
                this.#change({ phase: "lost", explanation: this.standing && name === "Unreachable" ? again : message });
                if(this.#tries >= TRIES_BEFORE_COMM && !this.#here) dialled = await this.#speakOverComm();
            }
            if(!dialled) await this.#hub.rest(++this.#tries, signal);
        }
    }

    /**
     * Open a socket and join: a proxy may open one by itself, an answer is Python's.
     *
     * @returns {Promise<Dialled>} rejects with an error for a person, named "Dismissed" when Python does not know the machine
     */
    async #dial() {
        const base = await this.#hub.open(this.#tries > 0), address = `${base}view/${this.#machine}`;
        const link = new SocketLink(address.replace(/^http/, "ws")), channel = this.#channel(link, base);
        if(await link.opened) {
            const late = setTimeout(() => link.close(), SILENCE);
            const joined = await Promise.race([this.#join(channel, base).then(() => true, () => false), link.closed.then(() => false)]);
            clearTimeout(late);
            if(joined) {
                this.#tries = this.#refusals = 0;
                return { link, channel, base };
            }
        }
        this.#refusals++;
        if(link.givenUp || this.#refusals >= REFUSALS && !await isKnown(address)) throw Object.assign(new Error(LET_GO), { name: "Dismissed" });
        throw new Error(this.#refusals < REFUSALS ? BROKEN : NO_SOCKETS);
    }

    /** Until the Hub can be dialled, or the widget's messages end. */
    async #speakOverComm() {
        const link = new CommLink(this.#model), channel = this.#channel(link, null), over = new AbortController();
        const look = async () => {
            while(this.#tries < MOST_TRIES && !over.signal.aborted) {
                await this.#hub.rest(++this.#tries, over.signal);
                const dialled = over.signal.aborted ? null : await this.#dial().catch(() => null);
                if(!dialled) continue;
                link.close();
                return dialled;
            }
            if(this.phase !== "open") link.close();          // nobody has answered here either
            return null;
        };
        const looking = look();
        this.#join(channel, null).then(() => this.#opened("comm"), () => {});
        await this.#speak(link, channel, "comm", null);
        over.abort();
        return looking;
    }

    /** @param {SocketLink | CommLink} link @param {string | null} base   of the Hub */
    #channel(link, base) {
        const channel = new Channel(frame => link.send(frame), message => this.#hear(message, base));
        link.onframe = frame => channel.receive(frame);
        return channel;
    }

    /**
     * Until the link closes, or the other end of a socket is silent when it is asked.
     *
     * @param {SocketLink | CommLink} link @param {Channel} channel @param {"socket" | "comm"} transport @param {string | null} base   of the Hub
     */
    async #speak(link, channel, transport, base) {
        this.#python = channel;
        this.#base = base;
        const hangUp = () => link.close();
        this.#over.signal.addEventListener("abort", hangUp);
        if(transport === "socket") this.#opened(transport);
        let asked = false;
        const beat = transport === "comm" ? 0 : setInterval(() => {
            if(asked) return link.close();
            if(document.hidden) return;      // a server that is asked for ever never counts as idle
            asked = true;
            this.#join(channel, base).then(() => { asked = false; }, () => {});
        }, SILENCE);
        await link.closed;
        clearInterval(beat);
        this.#over.signal.removeEventListener("abort", hangUp);
        this.#python = null;
        channel.lose(BROKEN);
        if(!this.#over.signal.aborted) this.#change({ phase: "lost", explanation: BROKEN });
    }

    /** The other end has said something. @param {"socket" | "comm"} transport */
    #opened(transport) {
        this.#change({
            phase: "open", transport: this.#here ? "worker" : transport,
            explanation: transport === "comm" ? this.#refusals < REFUSALS ? NO_PROXY : NO_SOCKETS : this.#unable && cannotRun(this.#unable),
        });
        if(!this.#here) this.#watches.restart();
    }

    /** Say that this page is there and what it can do; Python answers at once. @param {Channel | null} [channel] @param {string | null} [base]   of the Hub */
    async #join(channel = this.#python, base = this.#base) {
        const kept = await this.#checkpoints.find(this.#hub.id, this.#machine);
        await channel?.request({ type: "join", page: registry().page, able: base !== null && !this.#unable, hosts: this.#hosts, kept });
    }

    /** A notice of Python, or one of the engine that came by way of it. @param {any} message @param {string | null} base   of the Hub that it came from */
    #hear(message, base) {
        switch(message.type) {
        case "standing": {
            const { type: _, payload: __, ...standing } = message;
            return this.#change({ standing });
        }
        case "offer": return void (base && this.#host(message, base));
        case "log": return this.#log(message.text);
        case "download": return this.#download(message.name, message.loaded, message.total);
        default: if(!this.#here && WATCHED.includes(message.type)) this.#watches.hear(message);
        }
    }

    /** A standing does not say whether a call moves the machine or the clock does. */
    async #askLive() {
        if(!this.#mayBeLive) return;
        const question = ++this.#questions, answer = await this.request({ type: "read_statistics" }).catch(() => null);
        if(question === this.#questions) this.#change({ live: answer?.value.live === true && this.#mayBeLive });
    }

    get #mayBeLive() {
        return typeof this.standing?.seed === "number" && this.standing.status === "running";
    }

    // -- the engine in this page -------------------------------------------------------------------------------------

    /** Run the machine here. @param {Offer} offer @param {string} base */
    async #host(offer, base) {
        if(this.#hosts === offer.key) return;
        this.#dismiss();
        this.#hosts = offer.key;
        try {
            const place = { base, hubId: this.#hub.id, probe: new URL(`../${this.#hub.id}`, base).href, machine: this.#machine, offer };
            const started = await spawn(place, this.#cache, {
                frame: frame => channel.receive(frame), log: text => this.#log(text), ended: reason => this.#ended(offer.key, reason),
            }, (name, loaded, total) => this.#download(name, loaded, total));
            const channel = new Channel(started.send, message => this.#hearEngine(message));
            if(this.#hosts !== offer.key) return started.dismiss();          // another offer came meanwhile
            this.#here = { key: offer.key, channel, ...started };
            started.worker.postMessage({ watched: !document.hidden });
            this.#python?.request({ type: "watch", ...NOTHING }).catch(() => {});
            this.#change({ transport: "worker", explanation: "" });
            this.#watches.restart();
        }
        catch(error) {
            if(this.#hosts !== offer.key) return;
            this.#hosts = null;
            const { name, message } = /** @type {Error} */ (error);
            if(name === "Unreachable") this.#log(`this page could not load the machine (${message}): it runs on the server`);
            else this.#cannot(message);
            this.#join().catch(() => {});
        }
    }

    /** This page is not to be asked again. @param {string} why */
    #cannot(why) {
        this.#unable = why;
        this.#change({ explanation: cannotRun(why) });
    }

    /** @param {any} message */
    #hearEngine(message) {
        if(WATCHED.includes(message.type)) this.#watches.hear(message);
        else if(message.type === "download") this.#download(message.name, message.loaded, message.total);
        else if(message.type === "status" && this.standing && this.phase !== "open") {                // Python cannot say it
            this.#change({ standing: { ...this.standing, status: message.status, reason: message.reason } });
        }
    }

    /** The worker has ended by itself. @param {string} key @param {string} reason */
    #ended(key, reason) {
        if(this.#here?.key !== key) return;
        this.#dismiss();
        if(reason === "refused") this.#cannot("something on the way refuses its WebSocket");
        if(reason === "unreachable") this.#log("Python could not be reached for a minute: the machine in this page was ended, and kept as it was");
        this.#change({ transport: "socket" });
        this.#join().catch(() => {});
        if(this.#python) this.#watches.restart();
    }

    #dismiss() {
        this.#here?.channel.lose("the machine does not run in this page any more");
        this.#here?.dismiss();
        this.#here = this.#hosts = null;
    }

    // -- what views see ----------------------------------------------------------------------------------------------

    /** @param {string} explanation */
    #end(explanation) {
        this.#over.abort();
        this.#dismiss();
        this.#change({ phase: "ended", explanation, transport: "socket" });
    }

    /** @param {Partial<Pick<Connection, "standing" | "live" | "phase" | "explanation" | "transport">>} news */
    #change(news) {
        const before = [this.standing, this.live, this.phase, this.explanation, this.transport];
        Object.assign(this, news);
        this.live &&= this.#mayBeLive;
        if([this.standing, this.live, this.phase, this.explanation, this.transport].some((value, n) => value !== before[n])) this.dispatchEvent(new Event("change"));
        if(news.standing || news.transport) void this.#askLive();
    }

    /** @param {string} name @param {number} loaded @param {number | null} total */
    #download(name, loaded, total) {
        this.dispatchEvent(new CustomEvent("download", { detail: { name, loaded, total } }));
    }

    /** @param {string} text */
    #log(text) {
        if(this.#said.has(text)) return;     // the page and its worker may find out the same
        this.#said.add(text);
        this.dispatchEvent(new CustomEvent("log", { detail: text }));
    }
}

/** @param {string} why */
function cannotRun(why) {
    return `this page cannot run the machine (${why}): it runs on the server`;
}

/** The page's connection to the machine that a widget shows. @param {{model: Model, hub: Hub}} context @returns {Connection} */
export function connect({ model, hub }) {
    /** @type {{connections: Map<string, Connection>}} */
    const { connections } = registry(), key = `${hub.id} ${model.get("machine")}`, known = connections.get(key);
    if(known && known.phase !== "ended") {
        known.adopt({ model, hub });
        return known;
    }
    const connection = new Connection({ model, hub });
    connections.set(key, connection);
    return connection;
}
