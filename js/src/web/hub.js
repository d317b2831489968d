/**
 * The way from a page to the Hub of a kernel: where it is, and the secret that opens it.
 *
 * Rules:
 * - a page on a loopback address tries 127.0.0.1 itself, every page the Jupyter server's proxy; whoever answers must
 *   know the Hub's id before it is told anything;
 * - the secret comes from this tab's sessionStorage, else for the widget's ticket, else for one that the kernel is asked
 *   for over the widget's messages, which it answers when it is idle.
 */

const PROBE_PATIENCE = 8000;                 // ms; a proxy may have to wake its server
const DIRECT_HEAD_START = 300;               // ms that the direct way may be slower than the proxy
const TICKET_PATIENCE = 10000;
const FIRST_REST = 100, LONGEST_REST = 5000;
const PATIENT_TRIES = 12;                    // half a minute; a server that is asked for ever never counts as idle
const LATER_REST = 15000;

const CUT = "the connection to the kernel broke";

/** The Hub did not answer: the network, the proxy, or a kernel that is gone. */
export class Unreachable extends Error {
    name = "Unreachable";                    // each widget has a class of its own
}

/** The Hub is there, but this page cannot prove that it may use it. */
export class Refused extends Error {}

/** @param {number} ms @returns {Promise<void>} */
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/**
 * Wait before try number `attempt` (from 0): twice as long each time, up to 5 s, give or take; after half a minute of that
 * a quarter of a minute each, and not at all while nobody looks. Over early when the network comes back or the page is looked at again.
 *
 * @param {number} attempt @param {AbortSignal} [signal] @returns {Promise<void>}
 */
export function rest(attempt, signal) {
    const patient = attempt < PATIENT_TRIES, ms = (patient ? Math.min(LONGEST_REST, FIRST_REST * 2 ** attempt) : LATER_REST) * (0.5 + Math.random() / 2);
    return new Promise(resolve => {
        const done = () => {
            clearTimeout(timer);
            removeEventListener("online", done);
            document.removeEventListener("visibilitychange", seen);
            signal?.removeEventListener("abort", done);
            resolve();
        };
        const seen = () => { if(!document.hidden) done(); };
        const timer = setTimeout(() => { if(patient || !document.hidden) done(); }, ms);
        addEventListener("online", done);
        document.addEventListener("visibilitychange", seen);
        signal?.addEventListener("abort", done);
        if(signal?.aborted) done();
    });
}

/**
 * @typedef {object} Place   what the widget's traits say
 * @property {number} port
 * @property {string} hubId
 * @property {string} bundle   the digest of something that the Hub serves: tells a good secret from a stale one
 * @property {string} ticket
 */

export class Hub {
    #place;
    #ask;
    #ticket;
    /** Takes a ticket that is waited for. @type {(ticket: string) => void} */
    #offered = () => {};
    /** Where it answered, with a slash at its end. @type {string | null} */
    #base = null;
    /** @type {string | null} */
    #secret = null;
    /** @type {Promise<string> | null} */
    #opening = null;

    /** @param {Place} place @param {() => Promise<string | null>} ask   a ticket from the kernel; null when it does not answer */
    constructor(place, ask) {
        this.#place = place;
        this.#ticket = place.ticket;
        this.#ask = ask;
    }

    get id() {
        return this.#place.hubId;
    }

    /** A ticket came with the widget's traits. @param {string} ticket */
    offer(ticket) {
        this.#ticket = ticket;
        this.#offered(ticket);
    }

    /** See `rest`. */
    rest = rest;

