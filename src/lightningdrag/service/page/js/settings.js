// The options of a run, kept between visits, and the request that is sent.

const NAME = "lightningdrag.settings";
export const DEFAULTS = {
  model: "",
  num_images: 1,
  steps: null,
  guidance: null,
  seed: null, // null draws one for each run
  max_step: null,
  augment: 0,
};
export const MOST_DRAGS = 64;
const MOST_PIXELS = 80e6; // of a mask, as of a photo
const NOT_SHOWN = ["guidance_schedule", "noise_prior", "temperature", "strict"]; // a saved edit may bring them
const OPTIONS = [...Object.keys(DEFAULTS).filter((name) => name !== "model"), ...NOT_SHOWN];

export function loadSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME)) };
  } catch {
    return { ...DEFAULTS };
  }
}

export const saveSettings = (settings) => localStorage.setItem(NAME, JSON.stringify(settings));

/** The edit as the command line reads and writes it. */
export function requestOf(work, settings, { withMask }) {
  const { model, ...options } = settings;
  const { drags, mask } = work.state;
  return {
    schema: "lightningdrag.edit",
    version: 1,
    image: work.image,
    drags,
    mask: withMask ? mask : null,
    options,
  };
}

/** A saved request, checked as far as the page needs. @throws {Error} in plain words */
export function readRequest(text) {
  let request;
  try {
    request = JSON.parse(text);
  } catch {
    throw new Error("This file is no saved edit: it is not JSON.");
  }
  if (request?.schema !== "lightningdrag.edit" || request.version !== 1) {
    throw new Error("This file is no saved edit of LightningDrag, or of another version.");
  }
  const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
  if (!Array.isArray(request.drags) || !request.drags.every((d) => isPoint(d?.handle) && isPoint(d?.target))) {
    throw new Error("The drags of this saved edit cannot be read.");
  }
  if (request.drags.length > MOST_DRAGS) {
    throw new Error(`This saved edit has ${request.drags.length} drags; at most ${MOST_DRAGS} can be made.`);
  }
  const mask = request.mask ?? null;
  const maskFile = typeof mask?.png === "string" ? fileName(mask.png) : null;
  if (mask && !maskFile && !isMask(mask)) throw new Error("The mask of this saved edit cannot be read.");
  const options = Object.fromEntries(
    Object.entries(request.options ?? {}).filter(([name]) => OPTIONS.includes(name)),
  );
  const image = typeof request.image === "string" ? fileName(request.image) : null;
  return { image, drags: request.drags, mask: maskFile ? null : mask, maskFile, options };
}

const fileName = (path) => path.split(/[\\/]/).at(-1);

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

/** Runs that fill a mask of a size that a photo may have. */
function isMask({ size, runs }) {
  if (!Array.isArray(size) || size.length !== 2 || !size.every((side) => isCount(side) && side > 0)) return false;
  if (!Array.isArray(runs) || !runs.every(isCount) || size[0] * size[1] > MOST_PIXELS) return false;
  return runs.reduce((sum, run) => sum + run, 0) === size[0] * size[1];
}

/** The rule of lightningdrag/drag.py: a pixel reaches half a pixel around its centre. @throws {Error} in plain words */
export function checkInside(drags, { width, height }) {
  const isInside = ([x, y]) => x >= -0.5 && x <= width - 0.5 && y >= -0.5 && y <= height - 0.5;
  const outside = drags.flatMap(({ handle, target }) => [handle, target]).find((point) => !isInside(point));
  if (!outside) return;
  const where = outside.map(Math.round).join(", ");
  throw new Error(`This edit does not fit this photo of ${width} x ${height} pixels: it has a point at ${where}.`);
}
