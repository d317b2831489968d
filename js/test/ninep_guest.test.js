// Shared files as a real guest has them: Linux's own 9p client against the server, from boot on.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, test } from "node:test";

import { CHUNK } from "../src/core/ninep/contents.js";
import { Hub } from "./ninep_client.js";
import { TestEngine } from "./rig.js";

const FRESH = "sync; echo 3 > /proc/sys/vm/drop_caches;";
const BIG = Uint8Array.from({ length: 2 * CHUNK + 5 }, (_, n) => n * 7 ^ n >> 9);
const md5 = (/** @type {Uint8Array} */ bytes) => createHash("md5").update(bytes).digest("hex");

const hub = new Hub();
hub.file(0, "a.txt", "from the host\n", true);
hub.file(0, "big", BIG);
const deep = hub.folder(0, "deep");
hub.file(deep, "b\udcff", "deep\n");
hub.add(0, "null", [0o20666, 0, 0, 1_000_000_000, 123_456_789, [1, 3]]);
hub.add(0, "tagged", [0o100644, 0, 0, 1_000_000_000, 123_456_789, [0], [["user.a", "dmFsdWU="]]]);

const PROGRAM = `
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
static int fail(const char *what) { printf("%s: %s\\n", what, strerror(errno)); return 1; }
static int take(int fd, int type, int start, int length) {
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl(fd, F_SETLK, &lock) ? errno : 0;
}
static int child(int (*work)(const char *), const char *name) {
    int status;
    pid_t pid = fork();
    if (pid == 0) _exit(work(name));
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}
static int take_part(const char *name) { int fd = open(name, O_RDWR); return take(fd, F_WRLCK, 5, 1) == EAGAIN && take(fd, F_WRLCK, 20, 1) == 0 ? 0 : 1; }
static int take_all(const char *name) { return flock(open(name, O_RDWR), LOCK_EX | LOCK_NB) ? errno : 0; }
int main(int count, char **values) {
    const char *what = values[1], *name = values[2];
    char text[100];
    struct stat info;
    int fd, n;
    if (!strcmp(what, "mmap")) {
        char *map;
        fd = open(name, O_RDWR | O_CREAT, 0600);
        if (ftruncate(fd, 100000)) return fail("ftruncate");
        map = mmap(0, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) return fail("mmap");
        strcpy(map + 50000, "mapped");
        if (msync(map, 100000, MS_SYNC)) return fail("msync");
        munmap(map, 100000);
    }
    else if (!strcmp(what, "unlinked")) {
        fd = open(name, O_RDWR | O_CREAT, 0600);
        if (write(fd, "still here", 10) != 10 || unlink(name) || fsync(fd)) return fail("unlink");
        if (open(name, O_RDONLY) >= 0) return fail("open");
        if (system("echo 3 > /proc/sys/vm/drop_caches") || pread(fd, text, 100, 0) != 10) return fail("pread");
        if (fstat(fd, &info)) return fail("fstat");
        printf("%.10s %d %d\\n", text, (int) info.st_size, (int) info.st_nlink);
    }
    else if (!strcmp(what, "locks")) {
        fd = open(name, O_RDWR | O_CREAT, 0600);
        if (take(fd, F_WRLCK, 0, 10)) return fail("lock");
        if (child(take_part, name)) return printf("another process got what it must not\\n");
        if (take(fd, F_UNLCK, 0, 0) || take(fd, F_RDLCK, 0, 0)) return fail("shared lock");
        close(open(name, O_RDONLY));                     /* gives back all locks of this process */
        fd = open(name, O_RDWR);
        if (flock(fd, LOCK_EX)) return fail("flock");
        if ((n = child(take_all, name)) != EAGAIN) return printf("flock gave %d\\n", n);
        if (fork() == 0) { close(fd); _exit(0); }        /* inherits the lock, and does not give it back */
        wait(&n);
        if ((n = child(take_all, name)) != EAGAIN) return printf("flock gave %d\\n", n);
        close(fd);
        if ((n = child(take_all, name))) return printf("flock gave %d\\n", n);
        printf("locked\\n");
    }
    else if (!strcmp(what, "xattrs")) {
        if (setxattr(name, "user.one", "1", 1, 0) || setxattr(name, "user.two", "", 0, XATTR_CREATE) || setxattr(name, "trusted.three", "333", 3, 0)) return fail("setxattr");
        if (setxattr(name, "user.one", "x", 1, XATTR_CREATE) == 0 || errno != EEXIST) return fail("twice");
        if (getxattr(name, "user.none", text, 100) >= 0 || errno != ENODATA) return fail("none");
        if (getxattr(name, "trusted.three", text, 2) >= 0 || errno != ERANGE) return fail("short");
        if (removexattr(name, "user.one") || removexattr(name, "user.one") == 0 || errno != ENODATA) return fail("removexattr");
        for (n = listxattr(name, text, 100) - 1; n >= 0; n--) putchar(text[n] ? text[n] : ' ');
        printf(" %d\\n", (int) getxattr(name, "user.two", text, 100));
    }
    else if (!strcmp(what, "times")) {
        struct timespec times[2] = { { 1111111111, 123456789 }, { 2222222222u, 987654321 } };
        if (utimensat(AT_FDCWD, name, times, 0)) return fail("utimensat");
    }
    else if (!strcmp(what, "list")) {                    /* reads one entry, waits for a file, reads the rest */
        DIR *folder = opendir(name);
        struct dirent *entry;
        for (n = 0; (entry = readdir(folder)); n++) if (n == 5) while (access("/tmp/go", F_OK)) usleep(10000);
        printf("%d\\n", n);
    }
    return 0;
}
`;

