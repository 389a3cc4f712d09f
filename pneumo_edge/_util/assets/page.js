// What the page of the service and the one that classifies in the browser have in common: taking an image, and showing
// its answer. What answers, and what draws the picture, is the page's own.

export const at = (id) => document.getElementById(id);

// What the models classify: an "X-ray", or any "image".
const IMAGE = document.body.dataset.image;
const PICTURE = `The classified ${IMAGE}`;
// What warns about a label: the word for it, and the sentence.
const REMARKS = {
  uncertain: ["uncertain", `The model is uncertain about this ${IMAGE}. Treat the label as a guess.`],
  foreign: [
    "out-of-distribution",
    `This image is out-of-distribution: unlike the ${IMAGE}s the model was trained on. Ignore the label and the probability.`,
  ],
};
let latest = 0, page, shown;

/**
 * Begin something that replaces what is shown.
 *
 * @param {string} status What is being done.
 * @returns {function(): boolean} Whether nothing else was begun since: of several images, the last one is shown.
 */
export function begin(status) {
  const mine = ++latest;
  at("error").hidden = at("result").hidden = true;
  at("status").textContent = status;
  return () => mine === latest;
}

/** Show an error instead of what was begun. */
export function fail(message) {
  at("status").textContent = "";
  warn(message);
}

/** Show an error beside what is shown. */
export function warn(message) {
  at("error").textContent = message;
  at("error").hidden = false;
}

/**
 * Take the images that are chosen or dropped.
 *
 * @param {object} own The page's own parts.
 * @param {function(): boolean} own.isReady Whether an image can be taken.
 * @param {function(): number} own.most Most bytes of a file.
 * @param {function(ArrayBuffer): Promise<object>} own.answer Gives label, `probabilities` ([class, share] each), positive
 *   class or null, threshold, `uncertain`, `foreign`, timings and total in milliseconds, and whether there is a heatmap.
 * @param {function(object, boolean): void} own.draw Draws the picture of an answer, with or without the heatmap.
 * @param {string} own.around What the page's own time has beside the total.
 * @param {function(Error, File): void} own.failed Called after an error was shown.
 */
export function takeImages(own) {
  page = own;
  const [file, drop] = [at("file"), at("drop")];
  file.addEventListener("change", () => {
    take(file.files);
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
  document.addEventListener("drop", (event) => take(event.dataTransfer.files));
  at("overlay").addEventListener("change", draw);
}

function take(files) {
  if (!files.length || !page.isReady()) return;
  if (files.length === 1) {
    classify(files[0]);
  } else {
    begin("");
    fail(`${files.length} files were given. Give one ${IMAGE} at a time.`);
  }
}

/** Classify an image file, and show the answer. */
export async function classify(image) {
  const isLatest = begin("Classifying ...");
  try {
    const bytes = await read(image, page.most());
    const begun = performance.now();
    const answer = await page.answer(bytes);
    if (isLatest()) show(answer, image.name, performance.now() - begun);
  } catch (error) {
    if (!isLatest()) return;
    fail(error.message);
    page.failed(error, image);
  }
}

async function read(image, most) {
  if (image.size > most) {
    throw new Error(`The file has ${image.size.toLocaleString("en")} bytes; the limit is ${most.toLocaleString("en")}.`);
  }
  try {
    return await image.arrayBuffer();
  } catch {
    throw new Error("The file cannot be read. Choose a file, not a folder.");
  }
}

function show(answer, name, waited) {
  const { label, probabilities, positive, threshold } = answer;
  // Without a positive class the most probable one is the label, and there is no threshold.
  const of = positive ?? label;
  const [, share] = probabilities.find(([each]) => each === of);
  const remarks = Object.keys(REMARKS).filter((remark) => answer[remark]).map((remark) => REMARKS[remark]);
  at("status").textContent = `Result: ${[label, ...remarks.map(([word]) => word)].join(", ")}.`;
  at("remark").textContent = remarks.map(([, sentence]) => sentence).join(" ");
  at("remark").hidden = !remarks.length;
  at("label").textContent = label;
  const side = share >= threshold ? "at or above" : "below";
  at("reason").textContent = `Probability of ${of} ${percent(share)}` +
    (positive === null ? ", the most probable class." : `, ${side} the threshold of ${percent(threshold)}.`);
  at("share").style.width = `${100 * share}%`;
  at("threshold").hidden = positive === null;
  at("threshold").style.left = `${100 * threshold}%`;
  at("probabilities").replaceChildren(...probabilities.map(([each, value]) => row(each, percent(value))));
  at("timings").replaceChildren(
    ...Object.entries(answer.timings).map(([stage, time]) => row(stage, milliseconds(time))),
    row("file to result", milliseconds(answer.total), "total"),
    row(page.around, milliseconds(waited)),
  );
  at("caption").textContent = name;
  at("explanation").hidden = !answer.heatmap;
  at("explained").textContent = positive ?? "the class that is shown";
  shown = answer;
  draw();
  at("result").hidden = false;
}

function draw() {
  const withHeatmap = Boolean(shown.heatmap) && at("overlay").checked;
  const picture = at("picture");
  const name = picture.localName === "img" ? "alt" : "aria-label";
  picture.setAttribute(name, withHeatmap ? `${PICTURE} with the heatmap over it` : PICTURE);
  page.draw(shown, withHeatmap);
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
