import assert from "node:assert/strict";
import { test } from "node:test";

import { Decoder, encode } from "../src/core/protocol.js";
import { Channel } from "../src/web/channel.js";

/** A channel and what the other end sees of it. */
function channelWithEnd() {
    const decoder = new Decoder(), asked = /** @type {any[]} */ ([]), notices = /** @type {any[]} */ ([]);
    const channel = new Channel(frame => {
        const message = decoder.push(frame);
        if(message) asked.push(message);
    }, message => notices.push(message));
    const say = (/** @type {object} */ body, /** @type {Uint8Array} */ payload = new Uint8Array(0)) => {
        for(const frame of encode(body, payload)) channel.receive(frame);
    };
    return { channel, asked, notices, say };
}

test("each request is answered by the reply that has its id, in whatever order they come", async () => {
    const { channel, asked, say } = channelWithEnd();
    const first = channel.request({ type: "pause" }), second = channel.request({ type: "send" }, Uint8Array.of(1, 2));
    assert.deepEqual(asked.map(({ type, payload }) => [type, [...payload]]), [["pause", []], ["send", [1, 2]]]);
    say({ type: "reply", id: asked[1].id, value: { n: 2 } }, Uint8Array.of(9));
    say({ type: "reply", id: asked[0].id, value: { n: 1 } });
    assert.deepEqual(await second, { value: { n: 2 }, payload: Uint8Array.of(9) });
    assert.deepEqual((await first).value, { n: 1 });
});

test("a message of several frames is put together", async () => {
    const { channel, asked, say } = channelWithEnd(), large = new Uint8Array(5 << 20).fill(7);
    const answer = channel.request({ type: "send" }, large);
    assert.equal(asked[0].payload.length, large.length);
    say({ type: "reply", id: asked[0].id, value: {} }, large);
    assert.deepEqual((await answer).payload, large);
});

test("a failure rejects with what a person can use", async () => {
    const { channel, asked, say } = channelWithEnd(), answer = channel.request({ type: "reset" });
    say({ type: "failure", id: asked[0].id, code: "guest", message: "it is off", expected: null, seen: null, hint: "switch it on", value: {} });
    await assert.rejects(answer, { message: "it is off: switch it on", code: "guest" });
});

test("what is no answer goes to the listener, an answer to nothing nowhere", () => {
    const { notices, say } = channelWithEnd();
    say({ type: "console_output" }, Uint8Array.of(65));
    say({ type: "reply", id: 99, value: {} });
    assert.deepEqual(notices, [{ type: "console_output", payload: Uint8Array.of(65) }]);
});

test("when the connection is lost, all that was asked fails, and all that is asked later", async () => {
    const { channel, asked, notices, say } = channelWithEnd(), answer = channel.request({ type: "pause" });
    channel.lose("broken");
    await assert.rejects(answer, /broken/);
    await assert.rejects(channel.request({ type: "pause" }), /broken/);
    assert.equal(asked.length, 1);
    say({ type: "log", text: "late" });
    assert.deepEqual(notices, []);
});
