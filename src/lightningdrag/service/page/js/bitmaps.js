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

/** A small WebP of a photo. @returns {Promise<Blob>} */
export async function thumbnail(bitmap, side) {
  const share = Math.min(1, side / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * share));
  canvas.height = Math.max(1, Math.round(bitmap.height * share));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
}
