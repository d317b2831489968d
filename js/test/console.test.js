import assert from "node:assert/strict";
import { test } from "node:test";

import { Console } from "../src/core/console.js";
import { RequestError } from "../src/core/fault.js";

/** @param {string} text   one character for each byte */
const bytes = text => Uint8Array.from(text, character => character.charCodeAt(0));
/** @param {Uint8Array} data */
const latin1 = data => Buffer.from(data).toString("latin1");

/** A console whose announcements and matches are logged in order, and whose timers the test runs. */
function consoleWithLog() {
    const log = /** @type {string[]} */ ([]), timers = /** @type {Set<() => void>} */ (new Set());
    const console = new Console(data => log.push(`announced ${latin1(data)}`), (_ms, callback) => {
        timers.add(callback);
        return () => timers.delete(callback);
    });
    const show = (/** @type {string} */ text) => {
        for(const byte of bytes(text)) console.receive(byte);
        console.settle();
    };
    return { console, log, timers, show };
}

/** @param {...string} literals */
const literal = (...literals) => literals.map(text => ({ literal: text }));
/** Let every promise that can go on do so. @returns {Promise<void>} */
const turn = () => new Promise(resolve => setImmediate(resolve));
const FOREVER = new AbortController().signal;

/** A UART that holds what it is sent until the test takes it. */
function uart() {
    const input = /** @type {number[]} */ ([]), events = /** @type {string[]} */ ([]);
    const emulator = /** @type {any} */ ({
        get serialBacklog() { return input.length; },
        enter: (/** @type {() => void} */ call) => { events.push("enter"); call(); events.push("leave"); },
        bus: { send: (/** @type {string} */ name, /** @type {number} */ byte) => {
            assert.equal(name, "serial0-input");
            assert.equal(events.at(-1), "enter", "the emulator was called outside its guard");
            input.push(byte);
        } },
    });
    return { emulator, input };
}

test("typing goes in 16 bytes at a time, only when the UART is empty, in order and through the guard", () => {
    const { console } = consoleWithLog(), { emulator, input } = uart();
    const text = Array.from({ length: 100 }, (_, n) => String.fromCharCode(n)).join("");
    console.send(bytes(text.slice(0, 40)));
    console.send(bytes(text.slice(40, 41)));
    console.send(bytes(text.slice(41)));
    let typed = "", rounds = 0;
    while(typed.length < text.length) {
        console.pump(emulator);
        assert.ok(input.length > 0 && input.length <= 16, `${input.length} bytes`);
        const before = input.length;
        console.pump(emulator);
        assert.equal(input.length, before, "the UART was not empty");
        typed += latin1(Uint8Array.from(input.splice(0)));
        rounds++;
    }
    assert.equal(typed, text);
    assert.ok(rounds <= 8);
    console.pump(emulator);
    assert.equal(input.length, 0);
});

test("what was typed before a reset does not reach the new instance", () => {
    const { console } = consoleWithLog(), { emulator, input } = uart();
    console.send(bytes("rm -rf /\n"));
    console.clear();
    console.pump(emulator);
    assert.equal(input.length, 0);
});

test("output is announced in batches, once, in order", () => {
    const { console, log, timers, show } = consoleWithLog();
    show("one ");
    show("two ");
    assert.deepEqual([log, timers.size], [[], 1]);
    for(const callback of timers) callback();
    assert.deepEqual([log.join("").replaceAll("announced ", ""), timers.size], ["one two ", 0]);
    show("three");
    console.announce();
    assert.equal(timers.size, 0);
    console.announce();
    assert.equal(log.join("").replaceAll("announced ", ""), "one two three");
});

test("a tick without output starts no batch", () => {
    const { console, timers } = consoleWithLog();
    console.settle();
    assert.equal(timers.size, 0);
});

test("what is matched has been announced before the match is known, and everything up to it is consumed", async () => {
    const { console, log, show } = consoleWithLog();
    show("boot\n");
    const found = console.expect(literal("login: ", "never"), FOREVER).then(match => {
        log.push("matched");
        return match;
    });
    show("host log");
    await turn();
    assert.deepEqual(log, []);
    show("in: rest");
    assert.deepEqual(await found, { index: 0, start: 10, end: 17, bytes: bytes("boot\nhost login: "), dropped: 0 });
    assert.deepEqual(log, ["announced boot\nhost login: rest", "matched"]);
    assert.equal(latin1(console.unconsumed), "rest");
});

test("what is there already matches at once, and is not matched twice", async () => {
    const { console, show } = consoleWithLog();
    show("$ $ ");
    assert.equal((await console.expect(literal("$ "), FOREVER)).end, 2);
    assert.equal((await console.expect(literal("$ "), FOREVER)).end, 2);
    let third = false;
    void console.expect(literal("$ "), FOREVER).then(() => { third = true; });
    await turn();
    assert.equal(third, false);
    show("$ ");
    await turn();
    assert.equal(third, true);
});

test("one waits at a time; who is told to stop makes room for the next, and cannot end it later", async () => {
    const { console, show } = consoleWithLog(), first = new AbortController(), why = new RequestError("timeout", "late");
    const waiting = console.expect(literal("a"), first.signal);
    await assert.rejects(console.expect(literal("b"), FOREVER), { code: "engine", message: /another expect/ });
    first.abort(why);
    await assert.rejects(waiting, why);

    const second = new AbortController(), found = console.expect(literal("b"), second.signal);
    show("b");
    assert.equal((await found).index, 0);
    const third = console.expect(literal("c"), FOREVER);
    second.abort(why);
    show("c");
    assert.equal((await third).index, 0);
});

