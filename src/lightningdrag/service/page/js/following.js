// What follows the drags: once a pull rests, the server is asked for the mask that an edit of them would use.

import { isPin } from "./mask.js";

const REST = 250; // milliseconds

export class Following {
  #asked = { drags: null, model: null, num_images: null };
  #timer = 0;
  #controller = new AbortController();

  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    editor.addEventListener("change", () => this.#look());
  }

  #look() {
    const { mode, state, found, settings } = this.editor;
    const open = mode === "edit" && !state.mask && !state.drags.every(isPin);
    const { model, num_images } = settings;
    const wanted = { drags: open ? state.drags : null, model, num_images };
    if (same(wanted, this.#asked)) return;
    this.#asked = wanted;
    clearTimeout(this.#timer);
    this.#controller.abort();
    if (open && !same(wanted, found)) this.#timer = setTimeout(() => this.#ask(wanted), REST);
  }

  async #ask(wanted) {
    const { editor } = this;
    const { work } = editor;
    const { photo } = work.state;
    const { signal } = (this.#controller = new AbortController());
    try {
      const mask = await editor.remote.mask(photo, work.photos.get(photo), work, wanted, signal);
      if (this.#asked === wanted) editor.set({ found: { ...wanted, mask } });
    } catch {
      // The room around the drags stays in its place; what is wrong will be said when they are run.
    }
  }
}

const same = (one, other) => ["drags", "model", "num_images"].every((name) => one[name] === other[name]);
