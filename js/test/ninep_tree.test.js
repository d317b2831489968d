// Trees in and out: manifests, exports, snapshots; those of strangers too.
import assert from "node:assert/strict";
import { test } from "node:test";

import { RequestError } from "../src/core/fault.js";
import { CHUNK } from "../src/core/ninep/contents.js";
import { Client, Hub, T } from "./ninep_client.js";
import { Random } from "./random.js";

const text = (/** @type {Uint8Array} */ bytes) => new TextDecoder().decode(bytes);

/** A tree of all kinds, worked on in all ways. */
async function worked() {
    const hub = new Hub(), big = new Uint8Array(2 * CHUNK + CHUNK / 2).fill(7);
    hub.file(0, "a.txt", "from the host\n", true);
    hub.file(0, "big", big);
    hub.file(0, "cut", big);
    const deep = hub.folder(0, "deep");
    hub.file(deep, "b", "deep\n");
    hub.file(deep, "c", "gone\n");
    const old = hub.folder(deep, "old");
    hub.file(old, "x", "moved\n");
    hub.add(0, "tagged", [0o100644, 1, 2, -5, 6, [0], [["user.a", "AAEC"], ["user.b", ""]]]);
    const server = hub.serve(), client = await Client.attached(server, 1000);
    await client.walk(0, 1);
    await client.create(1, "new");
    await client.write(1, 0, "written\n");
    await client.walk(0, 2, "big");
    await client.open(2, 2);
    await client.write(2, CHUNK + 5, "in the middle");
    await client.write(2, 3 * CHUNK, "beyond");
    await client.walk(0, 3, "cut");
    await client.truncate(3, CHUNK + 100);
    await client.walk(0, 4, "deep");
    await client.rename(4, "old", 0, "elsewhere");
    await client.unlink(4, "c");
    await client.mkdir(0, "made\xff");
    await client.walk(0, 5, "made\xff");
    await client.call(T.mknod, ["w", 5], ["s", "null"], ["w", 0o20666], ["w", 1], ["w", 3], ["w", 0]);
    await client.call(T.mknod, ["w", 5], ["s", "pipe"], ["w", 0o10666], ["w", 0], ["w", 0], ["w", 0]);
    await client.call(T.symlink, ["w", 5], ["s", "link"], ["s", "../a.txt"], ["w", 9]);
    await client.walk(0, 6, "a.txt");
    await client.call(T.link, ["w", 5], ["w", 6], ["s", "hard"]);
    await client.walk(6, 7);
    await client.setXattr(7, "user.x", "value\xff");
    await client.walk(0, 8, "tagged");
    await client.walk(8, 9);
    await client.setXattr(9, "user.a", "", 2);
    await client.setattr(8, 0x127, { mode: 0o600, uid: 3, gid: 4, mtime: [123, 456] });
    return { hub, server, client };
}

test("an export names what is unchanged as before, numbers what is new by first names, and reads back the same", async () => {
    const { hub, server, client } = await worked(), { manifest, parts } = await server.export(), plain = JSON.parse(text(manifest));
    const paths = /** @type {string[]} */ ([""]);
    for(const [folder, name, number] of plain.names) paths[number] ??= `${paths[folder]}/${name}`;
    assert.deepEqual(paths, ["", "/a.txt", "/big", "/cut", "/deep", "/deep/b", "/elsewhere", "/elsewhere/x", "/made\udcff", "/made\udcff/link", "/made\udcff/null", "/made\udcff/pipe", "/new", "/tagged"]);
    assert.deepEqual(plain.names.map((/** @type {any[]} */ [folder, name]) => `${paths[folder]}/${name}`).indexOf("/made\udcff/hard"), 8);
    const [, , big, cut] = plain.inodes, original = hub.inodes[2][5];
    assert.deepEqual(big[5], [3 * CHUNK + 6, original[1], "n0", "n1", "n2"]);
    assert.deepEqual(cut[5], [CHUNK + 100, original[1], "n3"]);
    assert.equal(plain.inodes[1][5][1], hub.inodes[1][5][1]);
    assert.deepEqual(plain.inodes[1][6], [["user.x", "dmFsdWX/"]]);
    assert.deepEqual(plain.inodes[13].slice(0, 5), [0o100600, 3, 4, 123, 456]);
    assert.deepEqual(parts.map(part => part.length), [CHUNK, CHUNK, 6, 100, 8]);
    assert.equal(plain.size, plain.inodes.reduce((/** @type {number} */ sum, /** @type {any[]} */ row) => sum + ((row[0] & 0o170000) === 0o100000 ? row[5][0] : 0), 0));
    for(const row of plain.inodes) {           // as Python does: the new chunks become blobs
        if((row[0] & 0o170000) === 0o100000) row[5] = row[5].map((/** @type {any} */ one) => typeof one === "string" && one.startsWith("n") ? hub.keep(parts[Number(one.slice(1))]) : one);
    }
    const again = await Client.attached(hub.serve(null, new TextEncoder().encode(JSON.stringify(plain))));
    for(const path of ["big", "cut", "new", "a.txt", "deep/b", "elsewhere/x", "made\xff/hard"]) {
        const read = [];
        for(const one of [client, again]) {
            await one.walk(0, 50, ...path.split("/"));
            await one.walk(50, 51);
            await one.open(51);
            const { size, mode, mtime, nlink } = await one.stat(50), bytes = [];
            for(let at = 0; at < size; at += 400_000) bytes.push(await one.read(51, at, 400_000));
            read.push({ size, mode, mtime, nlink, bytes: Buffer.concat(bytes) });
            await one.clunk(50);
            await one.clunk(51);
        }
        assert.deepEqual(read[1], read[0]);
    }
});

