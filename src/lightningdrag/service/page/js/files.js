// Photos and saved edits in: by button, drop, paste, example, or as they were left.

import * as bitmaps from "./bitmaps.js";
import { fromPicture, toRuns } from "./mask.js";
import { checkInside, readRequest } from "./settings.js";
import { randomId, Work } from "./work.js";

const LARGEST_VIEW = 4096;
const REFUSED = new Set(["photo", "too-large"]); // waiting mends everything else

export class Files {
  #opened = 0; // how many photos were asked for
  constructor({ editor, scene, toasts, client, keeping }, input) {
    Object.assign(this, { editor, scene, toasts, client, keeping, input });
    input.addEventListener("change", () => this.take([...input.files]));
    document.addEventListener("paste", (event) => this.take([...event.clipboardData.files]));
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
    document.addEventListener("dragover", () => document.body.classList.add("dropping"));
    for (const name of ["dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        if (name === "drop" || !event.relatedTarget) document.body.classList.remove("dropping");
      });
    }
    document.addEventListener("drop", (event) => this.take([...event.dataTransfer.files]));
  }

  ask() {
    this.input.value = "";
    this.input.click();
  }

  /** A photo, a saved edit, or both, and the file of its mask. */
  async take(files) {
    const saved = files.find((file) => file.name.endsWith(".json") || file.type === "application/json");
    try {
      const request = saved && readRequest(await saved.text());
      const maskFile = files.find(({ name }) => name === request?.maskFile);
      const [photo, ...others] = files.filter((file) => file !== saved && file !== maskFile);
      if (maskFile) request.mask = toRuns(fromPicture(await bitmaps.decode(maskFile), { width: 1 }));
      if (photo) await this.open(photo, photo.name || "pasted.png", request);
      else if (request) this.#apply(request);
      if (others.length) this.toasts.show(`One photo at a time: of ${others.length + 1}, ${photo.name} is opened.`);
    } catch (error) {
      this.toasts.error(error);
    }
  }

  /** @param {Blob} blob @param {object} [request] what `readRequest` gave */
  async open(blob, name, request) {
    const { limits } = this.editor.models;
    if (limits && blob.size > limits.bytes) {
      throw new Error(`${name} has ${megabytes(blob.size)}; this server takes up to ${megabytes(limits.bytes)}.`);
    }
    const turn = ++this.#opened;
    const bitmap = await bitmaps.decode(blob).catch(() => null);
    if (turn !== this.#opened) return; // the person has opened another meanwhile
    const { work: before } = this.editor;
    if (bitmap) this.#send(this.#start(blob, name, bitmap, request), blob, before);
    else await this.#openByServer(blob, name, request, turn);
  }

  async example({ name, photo, request }) {
    const blob = await this.client.blob(photo);
    await this.open(blob, `${name}.jpg`, readRequest(JSON.stringify(request)));
  }

  /** A photo's picture; what the browser cannot read, the server turns into something that it can. */
  async read(blob, key) {
    try {
      return await bitmaps.decode(blob);
    } catch {
      const view = await this.editor.remote.photo(key, blob, `format=webp&side=${LARGEST_VIEW}`);
      return bitmaps.decode(view);
    }
  }

  #start(blob, name, size, request, key) {
    if (request) checkInside(request.drags, size);
    this.toasts.clear();
    const work = Work.open(blob, name, size, request, key);
    if (size instanceof ImageBitmap) bitmaps.store(work.state.photo, size, this.scene.renderer.maxSide);
    this.editor.start(work);
    if (request) this.#sayWhatDiffers(request, name);
    return work;
  }

  /** Upload while the person looks; a run later waits for no upload. */
  async #send(work, blob, before) {
    try {
      const { info } = await this.editor.remote.place(work.state.photo, blob);
      for (const warning of info.warnings) this.toasts.show(warning);
    } catch (error) {
      if (this.editor.work !== work || error.type === undefined) return; // the run tries again
      if (REFUSED.has(error.type)) {
        this.keeping.forget(work.id);
        if (before) this.editor.start(before);
        else this.editor.close();
        error.message = `${work.name}: ${error.message}`;
      }
      this.toasts.error(error);
    }
  }

  async #openByServer(blob, name, request, turn) {
    const key = randomId();
    const { info } = await this.editor.remote.place(key, blob);
    if (turn !== this.#opened) return;
    this.#start(blob, name, info, request, key);
    for (const warning of info.warnings) this.toasts.show(warning);
  }

  /** Say so where an edit was made for another photo, or does not bring its mask along. */
  #sayWhatDiffers({ image, mask, maskFile }, name) {
    if (maskFile && !mask) this.toasts.show(`The mask of this edit is in ${maskFile}: open both together to have it.`);
    if (image && image !== name) this.toasts.show(`This edit was made for ${image}.`);
  }

  #apply(request) {
    const { editor } = this;
    if (!editor.work) throw new Error("Open the photo first, then its saved edit; or drop both together.");
    checkInside(request.drags, editor.work);
    this.#sayWhatDiffers(request, editor.work.image);
    if (editor.state.proposal) editor.keep();
    editor.work.change({ drags: request.drags, mask: request.mask });
    editor.setOptions(request.options);
  }
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
