// Where the photo lies in the window: pan, zoom, and points from one to the other. CSS pixels.

const MOST = 32;

export class View {
  scale = 1;
  x = 0; // of the photo's top left corner
  y = 0;
  fitted = true;

  /** Show all of a photo in what the panels leave free. */
  fit(photo, { left, top, right, bottom }) {
    this.scale = Math.min((right - left) / photo.width, (bottom - top) / photo.height, 4);
    this.x = (left + right - photo.width * this.scale) / 2;
    this.y = (top + bottom - photo.height * this.scale) / 2;
    this.fitted = true;
  }

  /** Zoom by a factor, keeping what is under (x, y) there. */
  zoom(factor, x, y) {
    const scale = Math.min(MOST, Math.max(0.02, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
  }

  /** Integers are pixel centres of the photo. */
  toPhoto(x, y) {
    return [(x - this.x) / this.scale - 0.5, (y - this.y) / this.scale - 0.5];
  }

  toScreen([x, y]) {
    return [(x + 0.5) * this.scale + this.x, (y + 0.5) * this.scale + this.y];
  }
}

/** The nearest point of the photo. */
export function within(photo, [x, y]) {
  return [Math.min(Math.max(x, 0), photo.width - 1), Math.min(Math.max(y, 0), photo.height - 1)];
}
