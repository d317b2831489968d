/**
 * What a terminal says by itself: answers to a program's questions, and that the focus came or went.
 *
 * Source: XTerm Control Sequences (DSR, DA, DECRPM, DECRQSS, OSC 4 and 10 to 12, XTWINOPS, FocusIn and FocusOut), as far as
 * xterm.js 6.0 answers them. Where the cursor is in the first row reads like F3 with modifiers, and is taken for the answer.
 */

const ANSWER = /^\x1B(?:\[(?:0n|\??\d+;\d+R|[?>][\d;]*c|\??\d+;\d+\$y|[468];\d+;\d+t|[IO])|\](?:4;\d+|1[012]);rgb:[^\x07]*|P[01]\$r.*)$/s;

/** @param {string} text   what xterm.js gives at once */
export function isAnswer(text) {
    return ANSWER.test(text);
}
