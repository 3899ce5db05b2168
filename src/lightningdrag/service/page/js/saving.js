// Pictures, requests and animations out.

import { requestOf } from "./settings.js";

const ENDINGS = { png: "png", jpeg: "jpg", webp: "webp", mp4: "mp4" };

export class Saving {
  constructor({ editor, runner, toasts }) {
    Object.assign(this, { editor, runner, toasts });
  }

  /** What is shown, at full size. */
  async image(format) {
    try {
      this.#download(await this.#picture(format), ENDINGS[format]);
    } catch (error) {
      this.toasts.error(error);
    }
  }

  copy() {
    return this.#copy({ "image/png": this.#picture("png") });
  }

  /** The edit as the command line reads it: of the result, or as it is drawn. */
  request() {
    if (!this.#isDrawn) this.#sayUndrawn();
    else this.#download(new Blob([this.#request()], { type: "application/json" }), "json");
  }

  copyRequest() {
    if (!this.#isDrawn) return this.#sayUndrawn();
    return this.#copy({ "text/plain": this.#request() });
  }

  get #isDrawn() {
    return this.editor.state.drags.length > 0;
  }

  #sayUndrawn() {
    const kept = this.editor.work.rounds.length > 1;
    this.toasts.show(kept ? "No drag is drawn on this picture. To save the edit that made it, undo first." : "Draw a drag first.");
  }

  #request() {
    const { work, settings } = this.editor;
    const { proposal } = work.state;
    if (work.image !== work.name) {
      const how = proposal ? "Adjust, then save that as PNG" : "save that as PNG";
      this.toasts.show(`This edit begins at the result kept before it, ${work.image}: ${how}, too.`);
    }
    return JSON.stringify(proposal?.request ?? requestOf(work, settings, { withMask: true }), null, 1);
  }

  async #copy(item) {
    try {
      if (!navigator.clipboard?.write) throw new Error("This browser lets only pages from https or this machine copy.");
      await navigator.clipboard.write([new ClipboardItem(item)]);
      this.toasts.show("Copied.");
    } catch (error) {
      this.toasts.error(error);
    }
  }

  /** The drag as a film. */
  async animation(format) {
    const { editor, runner, toasts } = this;
    const { drags, proposal } = editor.state;
    if (!drags.length) {
      toasts.show("Draw a drag first; the film shows it being pulled.");
      return;
    }
    if (proposal?.chosen) toasts.show("A film is made of the first candidate only, not of the one on view.");
    const done = await runner.animate(format);
    if (done) this.#download(done.results[0], ENDINGS[format]);
  }

  async #picture(format) {
    const { work, remote } = this.editor;
    const blob = work.photos.get(work.shown);
    if (blob.type === `image/${format}`) return blob;
    const { proposal } = work.state;
    if (proposal) await remote.accept(work.shown, proposal.job, proposal.chosen).catch(() => {}); // else it is sent
    return remote.photo(work.shown, blob, `format=${format}`, ({ state }) =>
      this.toasts.show(`${state === "offline" ? "The server does not answer." : "The server is busy."} It is saved as soon as that is over.`),
    );
  }

  #download(blob, ending) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${this.editor.work.stem}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}
