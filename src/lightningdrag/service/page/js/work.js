// One piece of work: its photos, and every state it went through, for undo and redo across everything.
//
// A state is a plain object that never changes:
//   photo     the key of the photo that is edited
//   drags     [{handle: [x, y], target: [x, y]}]
//   mask      {size, runs} as drawn, or null for the automatic one
//   proposal  what a run gave and nobody has kept yet: {candidates: [key], chosen, request, seconds}, or null
// Its options are those of a run that came with an opened edit or were chosen for it (settings.js).
// Photos are files (Blob) under keys: the one opened comes first, then the candidates that the states name.

const MOST_STATES = 400;

export const randomId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("");

export class Work {
  constructor({ id = randomId(), name, width, height, states, index = 0, options = {}, photos }) {
    Object.assign(this, { id, name, width, height, states, index, options, photos });
  }

  /** New work on a photo. @param {Blob} blob @param {string} [key] if the server has it already */
  static open(blob, name, { width, height }, request, key = randomId()) {
    const state = { photo: key, drags: request?.drags ?? [], mask: request?.mask ?? null, proposal: null };
    return new Work({ name, width, height, states: [state], options: request?.options, photos: new Map([[key, blob]]) });
  }

  get state() {
    return this.states[this.index];
  }

  /** The photo on view: a candidate, or the one that is edited. */
  get shown() {
    const { proposal, photo } = this.state;
    return proposal ? proposal.candidates[proposal.chosen] : photo;
  }

  /** What a picture of this work is saved as, without its ending. */
  get stem() {
    return `${this.name.replace(/\.[^.]*$/, "")}-dragged`;
  }

  /** The file that is edited: the one opened, or what saving the kept result gives. */
  get image() {
    return this.state.photo === this.#opened ? this.name : `${this.stem}.png`;
  }

  /** The key of the photo as opened, which is never forgotten. */
  get #opened() {
    return this.photos.keys().next().value;
  }

  /** Go on to a new state; what was undone is forgotten. */
  change(patch) {
    this.states.splice(this.index + 1, Infinity, { ...this.state, ...patch });
    this.states.splice(0, Math.max(0, this.states.length - MOST_STATES));
    this.index = this.states.length - 1;
  }

  /** Alter the last state: the rest of one gesture. */
  amend(patch) {
    this.states[this.index] = { ...this.state, ...patch };
  }

  /** Drop the candidates that neither undo nor redo leads to any more. */
  forgetUnnamed() {
    const named = this.states.flatMap(({ photo, proposal }) => [photo, ...(proposal?.candidates ?? [])]);
    const kept = new Set([this.#opened, ...named]);
    for (const key of this.photos.keys()) if (!kept.has(key)) this.photos.delete(key);
  }

  undo() {
    if (this.index > 0) this.index--;
  }

  redo() {
    if (this.index < this.states.length - 1) this.index++;
  }

  /** The photos gone through, oldest first: {photo, index of its last state}. */
  get rounds() {
    const rounds = [];
    this.states.forEach(({ photo }, index) => {
      if (rounds.at(-1)?.photo === photo) rounds.at(-1).index = index;
      else rounds.push({ photo, index });
    });
    return rounds;
  }

  goTo(index) {
    this.index = index;
  }

  /** What is stored of it, its photos aside. */
  record() {
    const { id, name, width, height, states, index, options } = this;
    return { id, name, width, height, states, index, options, keys: [...this.photos.keys()], updated: Date.now() };
  }
}
