// What the live preview needs of an edit: the mask in force, and how far its rim is on a coarse grid.

import { rimAnchors } from "./contour.js";
import { anchorDistance } from "./field.js";
import { boundingBox, derivedMask, fromRaster, isPin, widenedMask } from "./mask.js";

const NUM_ANCHORS = 64;
const CELLS = 64 * 64;
const kept = new WeakMap(); // the rim of a mask that was drawn changes with no drag

/**
 * @param {{width: number, height: number}} photo
 * @param {{handle: number[], target: number[]}[]} drags
 * @param {import("./mask.js").Raster | null} drawn
 * @param {import("./mask.js").Raster | null} found what follows the drags, in place of the room around them
 * @returns {{mask: import("./mask.js").Raster | null, rim: {grid: object, distance: Float32Array} | null}}
 *     no rim where nothing moves
 */
export function planPreview(photo, drags, drawn, found = null) {
  if (!drags.length) return { mask: drawn, rim: null };
  const mask = drawn ? widenedMask(drawn, drags, photo) : (found ?? derivedMask(drags, photo));
  if (drags.every(isPin)) return { mask, rim: null };
  if (!kept.has(mask)) kept.set(mask, rimOf(mask));
  return { mask, rim: kept.get(mask) };
}

function rimOf(mask) {
  const box = boundingBox(mask);
  if (!box) return null;
  const anchors = rimAnchors(mask, NUM_ANCHORS);
  for (let k = 0; k < anchors.length; k += 2) {
    [anchors[k], anchors[k + 1]] = fromRaster(mask, [anchors[k], anchors[k + 1]]);
  }
  const grid = gridOver(mask, box);
  return { grid, distance: anchorDistance(anchors, grid) };
}

function gridOver(mask, [x0, y0, x1, y1]) {
  const [left, top] = fromRaster(mask, [x0 - 0.5, y0 - 0.5]);
  const [right, bottom] = fromRaster(mask, [x1 - 0.5, y1 - 0.5]);
  const step = Math.sqrt(((right - left) * (bottom - top)) / CELLS);
  const cells = (length) => Math.ceil(length / step) + 1;
  return { x: left, y: top, step, width: cells(right - left), height: cells(bottom - top) };
}
