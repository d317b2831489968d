/**
 * All that the core may use beyond the language and WebAssembly: what Web Workers and Node share. Kept small on purpose;
 * what is not here (timers, sockets, randomness) is handed in by the host.
 */

declare function fetch(
    url: string,
    init?: { method?: string; headers?: Record<string, string>; signal?: AbortSignal | null | undefined },
): Promise<Response>;

interface Response {
    readonly ok: boolean;
    readonly status: number;
    readonly headers: { get(name: string): string | null };
    readonly body: { getReader(): StreamReader } | null;
    arrayBuffer(): Promise<ArrayBuffer>;
    text(): Promise<string>;
}

interface StreamReader {
    read(): Promise<{ done: false; value: Uint8Array<ArrayBuffer> } | { done: true; value: undefined }>;
}
declare class CompressionStream {
    constructor(format: "deflate");
    readonly readable: { getReader(): StreamReader };
    readonly writable: { getWriter(): { write(bytes: Uint8Array): Promise<void>; close(): Promise<void> } };
}

interface AbortSignal {
    readonly aborted: boolean;
    readonly reason: any;
    addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
    removeEventListener(type: "abort", listener: () => void): void;
    throwIfAborted(): void;
}
declare class AbortController {
    readonly signal: AbortSignal;
    abort(reason?: any): void;
}

declare class TextEncoder {
    encode(text?: string): Uint8Array<ArrayBuffer>;
}
declare class TextDecoder {
    constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
    decode(bytes?: Uint8Array | ArrayBuffer, options?: { stream?: boolean }): string;
}

declare const performance: { now(): number };
declare function btoa(bytes: string): string;
declare function atob(base64: string): string;
