/**
 * Bundles src/ into the directory named on the command line: what the Python package ships.
 *
 * Rules: the output depends on nothing but src/ and the lock file; every bundle is one self-contained module, so that
 * an installed package needs no node_modules; not minified, so that a traceback can be read.
 */
import { copyFile, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { build } from "esbuild";

const [output] = process.argv.slice(2);
if (output === undefined) throw new Error("usage: node build.mjs OUTPUT_DIRECTORY");
const outdir = resolve(output);

await mkdir(outdir, { recursive: true });
await build({
    absWorkingDir: import.meta.dirname,
    entryPoints: { "node": "src/hosts/node.js", "node-worker": "src/hosts/node-worker.js" },
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node22",
    charset: "utf8",
    legalComments: "inline",
    logLevel: "warning",
});
await copyFile(join(import.meta.dirname, "node_modules/v86/build/v86.wasm"), join(outdir, "v86.wasm"));
