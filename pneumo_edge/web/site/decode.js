// From the bytes of an image file to grey pixels, in a browser. The browser decodes JPEG and PNG; what it would pass over
// in silence (a truncated file, 16 bits, several frames) is checked before. DICOM is read by dicom.js.

import { greyFromRgba } from "./preprocess.js";

/** An image that cannot be classified; the message says why and what to do. */
export class ImageError extends Error {}

const AGAIN = "Copy it again from its source.";
const CONVERT = "Save it as an 8-bit greyscale or RGB JPEG or PNG.";
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * Decode an image file.
 *
 * @param {Uint8Array} bytes The file.
 * @param {object} limits Most `bytes` and `pixels`, least `side`, most `scans` of a JPEG.
 * @param {function(Uint8Array): Promise<object>} readDicom Reads a DICOM file; see dicom.js.
 * @returns {Promise<{pixels: Uint8Array, width: number, height: number}>} Grey pixels, row by row, turned upright by the
 *   EXIF orientation.
 * @throws {ImageError} The file cannot be classified.
 */
export async function decode(bytes, limits, readDicom) {
  if (!bytes.length) throw new ImageError(`The file is empty. ${AGAIN}`);
  if (bytes.length > limits.bytes) {
    throw new ImageError(`The file has ${number(bytes.length)} bytes; the limit is ${number(limits.bytes)}.`);
  }
  if (text(bytes, 128, 4) === "DICM") return readDicom(bytes, (width, height) => checkSize(width, height, limits));
  const isPng = PNG.every((value, at) => bytes[at] === value);
  if (!isPng && !(bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff)) {
    throw new ImageError(`This is not a JPEG, PNG or DICOM file. ${CONVERT}`);
  }
  const { width, height } = isPng ? checkPng(bytes) : checkJpeg(bytes, limits.scans);
  checkSize(width, height, limits);
  return drawn(bytes, isPng ? "PNG" : "JPEG");
}

const number = (value) => value.toLocaleString("en");
const text = (bytes, at, length) => String.fromCharCode(...bytes.subarray(at, at + length));

function checkSize(width, height, limits) {
  if (width * height > limits.pixels) {
    throw new ImageError(
      `The image has ${number(width * height)} pixels; the limit is ${number(limits.pixels)}. Save it at a lower resolution.`,
    );
  }
  if (Math.min(width, height) < limits.side) {
    throw new ImageError(
      `The image is ${width}x${height} pixels; at least ${limits.side} a side are needed. Use the image at its original resolution.`,
    );
  }
}

/** Let the browser decode, without colour management, and read the pixels. */
async function drawn(bytes, kind) {
  let rgba, width, height;
  try {
    const bitmap = await createImageBitmap(new Blob([bytes]), {
      imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none",
    });
    ({ width, height } = bitmap);
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    rgba = context.getImageData(0, 0, width, height).data;
  } catch {
    throw new ImageError(`The ${kind} is corrupt, or too large for the memory of this browser. ${AGAIN}`);
  }
  for (let at = 3; at < rgba.length; at += 4) {
    // A canvas does not keep the colour of transparent pixels.
    if (rgba[at] !== 255) throw new ImageError(`The ${kind} has transparent pixels. Save it without transparency.`);
  }
  return { pixels: greyFromRgba(rgba), width, height };
}

function checkJpeg(bytes, mostScans) {
  const truncated = new ImageError(`The JPEG is truncated or corrupt. ${AGAIN}`);
  let at = 2, scans = 0, size;
  for (;;) {
    if (at + 4 > bytes.length || bytes[at] !== 0xff) throw truncated;
    const marker = bytes[at + 1];
    if (marker === 0xff) { at++; continue; }
    if (marker === 0xd9) break;
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) { at += 2; continue; }
    const length = (bytes[at + 2] << 8) | bytes[at + 3];
    if (length < 2 || at + 2 + length > bytes.length) throw truncated;
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) size = jpegSize(bytes, at);
    at += 2 + length;
    if (marker === 0xda) {
      if (++scans > mostScans) throw new ImageError(`The JPEG has more than ${mostScans} scans. ${CONVERT}`);
      at = endOfScan(bytes, at);
      if (at < 0 || !size) throw truncated;
      if (bytes[at + 1] === 0xd9) break;
    }
  }
  if (!size || !scans) throw truncated;
  return size;
}

function jpegSize(bytes, at) {
  const [bits, components] = [bytes[at + 4], bytes[at + 9]];
  if (bits !== 8) throw new ImageError(`The JPEG has ${bits} bits per channel; 8 are expected. ${CONVERT}`);
  if (components !== 1 && components !== 3) {
    throw new ImageError(`The JPEG has ${components} channels; greyscale or RGB is expected. ${CONVERT}`);
  }
  return { height: (bytes[at + 5] << 8) | bytes[at + 6], width: (bytes[at + 7] << 8) | bytes[at + 8] };
}

/** Where the marker behind the coded data is: a zero after 0xFF is stuffed, and restarts are part of the data. */
function endOfScan(bytes, at) {
  for (;;) {
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 1 >= bytes.length) return -1;
    const next = bytes[at + 1];
    if (next !== 0 && next !== 0xff && !(next >= 0xd0 && next <= 0xd7)) return at;
    at += next === 0xff ? 1 : 2;
  }
}

function checkPng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const broken = new ImageError(`The PNG is truncated or corrupt. ${AGAIN}`);
  let at = 8, size;
  for (;;) {
    if (at + 12 > bytes.length) throw broken;
    const [length, kind] = [view.getUint32(at), text(bytes, at + 4, 4)];
    const end = at + 12 + length;
    if (end > bytes.length || view.getUint32(end - 4) !== crc(bytes.subarray(at + 4, end - 4))) throw broken;
    if (!size) {
      if (kind !== "IHDR" || length !== 13) throw broken;
      size = { width: view.getUint32(at + 8), height: view.getUint32(at + 12) };
      if (bytes[at + 16] > 8) throw new ImageError(`The PNG has 16 bits per channel; 8 are expected. ${CONVERT}`);
    }
    if (kind === "acTL") throw new ImageError("The PNG has several frames. Save the one frame to classify.");
    if (kind === "IEND") return size;
    at = end;
  }
}

let table;

/** CRC-32 as PNG has it. */
function crc(bytes) {
  table ??= Uint32Array.from({ length: 256 }, (_, value) => {
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    return value;
  });
  let sum = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) sum = table[(sum ^ bytes[at]) & 0xff] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
