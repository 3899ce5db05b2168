// Puts the editor's state on the two canvases, once a frame at most.

import * as bitmaps from "./bitmaps.js";
import { drawOverlay } from "./overlay.js";
import { PlainRenderer } from "./plain.js";
import { Renderer } from "./renderer.js";

export class Scene {
  cursor = { brush: null, key: null }; // where the brush is on the screen, the keyboard's cross on the photo
  frameTimes = []; // milliseconds of the last frames, for measurement
  drawn = null; // the key of the photo on view
  reading = new Set(); // keys of photos that are being decoded, or cannot be
  #asked = false;

  constructor(editor, toasts, photoCanvas, overlayCanvas, room) {
    Object.assign(this, { editor, toasts });
    this.room = room; // what the panels leave free, a function
    const hasWebGL = document.createElement("canvas").getContext("webgl2") !== null;
    this.renderer = hasWebGL ? new Renderer(photoCanvas) : new PlainRenderer(photoCanvas);
    this.canvases = [photoCanvas, overlayCanvas];
    this.context = overlayCanvas.getContext("2d");
    editor.addEventListener("change", () => this.ask());
    photoCanvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    photoCanvas.addEventListener("webglcontextrestored", () => {
      this.renderer.restore();
      this.ask();
    });
    new ResizeObserver(() => this.#resize()).observe(photoCanvas);
    this.#resize();
  }

  /** Draw at the next frame. */
  ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      const start = performance.now();
      this.draw();
      this.frameTimes.push(performance.now() - start);
      if (this.frameTimes.length > 120) this.frameTimes.shift();
    });
  }

  /** Keep all of the photo in view until the person zooms or pans. */
  fit() {
    const { work, view } = this.editor;
    if (work && view.fitted) view.fit(work, this.room());
  }

  draw() {
    const { editor, renderer } = this;
    const { work, view } = editor;
    this.fit();
    drawOverlay(this.context, editor, this.cursor);
    const key = work && (editor.before ? work.state.photo : work.shown);
    const bitmap = work && this.#bitmap(key);
    if (!bitmap) {
      renderer.clear();
      return;
    }
    this.drawn = key;
    renderer.setImage("photo", bitmap);
    const compares = editor.divide !== null && editor.mode === "result";
    const was = compares && this.#bitmap(work.state.photo);
    if (was) renderer.setImage("before", was);
    const edits = !work.state.proposal && !editor.before;
    const plan = edits ? editor.plan : { mask: null, rim: null };
    renderer.setMask(plan.mask);
    renderer.setWarp(work.state.drags, plan.rim);
    const ratio = this.ratio;
    renderer.draw({
      size: [work.width, work.height],
      origin: [view.x * ratio, view.y * ratio],
      scale: view.scale * ratio,
      divide: was ? (view.x + work.width * view.scale * editor.divide) * ratio : -1,
      dim: this.#dim(),
    });
  }

  /** The mask is plain while it is painted, quiet while one pulls, and gone when it is switched off. */
  #dim() {
    const { tool, showMask } = this.editor;
    if (tool === "brush" || tool === "eraser") return 0.8;
    return showMask ? 0.3 : 0;
  }

  /** Read a photo before it is shown. */
  async ready(key, blob) {
    await bitmaps.store(key, await this.editor.read(blob, key), this.renderer.maxSide);
  }

  /** A photo's picture, or undefined and another draw when it has been read. */
  #bitmap(key) {
    const bitmap = bitmaps.stored(key);
    if (bitmap) return bitmap;
    const { work } = this.editor;
    if (this.reading.has(key)) return undefined;
    this.reading.add(key);
    this.ready(key, work.photos.get(key))
      .then(() => this.reading.delete(key))
      .catch((error) => this.toasts.error(error))
      .finally(() => this.ask());
    return undefined;
  }

  #resize() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of this.canvases) {
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * this.ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * this.ratio));
    }
    this.renderer.redrawAll();
    this.draw();
  }
}