test("a chunk that the guest has filled with zeros, or that lies beyond what was there, is null", async () => {
    const hub = new Hub();
    hub.file(0, "a", new Uint8Array(2 * CHUNK).fill(1));
    const server = hub.serve(), client = await Client.attached(server);
    await client.walk(0, 1, "a");
    await client.walk(1, 2);
    await client.open(2, 2);
    for(let at = 0; at < CHUNK; at += CHUNK / 4) await client.write(2, at, new Uint8Array(CHUNK / 4));
    await client.truncate(1, 2 ** 30);
    const { manifest, parts } = await server.export(), body = JSON.parse(text(manifest)).inodes[1][5];
    assert.deepEqual([parts.length, body.length, body[0], body.slice(1, 4)], [0, 4097, 2 ** 30, [null, hub.inodes[1][5][2], null]]);
});

/** @param {import("../src/core/ninep/server.js").Server} server */
const described = server => JSON.stringify(server.describe(), (_, value) => value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value);

/** What goes through a snapshot: JSON and bytes. @param {import("../src/core/ninep/server.js").Server} server */
function snapshot(server) {
    const { state, bytes } = server.save();
    return { state: JSON.parse(JSON.stringify(state)), bytes: bytes.slice() };
}

test("a server that goes on from a snapshot is the same: tree, fids, locks, attributes being written, a listing half-way", async () => {
    const { hub, server, client } = await worked();
    for(let n = 0; n < 50; n++) await client.mkdir(4, `folder ${n}`);
    await client.walk(4, 20);
    await client.open(20);
    const begun = await client.readdir(20, 0, 1000);
    await client.unlink(4, "folder 45", 0x200);
    await client.mkdir(4, "later");
    await client.walk(0, 21, "elsewhere", "x");
    await client.open(21, 2);
    await client.walk(0, 22, "elsewhere");
    await client.unlink(22, "x");
    await client.lock(21, 1, 5, 10, 77);
    await client.lock(2, 0, 0, 0, 78);
    await client.walk(8, 23);
    await client.call(T.xattrcreate, ["w", 23], ["s", "user.slow"], ["d", 4], ["w", 0]);
    await client.write(23, 0, "ab");
    await client.call(T.xattrwalk, ["w", 6], ["w", 24], ["s", ""]);
    await client.mkdir(0, "short");
    await client.walk(0, 25, "short");
    await client.unlink(0, "short", 0x200);
    const { state, bytes } = snapshot(server), twin = hub.serve(), other = new Client(twin);
    twin.load(state, bytes);
    assert.equal(described(twin), described(server));
    assert.deepEqual(snapshot(twin), { state, bytes });
    for(const one of [client, other]) {
        await one.write(21, 2, "XX");
        assert.equal(text(await one.read(21, 0, 100)), "moXXd\n");
        assert.equal(await one.lock(1, 1, 7, 1, 99), 0);
        assert.equal(await one.lock(2, 1, 7, 1, 99), 0);
        await one.write(23, 2, "cd");
        await one.clunk(23);
        assert.equal(await one.xattr(8, 30, "user.slow"), "abcd");
        await one.mkdir(0, "after");
    }
    assert.equal(described(twin), described(server));
    const rest = await Promise.all([client, other].map(one => one.readdir(20, begun[begun.length - 1].offset, 8192)));
    assert.deepEqual(rest[1], rest[0]);
    assert.ok(!rest[0].some(one => one.name === "folder 45" || one.name === "later"));
    for(const one of [client, other]) {
        for(const fid of [21, 25]) await one.clunk(fid);
    }
    assert.equal(described(twin), described(server));
});

