// Plain v86 with its root on 9p, as upstream has it: node plain_9p.mjs BIOS VGA_BIOS KERNEL FS_JSON FILES/ TEXT
// Prints the seconds until the guest has printed the text, and the bytes of files that it had read.
import { readFileSync } from "node:fs";
import { V86 } from "../js/node_modules/v86/build/libv86.mjs";

const [bios, vgaBios, kernel, basefs, baseurl, text] = process.argv.slice(2);
const buffer = path => ({ buffer: new Uint8Array(readFileSync(path)).buffer });
const start = performance.now();
const emulator = new V86({
    wasm_path: new URL("../js/node_modules/v86/build/v86.wasm", import.meta.url).pathname,
    bios: buffer(bios), vga_bios: buffer(vgaBios), bzimage: buffer(kernel),
    cmdline: "console=ttyS0 tsc=reliable mitigations=off random.trust_cpu=on rw root=host9p rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=loose",
    memory_size: 512 << 20, filesystem: { basefs, baseurl }, autostart: true, disable_speaker: true,
});
let out = "", bytes = 0;
emulator.add_listener("9p-read-end", ([, count]) => { bytes += count; });
emulator.add_listener("serial0-output-byte", byte => {
    out += String.fromCharCode(byte);
    if(!out.endsWith(text)) return;
    console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, bytes }));
    process.exit(0);
});
setTimeout(() => { console.error(out.slice(-2000)); process.exit(1); }, 600_000);
