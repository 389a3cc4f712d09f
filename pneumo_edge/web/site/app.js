// The page: takes an image, hands it to the worker, and shows the answer.

import { overlay } from "./heatmap.js";

const at = (id) => document.getElementById(id);
const file = at("file");
const drop = at("drop");
// What is remarked on a label.
const REMARKS = {
  uncertain: ["uncertain", "The model is uncertain about this X-ray. Treat the label as a guess."],
  outOfDistribution: [
    "out-of-distribution",
    "This image is out-of-distribution: unlike the X-rays the model was trained on. Ignore the label and the probability.",
  ],
};
// That the page was reloaded by itself, which it does once.
const RELOADED = "pneumo-edge-reloaded";
// How long a service worker that is active may take to take over this page.
const CLAIM_MS = 2000;
let site, worker, model, latest = 0, shown;

/** Ask the worker, and wait for its answer. */
const ask = (() => {
  const waiting = new Map();
  let last = 0;
  return (kind, argument, transfer = []) => {
    if (!worker) {
      worker = new Worker("worker.js");
      worker.addEventListener("message", ({ data: { id, result, error } }) => {
        const { resolve, reject } = waiting.get(id);
        waiting.delete(id);
        if (error === undefined) resolve(result);
        else reject(new Error(error));
      });
      worker.addEventListener("error", (event) => {
        event.preventDefault();
        for (const { reject } of waiting.values()) reject(new Error("The classifier cannot start in this browser. Update the browser."));
        waiting.clear();
      });
    }
    return new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, kind, argument }, transfer);
    });
  };
})();

async function start() {
  await installWorkerForOffline();
  const response = await fetch("models.json");
  if (!response.ok) throw new Error(`models.json cannot be loaded (HTTP ${response.status}). Build the site again.`);
  site = await response.json();
  at("version").textContent = site.version;
  at("model").replaceChildren(...site.models.map(({ name }, index) => new Option(name, index)));
  at("models").hidden = site.models.length < 2;
  await openModel(0);
}

/** The service worker keeps the site for later visits without a network, and isolates the page for threads. */
async function installWorkerForOffline() {
  try {
    const registration = await navigator.serviceWorker.register("sw.js");
    await settled(registration.installing);
    if (registration.active && !navigator.serviceWorker.controller) await controlled();
    const isControlled = Boolean(navigator.serviceWorker.controller);
    if (isControlled && !self.crossOriginIsolated && !sessionStorage.getItem(RELOADED)) {
      sessionStorage.setItem(RELOADED, "yes");
      location.reload();
      await new Promise(() => {});
    }
  } catch {
    // Such as in a private window of some browsers: the page works, with a network.
  }
}

/** Wait until a service worker is active or has failed. */
const settled = (installing) => installing && new Promise((resolve) => {
  installing.addEventListener("statechange", () => {
    if (["activated", "redundant"].includes(installing.state)) resolve();
  });
});

/** Wait until the service worker has taken over this page; it does not where the user reloads past the cache. */
const controlled = () => new Promise((resolve) => {
  navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
  setTimeout(resolve, CLAIM_MS);
});

/** Open a model; `note` is shown when it is ready. */
async function openModel(index, note = "") {
  const mine = ++latest;
  const isLatest = () => mine === latest;
  model = site.models[index];
  at("error").hidden = at("result").hidden = true;
  at("status").textContent = "Loading the model ...";
  drop.inert = true;
  delete document.body.dataset.ready;
  const { spec, runtime: library } = model;
  // onnxruntime-web for WebGPU is another, twice as large file.
  at("accelerator").hidden = !(navigator.gpu && library === "litert");
  const gpu = at("gpu").checked && !at("accelerator").hidden;
  at("source").textContent = spec.data.real ? "X-rays" : "PHANTOM images, not X-rays; do not use it on patients";
  try {
    const { runtime, difference, milliseconds } = await ask("open", { model, limits: site.limits, gpu });
    if (!isLatest()) return;
    at("runtime").textContent = runtime;
    at("compared").textContent = difference.toPrecision(2);
    at("facts").hidden = false;
    at("status").textContent = `Ready in ${(milliseconds / 1000).toFixed(1)} s.`;
    drop.inert = false;
    if (note) warn(note);
    document.body.dataset.ready = model.name;
  } catch (error) {
    if (!isLatest()) return;
    fail(error.message);
    if (gpu) {
      at("gpu").checked = false;
      await openModel(index, error.message);
    }
  }
}

