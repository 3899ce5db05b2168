// The editor's state and everything that can be done to it. Panels and the canvas show it and call it.

import { derivedMask, emptyRaster, fromRuns, isEmpty, isPin, paint, resampled, toRuns } from "./mask.js";
import { planPreview } from "./preview.js";
import { Remote } from "./remote.js";
import { DEFAULTS, loadSettings } from "./settings.js";
import { load } from "./storage.js";
import { View, within } from "./view.js";
import { randomId, Work } from "./work.js";

export class Editor extends EventTarget {
  work = null;
  view = new View();
  tool = "drag"; // drag, pin, brush, eraser, hand
  brush = 40; // diameter on the screen
  selected = null; // {index, end: "handle" | "target"}
  before = false; // held down: the photo as it was
  divide = null; // 0..1 across the photo: left of it the photo as it was
  showMask = true;
  running = null; // {label, share, controller}
  models = { models: [], animations: [], limits: null, ready: true };
  settings = loadSettings();
  found = { drags: null, model: null, num_images: null, mask: null }; // what follows the drags, as the server says
  #masks = new WeakMap(); // {size, runs} -> raster
  #stroke = null; // the raster that is being painted
  #plan = { state: null, plan: null };

  constructor(client) {
    super();
    this.client = client;
    this.remote = new Remote(client);
  }

  // What is shown

  get mode() {
    if (!this.work) return "empty";
    if (this.running) return "running";
    return this.state.proposal ? "result" : "edit";
  }

  get state() {
    return this.work?.state;
  }

