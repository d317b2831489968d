// Plain v86 in Node, as its documentation runs it: the peer of the benchmarks that import plain.py.
//   node plain.mjs speed BIOS VGABIOS KERNEL INITRD CMDLINE PROMPT SECONDS
//   node plain.mjs boot   BIOS VGABIOS KERNEL INITRD CMDLINE PROMPT 0
//   node plain.mjs serial BIOS VGABIOS KERNEL INITRD CMDLINE PROMPT ROUNDS
// Prints one line of JSON.
import fs from "node:fs";
import process from "node:process";
import { V86 } from "../js/node_modules/v86/build/libv86.mjs";

const [job, bios, vgaBios, kernel, initrd, cmdline, prompt, amount] = process.argv.slice(2);
const buffer = path => {
    const bytes = fs.readFileSync(path);
    return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) };
};
const emulator = new V86({
    wasm_path: new URL("../js/node_modules/v86/build/v86.wasm", import.meta.url).pathname,
    bios: buffer(bios), vga_bios: buffer(vgaBios), bzimage: buffer(kernel), initrd: buffer(initrd), cmdline,
    memory_size: 128 << 20, filesystem: {}, virtio_console: true, autostart: false, disable_speaker: true,
});
let output = "";
emulator.add_listener("serial0-output-byte", byte => { output += String.fromCharCode(byte); });
const shows = text => new Promise(resolve => {
    const timer = setInterval(() => {
        if(!output.includes(text)) return;
        clearInterval(timer);
        resolve();
    }, 1);
});
await new Promise(resolve => emulator.add_listener("emulator-loaded", resolve));
const { cpu } = emulator.v86;
let instructions = 0, last = cpu.instruction_counter[0];
const count = () => {
    const now = cpu.instruction_counter[0];
    instructions += (now - last) >>> 0;
    last = now;
    return instructions;
};
setInterval(count, 1000);                    // the counter wraps
const begin = performance.now();
emulator.run();
await shows(prompt);
const boot = { instructions: count(), seconds: (performance.now() - begin) / 1000 };
if(job === "speed") {
    emulator.serial0_send("while :; do :; done\n");
    await new Promise(resolve => setTimeout(resolve, 2000));            // the compilers settle
    const before = count(), start = performance.now();
    await new Promise(resolve => setTimeout(resolve, amount * 1000));
    console.log(JSON.stringify({ boot, loop: { instructions: count() - before, seconds: (performance.now() - start) / 1000 } }));
}
else if(job === "boot") console.log(JSON.stringify({ boot }));
else {
    const times = [];
    for(let round = 0; round < amount; round++) {
        output = "";
        const start = performance.now();
        emulator.serial0_send("true; echo N''EXT\n");
        await shows("NEXT");
        times.push((performance.now() - start) / 1000);
    }
    console.log(JSON.stringify({ times }));
}
process.exit(0);
