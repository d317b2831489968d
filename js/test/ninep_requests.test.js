// Two real ends over a fake wire: a client that speaks 9P2000.L by bytes, and the server.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Reads } from "../src/core/reads.js";
import { Client, Hub, message, MIB, T } from "./ninep_client.js";
import { Random } from "./random.js";

const ENOENT = { errno: 2 }, EBADF = { errno: 9 }, EEXIST = { errno: 17 }, ENOTDIR = { errno: 20 }, EISDIR = { errno: 21 }, EINVAL = { errno: 22 }, EFBIG = { errno: 27 },
    ENOSPC = { errno: 28 }, ENAMETOOLONG = { errno: 36 }, ENOTEMPTY = { errno: 39 }, ELOOP = { errno: 40 }, ENODATA = { errno: 61 }, EPROTO = { errno: 71 }, EOPNOTSUPP = { errno: 95 };
const text = (/** @type {Uint8Array} */ bytes) => Buffer.from(bytes).toString();

/** A hub with a small tree, and a client of its server. */
async function shared() {
    const hub = new Hub(), file = hub.file(0, "a.txt", "from the host\n"), deep = hub.folder(0, "deep");
    hub.file(deep, "b", "deep\n");
    hub.names.push([deep, "hard", file]);
    hub.add(0, "link", [0o120777, 0, 0, 5, 6, "a.txt"]);
    hub.add(0, "null", [0o20666, 1, 2, 5, 6, [1, 3]]);
    const server = hub.serve(), client = await Client.attached(server);
    return { hub, server, client };
}

test("versions: msize is the smaller of both, another protocol is unknown, too small is refused, and what was held is gone", async () => {
    const { server } = await shared(), client = new Client(server);
    const version = async (/** @type {number} */ msize, /** @type {string} */ name) => {
        const answer = await client.call(T.version, ["w", msize], ["s", name]);
        return [answer.w(), answer.s()];
    };
    assert.deepEqual(await version(8192, "9P2000.L"), [8192, "9P2000.L"]);
    assert.deepEqual(await version(0xFFFFFFFF, "9P2000.L"), [MIB, "9P2000.L"]);
    assert.deepEqual(await version(8192, "9P2000.u"), [8192, "unknown"]);
    await assert.rejects(version(100, "9P2000.L"), { errno: 90 });
    await assert.rejects(client.stat(0), EBADF);
});

test("what the manifest says is what getattr says", async () => {
    const { client } = await shared();
    await client.walk(0, 1, "a.txt");
    const { qid, ...stat } = await client.stat(1);
    assert.deepEqual(stat, {
        valid: 0x7FF, mode: 0o100644, uid: 0, gid: 0, nlink: 2, rdev: 0, size: 14, blksize: 4096, blocks: 8,
        atime: [1e9, 123456789], mtime: [1e9, 123456789], ctime: [1e9, 123456789], btime: [0, 0],
    });
    assert.deepEqual(qid, { type: 0, version: 0, path: 1 });
    await client.walk(0, 2, "null");
    const device = await client.stat(2);
    assert.deepEqual([device.mode, device.uid, device.gid, device.rdev], [0o20666, 1, 2, 0x103]);
    await client.walk(0, 3, "deep");
    assert.deepEqual([(await client.stat(3)).nlink, (await client.stat(0)).nlink, (await client.stat(3)).qid.type], [2, 3, 0x80]);
    await client.walk(0, 4, "link");
    assert.equal((await client.call(T.readlink, ["w", 4])).s(), "a.txt");
    await assert.rejects(client.call(T.readlink, ["w", 1]), EINVAL);
});

