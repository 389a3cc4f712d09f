// Uncompressed greyscale DICOM files as 8-bit grey pixels, with rescale and window, as pneumo_edge/imaging/dicom does it.
// Compressed ones, lookup tables and enhanced files are refused: `pneumo-edge serve` and `predict` read them.

import { ImageError } from "./decode.js";
import { roundHalfToEven } from "./preprocess.js";

const AGAIN = "Copy it again from its source.";
const ELSEWHERE = "Export it as an 8-bit greyscale PNG or JPEG, or use pneumo-edge serve, which reads it.";
const IMPLICIT = "1.2.840.10008.1.2", EXPLICIT = "1.2.840.10008.1.2.1";
const PIXELS = "x7fe00010";
const FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID"];
// Fewer of the 256 shades than these show nothing.
const LEAST_SHADES = 32;

/**
 * Read a DICOM file.
 *
 * @param {Uint8Array} bytes The file, with its preamble.
 * @param {function(number, number): void} checkSize Throws for a width and height that are out of range.
 * @returns {Promise<{pixels: Uint8Array, width: number, height: number}>} Grey pixels, row by row.
 * @throws {ImageError} It does not hold one uncompressed greyscale image.
 */
export async function readDicom(bytes, checkSize) {
  // An older kind of script, which leaves its name behind.
  if (!self.dicomParser) self.importScripts(new URL("runtime/dicom/dicom-parser.js", self.location.href).href);
  try {
    const data = self.dicomParser.parseDicom(bytes);
    const header = readHeader(data);
    checkSize(header.width, header.height);
    return { pixels: shades(header, stored(bytes, data, header)), width: header.width, height: header.height };
  } catch (error) {
    if (error instanceof ImageError) throw error;
    // dicom-parser throws text where an element is shorter than its kind.
    throw new ImageError(`The DICOM file is truncated or corrupt. ${AGAIN}`);
  }
}

function readHeader(data) {
  const syntax = data.string("x00020010");
  if (syntax !== IMPLICIT && syntax !== EXPLICIT) {
    throw new ImageError(`The DICOM file is compressed, or in another byte order. ${ELSEWHERE}`);
  }
  const photometric = data.string("x00280004");
  if (!["MONOCHROME1", "MONOCHROME2"].includes(photometric) || (data.uint16("x00280002") ?? 1) !== 1) {
    throw new ImageError(`The DICOM file is not a greyscale image. ${ELSEWHERE}`);
  }
  if (Number(data.intString("x00280008") ?? 1) !== 1) {
    throw new ImageError("The DICOM file has several frames. Save the one frame to classify.");
  }
  // Modality and VOI lookup tables, and functional groups.
  if (["x00283000", "x00283010", "x52009229"].some((tag) => data.elements[tag])) {
    throw new ImageError(`The DICOM file has lookup tables or functional groups. ${ELSEWHERE}`);
  }
  const header = {
    height: data.uint16("x00280010"), width: data.uint16("x00280011"), allocated: data.uint16("x00280100"),
    bits: data.uint16("x00280101"), high: data.uint16("x00280102"), isSigned: data.uint16("x00280103") === 1,
    isInverted: photometric === "MONOCHROME1" || data.string("x20500020") === "INVERSE",
    slope: data.floatString("x00281053") ?? 1, intercept: data.floatString("x00281052") ?? 0,
    centre: data.floatString("x00281050"), windowWidth: data.floatString("x00281051"),
    windowFunction: data.string("x00281056") || "LINEAR",
    padding: data.elements.x00280120 && data.uint16("x00280120"),
    paddingLimit: data.elements.x00280121 && data.uint16("x00280121"),
  };
  const { height, width, allocated, bits } = header;
  if (!height || !width || ![8, 16].includes(allocated) || !(bits >= 1 && bits <= allocated)) {
    throw new ImageError(`The DICOM file does not say the size or the bits of its pixels. ${AGAIN}`);
  }
  return header;
}

