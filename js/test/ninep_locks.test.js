import assert from "node:assert/strict";
import { test } from "node:test";

import { lengthOf, lockOf, Locks } from "../src/core/ninep/locks.js";
import { Random } from "./random.js";

const BYTES = 24;

test("any locks of three processes come to what a table of bytes says", () => {
    for(let seed = 1; seed <= 60; seed++) {
        const random = new Random(seed), locks = new Locks();
        /** @type {Map<number, number>[]} for each byte, type by process */
        const table = Array.from({ length: BYTES }, () => new Map());
        for(let step = 0; step < 80; step++) {
            const start = random.below(BYTES), length = 1 + random.below(BYTES - start), process = 1 + random.below(3), type = random.below(3);
            const range = table.slice(start, start + length);
            const blocked = type !== 2 && range.some(held => [...held].some(([other, its]) => other !== process && (type === 1 || its === 1)));
            const outcome = locks.set(5, lockOf(type, BigInt(start), BigInt(length), process, "guest", process));
            assert.equal(outcome, blocked ? "blocked" : "granted", `seed ${seed}, step ${step}`);
            if(!blocked) {
                for(const held of range) {
                    if(type === 2) held.delete(process);
                    else held.set(process, type);
                }
            }
            const found = Array.from({ length: BYTES }, () => new Map());
            for(const [, held] of locks.all) {
                for(const lock of held) {
                    for(let at = Number(lock.start); at <= Number(lock.end); at++) {
                        assert.ok(!found[at].has(lock.process), "a byte is held twice");
                        found[at].set(lock.process, lock.type);
                    }
                }
            }
            assert.deepEqual(found.map(held => [...held].sort()), table.map(held => [...held].sort()));
        }
    }
});

test("locks that touch are one, and a range goes to the very end", () => {
    const locks = new Locks(), set = (/** @type {bigint} */ start, /** @type {bigint} */ length) => locks.set(1, lockOf(1, start, length, 1, "guest", 1));
    for(let at = 0n; at < 100n; at++) set(at * 2n, 1n);
    for(let at = 0n; at < 100n; at++) set(at * 2n + 1n, 1n);
    assert.equal([...locks.all][0][1].length, 1);
    set(50n, 0n);
    const [[, [lock]]] = locks.all;
    assert.deepEqual([lock.start, lock.end, lengthOf(lock)], [0n, (1n << 64n) - 1n, 0n]);
});

test("there is an end to how many locks a guest may have", () => {
    const locks = new Locks(), set = (/** @type {number} */ n) => locks.set(1 + n % 1000, lockOf(1, BigInt(n) * 2n, 1n, 1, "guest", 1));
    for(let n = 0; n < 1 << 16; n++) assert.equal(set(n), "granted");
    assert.equal(set(1 << 16), "full");
    locks.clear();
    assert.equal(set(0), "granted");
});