test("device numbers of all sizes come through Linux's encoding", async () => {
    const { client } = await shared();
    for(const [n, [major, minor, encoded]] of /** @type {[number, number, number][]} */ ([[1, 3, 0x103], [259, 70000, 0x11110370], [4095, 0xFFFFF, 0xFFFFFFFF]]).entries()) {
        await client.call(T.mknod, ["w", 0], ["s", `n${n}`], ["w", 0o60600], ["w", major], ["w", minor], ["w", 0]);
        await client.walk(0, 10 + n, `n${n}`);
        assert.equal((await client.stat(10 + n)).rdev, encoded >>> 0);
    }
    await assert.rejects(client.call(T.mknod, ["w", 0], ["s", "x"], ["w", 0o60600], ["w", 4096], ["w", 0], ["w", 0]), EINVAL);
    await assert.rejects(client.call(T.mknod, ["w", 0], ["s", "x"], ["w", 0o40755], ["w", 0], ["w", 0], ["w", 0]), EINVAL);
});

test("a walk ends where it can go no further, and says how far it came", async () => {
    const { client } = await shared();
    assert.equal((await client.walk(0, 1, "deep", "b")).length, 2);
    assert.equal((await client.walk(0, 2, "deep", "nothing", "more")).length, 1);
    await assert.rejects(client.stat(2), EBADF);
    await assert.rejects(client.walk(0, 2, "nothing"), ENOENT);
    await assert.rejects(client.walk(1, 2, "x"), ENOTDIR);
    await assert.rejects(client.walk(0, 1, "deep"), EINVAL);
    await assert.rejects(client.walk(0, 2, ...Array(17).fill("..")), EINVAL);
    assert.deepEqual(await client.walk(0, 3, "deep", "..", "..", "deep", "."), await client.walk(0, 4, "deep").then(([deep]) => [deep, { ...deep, path: 0 }, { ...deep, path: 0 }, deep, deep]));
    assert.deepEqual(await client.walk(4, 4), []);
    await client.walk(4, 4, "b");
    assert.equal((await client.stat(4)).size, 5);
    for(const name of ["", "a/b", "a\0"]) await assert.rejects(client.walk(0, 5, name), error => [2, 22].includes(/** @type {any} */ (error).errno));
    await assert.rejects(client.walk(0, 5, "x".repeat(256)), ENAMETOOLONG);
});

test("a file is created, written, read, appended to; times are the machine's", async () => {
    const { client, hub } = await shared();
    hub.now = 1.5;
    await client.walk(0, 1);
    await client.create(1, "new", { mode: 0o640, gid: 7 });
    hub.now = 2.25;
    assert.equal(await client.write(1, 0, "0123456789"), 10);
    assert.equal(text(await client.read(1, 3, 100)), "3456789");
    assert.equal((await client.read(1, 10, 5)).length, 0);
    const { mode, gid, size, mtime, ctime, atime, blocks } = await client.stat(1);
    assert.deepEqual({ mode, gid, size, mtime, ctime, atime, blocks }, {
        mode: 0o100640, gid: 7, size: 10, mtime: [1_700_000_002, 250_000_000], ctime: [1_700_000_002, 250_000_000], atime: [1_700_000_001, 500_000_000], blocks: 8,
    });
    assert.deepEqual((await client.stat(0)).mtime, [1_700_000_001, 500_000_000]);
    await client.write(1, 10, "abc");
    assert.equal(text(await client.read(1, 0, 100)), "0123456789abc");
});

test("files belong to the user who attached; the group is the request's", async () => {
    const { server } = await shared(), client = await Client.attached(server, 1000);
    await client.walk(0, 1);
    await client.create(1, "mine", { gid: 50 });
    const { uid, gid } = await client.stat(1);
    assert.deepEqual([uid, gid], [1000, 50]);
});