/** The bits of each pixel, of BitsStored alone, beginning at bit 0. */
function stored(bytes, data, { width, height, allocated, bits, high }) {
  const element = data.elements[PIXELS];
  const size = width * height * (allocated / 8);
  // dicom-parser does not check the length of an element without a kind (implicit VR).
  const isWhole = element && element.length >= size && element.dataOffset + size <= bytes.length;
  if (!isWhole || element.hadUndefinedLength) {
    throw new ImageError(`The pixels of the DICOM file are missing, truncated or compressed. ${AGAIN}`);
  }
  const raw = bytes.slice(element.dataOffset, element.dataOffset + size);
  const words = allocated === 8 ? raw : new Uint16Array(raw.buffer);
  const shift = Math.max((high ?? bits - 1) - bits + 1, 0);
  return words.map((word) => (word >> shift) & (2 ** bits - 1));
}

/** The standard's grayscale pipeline as a table: an entry for each value that a pixel can have. */
function shades(header, pixels) {
  const { bits, isSigned } = header;
  const values = Array.from({ length: 2 ** bits }, (_, word) => (isSigned && word >= 2 ** (bits - 1) ? word - 2 ** bits : word));
  const occurs = new Uint8Array(values.length);
  for (const word of pixels) occurs[word] = 1;
  const isPadding = paddingOf(header, values);
  const shown = values.filter((value, word) => occurs[word] && !isPadding(value));
  const share = windowOf(header, shown);
  const table = Uint8Array.from(values, (value) => {
    const part = share(value * header.slope + header.intercept);
    return roundHalfToEven(255 * (header.isInverted ? 1 - part : part));
  });
  const used = new Set(values.map((value, word) => (occurs[word] && !isPadding(value) ? table[word] : -1)));
  used.delete(-1);
  if (used.size < Math.min(LEAST_SHADES, Math.max(2, 2 ** bits / 4))) {
    throw new ImageError(`The DICOM file shows ${used.size} of 256 shades. Export it with a radiologist's window.`);
  }
  values.forEach((value, word) => { if (isPadding(value)) table[word] = 0; });
  return Uint8Array.from(pixels, (word) => table[word]);
}

function paddingOf({ padding, paddingLimit, bits, isSigned }, values) {
  if (padding === undefined) return () => false;
  const ends = [padding, paddingLimit ?? padding].map((word) => values[word & (2 ** bits - 1)]);
  return (value) => Math.min(...ends) <= value && value <= Math.max(...ends);
}

/** The share of white, 0 to 1, of a value after the rescale. */
function windowOf({ centre, windowWidth, windowFunction, slope, intercept, bits, isSigned }, shown) {
  if (centre === undefined || windowWidth === undefined) {
    const [low, high] = rangeOf(shown, bits, isSigned).map((end) => end * slope + intercept).sort((a, b) => a - b);
    return (value) => clip((value - low) / (high - low));
  }
  if (!FUNCTIONS.includes(windowFunction) || !(windowWidth >= (windowFunction === "LINEAR" ? 1 : 1e-9))) {
    throw new ImageError(`The window of the DICOM file cannot be applied. ${ELSEWHERE}`);
  }
  if (windowFunction === "SIGMOID") return (value) => 1 / (1 + Math.exp((-4 * (value - centre)) / windowWidth));
  const [middle, width] = windowFunction === "LINEAR" ? [centre - 0.5, windowWidth - 1] : [centre, windowWidth];
  return (value) => (width === 0 ? Number(value > middle) : clip((value - middle) / width + 0.5));
}

const clip = (value) => Math.min(Math.max(value, 0), 1);

/** The least and the largest value of as many bits as the picture uses, since many writers state the word's size. */
function rangeOf(shown, bits, isSigned) {
  let least = 0, most = 0;
  if (shown.length) {
    least = shown.reduce((low, value) => Math.min(low, value));
    most = shown.reduce((high, value) => Math.max(high, value));
  }
  const bitLength = (value) => (value > 0 ? Math.floor(Math.log2(value)) + 1 : 0);
  if (bits > 8) bits = Math.max(1, bitLength(most), least < 0 ? bitLength(-least - 1) : 0);
  else if (isSigned) [least, bits] = [-1, bits - 1];
  return least < 0 ? [-(2 ** bits), 2 ** bits - 1] : [0, 2 ** bits - 1];
}
