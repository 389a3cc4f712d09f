// A heatmap over its X-ray, as pneumo_edge/imaging/heatmap.py draws it.

import { resize, roundHalfToEven } from "./preprocess.js";

/**
 * Lay a heatmap over grey pixels.
 *
 * @param {{pixels: Uint8Array, width: number, height: number}} image The X-ray.
 * @param {{values: ArrayLike<number>, height: number, width: number}|null} map The heatmap of a grid, or null.
 * @param {{full: number, colours: number[][], opacities: number[]}} drawing What each of 256 levels looks like.
 * @returns {Uint8ClampedArray} RGBA pixels, width * height * 4.
 */
export function overlay({ pixels, width, height }, map, drawing) {
  const rgba = new Uint8ClampedArray(pixels.length * 4);
  const levels = map && resize(levelsOf(map.values, drawing), map.width, map.height, width, height);
  for (let pixel = 0, at = 0; pixel < pixels.length; pixel++, at += 4) {
    const level = levels ? levels[pixel] : 0;
    const opacity = levels ? drawing.opacities[level] / 255 : 0;
    for (let channel = 0; channel < 3; channel++) {
      rgba[at + channel] = opacity * drawing.colours[level][channel] + (1 - opacity) * pixels[pixel];
    }
    rgba[at + 3] = 255;
  }
  return rgba;
}

function levelsOf(values, { full, colours }) {
  const most = values.reduce((largest, value) => Math.max(largest, value), full);
  return Uint8Array.from(values, (value) => roundHalfToEven(Math.max(value / most, 0) * (colours.length - 1)));
}
