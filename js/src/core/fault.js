/**
 * Whose fault it is when a call into the emulator throws.
 *
 * A guest can make v86 trap in two ways (seen with v86 0.5.462): a Rust panic arrives as `WebAssembly.RuntimeError`
 * ("unreachable", "memory access out of bounds", ...), an interrupt that cannot be delivered recurses until the engine
 * throws `RangeError`. Both are the guest's doing. Anything else is a defect of ours.
 */

/** @typedef {"panic" | "triple-fault" | "halted" | "emulator" | "stuck"} GuestFaultKind */

/** The guest cannot go on. */
export class GuestFault extends Error {
    /**
     * @param {GuestFaultKind} kind
     * @param {string} message
     */
    constructor(kind, message) {
        super(message);
        this.name = "GuestFault";
        this.kind = kind;
    }
}

/** A request that cannot be served; `code` tells Python which error to raise. */
export class RequestError extends Error {
    /**
     * @param {"image" | "guest" | "engine" | "timeout" | "off" | "fault" | "agent" | "cancelled"} code
     * @param {string} message
     * @param {{expected?: string, seen?: string, hint?: string, value?: Record<string, unknown>, payload?: Uint8Array}} [more]
     */
    constructor(code, message, more = {}) {
        super(message);
        this.name = "RequestError";
        this.code = code;
        this.more = more;
    }
}

/**
 * Turn what a call into the emulator threw into a `GuestFault`, or give it back when it is our own defect.
 *
 * @param {unknown} error
 * @param {string} panic   what v86 printed while it panicked, if it did
 * @returns {unknown}
 */
export function classify(error, panic) {
    if(error instanceof WebAssembly.RuntimeError) {
        return panic
            ? new GuestFault("triple-fault", `the processor could not deliver an exception: ${firstLine(panic)}`)
            : new GuestFault("emulator", `the emulator trapped: ${error.message}`);
    }
    if(error instanceof RangeError && /call stack/i.test(error.message)) {
        return new GuestFault("triple-fault", "an exception handler or stack lies in an unmapped page: exceptions nest without end");
    }
    return error;
}

/** @param {string} text */
function firstLine(text) {
    return text.split("\n").map(line => line.trim()).find(line => line && !line.startsWith("panicked at")) ?? text.trim();
}