/** @param {TestEngine} rig @param {string} command @param {object} [more] */
async function run(rig, command, more = {}) {
    const { payload, stdout, returncode } = await rig.hub.ask({ type: "spawn", argv: ["/bin/sh", "-c", command], ...more });
    return { out: Buffer.from(payload.subarray(0, stdout)).toString("latin1"), err: Buffer.from(payload.subarray(stdout)).toString(), returncode };
}

/** @param {TestEngine} rig @param {string} command */
async function out(rig, command) {
    const { out: text, err, returncode } = await run(rig, command);
    assert.equal(returncode, 0, `${command}: ${text} ${err}`);
    return text;
}

/** An engine whose hub has the files. @param {object} [host] */
function engine(host = {}) {
    const rig = new TestEngine(host);
    for(const [digest, bytes] of hub.blobs) rig.blobs.set(digest, bytes);
    return rig;
}

const share = engine().keep(hub.manifest);
/** The state that all start from. @type {Uint8Array} */
let start;
/** @type {TestEngine} */
let rig;

/** @param {number | null} [seed] @param {Uint8Array} [state] @param {TestEngine} [rig] */
async function machine(seed = null, state = start, rig = engine()) {
    rig.keep(hub.manifest);
    await rig.bootLinux(seed, state && rig.keep(state), { share }, state === start);
    return rig;
}

before(async () => {
    const origin = engine();
    origin.keep(hub.manifest);
    await origin.bootLinux(0, null, { share });
    await run(origin, `cat > /root/t.c <<'END'\n${PROGRAM}\nEND\ncc -o /bin/t /root/t.c && ${FRESH}`).then(({ returncode, err }) => assert.equal(returncode, 0, err));
    start = (await origin.hub.ask({ type: "capture", start: true })).payload;
    await origin.stop();
    rig = await machine();
}, { timeout: 300_000 });


test("the guest sees what the manifest says: names, times to the nanosecond, devices, attributes, contents", { timeout: 300_000 }, async () => {
    assert.equal(await out(rig, "cd /mnt; stat -c '%n %a %s %h %F %t %T' a.txt null deep; stat -c %y tagged; find deep -type f | od -An -c | tr -s ' '; cat deep/*"),
        "a.txt 644 14 1 regular file 0 0\nnull 666 0 1 character special file 1 3\ndeep 755 0 2 directory 0 0\n2001-09-09 01:46:40.123456789 +0000\n d e e p / b 377 \\n\ndeep\n");
    assert.equal(await out(rig, `md5sum < /mnt/big; echo x > /mnt/null; cat /mnt/a.txt`), `${md5(BIG)}  -\nfrom the host\n`);
    assert.equal(await out(rig, "grep host9p /proc/mounts"), "host9p /mnt 9p rw,dirsync,relatime,loose,access=client,trans=virtio 0 0\n");
});

