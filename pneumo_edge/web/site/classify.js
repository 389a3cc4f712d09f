// Opens a model and classifies image files with it; runs in the worker.

import { answer } from "./decision.js";
import { decode } from "./decode.js";
import { readDicom } from "./dicom.js";
import { resize, shapeOf, toTensor } from "./preprocess.js";
import { open as openRuntime, threadsHere } from "./runtimes.js";

// The longer side of the picture that the page shows, in pixels.
const SHOWN = 1024;

let opened;

/**
 * Open a model of the site, and compare its answers with those of the Python runtime.
 *
 * @param {{model: object, limits: object, threads: number|undefined, gpu: boolean|undefined}} argument An entry of
 *   models.json, its limits, and what to run it with.
 * @returns {Promise<{runtime: string, difference: number, milliseconds: number}>} What runs it, the mean difference of
 *   probability from the Python runtime, and the time until it was ready.
 * @throws {Error} The file is missing or damaged, or the answers differ by more than `model.bounds` allow.
 */
export async function open({ model, limits, threads = threadsHere(), gpu = false }) {
  const begun = performance.now();
  opened = undefined;
  const bytes = await fetchModel(model);
  const engine = await openEngine(model, bytes, { threads, gpu });
  const candidate = { model, limits, engine };
  const difference = await compare(candidate);
  if (!(difference <= model.bounds.mean_difference)) {
    throw new Error(
      `${engine.name} gives other answers than Python in this browser: the probability differs by ${difference.toPrecision(2)} ` +
      `on average, and at most ${model.bounds.mean_difference} is allowed. ` +
      (gpu ? "The processor is used instead." : "Use another browser, or pneumo-edge serve."),
    );
  }
  opened = candidate;
  return { runtime: engine.name, difference, milliseconds: performance.now() - begun };
}

async function openEngine(model, bytes, how) {
  try {
    return await openRuntime(model, bytes, shapeOf(model.spec.input), how);
  } catch (error) {
    if (how.gpu) throw error;
    const reason = String(error?.message ?? error).split("\n")[0];
    throw new Error(
      `The runtime of ${model.name} cannot be loaded, or does not run it (${reason}). Connect to the network, or use another browser.`,
    );
  }
}

async function fetchModel(model) {
  const response = await fetch(model.file).catch(() => {
    throw new Error(`The model file ${model.name} is not kept in this browser yet. Connect to the network to load it.`);
  });
  if (!response.ok) throw new Error(`The model file ${model.name} cannot be loaded (HTTP ${response.status}). Reload the page.`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = Array.from(digest, (value) => value.toString(16).padStart(2, "0")).join("");
  if (hex !== model.sha256) throw new Error(`The model file ${model.name} is damaged. Reload the page; if it stays so, build the site again.`);
  return bytes;
}

/** The mean difference of probability from what the Python runtime answered when the site was built. */
async function compare({ model, engine }) {
  const { input } = model.spec;
  let sum = 0;
  for (const { side, grey, probabilities } of model.cases) {
    const pixels = Uint8Array.from(atob(grey), (character) => character.charCodeAt(0));
    const outputs = await engine.run(toTensor(input, resize(pixels, side, side, input.width, input.height)));
    const found = answer(model.spec, outputs).probabilities;
    sum += Math.max(...found.map((value, index) => Math.abs(value - probabilities[index])));
  }
  return sum / model.cases.length;
}

/**
 * Classify an image file with the model that is open.
 *
 * @param {ArrayBuffer} file The bytes of the file.
 * @returns {Promise<object>} The answer of decision.js; `picture`, grey pixels to show; `heatmap` or null; `timings` in
 *   milliseconds.
 */
export async function classify(file) {
  if (!opened) throw new Error("No model is open. Reload the page.");
  const { model: { spec }, limits, engine } = opened;
  const { input } = spec;
  const laps = [performance.now()];
  const lap = () => laps.push(performance.now());
  const image = await decode(new Uint8Array(file), limits, readDicom);
  lap();
  const grey = resize(image.pixels, image.width, image.height, input.width, input.height);
  lap();
  const tensor = toTensor(input, grey);
  lap();
  const outputs = await engine.run(tensor);
  lap();
  const found = answer(spec, outputs);
  lap();
  const [decoding, resizing, filling, inference, decision] = laps.slice(1).map((time, index) => time - laps[index]);
  return {
    ...found,
    picture: shown(image),
    heatmap: heatmapOf(spec, outputs, found.label),
    timings: { decode: decoding, resize: resizing, tensor: filling, inference, decision },
    total: laps.at(-1) - laps[0],
  };
}

/**
 * The grey pixels of an image file before and after the resize, to be compared with Python's.
 *
 * @param {ArrayBuffer} file The bytes of the file.
 * @returns {Promise<object>} `decoded` and `resized`: pixels, width and height.
 */
export async function pixels(file) {
  const { model: { spec: { input: { width, height } } }, limits } = opened;
  const decoded = await decode(new Uint8Array(file), limits, readDicom);
  return {
    decoded, resized: { pixels: resize(decoded.pixels, decoded.width, decoded.height, width, height), width, height },
  };
}

function shown({ pixels, width, height }) {
  const scale = Math.min(SHOWN / Math.max(width, height), 1);
  const [newWidth, newHeight] = [width, height].map((side) => Math.max(Math.round(side * scale), 1));
  return { pixels: resize(pixels, width, height, newWidth, newHeight), width: newWidth, height: newHeight };
}

/** The map of the label: without a positive class there is one for each. */
function heatmapOf(spec, outputs, label) {
  const output = spec.outputs.find((each) => each.name === "heatmap" && each.faithful);
  if (!output) return null;
  const [height, width] = output.shape.slice(-2);
  const first = output.shape.length === 2 ? 0 : spec.class_names.indexOf(label) * height * width;
  const values = Float32Array.from(outputs.heatmap).subarray(first, first + height * width);
  return values.every(Number.isFinite) ? { values, height, width } : null;
}