  /** The mask and the warp of the state, computed once for each. */
  get plan() {
    const { state, stroke, found } = this.#plan;
    if (state !== this.state || stroke !== this.#stroke || found !== this.#found) {
      const drawn = this.#stroke ?? this.#drawn();
      const plan = planPreview(this.work, this.state.drags, drawn, this.#found);
      this.#plan = { state: this.state, stroke: this.#stroke, found: this.#found, plan };
    }
    return this.#plan.plan;
  }

  // Opening and going back and forth

  /** @param {Work} work */
  start(work) {
    this.cancel();
    this.work = work;
    this.settings = { ...loadSettings(), ...work.options };
    this.selected = null;
    this.divide = null;
    this.before = false;
    this.view.fitted = true;
    this.changed("opened");
  }

  close() {
    this.cancel();
    this.work = null;
    this.changed("opened");
  }

  undo() {
    this.cancel();
    this.selected = null;
    this.work?.undo();
    this.changed();
  }

  redo() {
    this.cancel();
    this.selected = null;
    this.work?.redo();
    this.changed();
  }

  goTo(index) {
    this.cancel();
    this.selected = null;
    this.work.goTo(index);
    this.changed();
  }

  // Drags and pins; points are in pixels of the photo

  /** A drag, or a pin where no target is given; `moveEnd` pulls it further. */
  addDrag(point, target = point) {
    this.#onward();
    const handle = within(this.work, point);
    const drags = [...this.state.drags, { handle, target: within(this.work, target) }];
    this.work.change({ drags });
    this.selected = { index: drags.length - 1, end: target === point ? "handle" : "target" };
    this.changed();
  }

  /** Begin to move the selected end: a state of its own, which `moveEnd` alters. */
  lift() {
    this.cancel();
    this.work.change({});
  }

  moveEnd(point) {
    const { index, end } = this.selected;
    const moved = within(this.work, point);
    const drags = this.state.drags.map((drag, at) => {
      if (at !== index) return drag;
      return isPin(drag) && end === "handle" ? { handle: moved, target: moved } : { ...drag, [end]: moved };
    });
    this.work.amend({ drags });
    this.changed();
  }

  /** The work as it is before a gesture, for `returnTo`. */
  get mark() {
    const { states, index } = this.work;
    return { states: [...states], index };
  }

  /** Take back a gesture as if it had never been; what could be redone before it can be again. */
  returnTo(mark) {
    Object.assign(this.work, mark);
    this.#stroke = null;
    this.selected = null;
    this.changed();
  }

  remove(index) {
    this.cancel();
    this.work.change({ drags: this.state.drags.filter((_, at) => at !== index) });
    this.selected = null;
    this.changed();
  }

  removeAll() {
    if (!this.state.drags.length && !this.state.mask) return;
    this.work.change({ drags: [], mask: null });
    this.selected = null;
    this.changed();
  }

  /** Select the next end of all drags, or the one before. */
  selectNext(step) {
    const ends = this.state.drags.flatMap((drag, index) =>
      isPin(drag)
        ? [{ index, end: "handle" }]
        : [{ index, end: "handle" }, { index, end: "target" }],
    );
    if (!ends.length) return;
    const at = ends.findIndex(({ index, end }) => index === this.selected?.index && end === this.selected?.end);
    const next = at < 0 ? (step > 0 ? 0 : ends.length - 1) : (at + step + ends.length) % ends.length;
    this.selected = ends[next];
    this.changed();
  }

  // The mask

  /** Paint or erase from one point to another; the stroke lasts until `endStroke`. */
  stroke(from, to) {
    if (!this.#stroke) {
      this.#onward();
      this.#stroke = { ...this.#ownMask() };
    }
    paint(this.#stroke, from, to, this.brush / 2 / this.view.scale, this.tool === "brush");
    this.#stroke = { ...this.#stroke }; // another object: the plan is made anew
    this.changed();
  }

  endStroke() {
    if (!this.#stroke) return;
    const mask = isEmpty(this.#stroke) ? null : toRuns(this.#stroke);
    this.#stroke = null;
    this.work.change({ mask });
    this.changed();
  }

  invertMask() {
    const raster = this.#ownMask();
    raster.data = raster.data.map((value) => 255 - value);
    this.work.change({ mask: isEmpty(raster) ? null : toRuns(raster) });
    this.changed();
  }

  clearMask() {
    if (!this.state.mask) return;
    this.work.change({ mask: null });
    this.changed();
  }

  /** A copy of the mask in force, at the size of a drawn one, to paint on. */
  #ownMask() {
    const drawn = this.#drawn();
    if (drawn) return resampled(drawn, this.work);
    if (this.state.drags.length) return resampled(this.#found ?? derivedMask(this.state.drags, this.work), this.work);
    return resampled(emptyRaster(this.work, 16), this.work);
  }

  #drawn() {
    const { mask } = this.state;
    if (!mask) return null;
    if (!this.#masks.has(mask)) this.#masks.set(mask, fromRuns(mask, this.work));
    return this.#masks.get(mask);
  }

  get #found() {
    const { drags, model, num_images, mask } = this.found;
    const { proposal } = this.state;
    const asked = proposal?.request.options.num_images ?? this.settings.num_images;
    return drags === this.state.drags && model === this.settings.model && num_images === asked ? mask : null;
  }

  // Results

  propose(proposal, candidates) {
    candidates.forEach((blob, at) => this.work.photos.set(proposal.candidates[at], blob));
    this.work.change({ proposal });
    this.work.forgetUnnamed();
    this.changed();
  }

  choose(index) {
    const { proposal } = this.state;
    if (!proposal || index < 0 || index >= proposal.candidates.length) return;
    this.work.amend({ proposal: { ...proposal, chosen: index } });
    this.changed();
  }

  /** The shown candidate becomes the photo of the next round. */
  keep() {
    const { proposal } = this.state;
    if (!proposal) return;
    const photo = proposal.candidates[proposal.chosen];
    this.remote.accept(photo, proposal.job, proposal.chosen).catch(() => {}); // else it is sent when needed
    this.work.change({ photo, drags: [], mask: null, proposal: null });
    this.selected = null;
    this.divide = null;
    this.changed();
  }

  /** Back from a result to the drags that led to it. */
  adjust() {
    if (!this.state?.proposal) return;
    this.work.change({ proposal: null });
    this.divide = null;
    this.changed();
  }

  cancel() {
    this.running?.controller.abort(new DOMException("cancelled", "AbortError"));
  }

  /** Pulling on a result keeps it: the next round goes on from there. */
  #onward() {
    this.cancel();
    if (this.state.proposal) this.keep();
  }

  // Options

  /** What the person chose, or an opened edit brings: it holds for this work. */
  setOptions(options) {
    const { model: _, ...own } = options;
    this.settings = { ...this.settings, ...options };
    if (this.work) this.work.options = { ...this.work.options, ...own };
    this.changed();
  }

  resetSettings() {
    this.settings = { ...DEFAULTS };
    if (this.work) this.work.options = {};
    this.changed();
  }

  // How it looks

  set(properties) {
    Object.assign(this, properties);
    this.changed("look");
  }

  /** Go on with kept work. @param {boolean} own whether it is this tab's; if not, a copy is made */
  async restore(id, own = true) {
    const record = await load(id);
    if (record) this.start(new Work(own ? record : { ...record, id: randomId() }));
  }

  /** @param {"change" | "look" | "opened"} what */
  changed(what = "change") {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }
}