test("what is there already is not created again; lcreate opens it unless it must be new", async () => {
    const { client } = await shared();
    await client.walk(0, 1);
    await assert.rejects(client.create(1, "a.txt", { flags: 0o302 }), EEXIST);
    await client.create(1, "a.txt", { flags: 0o102 });
    assert.equal(text(await client.read(1, 0, 4)), "from");
    for(const type of [T.mkdir]) await assert.rejects(client.call(type, ["w", 0], ["s", "a.txt"], ["w", 0o755], ["w", 0]), EEXIST);
    await assert.rejects(client.call(T.symlink, ["w", 0], ["s", "a.txt"], ["s", "x"], ["w", 0]), EEXIST);
    await assert.rejects(client.call(T.mknod, ["w", 0], ["s", "."], ["w", 0o100644], ["w", 0], ["w", 0], ["w", 0]), EEXIST);
    await assert.rejects(client.mkdir(0, "x".repeat(256)), ENAMETOOLONG);
    await assert.rejects(client.mkdir(1, "x"), ENOTDIR);
    await assert.rejects(client.call(T.symlink, ["w", 0], ["s", "long"], ["s", "x".repeat(4096)], ["w", 0]), ENAMETOOLONG);
});

test("opening says no where it has to", async () => {
    const { client } = await shared();
    for(const [name, flags, wrong] of /** @type {[string, number, object][]} */ ([["deep", 1, EISDIR], ["deep", 0o1000, EISDIR], ["link", 0, ELOOP], ["a.txt", 0o200000, ENOTDIR], ["null", 0, { errno: 6 }]])) {
        await client.walk(0, 1, name);
        await assert.rejects(client.open(1, flags), wrong);
        await client.clunk(1);
    }
    await client.walk(0, 1, "a.txt");
    await assert.rejects(client.read(1, 0, 5), EBADF);
    await assert.rejects(client.write(1, 0, "x"), EBADF);
    await client.open(1);
    await assert.rejects(client.open(1), EINVAL);
    await client.walk(0, 2, "deep");
    await assert.rejects(client.readdir(2, 0), EBADF);
    await client.open(2);
    await assert.rejects(client.read(2, 0, 5), EISDIR);
    await assert.rejects(client.readdir(1, 0), ENOTDIR);
    await client.walk(0, 3, "a.txt");
    await client.open(3, 0o1002);
    assert.equal((await client.stat(3)).size, 0);
});

test("setattr: modes keep the type, times are set or are now, a size cuts or extends, ctime always moves", async () => {
    const { client, hub } = await shared();
    await client.walk(0, 1, "a.txt");
    hub.now = 5;
    await client.setattr(1, 1, { mode: 0o40000 | 0o4711 });
    await client.setattr(1, 6, { uid: 1, gid: 0xFFFFFFFF });
    await client.setattr(1, 0x10 | 0x20 | 0x100, { atime: [7, 8], mtime: [-9, 10] });
    let stat = await client.stat(1);
    assert.deepEqual([stat.mode, stat.uid, stat.gid, stat.atime, stat.mtime, stat.ctime], [0o104711, 1, 65534, [1_700_000_005, 0], [-9, 10], [1_700_000_005, 0]]);
    hub.now = 6;
    await client.setattr(1, 0);
    assert.deepEqual((await client.stat(1)).ctime, [1_700_000_005, 0]);
    await client.truncate(1, 20);
    await client.walk(1, 2);
    await client.open(2);
    assert.equal(text(await client.read(2, 0, 100)), `from the host\n${"\0".repeat(6)}`);
    await client.truncate(1, 4);
    await client.truncate(1, 8);
    assert.equal(text(await client.read(2, 0, 100)), "from\0\0\0\0");
    stat = await client.stat(1);
    assert.deepEqual([stat.size, stat.mtime], [8, [1_700_000_006, 0]]);
    await assert.rejects(client.truncate(0, 5), EISDIR);
    await client.walk(0, 3, "null");
    await assert.rejects(client.truncate(3, 5), EINVAL);
    await assert.rejects(client.truncate(1, 2 ** 45), EFBIG);
    await client.setattr(1, 0x120, { mtime: [2n ** 62n, 5] .map(Number) });
    assert.deepEqual((await client.stat(1)).mtime, [2 ** 34 - 2 ** 31 - 1, 5]);
});