async function classify(image) {
  // If several images are dropped one after the other, the last one is shown.
  const mine = ++latest;
  const isLatest = () => mine === latest;
  at("error").hidden = at("result").hidden = true;
  at("status").textContent = "Classifying ...";
  try {
    let bytes;
    try {
      bytes = await image.arrayBuffer();
    } catch {
      throw new Error("The file cannot be read. Choose a file, not a folder.");
    }
    const begun = performance.now();
    const answer = await ask("classify", bytes, [bytes]);
    if (isLatest()) show(answer, image.name, performance.now() - begun);
  } catch (error) {
    if (isLatest()) fail(error.message);
  }
}

function show(answer, name, waited) {
  const { class_names: names, decision: { positive_class: positive, threshold } } = model.spec;
  // Without a positive class the most probable one is the label, and there is no threshold.
  const of = positive ?? answer.label;
  const share = answer.probabilities[names.indexOf(of)];
  const remarks = Object.keys(REMARKS).filter((remark) => answer[remark]).map((remark) => REMARKS[remark]);
  at("status").textContent = `Result: ${[answer.label, ...remarks.map(([word]) => word)].join(", ")}.`;
  at("remark").textContent = remarks.map(([, sentence]) => sentence).join(" ");
  at("remark").hidden = !remarks.length;
  at("label").textContent = answer.label;
  const side = share >= threshold ? "at or above" : "below";
  at("reason").textContent = `Probability of ${of} ${percent(share)}` +
    (positive ? `, ${side} the threshold of ${percent(threshold)}.` : ", the most probable class.");
  at("share").style.width = `${100 * share}%`;
  at("threshold").hidden = !positive;
  at("threshold").style.left = `${100 * threshold}%`;
  at("probabilities").replaceChildren(...names.map((each, index) => row(each, percent(answer.probabilities[index]))));
  at("timings").replaceChildren(
    ...Object.entries(answer.timings).map(([stage, time]) => row(stage, milliseconds(time))),
    row("file to result", milliseconds(answer.total), "total"),
    row("including the picture", milliseconds(waited)),
  );
  at("caption").textContent = name;
  at("explanation").hidden = !answer.heatmap;
  at("explained").textContent = positive ?? "the class that is shown";
  shown = answer;
  draw();
  at("result").hidden = false;
}

function draw() {
  const { picture, heatmap } = shown;
  const map = at("overlay").checked ? heatmap : null;
  const canvas = at("picture");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.setAttribute("aria-label", map ? "The classified X-ray with the heatmap over it" : "The classified X-ray");
  canvas.getContext("2d").putImageData(new ImageData(overlay(picture, map, site.heatmap), picture.width), 0, 0);
}

function fail(message) {
  at("status").textContent = "";
  warn(message);
}

function warn(message) {
  at("error").textContent = message;
  at("error").hidden = false;
}

function row(name, value, kind = "") {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  const cell = document.createElement("td");
  line.className = kind;
  head.scope = "row";
  head.textContent = name;
  cell.textContent = value;
  line.append(head, cell);
  return line;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const milliseconds = (time) => `${time.toFixed(1)} ms`;

at("overlay").addEventListener("change", draw);
for (const id of ["model", "gpu"]) at(id).addEventListener("change", () => openModel(Number(at("model").value)));
file.addEventListener("change", () => {
  if (file.files.length) classify(file.files[0]);
  // So that the same file can be chosen again.
  file.value = "";
});

// The browser must not leave the page to open a file that is dropped anywhere on it.
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  if (!drop.inert && event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
});

start().catch((error) => fail(error.message));
