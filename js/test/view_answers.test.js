import assert from "node:assert/strict";
import { test } from "node:test";

import { isAnswer } from "../src/view/answers.js";

test("what xterm.js answers to a program's questions is no person's", () => {
    for(const text of [
        "\x1B[0n", "\x1B[12;40R", "\x1B[?12;40R",                                        // DSR
        "\x1B[?1;2c", "\x1B[>0;276;0c", "\x1B[>83;40003;0c",                             // DA
        "\x1B[4;2$y", "\x1B[?2004;1$y",                                                  // DECRPM
        "\x1BP1$r0m\x1B\\", "\x1BP1$r1;24r\x1B\\", "\x1BP0$r\x1B\\",                     // DECRQSS
        "\x1B]10;rgb:ffff/ffff/ffff\x1B\\", "\x1B]4;7;rgb:c7c7/c7c7/c7c7\x1B\\",         // OSC
        "\x1B[4;400;720t", "\x1B[8;24;80t", "\x1B[I", "\x1B[O",
    ]) assert.equal(isAnswer(text), true, JSON.stringify(text));
});

test("keys, pastes and the mouse are a person's", () => {
    for(const text of [
        "a", "ls\n", "\r", "\t", "\x03", "\x7F", "ä", "\x1B", "\x1Bb", "\x1B[A", "\x1BOP", "\x1B[15~", "\x1B[1;5C", "\x1B[1;2P", "\x1B[3;5~", "\x1B[Z",
        "\x1B[<0;10;5M", "\x1B[M !!", "\x1B[200~pasted\x1B[201~", "0n", "echo '\x1B[0n'", "\x1B[0n\n", "R", "c",
    ]) assert.equal(isAnswer(text), false, JSON.stringify(text));
});
