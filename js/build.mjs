/**
 * Bundles src/ into the directory named on the command line: what the Python package ships.
 *
 * Rules: the output depends on nothing but src/ and the lock file; every bundle is one self-contained module, so that
 * an installed package needs no node_modules and a page asks for one file; not minified, so that a traceback can be
 * read, except the loader: every widget of every notebook carries it. What pages fetch from the Hub is gzipped here.
 */
import { copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const MOST_LOADER = 10 << 10;                // bytes

const [output] = process.argv.slice(2);
if (output === undefined) throw new Error("usage: node build.mjs OUTPUT_DIRECTORY");
const outdir = resolve(output);

/** @type {import("esbuild").BuildOptions} */
const common = {
    absWorkingDir: import.meta.dirname,
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    charset: "utf8",
    legalComments: "inline",
    logLevel: "warning",
};
/** @type {import("esbuild").BuildOptions} */
const browser = { ...common, platform: "browser", target: "es2022", define: { require: "undefined" }, external: ["node:*"] };   // v86 looks whether it is in Node

await mkdir(outdir, { recursive: true });
await build({ ...common, entryPoints: { "node": "src/hosts/node.js", "node-worker": "src/hosts/node-worker.js" }, platform: "node", target: "node22" });
await build({ ...browser, entryPoints: { "worker": "src/hosts/worker.js", "view": "src/view/main.js" }, loader: { ".css": "text" } });
await build({ ...browser, entryPoints: { "loader": "src/view/loader.js" }, minify: true, legalComments: "none" });
await copyFile(join(import.meta.dirname, "node_modules/v86/build/v86.wasm"), join(outdir, "v86.wasm"));

for (const name of ["worker.mjs", "view.mjs", "v86.wasm"]) {
    await writeFile(join(outdir, `${name}.gz`), gzipSync(await readFile(join(outdir, name)), { level: 9 }));
}
for (const name of ["worker.mjs", "view.mjs"]) await rm(join(outdir, name));

const { size } = await stat(join(outdir, "loader.mjs"));
if (size > MOST_LOADER) throw new Error(`loader.mjs has ${size} bytes, more than ${MOST_LOADER}: every saved widget would carry them`);
