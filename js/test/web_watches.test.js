import assert from "node:assert/strict";
import { test } from "node:test";

import { Watches } from "../src/web/watches.js";

/** @param {string} text */
const bytes = text => new TextEncoder().encode(text);
/** @returns {Promise<void>} */
const turn = () => new Promise(resolve => setImmediate(resolve));

/** An engine as far as `watch` goes: keeps what was asked; answers at once, or when the test says so. */
class Engine {
    shown = "";
    /** @type {any[]} */
    asked = [];
    absent = false;
    /** @type {(() => void)[]} */
    held = [];
    holds = false;
    watches = new Watches(async wanted => {
        this.asked.push(wanted);
        if(this.absent) throw new Error("no engine");
        if(this.holds) await new Promise(resolve => this.held.push(() => resolve(undefined)));
        return { value: {}, payload: bytes(this.shown) };
    });

    /** @param {string} text */
    show(text) {
        this.shown += text;
        this.watches.hear({ type: "console_output", payload: bytes(text) });
    }
}

/** A terminal: what a person would read in it. */
class Terminal {
    text = "nothing yet";
    frames = 0;

    listener = (/** @type {any} */ seen) => {
        if(seen.type !== "console_output") this.frames++;
        else this.text = (seen.replay ? "" : this.text) + new TextDecoder().decode(seen.payload);
    };
}

test("every view shows the whole console once, whenever it comes", async () => {
    const engine = new Engine(), early = new Terminal(), late = new Terminal();
    engine.shown = "boot ";
    engine.watches.add({ console: true }, early.listener);
    await turn();
    engine.show("login ");
    engine.watches.add({ console: true }, late.listener);
    await turn();
    engine.show("shell");
    assert.equal(early.text, "boot login shell");
    assert.equal(late.text, "boot login shell");
});

test("what is shown while a replay is under way is shown once", async () => {
    const engine = new Engine(), terminal = new Terminal();
    engine.holds = true;
    engine.watches.add({ console: true }, terminal.listener);
    await turn();
    engine.show("early ");                   // it will be in the replay
    engine.held[0]();
    await turn();
    engine.show("later");
    assert.equal(terminal.text, "early later");
});

test("after an interruption all views begin anew, and an answer from before it does not count", async () => {
    const engine = new Engine(), terminal = new Terminal();
    engine.shown = "old";
    engine.holds = true;
    engine.watches.add({ console: true }, terminal.listener);
    await turn();
    engine.watches.restart();
    engine.holds = false;
    engine.shown = "new";
    await turn();
    assert.equal(terminal.text, "new");
    engine.shown = "stale";
    engine.held[0]();
    await turn();
    assert.equal(terminal.text, "new");
});

test("a terminal that has seen the console is given all of another engine's", async () => {
    const engine = new Engine(), terminal = new Terminal();
    engine.shown = "first";
    engine.watches.add({ console: true }, terminal.listener);
    await turn();
    engine.shown = "second ";
    engine.watches.restart();
    engine.watches.hear({ type: "console_output", payload: bytes("late words of the first") });
    await turn();
    engine.show("goes on");
    assert.equal(terminal.text, "second goes on");
});

test("without an engine nothing is replayed, until there is one", async () => {
    const engine = new Engine(), terminal = new Terminal();
    engine.absent = true;
    engine.watches.add({ console: true }, terminal.listener);
    await turn();
    assert.equal(terminal.text, "nothing yet");
    engine.absent = false;
    engine.watches.restart();
    await turn();
    assert.equal(terminal.text, "");
});

test("the engine is asked for what any view wants, and only when that changes", async () => {
    const engine = new Engine(), one = new Terminal(), other = new Terminal();
    const first = engine.watches.add({ activity: true }, one.listener), second = engine.watches.add({ screen: true }, other.listener);
    await turn();
    assert.deepEqual(engine.asked.splice(0), [{ console: false, screen: true, activity: true }]);
    second.set({});
    await turn();
    assert.deepEqual(engine.asked.splice(0), [{ console: false, screen: false, activity: true }]);
    second.set({ activity: true });
    second.close();
    await turn();
    assert.deepEqual(engine.asked.splice(0), []);
    first.close();
    await turn();
    assert.deepEqual(engine.asked.splice(0), [{ console: false, screen: false, activity: false }]);
});

test("a view that turns to the screen makes the engine send all of it again", async () => {
    const engine = new Engine(), terminal = new Terminal(), view = engine.watches.add({}, terminal.listener);
    engine.watches.add({ screen: true }, () => {});
    await turn();
    engine.asked.length = 0;
    view.set({ screen: true });
    await turn();
    assert.equal(engine.asked.length, 1);
    engine.watches.hear({ type: "frame" });
    assert.equal(terminal.frames, 1);
    view.set({});
    engine.watches.hear({ type: "frame" });
    engine.watches.hear({ type: "activity" });
    assert.equal(terminal.frames, 1);
});

test("a view that is closed hears nothing more", async () => {
    const engine = new Engine(), terminal = new Terminal(), view = engine.watches.add({ console: true }, terminal.listener);
    await turn();
    view.close();
    view.close();
    engine.show("too late");
    assert.equal(terminal.text, "");
});
