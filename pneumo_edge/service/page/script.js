"use strict";

const at = (id) => document.getElementById(id);
const file = at("file");
const drop = at("drop");
const maxBody = Number(drop.dataset.maxBody);
const positive = at("model").dataset.positive;
// Fields of a verdict that are true where its label is not to be taken as it stands, and what that means.
const REMARKS = {
  uncertain: "The model is uncertain of this X-ray: take the label for no more than a guess.",
  foreign: "This image is unlike the X-rays that the model was trained on. What it says of it means nothing, however sure it is.",
};
let latest = 0;
let explanation;
// The token, and the image that was sent without the right one. In memory alone: neither outlives the page.
let token = "";
let refused;

async function judge(image) {
  // Of several that are dropped one after the other, the last is shown, whichever comes back last.
  const mine = ++latest;
  const isLatest = () => mine === latest;
  at("error").hidden = at("result").hidden = true;
  at("status").textContent = "Judging ...";
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
  if (image) judge(image);
});

async function send(image) {
  if (image.size > maxBody) {
    throw new Error(`The file has ${image.size.toLocaleString("en")} bytes; at most ${maxBody.toLocaleString("en")} are taken.`);
  }
  // The bytes alone, and by them the service tells what it is: the file's name and its ending stay here.
  const headers = { "Content-Type": "application/octet-stream" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response, answer;
  try {
    response = await fetch("predict?explain=true", { method: "POST", headers, body: await image.arrayBuffer() });
    answer = await response.json();
  } catch {
    throw new Error("The service does not answer, or the file cannot be read. Is it still running?");
  }
  if (!response.ok) {
    const detail = response.status === 401 ? "The token is missing or not the right one." : answer.detail;
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
  at("status").textContent = `Judged: ${[verdict.label, ...remarks].join(", ")}.`;
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
    row("file to verdict", milliseconds(verdict.total_ms), "total"),
    row("with pictures and the way there and back", milliseconds(roundTrip)),
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
  at("picture").alt = withHeatmap ? "The X-ray that was judged, with the heatmap over it" : "The X-ray that was judged";
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
  if (file.files.length) judge(file.files[0]);
  // So that the same file can be chosen once more.
  file.value = "";
});

// Wherever on the page a file is dropped, the browser must not leave the page to open it.
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) judge(event.dataTransfer.files[0]);
});