test("hard links share an inode until the last name goes; an open file outlives its names", async () => {
    const { client, server } = await shared();
    await client.walk(0, 1, "a.txt");
    await client.call(T.link, ["w", 0], ["w", 1], ["s", "other"]);
    assert.equal((await client.stat(1)).nlink, 3);
    await client.walk(0, 2, "deep");
    await assert.rejects(client.call(T.link, ["w", 0], ["w", 2], ["s", "folder"]), { errno: 1 });
    await assert.rejects(client.call(T.link, ["w", 0], ["w", 1], ["s", "other"]), EEXIST);
    await client.open(1, 2);
    await client.unlink(0, "a.txt");
    await client.unlink(0, "other");
    await client.unlink(2, "hard");
    assert.equal((await client.stat(1)).nlink, 0);
    assert.equal(text(await client.read(1, 0, 4)), "from");
    await client.write(1, 0, "F");
    assert.equal(text(await client.read(1, 0, 4)), "From");
    await assert.rejects(client.call(T.link, ["w", 0], ["w", 1], ["s", "again"]), ENOENT);
    const inodes = server.tree.inodes.size;
    await client.clunk(1);
    assert.deepEqual([server.tree.inodes.size, server.tree.bytes], [inodes - 1, 0]);
});

test("unlinking tells files from directories", async () => {
    const { client } = await shared();
    await assert.rejects(client.unlink(0, "deep"), EISDIR);
    await assert.rejects(client.unlink(0, "deep", 0x200), ENOTEMPTY);
    await assert.rejects(client.unlink(0, "a.txt", 0x200), ENOTDIR);
    await assert.rejects(client.unlink(0, "nothing"), ENOENT);
    await assert.rejects(client.unlink(0, ".", 0x200), EINVAL);
    await assert.rejects(client.unlink(0, "..", 0x200), ENOTEMPTY);
    await client.walk(0, 1, "deep");
    await client.unlink(1, "b");
    await client.unlink(1, "hard");
    await client.unlink(0, "deep", 0x200);
    assert.deepEqual([(await client.stat(0)).nlink, (await client.stat(1)).nlink], [2, 0]);
    await assert.rejects(client.mkdir(1, "x"), ENOENT);
    assert.deepEqual(await client.ls(), ["a.txt", "link", "null"]);
});

test("renaming replaces what may be replaced, and moves directories with all in them", async () => {
    const { client } = await shared();
    await client.mkdir(0, "d");
    await client.walk(0, 1, "d");
    await client.mkdir(1, "e");
    await client.walk(1, 2, "e");
    await client.walk(0, 3, "deep");
    await assert.rejects(client.rename(0, "nothing", 0, "x"), ENOENT);
    await assert.rejects(client.rename(0, "a.txt", 0, "d"), EISDIR);
    await assert.rejects(client.rename(0, "d", 0, "a.txt"), ENOTDIR);
    await assert.rejects(client.rename(1, "e", 0, "deep"), ENOTEMPTY);
    await assert.rejects(client.rename(0, "d", 2, "inside"), EINVAL);
    await assert.rejects(client.rename(0, "d", 1, "d"), EINVAL);
    await client.rename(0, "a.txt", 3, "hard");            // both are one inode: nothing happens
    assert.deepEqual(await client.ls(), ["a.txt", "deep", "link", "null", "d"]);
    await client.rename(0, "deep", 1, "e");                // an empty directory is replaced
    assert.deepEqual([await client.ls(), await client.ls("d", "e")], [["a.txt", "link", "null", "d"], ["b", "hard"]]);
    assert.deepEqual([(await client.stat(0)).nlink, (await client.stat(1)).nlink, (await client.stat(2)).nlink], [3, 3, 0]);
    const [, up] = await client.walk(3, 4, "..", "..");
    assert.equal(up.path, 0);
    await client.rename(0, "a.txt", 0, "null");
    await client.walk(0, 5, "null");
    assert.equal((await client.stat(5)).size, 14);
});

