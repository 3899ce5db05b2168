// A run from the button to the candidates, and what is said while it lasts.

import { randomId } from "./work.js";
import { requestOf } from "./settings.js";

// Candidates: what "more" of them comes to at least, and what a run makes at most.
const MORE = 4;
export const MOST = 16;

export class Runner {
  /** @param {(key: string, blob: Blob) => Promise} decode readies a picture, so that it does not flicker in */
  constructor(editor, toasts, decode) {
    Object.assign(this, { editor, toasts, decode });
  }

  /** @param {number} chosen the candidate to show first */
  async run(changes = {}, chosen = 0) {
    const { editor } = this;
    const { work, state } = editor;
    const { model, num_images } = { ...editor.settings, ...changes };
    const done = await this.#follow("jobs", await this.#form(changes));
    if (!done || editor.state !== state) return;
    const proposal = {
      candidates: done.results.map(randomId),
      chosen,
      seconds: done.seconds,
      model: done.model,
      request: { ...done.request, image: work.image, mask: state.mask },
      job: { id: done.id, session: done.session },
    };
    await Promise.all([this.decode(proposal.candidates[chosen], done.results[chosen]), this.#learnMask(done, { model, num_images })]);
    if (editor.state !== state) return; // drawn on in the meantime, which cancels a run
    editor.propose(proposal, done.results);
    for (const warning of done.warnings) if (!warning.startsWith("mask scaled")) this.toasts.show(warning);
  }

  /** The automatic mask, where the run was quicker than the question for it. */
  async #learnMask(done, asked) {
    const { work, state, remote } = this.editor;
    if (state.mask) return;
    const mask = await remote.usedMask(done, work).catch(() => null); // the room around the drags will do
    if (mask) this.editor.set({ found: { drags: state.drags, ...asked, mask } });
  }

  /** From a result: its run with more candidates. Those that it has stay the first ones, and the one on view. */
  more() {
    const { candidates, chosen, request, model } = this.editor.state.proposal;
    this.editor.adjust();
    const num_images = Math.min(Math.max(2 * candidates.length, MORE), MOST);
    return this.run({ ...request.options, num_images, model }, chosen);
  }

  /** The drags as a film, by the chances and the model of the result if one is shown. @returns as #follow */
  async animate(format) {
    const { proposal } = this.editor.state;
    const form = await this.#form(proposal ? { ...proposal.request.options, model: proposal.model } : {});
    return this.#follow("animations", (round) => {
      const fields = form(round);
      fields.set("format", format);
      return fields;
    });
  }

  async #form(changes) {
    const { work } = this.editor;
    const settings = { ...this.editor.settings, ...changes };
    const request = requestOf(work, settings, { withMask: false });
    const mask = await maskFile(work.state.mask);
    return (round) => formOf(request, mask, settings.model, round);
  }

  /** Run a job and show how far it is. @returns {Promise<object | null>} null if it failed or was cancelled */
  async #follow(kind, form) {
    const { editor } = this;
    const { work } = editor;
    const controller = new AbortController();
    const running = { label: "Starting…", share: null, controller };
    editor.set({ running });
    const report = (news) => {
      if (editor.running !== running) return;
      Object.assign(running, progressOf(news, editor.models.ready));
      editor.changed("look");
    };
    try {
      const key = work.state.photo;
      return await editor.remote.run(kind, key, work.photos.get(key), form, controller.signal, report);
    } catch (error) {
      if (error.name !== "AbortError") this.toasts.error(error);
      return null;
    } finally {
      if (editor.running === running) editor.set({ running: null });
    }
  }
}

function progressOf({ state, place, step, steps }, ready) {
  if (state === "offline") return { label: "Connection lost. Trying again; nothing is lost.", share: null };
  if (state === "busy") return { label: "The server is busy. Trying again.", share: null };
  if (state === "queued") {
    if (!ready) return { label: "The model is still loading…", share: null };
    return { label: place > 1 ? `In the queue: ${place - 1} before you` : "Starting…", share: null };
  }
  if (state === "done") return { label: "Fetching the result…", share: 1 };
  return steps ? { label: `Step ${step} of ${steps}`, share: step / steps } : { label: "Looking at the photo…", share: null };
}

function formOf(request, mask, model, round) {
  const form = new FormData();
  form.set("request", JSON.stringify(request));
  if (mask) form.set("mask", mask, "mask.png");
  if (model) form.set("model", model);
  form.set("round", round);
  return form;
}

/** A drawn mask as a PNG; null where it is left to the server. */
async function maskFile(mask) {
  if (!mask) return null;
  const [width, height] = mask.size;
  const pixels = new Uint8ClampedArray(4 * width * height).fill(255);
  let at = 0;
  mask.runs.forEach((length, index) => {
    if (index % 2 === 0) for (let k = at; k < at + length; k++) pixels.fill(0, 4 * k, 4 * k + 3);
    at += length;
  });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(pixels, width), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
