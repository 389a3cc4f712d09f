// From the outputs of a model to the answer, as pneumo_edge/runtime/classifier.py gives it. An ES module without
// dependencies, for browsers and Node.js. `spec` is the ModelSpec as an object, from JSON.

// How far the sum of the probabilities may be from 1.
const SUM_TOLERANCE = 0.02;

/**
 * Turn a model's first output into a probability for each class.
 *
 * @param {object} spec The ModelSpec.
 * @param {ArrayLike<number>} output What `spec.scores` says: probabilities or logits of all classes, or one
 *   probability or logit, of the second of two classes.
 * @returns {number[]} Probabilities, 0 to 1, in the order of `spec.class_names`.
 * @throws {Error} They are not finite probabilities that sum to 1.
 */
export function probabilities(spec, output) {
  const values = fromScores(spec.scores, Array.from(output));
  const sum = values.reduce((total, value) => total + value, 0);
  // Written so that NaN fails it.
  const isRight = values.every((value) => value >= 0 && value <= 1) && Math.abs(sum - 1) <= SUM_TOLERANCE;
  if (values.length !== spec.class_names.length || !isRight) {
    throw new Error(`The model gave ${values.slice(0, 9).join(", ")}, not ${spec.class_names.length} probabilities.`);
  }
  return values;
}

function fromScores(scores, values) {
  if (scores === "logits") {
    const most = Math.max(...values);
    const powers = values.map((value) => Math.exp(value - most));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }
  if (scores === "logit") values = values.map((value) => 0.5 * (1 + Math.tanh(value / 2)));
  return scores === "logit" || scores === "probability" ? [1 - values[0], values[0]] : values;
}

/**
 * Choose the label: the positive class if its probability is at least the threshold, else the most probable other class.
 *
 * @param {object} spec The ModelSpec.
 * @param {number[]} values Probabilities, see above.
 * @returns {string} A class name.
 */
export function decide(spec, values) {
  const { positive_class: positive, threshold } = spec.decision;
  if (positive !== null && values[spec.class_names.indexOf(positive)] >= threshold) return positive;
  let best = -1;
  spec.class_names.forEach((name, index) => {
    if (name !== positive && (best < 0 || values[index] > values[best])) best = index;
  });
  return spec.class_names[best];
}

/**
 * The plausible classes of an image.
 *
 * @param {object} spec The ModelSpec.
 * @param {number[]} values Probabilities, see above.
 * @returns {string[]|null} Class names; null where the ModelSpec does not say.
 */
export function predictionSet(spec, values) {
  const bounds = spec.conformal;
  if (!bounds) return null;
  const { class_names: names, decision: { positive_class: positive } } = spec;
  if (positive === null || bounds.least_positive === null || bounds.most_negative === null) {
    return names.filter((name, index) => values[index] >= bounds.least[name]);
  }
  const value = values[names.indexOf(positive)];
  return names.filter((name) => (name === positive ? value >= bounds.least_positive : value <= bounds.most_negative));
}

/**
 * The distance of an image from the training images: of each part of the components the root mean square of the
 * standardized values, and of these the largest.
 *
 * @param {object} check `input_check` of the ModelSpec.
 * @param {ArrayLike<number>} components The output "components".
 * @returns {number} At least 0; the image is out-of-distribution if it is above `check.limit`.
 */
export function distance(check, components) {
  let at = 0;
  return Math.max(...check.parts.map((size) => {
    let sum = 0;
    for (const end = at + size; at < end; at++) sum += ((components[at] - check.mean[at]) / check.scale[at]) ** 2;
    return Math.sqrt(sum / size);
  }));
}

/**
 * The whole answer.
 *
 * @param {object} spec The ModelSpec.
 * @param {object} outputs The outputs of the model by their names: "probability", and "components" where the spec has
 *   an input_check.
 * @returns {{label: string, probabilities: number[], predictionSet: string[]|null, uncertain: boolean|null,
 *   distance: number|null, outOfDistribution: boolean|null}}
 * @throws {Error} An output is not what the spec says.
 */
export function answer(spec, outputs) {
  const values = probabilities(spec, outputs.probability);
  const label = decide(spec, values);
  const plausible = predictionSet(spec, values);
  const far = spec.input_check ? distance(spec.input_check, outputs.components) : null;
  if (Number.isNaN(far)) throw new Error("The model gave components that are not finite.");
  return {
    label,
    probabilities: values,
    predictionSet: plausible,
    uncertain: plausible && !(plausible.length === 1 && plausible[0] === label),
    distance: far,
    outOfDistribution: spec.input_check ? far > spec.input_check.limit : null,
  };
}
