// From the pixels of a decoded image to the tensor of a model, as pneumo_edge/imaging/images.py and
// pneumo_edge/runtime/pixels.py do it. An ES module without dependencies, for browsers and Node.js.
//
// The resize is that of Pillow (Image.resize with BILINEAR, 8 bits): antialiased, in fixed-point arithmetic. Its results
// are equal to those of Pillow 13, bit for bit, and to those of earlier versions to one grey level.

const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);
// Every value that a pixel may have.
const VALUES = 256;
const RANGES = { uint8: [0, 255], int8: [-128, 127] };
const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array };

/**
 * Turn RGBA pixels into grey ones; alpha is ignored. Grey pixels (three equal channels) keep their value.
 *
 * @param {Uint8ClampedArray|Uint8Array} rgba width * height * 4 values, row by row.
 * @returns {Uint8Array} width * height values: (19595 R + 38470 G + 7471 B + 32768) >> 16, ITU-R 601-2.
 */
export function greyFromRgba(rgba) {
  const grey = new Uint8Array(rgba.length >> 2);
  for (let pixel = 0, at = 0; pixel < grey.length; pixel++, at += 4) {
    grey[pixel] = (19595 * rgba[at] + 38470 * rgba[at + 1] + 7471 * rgba[at + 2] + 0x8000) >> 16;
  }
  return grey;
}

/**
 * Resize grey pixels with antialiasing; the aspect ratio is not kept.
 *
 * @param {Uint8Array|Uint8ClampedArray} grey width * height values, row by row.
 * @param {number} width of the image, in pixels.
 * @param {number} height of the image, in pixels.
 * @param {number} newWidth of the result, in pixels.
 * @param {number} newHeight of the result, in pixels.
 * @returns {Uint8Array} newWidth * newHeight values, row by row.
 */
export function resize(grey, width, height, newWidth, newHeight) {
  // The pass between the two is rounded to 8 bits, so their order shows. Pillow before 13 begins with the rows of all images.
  if (newHeight < height && height - newHeight > 2 * (width - newWidth)) {
    return resizeRows(resizeColumns(grey, width, height, newHeight), width, newHeight, newWidth);
  }
  return resizeColumns(resizeRows(grey, width, height, newWidth), newWidth, height, newHeight);
}

function resizeRows(pixels, width, height, newWidth) {
  if (newWidth === width) return Uint8Array.from(pixels);
  const { starts, sizes, weights, most } = coefficients(width, newWidth);
  const result = new Uint8Array(newWidth * height);
  for (let y = 0, row = 0, at = 0; y < height; y++, row += width) {
    for (let x = 0, first = 0; x < newWidth; x++, first += most) {
      let sum = HALF;
      const from = row + starts[x];
      for (let k = 0; k < sizes[x]; k++) sum += pixels[from + k] * weights[first + k];
      result[at++] = sum >> PRECISION_BITS;
    }
  }
  return result;
}

function resizeColumns(pixels, width, height, newHeight) {
  if (newHeight === height) return Uint8Array.from(pixels);
  const { starts, sizes, weights, most } = coefficients(height, newHeight);
  const result = new Uint8Array(width * newHeight);
  const sums = new Int32Array(width);
  for (let y = 0, at = 0; y < newHeight; y++) {
    sums.fill(HALF);
    for (let k = 0; k < sizes[y]; k++) {
      const weight = weights[y * most + k];
      // Row by row, as the pixels lie in memory.
      for (let x = 0, from = (starts[y] + k) * width; x < width; x++) sums[x] += pixels[from + x] * weight;
    }
    for (let x = 0; x < width; x++) result[at++] = sums[x] >> PRECISION_BITS;
  }
  return result;
}

/** The pixels that each pixel of the result is made of, and their weights as integers; they sum to about 2 ** 22. */
function coefficients(size, newSize) {
  const scale = size / newSize;
  // The half-width of the triangle; an image that is enlarged is interpolated between neighbours.
  const support = Math.max(scale, 1);
  const most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(newSize);
  const sizes = new Int32Array(newSize);
  const weights = new Int32Array(newSize * most);
  for (let i = 0; i < newSize; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), size);
    const shares = [];
    let total = 0;
    for (let at = start; at < end; at++) {
      const share = Math.max(1 - Math.abs((at - center + 0.5) * (1 / support)), 0);
      shares.push(share);
      total += share;
    }
    starts[i] = start;
    sizes[i] = end - start;
    shares.forEach((share, k) => { weights[i * most + k] = Math.trunc(0.5 + (share / total) * 2 ** PRECISION_BITS); });
  }
  return { starts, sizes, weights, most };
}

/**
 * The shape of the tensor that a model takes.
 *
 * @param {object} input `input` of the ModelSpec.
 * @returns {number[]} (1, height, width, channels), or (1, channels, height, width) where the layout is "nchw".
 */
export function shapeOf(input) {
  return isChannelsFirst(input)
    ? [1, input.channels, input.height, input.width]
    : [1, input.height, input.width, input.channels];
}

/**
 * Turn grey pixels of the model's size into its tensor: the channels are equal, each scaled as the ModelSpec says.
 *
 * @param {object} input `input` of the ModelSpec: height, width, channels, dtype, layout, scaling.
 * @param {Uint8Array} grey height * width values, row by row.
 * @returns {Float32Array|Uint8Array|Int8Array} The values of the tensor in C order; see shapeOf.
 */
export function toTensor(input, grey) {
  const tables = tablesOf(input);
  const tensor = new ARRAYS[input.dtype](grey.length * tables.length);
  const [step, plane] = isChannelsFirst(input) ? [1, grey.length] : [tables.length, 1];
  tables.forEach((table, channel) => {
    for (let pixel = 0, at = channel * plane; pixel < grey.length; pixel++, at += step) tensor[at] = table[grey[pixel]];
  });
  return tensor;
}

function isChannelsFirst(input) {
  return input.layout === "nchw";
}

/** For each channel, what the model gets for each value of a pixel. */
function tablesOf({ channels, dtype, scaling }) {
  const values = Array.from({ length: VALUES }, (_, value) => value);
  if (!scaling) return Array(channels).fill(values);
  return scaling.scale.map((scale, channel) => values.map((value) => {
    const scaled = value * scale + scaling.offset[channel];
    if (scaling.step === null || scaling.step === undefined) return scaled;
    const [low, high] = RANGES[dtype];
    return Math.min(Math.max(roundHalfToEven(scaled / scaling.step) + scaling.zero_point, low), high);
  }));
}

/**
 * Round as numpy.rint and IEEE 754 do; Math.round rounds halves up.
 *
 * @param {number} value Any number.
 * @returns {number} The nearest whole number; of two, the even one.
 */
export function roundHalfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