test("rename and remove by fid follow the file", async () => {
    const { client } = await shared();
    await client.walk(0, 1, "a.txt");
    await client.walk(0, 2, "a.txt");
    await client.walk(0, 3, "deep");
    await client.call(T.rename, ["w", 1], ["w", 3], ["s", "moved"]);
    assert.deepEqual(await client.ls("deep"), ["b", "hard", "moved"]);
    await client.call(T.remove, ["w", 2]);
    assert.deepEqual(await client.ls("deep"), ["b", "hard"]);
    await assert.rejects(client.stat(2), EBADF);
    await client.walk(0, 2);
    await assert.rejects(client.call(T.remove, ["w", 2]), EINVAL);
    await assert.rejects(client.stat(2), EBADF);
});

test("a listing keeps its place while names come and go", async () => {
    const { client } = await shared();
    await client.mkdir(0, "many");
    await client.walk(0, 1, "many");
    for(let n = 0; n < 300; n++) {
        await client.walk(1, 2);
        await client.create(2, `file ${n}`);
        await client.clunk(2);
    }
    await client.walk(1, 3);
    await client.open(3);
    const [dot, dots, ...begun] = await client.readdir(3, 0, 1000), last = begun[begun.length - 1];
    assert.deepEqual([dot.name, dots.name, begun[0].name, begun[0].type], [".", "..", "file 0", 8]);
    for(let n = 0; n < 300; n += 2) await client.unlink(1, `file ${n}`);
    await client.rename(1, "file 299", 1, "file 297");       // stays in its place
    await client.mkdir(1, "new");
    const rest = [];
    for(let offset = last.offset, found; (found = await client.readdir(3, offset, 500)).length; offset = found[found.length - 1].offset) rest.push(...found.map(one => one.name));
    assert.deepEqual(rest, Array.from({ length: 300 }, (_, n) => `file ${n}`).filter((_, n) => n >= begun.length && n % 2 && n !== 299));
    assert.deepEqual((await client.readdir(3, begun[5].offset, 200)).map(one => one.name)[0], "file 7");
    assert.ok((await client.list(3)).includes("new"));
    await assert.rejects(client.readdir(1, 0), EBADF);
    const [, , first, second] = await client.readdir(3, 0, 130), next = `file ${Number(second.name.slice(5)) + 2}`;
    assert.deepEqual([first.name, second.name], ["file 1", "file 3"]);
    await client.unlink(1, next);
    await client.mkdir(1, next);                             // another, and later
    assert.ok(!(await client.readdir(3, second.offset, 200)).some(({ name }) => name === next));
});

test("whoever renames what a listing shows comes to an end", async () => {
    const { client } = await shared();
    await client.walk(0, 1);
    await client.open(1);
    let steps = 0;
    for(let offset = 0, found; (found = await client.readdir(1, offset, 60)).length; offset = found[found.length - 1].offset) {
        for(const { name } of found) {
            if(!name.startsWith(".")) await client.rename(0, name, 0, `${name}~`);
        }
        assert.ok(steps++ < 20);
    }
    assert.deepEqual(await client.ls(), ["a.txt~", "deep~", "link~", "null~"]);
});