test("files are created, appended to, renamed, cut, linked, removed, and are so on the other side of the cache", { timeout: 300_000 }, async () => {
    await out(rig, `mkdir /mnt/w && cd /mnt/w && echo new > created && cp ../big . && echo more >> ../a.txt && ln created hard && echo through >> hard && ln -s ../a.txt soft &&
        mkfifo pipe && mknod disk b 259 70000 && mkdir -p d/e && mv big d/moved && printf 0123456789 > cut && truncate -s 4 cut && truncate -s 6 cut && touch gone && rm gone && chmod 2640 cut && chown 12:34 cut`);
    assert.equal(await out(rig, `cd /mnt/w; ${FRESH} cat created soft; od -An -c cut; md5sum < d/moved; stat -c '%n %h %a %u:%g %F %t %T' *; ls d; readlink soft`),
        `new\nthrough\nfrom the host\nmore\n   0   1   2   3  \\0  \\0\n${md5(BIG)}  -\n`
        + "created 2 644 0:0 regular file 0 0\ncut 1 2640 12:34 regular file 0 0\nd 3 755 0:0 directory 0 0\ndisk 1 644 0:0 block special file 103 11170\n"
        + "hard 2 644 0:0 regular file 0 0\npipe 1 644 0:0 fifo 0 0\nsoft 1 777 0:0 symbolic link 0 0\ne\nmoved\n../a.txt\n");
    assert.equal(await out(rig, "cd /mnt/w; (cat pipe &); echo through > pipe; sleep 0.2"), "through\n");
    assert.notEqual((await run(rig, "rmdir /mnt/w")).returncode, 0);
    assert.match((await run(rig, "mkdir /mnt/w")).err, /File exists/);
});

test("a file of the host is changed in its middle, and only there", { timeout: 300_000 }, async () => {
    await out(rig, `printf XYZ | dd of=/mnt/big bs=1 seek=${CHUNK - 1} conv=notrunc 2>/dev/null`);
    const changed = BIG.slice();
    changed.set([88, 89, 90], CHUNK - 1);
    assert.equal(await out(rig, `${FRESH} md5sum < /mnt/big`), `${md5(changed)}  -\n`);
});

test("shared mappings are written back", { timeout: 300_000 }, async () => {
    await out(rig, "/bin/t mmap /mnt/mapped");
    assert.equal(await out(rig, `${FRESH} tail -c +50001 /mnt/mapped | head -c 6; stat -c ' %s %b' /mnt/mapped`), "mapped 100000 8\n");
});

test("an open file outlives its name", { timeout: 300_000 }, async () => {
    assert.equal(await out(rig, "/bin/t unlinked /mnt/short"), "still here 10 0\n");
});

test("locks of both kinds keep processes apart, and go with them", { timeout: 300_000 }, async () => {
    assert.equal(await out(rig, "/bin/t locks /mnt/lock; /bin/t locks /mnt/lock"), "locked\nlocked\n");
    assert.equal(await out(rig, "cd /mnt; (flock 9; echo in; sleep 0.5; echo out) 9>lock & sleep 0.1; (flock 9; echo second) 9>lock; wait"), "in\nout\nsecond\n");
});

test("extended attributes are set, listed and removed, with the right errors", { timeout: 300_000 }, async () => {
    const [listed, size] = (await out(rig, "touch /mnt/x; /bin/t xattrs /mnt/x")).trim().split(/ (?=\d)/);
    assert.deepEqual([[...listed].reverse().join("").trim().split(" "), size], [["trusted.three", "user.two"], "0"]);
});

test("times are kept to the nanosecond, before and after the cache", { timeout: 300_000 }, async () => {
    assert.equal(await out(rig, `touch /mnt/t; /bin/t times /mnt/t; ${FRESH} stat -c '%X %y' /mnt/t`), "1111111111 2040-06-02 03:57:02.987654321 +0000\n");
});