test("who waits is told when the guest can show nothing any more", async () => {
    const { console, show } = consoleWithLog(), why = new RequestError("off", "the guest has powered off");
    const waiting = console.expect(literal("a"), FOREVER);
    console.end(why);
    await assert.rejects(waiting, why);
    await assert.rejects(console.expect(literal("a"), FOREVER), why);
    console.clear();
    const after = console.expect(literal("a"), FOREVER);
    show("a");
    assert.equal((await after).index, 0);
});

test("what a guest had shown before it ended can still be matched", async () => {
    const { console, show } = consoleWithLog();
    show("last words\n");
    console.end(new RequestError("off", "the guest has powered off"));
    assert.equal((await console.expect(literal("words"), FOREVER)).start, 5);
});

test("a pattern that cannot be used is an error of the request", async () => {
    await assert.rejects(consoleWithLog().console.expect([{}], FOREVER), { code: "engine", message: /a pattern cannot be used: pattern 0/ });
});

test("Python is told of output it has not seen, and consumes what it matched", async () => {
    const { console, log, show } = consoleWithLog();
    show("abc");
    await console.outputBeyond(0, FOREVER);
    assert.deepEqual([log, console.received, latin1(console.unconsumed)], [["announced abc"], 3, "abc"]);
    let told = false;
    void console.outputBeyond(3, FOREVER).then(() => { told = true; });
    await turn();
    assert.equal(told, false);
    show("d");
    await turn();
    assert.equal(told, true);
    console.consume(2);
    assert.deepEqual([console.received, console.dropped, latin1(console.unconsumed)], [2, 0, "cd"]);
});

const PANIC = "[    1.0] ---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 ]---\r\n";
const REASON = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100";

test("a panic is read from its line wherever ticks split it", () => {
    for(let at = 0; at < PANIC.length - 2; at++) {
        const { console, show } = consoleWithLog();
        show("noise " + PANIC.slice(0, at));
        show(PANIC.slice(at));
        assert.equal(console.panicked, REASON, `split at ${at}`);
    }
    const { console, show } = consoleWithLog();
    for(const character of PANIC) show(character);
    assert.equal(console.panicked, REASON);
});

test("the line that a rebooting kernel prints, and half of the other, are no panic; a reset forgets one", () => {
    const { console, show } = consoleWithLog();
    show("Kernel panic - not syncing: Fatal exception\r\nRebooting in 1 seconds..\r\n");
    show(PANIC.slice(0, 50));
    assert.equal(console.panicked, null);
    console.clear();
    show(PANIC.slice(50));
    assert.equal(console.panicked, null);
    show(PANIC);
    show(PANIC.replace("init", "again"));
    assert.equal(console.panicked, REASON);
    console.clear();
    assert.equal(console.panicked, null);
});

test("a snapshot keeps the end of what nobody has matched, and what is still to be typed", async () => {
    const { console, show } = consoleWithLog(), other = consoleWithLog().console, { emulator, input } = uart();
    show("login: \xff\0");
    console.send(bytes("ro"));
    console.send(bytes("ot\xff"));
    other.load(console.save());
    other.pump(emulator);
    assert.equal(latin1(Uint8Array.from(input)), "root\xff");
    assert.equal(latin1(other.unconsumed), "login: \xff\0");
    assert.equal((await other.expect(literal("\xff\0"), FOREVER)).start, 7);
    show("x".repeat(100_000) + "end");
    other.load(console.save());
    assert.equal(other.unconsumed.length, 65536);
    assert.ok(latin1(other.unconsumed).endsWith("xend"));
});

test("what was shown is kept for who comes late: all that was announced, up to 256 KiB", () => {
    const { console, log, show } = consoleWithLog();
    show("boot\n");
    assert.equal(console.history.length, 0);
    console.announce();
    assert.deepEqual([latin1(console.history), log], ["boot\n", ["announced boot\n"]]);
    const line = "x".repeat(99) + "\n";
    for(let n = 0; n < 9000; n++) show(line);
    show("end");
    console.announce();
    assert.equal(console.history.length, 256 * 1024);
    assert.ok(latin1(console.history).endsWith(line + "end"));
    assert.ok(latin1(console.history).replaceAll(line, "").length < 103);
});

test("a snapshot keeps the end of what was shown, matched or not; older ones had only what was not", async () => {
    const { console, show } = consoleWithLog(), other = consoleWithLog().console;
    show("boot\nlogin: ");
    await console.expect(literal("boot\n"), FOREVER);
    other.load(console.save());
    assert.deepEqual([latin1(other.history), latin1(other.unconsumed)], ["boot\nlogin: ", "login: "]);
    show("y".repeat(100_000));
    await console.expect(literal("y".repeat(10)), FOREVER);
    console.consume(console.unconsumed.length);
    other.load(console.save());
    assert.deepEqual([other.history.length, other.unconsumed.length], [65536, 0]);
    other.load({ shown: btoa("login: "), input: "" });
    assert.deepEqual([latin1(other.history), latin1(other.unconsumed)], ["login: ", "login: "]);
});