test("names are bytes", async () => {
    const hub = new Hub(), names = ["\xff\xfe", "caf\xe9", "\xc3\xa9", "\xed\xa0\x80", "\xf0\x9f\x90\xa7", "\xc0\xaf", "line\nfeed", "\xe2\x82"];
    hub.file(0, "\udcff", "x");
    const client = await Client.attached(hub.serve());
    assert.deepEqual(await client.ls(), ["\xff"]);
    for(const name of names) await client.mkdir(0, name);
    await client.call(T.symlink, ["w", 0], ["s", "s"], ["s", "\xff/\xfe"], ["w", 0]);
    assert.deepEqual(await client.ls(), ["\xff", ...names, "s"]);
    const { manifest } = await client.server.export(), again = await Client.attached(hub.serve(null, manifest));
    assert.deepEqual(await again.ls(), ["\xff", ...names, "s"].sort());
    await again.walk(0, 1, "s");
    assert.equal((await again.call(T.readlink, ["w", 1])).s(), "\xff/\xfe");
});

test("extended attributes: set, replaced, listed, removed; sizes and flags are checked", async () => {
    const { client } = await shared();
    await client.walk(0, 1, "a.txt");
    const set = async (/** @type {string} */ name, /** @type {string} */ value, flags = 0) => {
        await client.walk(1, 2);
        try {
            await client.setXattr(2, name, value, flags);
        }
        finally {
            await client.clunk(2).catch(() => {});
        }
    };
    await set("user.b", "value\0\xff");
    await set("user.a", "");
    await set("security.capability", "x".repeat(20));
    assert.equal(await client.xattr(1, 3), "security.capability\0user.a\0user.b\0");
    assert.equal(await client.xattr(1, 3, "user.b"), "value\0\xff");
    assert.equal(await client.xattr(1, 3, "user.a"), "");
    await assert.rejects(client.xattr(1, 3, "user.none"), ENODATA);
    await assert.rejects(set("user.a", "x", 1), EEXIST);
    await assert.rejects(set("user.none", "x", 2), ENODATA);
    await assert.rejects(set("other", "x"), EOPNOTSUPP);
    await assert.rejects(set(`user.${"x".repeat(255)}`, "x"), { errno: 34 });
    await assert.rejects(set("user.big", "x".repeat(65537)), { errno: 7 });
    await set("user.b", "", 2);
    assert.equal(await client.xattr(1, 3), "security.capability\0user.a\0");
    await client.walk(1, 2);
    await client.call(T.xattrcreate, ["w", 2], ["s", "user.c"], ["d", 4], ["w", 0]);
    await assert.rejects(client.write(2, 2, "xyz"), ENOSPC);
    await client.write(2, 0, "ab");
    await assert.rejects(client.read(2, 0, 4), EINVAL);
    await assert.rejects(client.stat(2), EBADF);
    await assert.rejects(client.clunk(2), EINVAL);         // half of it was never written
    await assert.rejects(client.xattr(1, 3, "user.c"), ENODATA);
});

test("locks: another process is blocked, told of what is in its way, and gets it when it is given back", async () => {
    const { client } = await shared();
    for(const fid of [1, 2, 3]) {
        await client.walk(0, fid, "a.txt");
        await client.open(fid, 2);
    }
    assert.equal(await client.lock(1, 1, 10, 10, 100), 0);
    assert.equal(await client.lock(2, 0, 15, 1, 200), 1);
    assert.equal(await client.lock(2, 1, 20, 0, 200), 0);
    assert.deepEqual(await client.getlock(2, 1, 0, 0, 200), { type: 1, start: 10n, length: 10n, process: 100, client: "guest" });
    assert.deepEqual(await client.getlock(1, 1, 5, 10, 100), { type: 2, start: 5n, length: 10n, process: 100, client: "guest" });
    assert.deepEqual((await client.getlock(1, 0, 30, 1, 100)).length, 0n);
    assert.equal(await client.lock(1, 2, 12, 3, 100), 0);
    assert.equal(await client.lock(3, 1, 12, 3, 300), 0);
    assert.equal(await client.lock(3, 1, 11, 3, 300), 1);
    assert.equal(await client.lock(3, 2, 0, 0, 300), 0);
    await client.clunk(1);                                 // a file that is closed has no locks
    assert.equal(await client.lock(3, 1, 0, 20, 300), 0);
    assert.equal(await client.lock(3, 1, 0xFFFFFFFFFFFFFFF0n, 0n, 300), 1);
    await assert.rejects(client.lock(3, 9, 0, 1), EINVAL);
});