test("a snapshot holds what differs, and no more", async () => {
    const hub = new Hub();
    for(let n = 0; n < 1000; n++) hub.file(0, `file ${n}`, "x".repeat(n));
    const server = hub.serve(), client = await Client.attached(server);
    await client.walk(0, 1, "file 5");
    await client.open(1);
    await client.read(1, 0, 100);
    await client.clunk(1);
    const idle = snapshot(server);
    assert.deepEqual([idle.state.inodes, idle.bytes.length], [[], 0]);
    await client.unlink(0, "file 7");
    await client.walk(0, 1, "file 9");
    await client.open(1, 2);
    await client.write(1, 0, "y");
    const { state, bytes } = snapshot(server);
    assert.deepEqual([state.inodes.map((/** @type {any[]} */ row) => row[0]), bytes.length], [[0, 10], 9]);
});

test("random work gives the same tree through a snapshot at any moment", async () => {
    for(let seed = 1; seed <= 12; seed++) {
        const random = new Random(seed), hub = new Hub(), folders = /** @type {string[][]} */ ([[]]), names = ["a", "b", "c", "\xff"];
        for(const name of ["a", "b"]) hub.file(hub.folder(0, name), "a", name.repeat(5000));
        let server = hub.serve(), client = await Client.attached(server);
        for(let step = 0; step < 250; step++) {
            const one = /** @type {string[]} */ (folders[random.below(folders.length)]), name = names[random.below(4)], other = names[random.below(4)], fid = 100 + random.below(6);
            const { below } = random;
            const works = [
                () => client.walk(0, fid, ...one),
                () => client.clunk(fid),
                () => client.mkdir(fid, name),
                () => client.create(fid, name),
                () => client.write(fid, below.call(random, 9000), random.bytes(1 + below.call(random, 6000))),
                () => client.truncate(fid, below.call(random, 9000)),
                () => client.rename(fid, name, 100 + below.call(random, 6), other),
                () => client.unlink(fid, name, below.call(random, 2) * 0x200),
                () => client.walk(fid, 100 + below.call(random, 6), name),
                () => client.call(T.link, ["w", fid], ["w", 100 + below.call(random, 6)], ["s", name]),
                () => client.open(fid, 2),
                () => client.readdir(fid, below.call(random, 6), 100),
                () => client.setXattr(fid, `user.${name}`, other),
                () => client.lock(fid, below.call(random, 3), below.call(random, 9), 1 + below.call(random, 9), below.call(random, 3)),
            ];
            await works[random.below(works.length)]().catch((/** @type {any} */ error) => assert.ok(error.errno, String(error)));
            folders.push([name]);
            if(random.below(10)) continue;
            const { state, bytes } = snapshot(server), twin = hub.serve();
            twin.load(state, bytes);
            assert.equal(described(twin), described(server), `seed ${seed}, step ${step}`);
            if(random.below(2)) [server, client] = [twin, new Client(twin)];
        }
    }
});

test("a reset keeps what was changed; fids, locks and files without names are gone", async () => {
    const { server, client } = await worked();
    await client.unlink(0, "new");
    server.reset();
    await assert.rejects(client.stat(0), { errno: 9 });
    await client.call(T.version, ["w", 8192], ["s", "9P2000.L"]);
    await client.attach(0);
    assert.deepEqual(await client.ls(), ["a.txt", "big", "cut", "deep", "tagged", "elsewhere", "made\xff"]);
    assert.deepEqual([...server.locks.all], []);
    assert.ok([...server.tree.inodes.values()].every(inode => inode.nlink > 0));
});

