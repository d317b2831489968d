/**
 * The 9p device's queue of v86: requests out of the guest's memory, answers back into it.
 *
 * v86's own handlers (lib/9p.js) find an answer's buffers by its tag, which a guest may use twice, believe any length that a
 * guest states, and throw in promises. So requests are taken from the queue here, at the moment at which the guest
 * says that there are some.
 */

import { GuestFault } from "../fault.js";
import { MOST_MESSAGE } from "./wire.js";

/**
 * @param {any} device   v86's
 * @param {import("./server.js").Server} server
 * @param {(answer: () => void) => void} enter   for answers that come later: runs them inside the emulator's guard
 */
export function connect(device, server, enter) {
    const { virtqueue: queue } = device;
    let serving = false;
    queue.has_request = () => {              // v86 asks in a loop, and once more in `pop_request`
        if(serving) return true;
        serving = true;
        try {
            while(queue.count_requests()) serve(queue, server, enter);
        }
        finally {
            serving = false;
        }
        return false;
    };
}

/** @param {any} queue @param {import("./server.js").Server} server @param {(answer: () => void) => void} enter */
function serve(queue, server, enter) {
    const chain = queue.pop_request(), place = queue.used_addr, request = guarded(() => {
        const bytes = new Uint8Array(Math.min(Math.max(0, chain.length_readable), MOST_MESSAGE));
        chain.get_next_blob(bytes);
        return bytes;
    });
    let now = true;
    server.receive(request, Math.max(0, chain.length_writable), message => {
        const answer = () => guarded(() => {
            if(queue.used_addr !== place) return;            // the guest's driver has begun anew
            chain.set_next_blob(message);
            queue.push_reply(chain);
            queue.flush_replies();
        });
        if(now) answer();
        else enter(answer);
    });
    now = false;
}

/** Buffers may lie where there is no memory. @template R @param {() => R} access @returns {R} */
function guarded(access) {
    try {
        return access();
    }
    catch(error) {
        throw new GuestFault("emulator", `the guest gave its 9p device buffers that cannot be: ${/** @type {Error} */ (error).message}`);
    }
}
