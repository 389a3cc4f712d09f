// A port in JavaScript, for Node.js: `node port.mjs KIT RESULTS.json`
//
// Preprocessing and decision are preprocess.js and decision.js, which need no library and run in browsers, too. It starts
// from decoded pixels, because decoding is a browser's own (createImageBitmap with imageOrientation "from-image", and a
// canvas) and Node.js has none. An .onnx file is run with onnxruntime-web (run `npm install` here first). A .tflite file
// is not run: LiteRT.js (@litertjs/core) needs a browser. `pneumo-edge web` builds a page that runs both.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { answer } from "./decision.js";
import { greyFromRgba, resize, shapeOf, toTensor } from "./preprocess.js";

async function readNetpbm(path) {
  const content = await readFile(path);
  const lines = [];
  let at = 0;
  while (lines.length < 3) {
    const end = content.indexOf(10, at);
    lines.push(content.toString("latin1", at, end));
    at = end + 1;
  }
  const [width, height] = lines[1].split(" ").map(Number);
  return { width, height, channels: lines[0] === "P6" ? 3 : 1, pixels: content.subarray(at) };
}

function toRgba({ pixels, channels }) {
  const rgba = new Uint8Array((pixels.length / channels) * 4).fill(255);
  for (let pixel = 0; pixel * channels < pixels.length; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      rgba[pixel * 4 + channel] = pixels[pixel * channels + Math.min(channel, channels - 1)];
    }
  }
  return rgba;
}

async function loadEngine(path) {
  if (!path.endsWith(".onnx")) return null;
  const ort = await import("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(await readFile(path));
  return async (spec, tensor) => {
    const input = new ort.Tensor(spec.input.dtype, tensor, shapeOf(spec.input));
    const outputs = await session.run({ [session.inputNames[0]]: input });
    return session.outputNames.map((name) => Array.from(outputs[name].data));
  };
}

const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

function toAnswer(spec, outputs) {
  const found = answer(spec, outputs);
  return {
    probabilities: Object.fromEntries(spec.class_names.map((name, index) => [name, found.probabilities[index]])),
    label: found.label,
    prediction_set: found.predictionSet,
    uncertain: found.uncertain,
    distance: found.distance,
    out_of_distribution: found.outOfDistribution,
  };
}

async function classify(spec, names, run, kit, vector) {
  const { height, width } = spec.input;
  const decoded = await readNetpbm(join(kit, "vectors", vector.decoded.file));
  const grey = greyFromRgba(toRgba(decoded));
  const resized = resize(grey, decoded.width, decoded.height, width, height);
  const tensor = toTensor(spec.input, resized);
  const result = {
    file: vector.file,
    grey: { width: decoded.width, height: decoded.height, channels: 1, pixels: base64(grey) },
    resized: { width, height, channels: 1, pixels: base64(resized) },
    tensor: base64(tensor),
  };
  if (!run) return result;
  const values = await run(spec, tensor);
  const outputs = Object.fromEntries(names.map((name, index) => [name, values[index]]));
  return { ...result, outputs, answer: toAnswer(spec, outputs) };
}

const [kit, results] = process.argv.slice(2);
if (!results) {
  console.error("Usage: node port.mjs KIT RESULTS.json");
  process.exit(1);
}
const spec = JSON.parse(await readFile(join(kit, "spec.json"), "utf-8"));
const vectors = JSON.parse(await readFile(join(kit, "vectors", "vectors.json"), "utf-8"));
const run = await loadEngine(join(kit, vectors.model));
const found = [];
for (const vector of vectors.vectors) {
  if (vector.decoded) found.push(await classify(spec, vectors.outputs, run, kit, vector));
}
const decisions = vectors.decisions.map((each) => toAnswer(spec, each.outputs));
await writeFile(results, JSON.stringify({ port: "JavaScript", vectors: found, decisions }));
