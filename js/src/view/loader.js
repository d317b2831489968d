/**
 * The widget's module (anywidget's `_esm`): finds the Hub, fetches the view from it by digest, and shows it.
 *
 * It is a synced trait of every widget and is saved into notebooks, so it is small and does only this. `initialize` returns
 * at once, since anywidget gives it two seconds. Where there is no way to the Hub the kernel sends the view over the
 * widget's messages; where there is no kernel, the reader of a saved notebook has the picture below.
 */

import { Cache } from "../web/cache.js";
import { unzip } from "../web/code.js";
import { Hub, load, Unreachable } from "../web/hub.js";
import { registry } from "../web/registry.js";

const TRIES = 3;                             // of the way to the Hub before the kernel is asked
const HASTE = 1500;                          // ms after which a person is told what is waited for

/** @typedef {import("./connection.js").Model} Model */

/** Ask the kernel over the widget's messages; it answers when it is idle, and never when there is none. @param {Model} model @param {string} type @returns {Promise<{content: any, buffers: DataView[]}>} */
function ask(model, type) {
    return new Promise((resolve, reject) => {
        const hear = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
            if(content?.type !== type) return;
            model.off("msg:custom", hear);
            resolve({ content, buffers });
        };
        model.on("msg:custom", hear);
        try {
            model.send({ type });
        }
        catch(error) {
            reject(error);
        }
    });
}

/** @param {Model} model */
function findHub(model) {
    const place = { port: model.get("port"), hubId: model.get("hub_id"), bundle: model.get("bundle"), ticket: model.get("ticket") };
    return new Hub(place, () => ask(model, "ticket").then(({ content }) => content.ticket, () => null));
}

/** The view's code, from this browser or from the Hub, else from the kernel. @param {Model} model @param {Hub} hub */
async function fetchView(model, hub) {
    const cache = new Cache(), digest = model.get("bundle");
    return cache.fetch(digest, async () => {
        for(let attempt = 0; ; attempt++) {
            try {
                return await load(await hub.open(attempt > 0), digest);
            }
            catch(error) {
                if(!(error instanceof Unreachable) || attempt >= TRIES - 1) break;
                await hub.rest(attempt);
            }
        }
        const { buffers: [{ buffer, byteOffset, byteLength }] } = await ask(model, "bundle");
        return new Uint8Array(buffer, byteOffset, byteLength);
    });
}

/** The module of the view, once per page. @param {Model} model @param {Hub} hub @returns {Promise<typeof import("./main.js")>} */
function importView(model, hub) {
    const { views } = registry(), key = `${hub.id} ${model.get("bundle")}`;        // a kernel that is gone may leave its own waiting for ever
    let view = views.get(key);
    if(!view) {
        view = fetchView(model, hub).then(async bytes => {
            const url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (await unzip(bytes))], { type: "text/javascript" }));
            return import(url).finally(() => URL.revokeObjectURL(url));
        });
        view.catch(() => views.delete(key));
        views.set(key, view);
    }
    return view;
}

/** One sentence, until there is a view. @param {HTMLElement} el */
function showSentence(el) {
    const sentence = document.createElement("p");
    sentence.dataset.v86lab = "loader";
    sentence.setAttribute("role", "status");
    el.append(sentence);
    return sentence;
}

/** @type {WeakMap<Model, Hub>} */
const hubs = new WeakMap();

/** @param {Model} model */
function hubOf(model) {
    let hub = hubs.get(model);
    if(!hub) {
        const fresh = hub = findHub(model);
        hubs.set(model, fresh);
        model.on("change:ticket", () => fresh.offer(model.get("ticket")));
    }
    return hub;
}

export default {
    /** Begin to look for everything, before a cell shows it. @param {{model: Model}} context */
    initialize({ model }) {
        importView(model, hubOf(model)).then(({ connect }) => connect({ model, hub: hubOf(model) })).catch(() => {});
    },

    /** @param {{model: Model, el: HTMLElement, signal?: AbortSignal}} context */
    render({ model, el, signal }) {
        const own = new AbortController(), sentence = showSentence(el), name = model.get("name");
        signal?.addEventListener("abort", () => own.abort());
        const slow = setTimeout(() => { sentence.textContent = `${name}: this page waits for the kernel. If nothing follows, run the cell again.`; }, HASTE);
        const showView = async () => {
            try {
                const { connect, show } = await importView(model, hubOf(model));
                if(own.signal.aborted) return;
                sentence.remove();
                show(el, connect({ model, hub: hubOf(model) }), { signal: own.signal, model });
            }
            catch(error) {
                sentence.textContent = `${name}: ${/** @type {Error} */ (error).message}. Run the cell again to try once more.`;
            }
            finally {
                clearTimeout(slow);
            }
        };
        void showView();
        return () => own.abort();
    },
};
