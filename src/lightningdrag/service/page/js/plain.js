// What renderer.js does, where the browser has no WebGL2: on a plain canvas, the warp at a reduced size.

import { rimAnchors } from "./contour.js";
import { displacementAt } from "./field.js";
import { fromRaster } from "./mask.js";

const WARPED = 256 * 256; // pixels computed for a frame
const COPIED = 1024 * 1024; // pixels of the photo at hand to compute them from
const DOTS = 240; // of the line around the mask

export class PlainRenderer {
  maxSide = 4096;
  pictures = {}; // "photo" and "before", ImageBitmaps
  mask = null;
  drags = [];
  rim = null;
  #copy = null; // of the photo, {scale, width, height, data}
  #veil = { mask: null, dim: 0, canvas: document.createElement("canvas") };
  #patch = document.createElement("canvas");

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  restore() {}

  redrawAll() {}

  setImage(name, bitmap) {
    if (this.pictures[name] === bitmap) return;
    this.pictures[name] = bitmap;
    if (name === "photo") this.#copy = null;
  }

  setMask(mask) {
    this.mask = mask;
  }

  setWarp(drags, rim) {
    this.drags = drags;
    this.rim = rim;
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** @param {object} look as in renderer.js */
  draw({ size, origin, scale, divide, dim }) {
    const { context } = this;
    const place = [...origin, size[0] * scale, size[1] * scale];
    this.clear();
    context.imageSmoothingEnabled = scale < 8;
    context.imageSmoothingQuality = "medium";
    this.#show("photo", place);
    if (this.rim) this.#warp(size, origin, scale);
    if (this.mask && dim > 0) this.#surround(place, dim, (point) => point.map((v, k) => (v + 0.5) * scale + origin[k]));
    if (divide < 0) return;
    context.save();
    context.beginPath();
    context.rect(0, 0, divide, this.canvas.height);
    context.clip();
    this.#show("before", place);
    context.restore();
  }

  #show(name, place) {
    this.context.fillStyle = "#8c8c8c"; // seen through what is transparent
    this.context.fillRect(...place);
    this.context.drawImage(this.pictures[name], ...place);
  }

  /** What the mask holds, from where the drags take it. */
  #warp(size, origin, scale) {
    const { x, y, step, width, height } = this.rim.grid;
    const from = [x, y].map((v) => Math.max(0, Math.floor(v)));
    const to = [x + step * width, y + step * height].map((v, k) => Math.min(size[k], Math.ceil(v) + 1));
    const area = (to[0] - from[0]) * (to[1] - from[1]);
    const each = Math.max(1, 1 / scale, Math.sqrt(area / WARPED)); // photo pixels to a computed one
    const columns = Math.ceil((to[0] - from[0]) / each);
    const rows = Math.ceil((to[1] - from[1]) / each);
    const patch = new ImageData(columns, rows);
    const copy = (this.#copy ??= copied(this.pictures.photo, size));
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const p = [from[0] + (column + 0.5) * each - 0.5, from[1] + (row + 0.5) * each - 0.5];
        const share = smoothstep(0.4, 0.6, insideAt(this.mask, p));
        if (share === 0) continue;
        const [dx, dy] = displacementAt(this.drags, this.rim, p);
        sample(copy, p[0] + share * dx, p[1] + share * dy, patch.data, 4 * (row * columns + column));
      }
    }
    this.#patch.width = columns;
    this.#patch.height = rows;
    this.#patch.getContext("2d").putImageData(patch, 0, 0);
    const corner = from.map((v, k) => v * scale + origin[k]);
    this.context.drawImage(this.#patch, ...corner, columns * each * scale, rows * each * scale);
  }

  /** Darker outside the mask, and a dotted line around it. */
  #surround(place, dim, toScreen) {
    const { context, mask } = this;
    if (this.#veil.mask !== mask || this.#veil.dim !== dim) {
      Object.assign(this.#veil, { mask, dim });
      drawVeil(this.#veil.canvas, mask, dim);
    }
    context.drawImage(this.#veil.canvas, ...place);
    const dots = rimAnchors(mask, DOTS);
    for (let k = 0; k < dots.length; k += 2) {
      const [x, y] = toScreen(fromRaster(mask, [dots[k], dots[k + 1]]));
      context.fillStyle = "#000";
      context.fillRect(x - 2, y - 2, 4, 4);
      context.fillStyle = "#fff";
      context.fillRect(x - 1, y - 1, 2, 2);
    }
  }
}

/** The photo's pixels, fewer if it is large. */
function copied(bitmap, [width, height]) {
  const share = Math.min(1, bitmap.width / width, Math.sqrt(COPIED / (width * height)));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * share)), Math.max(1, Math.round(height * share)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return { scale: canvas.width / width, width: canvas.width, height: canvas.height, data };
}

/** Write the colour at a point of the photo, between its pixels, mirrored beyond its edges. */
function sample({ scale, width, height, data }, x, y, out, at) {
  const u = mirrored((x + 0.5) * scale - 0.5, width);
  const v = mirrored((y + 0.5) * scale - 0.5, height);
  const [column, row] = [Math.floor(u), Math.floor(v)];
  const right = column + 1 < width ? 4 : 0;
  const below = row + 1 < height ? 4 * width : 0;
  const first = 4 * (row * width + column);
  for (let k = first; k < first + 4; k++) {
    const above = data[k] + (data[k + right] - data[k]) * (u - column);
    const under = data[k + below] + (data[k + below + right] - data[k + below]) * (u - column);
    out[at + k - first] = above + (under - above) * (v - row);
  }
}

function mirrored(u, length) {
  const inside = u < 0 ? -u : u > length - 1 ? 2 * (length - 1) - u : u;
  return Math.min(Math.max(inside, 0), length - 1);
}

/** How much of a point is inside a mask, 0..1. @param {import("./mask.js").Raster} mask */
function insideAt({ width, height, scale, data }, [x, y]) {
  const u = Math.min(Math.max((x + 0.5) * scale - 0.5, 0), width - 1);
  const v = Math.min(Math.max((y + 0.5) * scale - 0.5, 0), height - 1);
  const at = Math.floor(v) * width + Math.floor(u);
  const right = u < width - 1 ? 1 : 0;
  const below = v < height - 1 ? width : 0;
  const [share, rest] = [u % 1, v % 1];
  const above = data[at] * (1 - share) + data[at + right] * share;
  const under = data[at + below] * (1 - share) + data[at + below + right] * share;
  return (above * (1 - rest) + under * rest) / 255;
}

function smoothstep(low, high, value) {
  const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
  return share * share * (3 - 2 * share);
}

function drawVeil(canvas, { width, height, data }, dim) {
  const veil = new ImageData(width, height);
  data.forEach((value, k) => (veil.data[4 * k + 3] = 0.7 * dim * (255 - value)));
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(veil, 0, 0);
}
