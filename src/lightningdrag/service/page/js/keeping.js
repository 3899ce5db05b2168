// Keeps the work in the browser as it changes, one work for each tab, and finds it again after a reload.

import * as bitmaps from "./bitmaps.js";
import * as storage from "./storage.js";

const TAB = "lightningdrag.work";
const PAUSE = 400;

export class Keeping {
  #changed = null; // the work whose last changes are not written yet
  #written = Promise.resolve(); // what is written or forgotten, one after the other
  #timer = null;
  #told = false;

  constructor(editor, toasts) {
    Object.assign(this, { editor, toasts });
    editor.addEventListener("change", ({ detail }) => detail !== "look" && this.#note(detail === "opened"));
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.write());
  }

  /** Go on where this tab was left. */
  async restore() {
    const left = sessionStorage.getItem(TAB);
    if (left) await this.editor.restore(left, await hold(left)).catch(() => {});
  }

  /** Write the last changes now. @returns {Promise<void>} when all that is kept can be read */
  write() {
    clearTimeout(this.#timer);
    const work = this.#changed;
    this.#changed = null;
    if (work) this.#written = this.#written.then(() => this.#keep(work));
    return this.#written;
  }

  /** Forget a work, also what is not written of it yet. @returns {Promise<void>} as `write` */
  forget(id) {
    if (this.#changed?.id === id) this.#changed = null;
    this.#written = this.#written.then(() => storage.forget(id)).catch(() => {});
    return this.#written;
  }

  #note(opened) {
    const { work } = this.editor;
    if (work) sessionStorage.setItem(TAB, work.id);
    else sessionStorage.removeItem(TAB);
    if (opened) {
      this.write(); // of the work before
      hold(work?.id);
    }
    this.#changed = work;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.write(), PAUSE);
  }

  async #keep(work) {
    try {
      const bitmap = bitmaps.stored(work.state.photo);
      await storage.keep(work, bitmap && (await bitmaps.thumbnail(bitmap, 120)));
    } catch {
      const text = "This browser keeps nothing for this page: save your work before you close it.";
      if (!this.#told) this.toasts.show(text, true);
      this.#told = true;
    }
  }
}

let held = { id: undefined, release: () => {} };

/**
 * Make a work this tab's own, in the place of the one before.
 * @returns {Promise<boolean>} false if another tab is on it; this one may begin a copy
 */
export async function hold(id) {
  if (held.id === id) return true;
  held.release();
  held = { id: undefined, release: () => {} };
  if (!id || !navigator.locks) return true;
  return new Promise((resolve) => {
    navigator.locks.request(`work-${id}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise((release) => (held = { id, release })); // until the tab closes or goes on to another
    });
  });
}
