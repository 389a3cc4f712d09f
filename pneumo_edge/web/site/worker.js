// Classifies beside the page, so that the page answers while an image is decoded. A classic worker: LiteRT.js loads its
// WebAssembly with importScripts.
"use strict";

const classifier = import("./classify.js");
// One message after the other.
let queue = Promise.resolve();

self.addEventListener("message", ({ data: { id, kind, argument } }) => {
  queue = queue.then(async () => {
    try {
      const result = await (await classifier)[kind](argument);
      self.postMessage({ id, result });
    } catch (error) {
      self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
});
