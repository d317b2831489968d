/**
 * What a view says about its machine, and what can be done with it: a function of the connection, without any DOM.
 *
 * Rules: whenever the machine does not run, there is a sentence that says why, and a button where there is a remedy; a
 * machine in this page goes on, and can be used, while Python is not reached. A machine with a seed stands still between
 * Python's calls, which is its usual state: nothing lies over what it shows.
 */

import { formatTime } from "./amount.js";

/**
 * @typedef {import("../core/protocol.js").Standing} Standing
 * @typedef {"connecting" | "open" | "lost" | "ended"} Phase
 * @typedef {object} Situation
 * @property {Phase} phase
 * @property {string} explanation
 * @property {"worker" | "socket" | "comm"} transport
 * @property {Standing | null} standing
 * @property {boolean} live   a machine with a seed follows the clock on the wall
 *
 * @typedef {"good" | "busy" | "rest" | "bad"} Tone
 * @typedef {{label: string, name: string, body: {type: string, [field: string]: unknown}, primary?: boolean}} Remedy
 * @typedef {{label: string, icon: string, body: {type: "pause" | "resume"}}} Drive
 * @typedef {object} Condition
 * @property {string} word   for the status line
 * @property {Tone} tone
 * @property {string} sentence   "" when there is nothing to say
 * @property {Remedy[]} remedies
 * @property {Drive | null} drive   what lets the guest run or stops it
 * @property {"none" | "faded" | "paused"} cover   how much of the guest's picture is still to be trusted
 * @property {boolean} usable   requests reach an engine with a machine in it
 * @property {string} withoutPython   why what Python does cannot be done, "" when it can
 * @property {string} advice   something to know about a machine that can be used, "" when there is nothing
 * @property {boolean} runs   keys reach the guest
 * @property {boolean} waits   it stands between calls: what is typed into its terminal waits for the next one, keys are refused
 * @property {boolean} answers   the terminal may answer the guest: a call of Python must not depend on who looks on
 * @property {boolean} fleeting   may be over before it is read
 * @property {number | null} seed
 * @property {string} place   where the machine runs, "" when it does not
 */

/** @type {Record<"pause" | "run" | "live" | "stop", Drive>} */
const DRIVES = {
    pause: { label: "Pause", icon: "pause", body: { type: "pause" } },
    run: { label: "Run", icon: "run", body: { type: "resume" } },
    live: { label: "Go live", icon: "run", body: { type: "resume" } },
    stop: { label: "Stop", icon: "stop", body: { type: "pause" } },
};
const RESET = { label: "Reset", name: "remedy-reset", body: { type: "reset" }, primary: true };

/** @param {Situation} situation @param {Date} [now] @returns {Condition} */
export function conditionOf(situation, now = new Date()) {
    const { phase, transport, standing } = situation, explanation = sentenceOf(situation.explanation);
    const place = standing ? placeOf(standing) : "", seed = standing?.seed ?? null;
    /** @param {string} word @param {Tone} tone @param {string} sentence @param {Partial<Condition>} [more] @returns {Condition} */
    const say = (word, tone, sentence, more) =>
        ({
            word, tone, sentence, remedies: [], drive: null, cover: "faded", usable: false, runs: false, waits: false, answers: seed === null, fleeting: false,
            place, seed, withoutPython: phase === "open" ? "" : "Python is not reached", advice: "", ...more,
        });

    if(phase === "ended") return say("Ended", "rest", explanation || "This view has ended. Run the cell again for a new one.", { place: "" });
    if(phase === "lost" && transport !== "worker") return say("Disconnected", "bad", explanation || "The connection to the machine is lost. Trying again…");
    if(phase === "connecting" || !standing) return say("Connecting", "busy", explanation || "Connecting to the machine…");
    const described = seed === null || !["running", "paused"].includes(standing.status) ? standingOf(standing, say, now) : seededOf(situation, say);
    return { ...described, advice: explanation };
}

/**
 * A machine with a seed, switched on.
 *
 * @param {Situation} situation @param {(word: string, tone: Tone, sentence: string, more?: Partial<Condition>) => Condition} say
 */
function seededOf({ standing, live }, say) {
    const more = /** @type {const} */ ({ cover: "none", usable: true });
    if(standing?.status === "paused") {
        return say("Stopped between calls", "rest", "The guest moves only inside a call such as vm.run. Live, its clock follows the one on the wall, and what you type is recorded.",
            { ...more, drive: DRIVES.live, waits: true });
    }
    if(live) return say("Live", "good", "The guest's clock follows the one on the wall. What you type is recorded.", { ...more, drive: DRIVES.stop, runs: true, answers: true });
    return say("Running", "good", "", { ...more, drive: DRIVES.live, runs: true, fleeting: true });
}

/**
 * @param {Standing} standing @param {(word: string, tone: Tone, sentence: string, more?: Partial<Condition>) => Condition} say @param {Date} now
 */
function standingOf(standing, say, now) {
    const reason = sentenceOf(standing.reason ?? "");
    switch(standing.status) {
    case "running": return say("Running", "good", "", { cover: "none", usable: true, runs: true, drive: DRIVES.pause });
    case "paused": return say("Paused", "rest", "Paused. Guest time stands still.", {
        cover: "paused", usable: true, drive: DRIVES.run, remedies: [{ label: "Run", name: "remedy-run", body: { type: "resume" }, primary: true }],
    });
    case "off": return say("Off", "rest", reason || "The machine is switched off.", {
        usable: true, remedies: [{ ...RESET, label: "Switch on" }],
    });
    case "faulted": return say("Faulted", "bad", reason || "The guest has crashed.", { usable: true, remedies: [RESET] });
    case "lost": return say("Lost", "bad", reason || "The page that ran this machine is gone.", { remedies: beginnings(standing, now) });
    case "closed": return say("Closed", "rest", reason || "The machine was closed. Run the cell again for a new one.", { place: "" });
    case "starting": return say("Starting", "busy", reason || "Starting the machine…");
    default: return say("Waiting", "busy", "The machine starts when it is first used.");
    }
}

/** @param {Standing} standing @param {Date} now @returns {Remedy[]} */
function beginnings({ kept }, now) {
    const afresh = { label: "Boot afresh", name: "remedy-afresh", body: { type: "start_here", checkpoint: null }, primary: !kept };
    if(!kept) return [afresh];
    return [{
        label: `Go on from ${formatTime(kept.at, now)}`, name: "remedy-checkpoint", body: { type: "start_here", checkpoint: kept.digest }, primary: true,
    }, afresh];
}

/** @param {Standing} standing */
function placeOf({ engine, here }) {
    if(engine === "node") return "server";
    if(engine === "browser") return here ? "this browser" : "another page";
    return "";
}

/** Messages begin small and have no full stop. @param {string} text */
function sentenceOf(text) {
    return text && text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}
