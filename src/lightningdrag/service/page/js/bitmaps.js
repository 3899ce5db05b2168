// Files as pictures for the screen, at most so large as the graphics card takes.

const KEPT = 6;
const kept = new Map(); // key -> ImageBitmap, the one used last at the end

/** Decode a photo that the browser can read. @throws {Error} if it cannot */
export function decode(blob) {
  return createImageBitmap(blob, { imageOrientation: "from-image" });
}

/** Keep a picture under a photo's key. */
export async function store(key, bitmap, maxSide) {
  const share = maxSide / Math.max(bitmap.width, bitmap.height);
  if (share < 1) {
    const size = { resizeWidth: Math.round(bitmap.width * share), resizeHeight: Math.round(bitmap.height * share) };
    const smaller = await createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
    bitmap.close();
    bitmap = smaller;
  }
  kept.delete(key);
  kept.set(key, bitmap);
  if (kept.size > KEPT) {
    const [oldest] = kept.keys();
    kept.delete(oldest);
  }
  return bitmap;
}

/** The picture of a photo if it is there, else undefined. */
export function stored(key) {
  const bitmap = kept.get(key);
  if (bitmap) {
    kept.delete(key);
    kept.set(key, bitmap);
  }
  return bitmap;
}

/**
 * A small WebP of a photo, or of a part of it.
 * @param {number[]} part x0, y0, x1, y1 as shares of the photo's width and height
 * @returns {Promise<Blob>}
 */
export async function thumbnail(bitmap, side, [x0, y0, x1, y1] = [0, 0, 1, 1]) {
  const width = (x1 - x0) * bitmap.width;
  const height = (y1 - y0) * bitmap.height;
  const share = Math.min(1, side / Math.min(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * share));
  canvas.height = Math.max(1, Math.round(height * share));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x0 * bitmap.width, y0 * bitmap.height, width, height, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
}
