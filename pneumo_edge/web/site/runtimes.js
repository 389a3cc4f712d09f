// The inference libraries: each opens a model file, and runs a tensor. They lie in runtime/, see pneumo_edge/web/runtimes.py.

// More threads than these take longer on phones, whose other cores are slow.
const MOST_THREADS = 4;

/** How many threads a runtime may use: several only where the page is isolated, since they share memory. */
export function threadsHere() {
  return globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
}

/**
 * Open a model file.
 *
 * @param {{runtime: string, outputs: string[]}} model Its entry in models.json; `outputs` names the outputs in order.
 * @param {Uint8Array} bytes The file.
 * @param {number[]} shape Shape of its input.
 * @param {{threads: number, gpu: boolean}} how Threads for one inference; whether to use the GPU, by WebGPU.
 * @returns {Promise<{name: string, run: function(TypedArray): Promise<Object<string, ArrayLike<number>>>}>} `run` takes
 *   the tensor's values and gives the outputs by name.
 */
export function open(model, bytes, shape, how) {
  return { litert: openLiteRt, onnxruntime: openOnnxRuntime }[model.runtime](model, bytes, shape, how);
}

async function openOnnxRuntime(model, bytes, shape, { threads }) {
  const ort = await import("./runtime/onnxruntime/ort.js");
  const base = new URL("runtime/onnxruntime/", self.location.href);
  ort.env.logLevel = "fatal";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: new URL("ort-wasm.js", base).href, wasm: new URL("ort-wasm.wasm", base).href };
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const { type } = session.inputMetadata[0];
  return {
    name: `onnxruntime-web ${ort.env.versions.web}, WebAssembly, ${counted(threads)}`,
    async run(tensor) {
      const found = await session.run({ [session.inputNames[0]]: new ort.Tensor(type, tensor, shape) });
      return Object.fromEntries(model.outputs.map((name, index) => [name, found[session.outputNames[index]].data]));
    },
  };
}

let liteRt;

async function openLiteRt(model, bytes, shape, { threads, gpu }) {
  const library = await import("./runtime/litert/index.js");
  const base = new URL("runtime/litert/wasm/", self.location.href).href;
  const isThreaded = threads > 1 && await library.supportsFeature("relaxedSimd");
  if (!liteRt) {
    // In a worker, it looks for its files beside the worker. It notes each step as an error on the console.
    self.Module = { locateFile: (name) => base + name, printErr() {} };
    if (isThreaded) self.Module.mainScriptUrlOrBlob = `${base}litert_wasm_threaded_internal.js`;
    liteRt = await library.loadLiteRt(base, { threads: isThreaded });
  }
  const used = isThreaded ? threads : 1;
  const accelerator = gpu ? "webgpu" : "wasm";
  const compiled = await library.loadAndCompile(bytes, { accelerator, cpuOptions: { numThreads: used } });
  if (gpu && !compiled.isFullyAccelerated) throw new Error("The GPU of this browser does not run this model.");
  const names = compiled.getOutputDetails().map((each) => each.name);
  return {
    name: gpu ? "LiteRT.js, WebGPU" : `LiteRT.js, WebAssembly, ${counted(used)}`,
    async run(tensor) {
      const input = new library.Tensor(tensor, shape);
      const found = await compiled.run([input]);
      input.delete();
      const outputs = {};
      for (const [index, each] of found.entries()) {
        // The probabilities come first in the file; the other outputs have their names.
        const name = model.outputs.includes(names[index]) ? names[index] : model.outputs[index];
        outputs[name] = (await each.data()).slice();
        each.delete();
      }
      return outputs;
    },
  };
}

const counted = (threads) => (threads === 1 ? "1 thread" : `${threads} threads`);