test("a gigabyte of nothing is made, read and copied at once; one byte in its middle is all that there is", { timeout: 300_000 }, async () => {
    await out(rig, "cd /mnt; truncate -s 1G sparse; printf y | dd of=sparse bs=1 seek=500M conv=notrunc 2>/dev/null");
    assert.equal(await out(rig, `cd /mnt; ${FRESH} stat -c '%s %b' sparse; dd if=sparse bs=1 skip=500M count=1 2>/dev/null; tail -c 3 sparse | od -An -tx1`), "1073741824 8\ny 00 00 00\n");
});

test("ten thousand small files are there after the cache is dropped, and go", { timeout: 300_000 }, async () => {
    await out(rig, "mkdir /mnt/many; cd /mnt/many; n=0; while [ $n -lt 10000 ]; do echo $n > f$n; n=$((n+1)); done");
    assert.equal(await out(rig, `cd /mnt/many; ${FRESH} find . -type f | wc -l; find . -type f | sort | xargs cat | md5sum; ls | head -n 3 | xargs`),
        `10000\n${md5(Buffer.from(Array.from({ length: 10_000 }, (_, n) => `f${n}`).sort().map(name => `${name.slice(1)}\n`).join("")))}  -\nf0 f1 f10\n`);
    await out(rig, `rm -r /mnt/many; ${FRESH} test ! -e /mnt/many`);
});

test("names are bytes to the guest", { timeout: 300_000 }, async () => {
    await out(rig, "cd /mnt; mkdir names; touch \"$(printf 'names/\\377\\376')\" \"$(printf 'names/line\\nfeed')\" names/žluť");
    assert.equal(await out(rig, `cd /mnt/names; ${FRESH} find . -type f -print0 | sort -z | od -An -c | tr -s ' \\n' ' '`),
        " . / l i n e \\n f e e d \\0 . / 305 276 l u 305 245 \\0 . / 377 376 \\0 ");
});

