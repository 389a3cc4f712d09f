"use strict";

const at = (id) => document.getElementById(id);
const file = at("file");
const drop = at("drop");
const maxBody = Number(drop.dataset.maxBody);
const positive = at("model").dataset.positive;
// Fields of a result that warn about its label, and the text that explains them.
const REMARKS = {
  uncertain: "The model is uncertain about this X-ray. Treat the label as a guess.",
  foreign: "This image is out-of-distribution: unlike the X-rays the model was trained on. Ignore the label and the probability.",
};
let latest = 0;
let explanation;
// The token, and the image that was sent without the right token. Both are only in memory.
let token = "";
let refused;

async function classify(image) {
  // If several images are dropped one after the other, the last one is shown, in any order of the answers.
  const mine = ++latest;
  const isLatest = () => mine === latest;
  at("error").hidden = at("result").hidden = true;
  at("status").textContent = "Classifying ...";
  try {
    const begun = performance.now();
    const verdict = await send(image);
    if (isLatest()) show(verdict, image, performance.now() - begun);
  } catch (error) {
    if (!isLatest()) return;
    fail(error.message);
    if (error.status === 401) askForToken(image);
  }
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
  file.focus();
  const image = refused;
  refused = undefined;
  if (image) classify(image);
});

async function send(image) {
  if (image.size > maxBody) {
    throw new Error(`The file has ${image.size.toLocaleString("en")} bytes; the limit is ${maxBody.toLocaleString("en")}.`);
  }
  // Send only the bytes, from which the service detects the format. The file's name is not sent.
  const headers = { "Content-Type": "application/octet-stream" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response, answer;
  try {
    response = await fetch("predict?explain=true", { method: "POST", headers, body: await image.arrayBuffer() });
    answer = await response.json();
  } catch {
    throw new Error("The service does not answer, or the file cannot be read. Check that the service is running.");
  }
  if (!response.ok) {
    const detail = response.status === 401 ? "The token is missing or wrong." : answer.detail;
    throw Object.assign(new Error(detail), { status: response.status });
  }
  return answer;
}

function show(verdict, image, roundTrip) {
  // Without a positive class the most probable one is the label, and there is no threshold.
  const shown = positive || verdict.label;
  const share = verdict.probabilities[shown];
  const side = share >= verdict.threshold ? "at or above" : "below";
  const reason = positive ? `, ${side} the threshold of ${percent(verdict.threshold)}.` : ", the most probable class.";
  const remarks = Object.keys(REMARKS).filter((name) => verdict[name]);
  at("status").textContent = `Result: ${[verdict.label, ...remarks].join(", ")}.`;
  at("remark").textContent = remarks.map((name) => REMARKS[name]).join(" ");
  at("remark").hidden = !remarks.length;
  at("label").textContent = verdict.label;
  at("reason").textContent =
    `Probability of ${shown} ${percent(share)}${reason}`;
  at("share").style.width = `${100 * share}%`;
  at("threshold").hidden = !positive;
  at("threshold").style.left = `${100 * verdict.threshold}%`;
  const shares = Object.entries(verdict.probabilities);
  at("probabilities").replaceChildren(...shares.map(([name, value]) => row(name, percent(value))));
  const stages = Object.entries(verdict.timings);
  at("timings").replaceChildren(
    ...stages.map(([name, value]) => row(name, milliseconds(value))),
    row("file to result", milliseconds(verdict.total_ms), "total"),
    row("including pictures and network", milliseconds(roundTrip)),
  );
  explanation = verdict.explanation;
  at("explanation").hidden = !explanation.overlay;
  at("caption").textContent = image.name;
  draw();
  at("result").hidden = false;
}

function draw() {
  const withHeatmap = explanation.overlay && at("overlay").checked;
  at("picture").src = withHeatmap ? explanation.overlay : explanation.x_ray;
  at("picture").alt = withHeatmap ? "The classified X-ray with the heatmap over it" : "The classified X-ray";
}

at("overlay").addEventListener("change", draw);

function fail(message) {
  at("status").textContent = "";
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
  if (event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
});