    /**
     * The Hub's URL with the secret, ending in a slash. Throws `Unreachable` or `Refused`.
     *
     * @param {boolean} [fresh]   look again, even if it was found before
     * @returns {Promise<string>}
     */
    open(fresh = false) {
        if(fresh) this.#opening = null;
        this.#opening ??= this.#open().catch(error => {
            this.#opening = null;
            throw error;
        });
        return this.#opening;
    }

    async #open() {
        this.#base = await this.#find();
        for(const secret of new Set([this.#secret, recall(this.id)])) {
            if(secret && await this.#accepts(secret)) return this.#enter(secret);
        }
        const secret = await this.#exchange(this.#ticket) ?? await this.#exchange(await this.#newTicket());
        if(!secret) throw new Refused("the kernel did not let this page in: run the cell again");
        remember(this.id, secret);
        return this.#enter(secret);
    }

    /** @param {string} secret */
    #enter(secret) {
        this.#secret = secret;
        return `${this.#base}${secret}/`;
    }

    /** From the kernel, or with the traits of a widget that is just being made; "" when neither brings one. @returns {Promise<string>} */
    async #newTicket() {
        if(this.#ticket) return this.#ticket;
        const offered = new Promise(resolve => { this.#offered = resolve; });
        return await Promise.race([this.#ask(), offered, sleep(TICKET_PATIENCE)]) ?? "";
    }

    /** @returns {Promise<string>} */
    async #find() {
        const { port } = this.#place, { origin, hostname, protocol } = location;
        const proxied = `${origin}${baseUrl()}proxy/127.0.0.1:${port}/`;
        const near = protocol === "http:" && ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
        const tries = [near ? this.#answers(`http://127.0.0.1:${port}/`) : Promise.resolve(false), this.#answers(proxied)];
        const first = await Promise.race([tries[0], tries[1].then(async () => { await sleep(DIRECT_HEAD_START); return false; })]);
        if(first) return `http://127.0.0.1:${port}/`;
        if(await tries[1]) return proxied;
        if(await tries[0]) return `http://127.0.0.1:${port}/`;
        throw new Unreachable("this page cannot reach the kernel's machine (is jupyter-server-proxy installed beside the notebook server, and does the kernel run there?)");
    }

    /** @param {string} base */
    async #answers(base) {
        try {
            const answer = await fetch(base + this.id, { cache: "no-store", signal: AbortSignal.timeout(PROBE_PATIENCE) });
            return answer.ok && (await answer.json()).hub === this.id;
        }
        catch {
            return false;
        }
    }

    /** @param {string} secret */
    async #accepts(secret) {
        const answer = await this.#fetch(`${secret}/blob/${this.#place.bundle}`, { method: "HEAD", cache: "no-store" });
        return answer.ok;
    }

    /** @param {string} ticket @returns {Promise<string | null>} */
    async #exchange(ticket) {
        if(!ticket) return null;
        this.#ticket = ticket;               // good once, but again where the answer was lost
        const answer = await this.#fetch(`${this.id}/session`, { method: "POST", body: ticket });
        const { secret } = answer.ok ? await answer.json().catch(() => { throw new Unreachable(CUT); }) : { secret: null };
        this.#ticket = "";
        return secret;
    }

    /** @param {string} path @param {RequestInit} options */
    async #fetch(path, options) {
        const answer = await fetch(this.#base + path, options).catch(() => null);
        if(!answer || answer.status >= 500) throw new Unreachable(CUT);
        return answer;
    }
}

/** @param {string} base   of the Hub, with the secret @param {string} digest @returns {Promise<Uint8Array>} */
export async function load(base, digest) {
    for(let attempt = 0; ; attempt++) {
        const answer = await fetch(`${base}blob/${digest}`).catch(() => null);
        if(answer?.ok) {
            const bytes = await answer.arrayBuffer().catch(() => null);          // cut off on the way
            if(bytes) return new Uint8Array(bytes);
        }
        if(attempt === 5 || answer && !answer.ok && answer.status < 500) throw new Unreachable(`a download failed (${answer?.status ?? "no answer"})`);
        await rest(attempt);
    }
}

/** Where the Jupyter server is below its origin, with slashes at both ends. */
function baseUrl() {
    const data = document.getElementById("jupyter-config-data")?.textContent;
    let base = document.body.dataset.baseUrl ?? "/";
    try {
        if(data) base = JSON.parse(data).baseUrl ?? base;
    }
    catch {}
    return `/${base}/`.replace(/\/+/g, "/");
}

/** @param {string} hubId */
function recall(hubId) {
    try {
        return sessionStorage.getItem(`v86lab:${hubId}`);
    }
    catch {
        return null;                         // a page may be forbidden to store anything
    }
}

/** @param {string} hubId @param {string} secret */
function remember(hubId, secret) {
    try {
        sessionStorage.setItem(`v86lab:${hubId}`, secret);
    }
    catch {}
}