test("all that was done so far is in an export, too", { timeout: 300_000 }, async () => {
    const exported = await rig.hub.ask({ type: "export_tree" }), { names } = JSON.parse(Buffer.from(exported.payload.subarray(0, exported.manifest)).toString());
    const paths = (await out(rig, "cd /mnt; find . -mindepth 1 -print0 | sort -z")).split("\0").slice(0, -1), base = names.map((/** @type {any[]} */ [, name]) => name);
    assert.equal(base.length, paths.length);
    assert.deepEqual(new Set(base.map((/** @type {string} */ name) => Buffer.from(name.replace(/[\udc80-\udcff]/g, "?")).toString("latin1"))), new Set(paths.map(path => path.replace(/.*\//, "").replace(/[\xff\xfe]/g, "?"))));
    await rig.stop();                        // one machine at a time: a realm has one clock
});

test("a snapshot in the middle of open files, a listing and locks goes on as the machine itself, and so does its hash", { timeout: 300_000 }, async () => {
    const original = await machine(3);
    await run(original, "mkdir /mnt/l; cd /mnt/l; for n in $(seq 400); do touch $n; done; (t list /mnt/l > /tmp/count; cat /tmp/count > /mnt/count) & (exec 3>>/mnt/log; rm /mnt/log; while :; do echo line >&3; sleep 0.05; done) & sleep 0.3");
    await run(original, "echo changed > /mnt/a.txt; rm /mnt/deep/*; (flock 9; sleep 100) 9>/mnt/lock & sleep 0.1");
    const state = (await original.hub.ask({ type: "capture" })).payload, hashes = [];
    for(const one of [original, () => machine(3, state)]) {
        const going = typeof one === "function" ? await one() : one;           // one after the other: a realm has one clock
        assert.equal(await out(going, `touch /tmp/go; sleep 0.5; cat /mnt/count /mnt/a.txt; ls /mnt/l | wc -l; ${FRESH} ls /mnt/deep | wc -l; md5sum < /mnt/big; flock -n /mnt/lock echo free || echo taken`),
            `402\nchanged\n400\n0\n${md5(BIG)}  -\ntaken\n`);
        hashes.push(await going.hub.ask({ type: "hash_state" }));
        await going.stop();
    }
    assert.deepEqual(hashes[1], hashes[0]);
});

test("a reset keeps what was changed", { timeout: 300_000 }, async () => {
    const one = await machine();
    await out(one, "echo kept > /mnt/kept; rm /mnt/a.txt; mv /mnt/deep /mnt/depth; (exec 3>/mnt/open; rm /mnt/open; sleep 1000) & sync; sleep 0.2");
    await one.hub.ask({ type: "reset" });
    assert.equal(await out(one, "cd /mnt; cat kept; ls; cat depth/*"), "kept\nbig\ndepth\nkept\nnull\ntagged\ndeep\n");
    await one.stop();
});

test("a seeded machine is the same however slowly its files come", { timeout: 300_000 }, async () => {
    const found = [];
    for(const delay of [0, 15]) {
        const fetch = async (/** @type {string} */ url) => {
            await new Promise(resolve => setTimeout(resolve, delay));
            return new Response(/** @type {any} */ (one.blobs.get(url.slice("http://hub/blob/".length))));
        };
        const one = engine({ fetch });
        await machine(5, start, one);
        const said = await run(one, `cd /mnt; md5sum big a.txt & md5sum deep/* big; wait; echo x >> big; ${FRESH} md5sum big; dd if=big of=copy bs=100000 2>/dev/null; ls -la --full-time; cat /proc/interrupts`);
        found.push({ said, ...await one.hub.ask({ type: "hash_state" }) });
        assert.equal(said.returncode, 0, said.err);
        await one.stop();
    }
    assert.deepEqual(found[1], found[0]);
});

test("an export is what the guest has, and what was fetched is known by name and guest time", { timeout: 300_000 }, async () => {
    const one = await machine();
    await out(one, "cd /mnt; echo new > new; rm a.txt; printf x >> big; cat deep/* > /dev/null; sync");
    const exported = await one.hub.ask({ type: "export_tree" }), { inodes, names } = JSON.parse(Buffer.from(exported.payload.subarray(0, exported.manifest)).toString());
    assert.deepEqual(names.map((/** @type {any[]} */ [, name]) => name), ["big", "deep", "b\udcff", "new", "null", "tagged"]);
    const chunks = hub.inodes[2][5];
    assert.deepEqual(inodes[1][5], [BIG.length + 1, chunks[1], chunks[2], "n0"]);
    assert.deepEqual(exported.parts, [6, 4]);
    assert.equal(Buffer.from(exported.payload.subarray(exported.manifest + 6)).toString(), "new\n");
    const { payload, forgotten } = await one.hub.ask({ type: "read_fetches" }), fetches = JSON.parse(Buffer.from(payload).toString());
    assert.deepEqual([forgotten, fetches.map((/** @type {any} */ { path }) => path).sort()], [0, ["/big", "/deep/b\udcff"]]);
    assert.ok(fetches.every((/** @type {any} */ { seconds, bytes }) => seconds > 0 && bytes > 0));
    const { share: statistics } = await one.hub.ask({ type: "read_statistics" });
    assert.deepEqual(statistics, { requests: 2, bytes: 10 });
    await one.stop();
});

test("a file that cannot be fetched stops the guest; after a reset it can go on", { timeout: 300_000 }, async () => {
    const one = await machine(), [digest] = hub.inodes[2][5].slice(1), bytes = /** @type {Uint8Array} */ (one.blobs.get(digest));
    one.blobs.set(digest, bytes.slice(1));
    await assert.rejects(run(one, "cat /mnt/big > /dev/null"), { code: "engine", message: /shared files cannot be read/ });
    one.blobs.set(digest, bytes);
    await one.hub.ask({ type: "reset" });
    assert.equal(await out(one, "md5sum < /mnt/big"), `${md5(BIG)}  -\n`);
    await one.stop();
});

test("a machine without shared files says so", { timeout: 300_000 }, async () => {
    const one = new TestEngine();
    await one.bootSector([0xF4, 0xEB, 0xFD]);
    for(const type of ["export_tree", "read_fetches"]) await assert.rejects(one.hub.ask({ type }), { code: "image", message: /shares no files/ });
    await one.stop();
});
