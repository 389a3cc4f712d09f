// The page: takes an image, hands it to the worker, and shows the answer.

import { overlay } from "./heatmap.js";
import { at, begin, fail, takeImages, warn } from "./page.js";

let site, worker, model, isUsed = false;
// That the page was reloaded by itself, which it does once.
const RELOADED = "pneumo-edge-reloaded";
// How long a service worker that is active may take to take over this page.
const CLAIM_MS = 2000;

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
  at("status").textContent = "Loading ...";
  if (!self.isSecureContext) {
    throw new Error(`Browsers do not run this page over http from ${location.host}. Open it over https, or on the machine that serves it.`);
  }
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
    if (navigator.serviceWorker.controller) navigator.serviceWorker.addEventListener("controllerchange", renew);
    const registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
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

/** The site was built again: the files of this page are gone, but what it shows stays. */
function renew() {
  if (isUsed) warn("There is a newer version of this page. Reload it.");
  else location.reload();
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
  const isLatest = begin("Loading the model ...");
  model = site.models[index];
  at("drop").inert = true;
  delete document.body.dataset.ready;
  // onnxruntime-web for WebGPU is another, twice as large file.
  at("accelerator").hidden = !(navigator.gpu && model.runtime === "litert");
  const gpu = at("gpu").checked && !at("accelerator").hidden;
  try {
    const { runtime, difference, milliseconds } = await ask("open", { model, limits: site.limits, gpu });
    if (!isLatest()) return;
    at("opened").textContent = model.name;
    at("training").textContent = model.training;
    at("runtime").textContent = runtime;
    at("compared").textContent = difference.toPrecision(2);
    at("facts").hidden = false;
    at("status").textContent = `Ready in ${(milliseconds / 1000).toFixed(1)} s.`;
    at("drop").inert = false;
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

async function answer(bytes) {
  isUsed = true;
  const found = await ask("classify", bytes, [bytes]);
  const { class_names: names, decision: { positive_class: positive, threshold } } = model.spec;
  return {
    ...found,
    probabilities: names.map((name, index) => [name, found.probabilities[index]]),
    positive,
    threshold,
    foreign: found.outOfDistribution,
  };
}

function draw({ picture, heatmap }, withHeatmap) {
  const canvas = at("picture");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const pixels = overlay(picture, withHeatmap ? heatmap : null, site.heatmap);
  canvas.getContext("2d").putImageData(new ImageData(pixels, picture.width), 0, 0);
}

takeImages({
  isReady: () => !at("drop").inert,
  most: () => site.limits.bytes,
  answer,
  draw,
  around: "including the picture",
  failed() {},
});
for (const id of ["model", "gpu"]) at(id).addEventListener("change", () => openModel(Number(at("model").value)));

start().catch((error) => fail(error.message));
