/**
 * One machine as a page knows it, shared by all its views: what Python says of it, and the engine, wherever that runs.
 *
 * Rules:
 * - Python is reached by a WebSocket to the Hub, or, where there is no way to the Hub, by the widget's messages; either is
 *   dialled again for as long as the page lives, and the Hub is preferred as soon as it can be reached;
 * - when Python offers it, the machine runs in a worker of this page, and what concerns the engine goes straight there;
 * - what this page cannot do is told to Python, which then runs the machine elsewhere: there is always a way on.
 */

import { Cache } from "../web/cache.js";
import { Channel } from "../web/channel.js";
import { Checkpoints } from "../web/checkpoints.js";
import { CommLink, SocketLink } from "../web/links.js";
import { registry } from "../web/registry.js";
import { missing, spawn } from "../web/spawn.js";
import { Watches } from "../web/watches.js";

const FOR_PYTHON = ["join", "start_here", "take_snapshot", "restore_snapshot"];
const WATCHED = ["console_output", "frame", "activity"];
const NOTHING = { console: false, screen: false, activity: false };
const REFUSALS = 3;                          // of the socket, in a row, by a Hub that is there
const TRIES_BEFORE_COMM = 3;
const PATIENT_TRIES = 8;                     // some 15 s
const LOOK_FOR_HUB = 15000;                  // ms, while the widget's messages have to do
const BROKEN = "the connection to Python broke; it is being made again";

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
 * @property {string} probe
 * @property {(fresh?: boolean) => Promise<string>} open
 * @property {() => Promise<boolean>} alive
 * @property {(attempt: number, signal?: AbortSignal) => Promise<void>} rest
 *
 * @typedef {"connecting" | "open" | "lost" | "ended"} Phase
 */

/**
 * Events: "change" (`standing`, `phase`, `explanation` or `transport` changed), "download" (`detail`: `{name, loaded, total}`),
 * "log" (`detail`: a text for a person).
 */
export class Connection extends EventTarget {
    name;
    /** @type {Standing | null} */
    standing = null;
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
        return channel ? channel.request(body, payload) : Promise.reject(new Error(this.explanation || "not connected yet"));
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
        for(let attempt = 0, refusals = 0; !signal.aborted; attempt++) {
            if(attempt) await this.#hub.rest(attempt, signal);
            try {
                const base = await this.#hub.open(attempt > 0);
                const link = new SocketLink(`${base.replace(/^http/, "ws")}view/${this.#machine}`);
                const opened = await link.opened;
                if(opened) {
                    attempt = refusals = 0;
                    await this.#speak(link, "socket", base);
                }
                else refusals++;
                if(link.givenUp || refusals >= REFUSALS) this.#end("Python has let go of this machine: run the cell again for a new view");
            }
            catch(error) {
                refusals = 0;
                const again = attempt < PATIENT_TRIES ? BROKEN : "Python cannot be reached: if its kernel was restarted, run the cell again";
                this.#change({ phase: "lost", explanation: this.standing && error instanceof Error && error.name === "Unreachable" ? again : /** @type {Error} */ (error).message });
                if(attempt >= TRIES_BEFORE_COMM && !this.#here) await this.#speakOverComm();
            }
        }
    }

    async #speakOverComm() {
        const link = new CommLink(this.#model);
        const found = new AbortController();
        const look = async () => {
            while(!found.signal.aborted) {
                await new Promise(resolve => setTimeout(resolve, LOOK_FOR_HUB));
                if(!document.hidden && await this.#hub.open(true).then(() => true, () => false)) return link.close();
            }
        };
        void look();
        await this.#speak(link, "comm", null);
        found.abort();
    }

    /** Until the link closes. @param {SocketLink | CommLink} link @param {"socket" | "comm"} transport @param {string | null} base   of the Hub */
    async #speak(link, transport, base) {
        const channel = new Channel(frame => link.send(frame), message => this.#hear(message));
        link.onframe = frame => {
            if(this.phase !== "open") this.#opened(transport);
            channel.receive(frame);
        };
        this.#python = channel;
        this.#base = base;
        const hangUp = () => link.close();
        this.#over.signal.addEventListener("abort", hangUp);
        this.#join().catch(() => {});
        await link.closed;
        this.#over.signal.removeEventListener("abort", hangUp);
        this.#python = null;
        channel.lose(BROKEN);
        if(!this.#over.signal.aborted) this.#change({ phase: "lost", explanation: BROKEN });
    }

    /** The other end has said something. @param {"socket" | "comm"} transport */
    #opened(transport) {
        const slow = "this page cannot reach the kernel's machine, so it is shown by way of the notebook's messages: "
            + "jupyter-server-proxy, installed beside the notebook server, makes it run here";
        this.#change({
            phase: "open", transport: this.#here ? "worker" : transport,
            explanation: transport === "comm" ? slow : this.#unable && `this page cannot run the machine (${this.#unable}): it runs on the server`,
        });
        if(!this.#here) this.#watches.restart();
    }

    async #join() {
        const kept = await this.#checkpoints.find(this.#hub.id, this.#machine);
        await this.#python?.request({ type: "join", page: registry().page, able: this.#base !== null && !this.#unable, hosts: this.#hosts, kept });
    }

    /** A notice of Python, or one of the engine that came by way of it. @param {any} message */
    #hear(message) {
        switch(message.type) {
        case "standing": {
            const { type: _, payload: __, ...standing } = message;
            return this.#change({ standing });
        }
        case "offer": return void (this.#base && this.#host(message, this.#base));
        case "log": return this.#log(message.text);
        case "download": return this.#download(message.name, message.loaded, message.total);
        default: if(!this.#here && WATCHED.includes(message.type)) this.#watches.hear(message);
        }
    }

    // -- the engine in this page -------------------------------------------------------------------------------------

    /** Run the machine here. @param {Offer} offer @param {string} base */
    async #host(offer, base) {
        if(this.#hosts === offer.key) return;
        this.#dismiss();
        this.#hosts = offer.key;
        try {
            const place = { base, hubId: this.#hub.id, probe: this.#hub.probe, machine: this.#machine, offer };
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
            this.#unable = /** @type {Error} */ (error).message;
            this.#change({ explanation: `this page cannot run the machine (${this.#unable}): it runs on the server` });
            this.#join().catch(() => {});
        }
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

    /** @param {Partial<Pick<Connection, "standing" | "phase" | "explanation" | "transport">>} news */
    #change(news) {
        const before = [this.standing, this.phase, this.explanation, this.transport];
        Object.assign(this, news);
        if([this.standing, this.phase, this.explanation, this.transport].some((value, n) => value !== before[n])) this.dispatchEvent(new Event("change"));
    }

    /** @param {string} name @param {number} loaded @param {number | null} total */
    #download(name, loaded, total) {
        this.dispatchEvent(new CustomEvent("download", { detail: { name, loaded, total } }));
    }

    /** @param {string} text */
    #log(text) {
        this.dispatchEvent(new CustomEvent("log", { detail: text }));
    }
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