test("a lock that one process took on an open file, another that inherited it gives back", async () => {
    const { client } = await shared();
    for(const fid of [1, 2]) {
        await client.walk(0, fid, "a.txt");
        await client.open(fid, 2);
    }
    assert.equal(await client.lock(1, 1, 0, 0, 100), 0);
    assert.equal(await client.lock(1, 2, 0, 0, 101), 0);
    assert.equal(await client.lock(2, 1, 0, 0, 200), 0);
});

test("statfs tells what may still be written", async () => {
    const { client } = await shared();
    const ask = async () => {
        const answer = await client.call(T.statfs, ["w", 0]);
        return { type: answer.w(), bsize: answer.w(), blocks: answer.n(), free: answer.n(), avail: answer.n(), files: answer.n(), ffree: answer.n(), id: answer.n(), name: answer.w() };
    };
    assert.deepEqual(await ask(), { type: 0x01021997, bsize: 4096, blocks: 1 + (1 << 19), free: 1 << 19, avail: 1 << 19, files: 7 + (1 << 20), ffree: 1 << 20, id: 0, name: 255 });
    await client.walk(0, 1);
    await client.create(1, "new");
    await client.write(1, 0, new Uint8Array(8192));
    const { free, ffree } = await ask();
    assert.deepEqual([free, ffree], [(1 << 19) - 2, (1 << 20) - 1]);
});

test("a file system that is full says so, and has room again", async () => {
    const { client, server } = await shared();
    await client.walk(0, 1);
    await client.create(1, "new");
    server.tree.bytes += 2 ** 31 - 10_000;
    await assert.rejects(client.write(1, 0, new Uint8Array(8192)), ENOSPC);
    server.tree.bytes -= 2 ** 31 - 10_000;
    await client.write(1, 0, new Uint8Array(8192));
    await assert.rejects(client.write(1, 2 ** 44, "x"), EFBIG);
    server.tree.names += 1 << 20;
    await assert.rejects(client.mkdir(0, "x"), ENOSPC);
});

test("fsync and flush are answered; what is no request is an error", async () => {
    const { client } = await shared();
    await client.walk(0, 1, "a.txt");
    await client.call(T.fsync, ["w", 1], ["w", 0]);
    await client.call(T.flush, ["h", 77]);
    for(const type of [0, 1, 7, 102, 112, 255]) await assert.rejects(client.call(type, ["w", 0]), EOPNOTSUPP);
});

test("a flushed request that waits is answered first", async () => {
    const { hub, server } = await shared(), client = await Client.attached(server), order = /** @type {number[]} */ ([]);
    await client.walk(0, 1, "a.txt");
    await client.open(1);
    let open = () => {};
    hub.gate = new Promise(resolve => { open = () => resolve(undefined); });
    const done = Promise.all([message(T.read, 50, [["w", 1], ["d", 0], ["w", 10]]), message(T.flush, 51, [["h", 50]])].map(async request => order.push((await client.raw(request)).readUInt16LE(5))));
    await new Promise(resolve => setTimeout(resolve, 5));
    assert.deepEqual(order, []);
    open();
    await done;
    assert.deepEqual(order, [50, 51]);
});

test("on a seeded machine answers come in their order, whether the bytes were at hand or not", async () => {
    const hub = new Hub(), reads = new Reads();
    hub.file(0, "a", "first");
    hub.file(0, "b", "second");
    const client = await Client.attached(hub.serve(reads)), order = /** @type {string[]} */ ([]);
    for(const [fid, name] of [[1, "a"], [2, "b"]].entries()) {
        await client.walk(0, fid + 1, /** @type {any} */ (name[1]));
        await client.open(fid + 1);
    }
    const warm = client.read(1, 0, 10);
    await reads.settle();
    await warm;
    const asked = [2, 1].map(async fid => order.push(text(await client.read(fid, 0, 10))));
    await new Promise(resolve => setTimeout(resolve, 5));
    assert.deepEqual([order, reads.pending, client.server.pending], [[], true, 2]);
    await reads.settle();
    await Promise.all(asked);
    assert.deepEqual([order, client.server.pending], [["second", "first"], 0]);
});

