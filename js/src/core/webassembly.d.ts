/** The part of the WebAssembly JavaScript API that the engine uses; neither ES2023 nor @types/node declares it. */
type BufferSource = Uint8Array | ArrayBuffer;

declare namespace WebAssembly {
    type ImportValue = Function | Memory | Table | Global | number;
    type Imports = Record<string, Record<string, ImportValue>>;

    class Module {
        private readonly _module;
        constructor(bytes: BufferSource);
        static imports(module: Module): { module: string; name: string; kind: string }[];
        static exports(module: Module): { name: string; kind: string }[];
    }
    class Instance {
        readonly exports: Record<string, any>;
        constructor(module: Module, imports?: Imports);
    }
    class Memory {
        readonly buffer: ArrayBuffer;
        constructor(descriptor: { initial: number; maximum?: number });
        grow(pages: number): number;
    }
    class Table {
        readonly length: number;
        constructor(descriptor: { element: "anyfunc"; initial: number; maximum?: number });
        get(index: number): Function | null;
        set(index: number, value: Function | null): void;
        grow(delta: number): number;
    }
    class Global {
        value: any;
        constructor(descriptor: { value: string; mutable?: boolean }, value?: any);
    }
    class RuntimeError extends Error {}
    class CompileError extends Error {}
    class LinkError extends Error {}

    function compile(bytes: BufferSource): Promise<Module>;
    function instantiate(module: Module, imports?: Imports): Promise<Instance>;
    function instantiate(
        bytes: BufferSource,
        imports?: Imports,
    ): Promise<{ module: Module; instance: Instance }>;
}
