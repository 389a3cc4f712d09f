// The page of the service: sends an image, and shows the answer.

import { at, classify, takeImages } from "./page.js";

const { positive, maxBody } = at("model").dataset;
// The token, and the image that was sent without the right token. Both are only in memory.
let token = "";
let refused;

async function answer(bytes) {
  // Send only the bytes, from which the service detects the format. The file's name is not sent.
  const headers = { "Content-Type": "application/octet-stream" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response, found;
  try {
    response = await fetch("predict?explain=true", { method: "POST", headers, body: bytes });
    found = await response.json();
  } catch {
    throw new Error("The service does not answer. Check that it is running.");
  }
  if (!response.ok) {
    const detail = response.status === 401 ? "The token is missing or wrong." : found.detail;
    throw Object.assign(new Error(detail), { status: response.status });
  }
  return {
    ...found,
    probabilities: Object.entries(found.probabilities),
    positive: positive || null,
    total: found.total_ms,
    heatmap: found.explanation.overlay,
  };
}

function askForToken(image) {
  refused = image;
  at("access").hidden = false;
  at("token").focus();
}

at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  at("access").hidden = at("error").hidden = true;
  at("file").focus();
  const image = refused;
  refused = undefined;
  if (image) classify(image);
});

takeImages({
  isReady: () => true,
  most: () => Number(maxBody),
  answer,
  draw({ explanation }, withHeatmap) {
    at("picture").src = withHeatmap ? explanation.overlay : explanation.x_ray;
  },
  around: "including pictures and network",
  failed(error, image) {
    if (error.status === 401) askForToken(image);
  },
});