test("a manifest that is damaged is an error that says so", () => {
    const hub = new Hub();
    hub.file(0, "a", "x");
    hub.folder(0, "d");
    hub.add(0, "l", [0o120777, 0, 0, 0, 0, "a"]);
    const good = JSON.parse(text(hub.manifest));
    /** @type {((plain: any) => void)[]} */
    const damages = [
        plain => { plain.format = "other"; }, plain => { plain.version = 2; }, plain => { plain.chunk = 4096; }, plain => { plain.inodes = {}; }, plain => { plain.names = null; },
        plain => { plain.inodes = []; }, plain => { plain.inodes[0] = plain.inodes[1]; }, plain => { plain.inodes[1] = 5; }, plain => { plain.inodes[1][0] = 0o644; },
        plain => { plain.inodes[1][4] = 1e9; }, plain => { plain.inodes[1][3] = "5"; }, plain => { plain.inodes[1][5] = null; }, plain => { plain.inodes[1][5] = [5]; },
        plain => { plain.inodes[1][5][1] = "x"; }, plain => { plain.inodes[1][5][0] = 2 ** 60; }, plain => { plain.inodes[3][5] = ""; }, plain => { plain.inodes[3][5] = "\ud800"; },
        plain => { plain.inodes[3][5] = 7; }, plain => { plain.inodes.push([0o20666, 0, 0, 0, 0, [1]]); }, plain => { plain.inodes.push([0o40755, 0, 0, 0, 0, null]); },
        plain => { plain.inodes[1].push([["user.a", "?"]]); }, plain => { plain.inodes[1].push([[1, 2]]); }, plain => { plain.inodes[1].push(5); },
        plain => { plain.names[0] = []; }, plain => { plain.names[0][1] = ".."; }, plain => { plain.names[0][1] = "a/b"; }, plain => { plain.names[0][1] = ""; },
        plain => { plain.names[0][1] = "x".repeat(256); }, plain => { plain.names[1][1] = "a"; }, plain => { plain.names[0][0] = 1; }, plain => { plain.names[0][2] = 0; },
        plain => { plain.names[0][2] = 99; }, plain => { plain.names.push([0, "again", 2]); }, plain => { plain.names[1][0] = 2; }, plain => { plain.names.pop(); },
        plain => { plain.inodes[0].__proto__ = null; plain.inodes[0].length = 2; },
    ];
    hub.serve(null, new TextEncoder().encode(JSON.stringify(good)));
    for(const damage of damages) {
        const plain = structuredClone(good);
        damage(plain);
        assert.throws(() => hub.serve(null, new TextEncoder().encode(JSON.stringify(plain))), error => error instanceof RequestError && /damaged/.test(error.message), String(damage));
    }
    for(const bytes of ["", "{", "null", "[]", "5"]) assert.throws(() => hub.serve(null, new TextEncoder().encode(bytes)), RequestError);
});

test("a stranger's snapshot is refused, or makes a tree that can be worked with", async () => {
    const { hub, server, client } = await worked(), random = new Random(3);
    await client.lock(2, 1, 5, 10, 77);
    const { state, bytes } = snapshot(server), values = [null, 0, -1, 1, 5, 2 ** 40, 1.5, "", "..", "a/b", "\ud800", true, [], {}, [[]], "7"];
    let refused = 0;
    for(let n = 0; n < 3000; n++) {
        const spoilt = structuredClone(state);
        let at = /** @type {any} */ (spoilt);
        for(let depth = random.below(6); depth >= 0; depth--) {
            const keys = Object.keys(at), key = keys[random.below(keys.length)], value = at[key];
            if(depth === 0 || typeof value !== "object" || value === null || Object.keys(value).length === 0) {
                at[key] = random.below(5) ? values[random.below(values.length)] : state.inodes[random.below(state.inodes.length)];
                break;
            }
            at = value;
        }
        const twin = hub.serve();
        try {
            twin.load(spoilt, bytes);
        }
        catch(error) {
            assert.ok(error instanceof RequestError && /cannot be restored/.test(error.message), /** @type {Error} */ (error).stack);
            refused++;
            continue;
        }
        const other = new Client(twin);
        twin.describe();
        twin.save();
        for(const work of [() => other.ls(), () => other.read(2, 0, 100), () => other.mkdir(0, "x"), () => other.unlink(4, "b")]) {
            await work().catch((/** @type {any} */ error) => assert.ok(error.errno, error.stack));
        }
    }
    assert.ok(refused > 1000, `${refused}`);
    for(const nothing of [undefined, null, 5, "x", []]) assert.throws(() => hub.serve().load(nothing, bytes), RequestError);
    assert.throws(() => hub.serve().load(state, bytes.subarray(5)), RequestError);
});
