// Masks of what may change, as rasters that may be smaller than the photo: derived, found, painted, stored.
// The rules are those of lightningdrag/masks.py.

const DRAWN_SIDE = 1024;
const DERIVED_SIDE = 320;
const REACH_OF_LENGTH = 0.75;
const REACH_OF_SIDE = 0.2;
const MOST_OF_SIDE = 0.45;

/** @typedef {{width: number, height: number, scale: number, data: Uint8Array}} Raster scale: raster pixels to a photo pixel */

/** An empty raster for a photo, its longer side at most `side`. @returns {Raster} */
export function emptyRaster(photo, side) {
  const scale = Math.min(1, side / Math.max(photo.width, photo.height));
  const width = Math.max(1, Math.round(photo.width * scale));
  const height = Math.max(1, Math.round(photo.height * scale));
  return { width, height, scale, data: new Uint8Array(width * height) };
}

/** @param {Raster} raster */
const toRaster = (raster, [x, y]) => [(x + 0.5) * raster.scale - 0.5, (y + 0.5) * raster.scale - 0.5];

/** @param {Raster} raster */
export const fromRaster = (raster, [x, y]) => [(x + 0.5) / raster.scale - 0.5, (y + 0.5) / raster.scale - 0.5];

export const isPin = ({ handle, target }) => handle[0] === target[0] && handle[1] === target[1];

/** The room that a drag gets around its way, in photo pixels. */
function reach({ handle, target }, photo) {
  const short = Math.min(photo.width, photo.height);
  const length = Math.hypot(target[0] - handle[0], target[1] - handle[1]);
  return Math.min(REACH_OF_LENGTH * length + REACH_OF_SIDE * short, MOST_OF_SIDE * short);
}

/** The mask for drags that come without one: a capsule around the way of each. @returns {Raster} */
export function derivedMask(drags, photo) {
  const raster = emptyRaster(photo, DERIVED_SIDE);
  const moving = drags.filter((drag) => !isPin(drag));
  for (const drag of moving.length ? moving : drags) paint(raster, drag.handle, drag.target, reach(drag, photo), true);
  return raster;
}

/** A drawn mask with room for the drags whose targets lie outside it; the same raster if none does. @returns {Raster} */
export function widenedMask(raster, drags, photo) {
  const astray = drags.filter((drag) => !isPin(drag) && !isInside(raster, drag.target));
  if (!astray.length) return raster;
  const wider = { ...raster, data: raster.data.slice() };
  for (const drag of astray) paint(wider, drag.handle, drag.target, reach(drag, photo) / 2, true);
  return wider;
}

export function isInside(raster, point) {
  const [x, y] = toRaster(raster, point).map(Math.round);
  const column = Math.min(Math.max(x, 0), raster.width - 1);
  const row = Math.min(Math.max(y, 0), raster.height - 1);
  return raster.data[row * raster.width + column] >= 128;
}

/** Add (or take away) all within `radius` of the way from one point to another, in photo pixels. */
export function paint(raster, from, to, radius, add) {
  const [ax, ay] = toRaster(raster, from);
  const [bx, by] = toRaster(raster, to);
  const r = Math.max(radius * raster.scale, 0.5);
  const dx = bx - ax;
  const dy = by - ay;
  const squared = Math.max(dx * dx + dy * dy, 1e-12);
  const x0 = Math.max(0, Math.floor(Math.min(ax, bx) - r - 1));
  const x1 = Math.min(raster.width - 1, Math.ceil(Math.max(ax, bx) + r + 1));
  const y1 = Math.min(raster.height - 1, Math.ceil(Math.max(ay, by) + r + 1));
  const beyond = (r + 0.5) ** 2;
  for (let y = Math.max(0, Math.floor(Math.min(ay, by) - r - 1)); y <= y1; y++) {
    for (let x = x0; x <= x1; x++) {
      const share = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / squared));
      const away = (x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2;
      if (away >= beyond) continue;
      const cover = 255 * Math.min(1, r - Math.sqrt(away) + 0.5); // half of it on the rim
      const at = y * raster.width + x;
      raster.data[at] = add ? Math.max(raster.data[at], cover) : Math.min(raster.data[at], 255 - cover);
    }
  }
}

/** Any raster at the size of a drawn one. @returns {Raster} */
export function resampled(raster, photo) {
  const result = emptyRaster(photo, DRAWN_SIDE);
  for (let y = 0; y < result.height; y++) {
    const row = Math.min(raster.height - 1, Math.floor(((y + 0.5) * raster.height) / result.height));
    for (let x = 0; x < result.width; x++) {
      const column = Math.min(raster.width - 1, Math.floor(((x + 0.5) * raster.width) / result.width));
      result.data[y * result.width + x] = raster.data[row * raster.width + column] >= 128 ? 255 : 0;
    }
  }
  return result;
}

export const isEmpty = (raster) => !raster.data.some((value) => value >= 128);

/** A raster as it is stored and sent: row-major lengths, outside first. */
export function toRuns({ width, height, data }) {
  const runs = [];
  let inside = false;
  let length = 0;
  for (const value of data) {
    if (value >= 128 === inside) length++;
    else {
      runs.push(length);
      inside = !inside;
      length = 1;
    }
  }
  runs.push(length);
  return { size: [width, height], runs };
}

/** What `toRuns` gave, for a photo. @returns {Raster} */
export function fromRuns({ size: [width, height], runs }, photo) {
  const data = new Uint8Array(width * height);
  let at = 0;
  runs.forEach((length, index) => {
    if (index % 2) data.fill(255, at, at + length);
    at += length;
  });
  return { width, height, scale: width / photo.width, data };
}

/** A picture of a mask, light inside, for a photo. @param {ImageBitmap} picture @returns {Raster} */
export function fromPicture(picture, photo) {
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const data = Uint8Array.from({ length: width * height }, (_, at) => pixels[4 * at]);
  return { width, height, scale: width / photo.width, data };
}

/** x0, y0, x1, y1 of what is inside, ends exclusive, in pixels of the raster; null if nothing is. */
export function boundingBox({ width, height, data }) {
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] < 128) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return x1 ? [x0, y0, x1, y1] : null;
}