test("a request that waits finds what changed meanwhile: a file that was cut, one that is gone", async () => {
    const { hub, client, server } = await shared();
    await client.walk(0, 1, "a.txt");
    await client.open(1, 2);
    let open = () => {};
    hub.gate = new Promise(resolve => { open = () => resolve(undefined); });
    const reading = client.read(1, 0, 100), writing = client.write(1, 2, "XY");
    await client.walk(1, 2);
    await client.truncate(2, 5);
    await client.unlink(0, "a.txt");
    await client.walk(0, 3, "deep");
    await client.unlink(3, "hard");
    await client.clunk(2);
    await client.clunk(1);
    assert.ok(server.tree.inodes.has(1));
    open();
    assert.equal(text(await reading), "from ");
    assert.equal(await writing, 2);
    await new Promise(resolve => setImmediate(resolve));
    assert.deepEqual([server.tree.inodes.has(1), server.tree.bytes, server.pending], [false, 0, 0]);
});

test("an answer is never longer than the buffers for it", async () => {
    const { client } = await shared();
    await client.walk(0, 1, "a.txt");
    await client.open(1);
    client.room = 20;
    assert.equal((await client.read(1, 0, 100)).length, 9);
    await assert.rejects(client.stat(1), { errno: 90 });
});

test("whatever a guest sends is answered, with an error where it makes no sense", async () => {
    const { client, server } = await shared(), random = new Random(5), types = [...Object.values(T), 0, 13, 255];
    for(let n = 0; n < 20_000; n++) {
        const length = random.below(60), bytes = random.bytes(7 + length), view = new DataView(bytes.buffer, bytes.byteOffset);
        view.setUint32(0, random.below(20) ? bytes.length : random.below(2) ? 0xFFFFFFFF : random.below(40), true);
        bytes[4] = types[random.below(types.length)];
        for(let at = 7; at + 4 <= bytes.length; at += 4) {
            if(random.below(2)) view.setUint32(at, random.below(6), true);         // fids, lengths and counts that may be meant
        }
        const answer = await client.raw(bytes);
        assert.equal(answer.readUInt32LE(0), answer.length);
        assert.ok(answer[4] === 7 || answer[4] === bytes[4] + 1, `${answer[4]} answers ${bytes[4]}`);
    }
    assert.equal(server.pending, 0);
});

test("a message that is cut short is an error", async () => {
    const { client } = await shared(), whole = message(T.walk, 1, [["w", 0], ["w", 1], ["h", 1], ["s", "deep"]]);
    for(let length = 0; length < whole.length; length++) assert.equal((await client.raw(whole.subarray(0, length))).readUInt32LE(7), EPROTO.errno);
    assert.equal((await client.raw(new Uint8Array([...whole, 1, 2, 3])))[4], T.walk + 1);          // what comes after its end is none of it
});

test("fids and attributes that are held have a bound", async () => {
    const { client } = await shared();
    await client.walk(0, 1, "a.txt");
    for(let n = 0; n < 1024; n++) await client.call(T.xattrwalk, ["w", 1], ["w", 100 + n], ["s", ""]);
    await assert.rejects(client.call(T.xattrwalk, ["w", 1], ["w", 5000], ["s", ""]), { errno: 23 });
    await assert.rejects(client.stat(5000), EBADF);
    await client.clunk(100);
    await client.call(T.xattrwalk, ["w", 1], ["w", 5000], ["s", ""]);
});
