// The bars over the canvas: buttons in step with the commands, hints, progress, candidates, rounds.

import * as bitmaps from "./bitmaps.js";
import { COMMANDS } from "./commands.js";
import { $, element, picture } from "./dom.js";
import { boundingBox } from "./mask.js";

const THUMB = 128;
const TOUCH = matchMedia("(pointer: coarse)");

export function showBars(app) {
  const { editor } = app;
  const buttons = [...document.querySelectorAll("[data-command]")].map((button) => {
    const command = COMMANDS.find(({ name }) => name === button.dataset.command);
    const keys = command.keys.length ? ` (${command.keys[0]})` : "";
    button.title = command.title + keys;
    if (!button.textContent.trim()) button.setAttribute("aria-label", command.title);
    if (command.keys.length) button.setAttribute("aria-keyshortcuts", command.keys[0].replace("Ctrl", "Control"));
    button.addEventListener("click", () => {
      const menu = button.closest("[popover]");
      menu?.hidePopover();
      if (menu) $("#canvas").focus({ preventScroll: true }); // not the menu's own button, which Enter would press
      command.run(app);
    });
    return { button, command };
  });
  const thumbs = new Thumbs(app);
  const size = $("#brush-size input");
  size.addEventListener("input", () => editor.set({ brush: Number(size.value) }));
  $("#candidates").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    editor.choose(editor.state.proposal.chosen + step);
    $("#candidates [aria-checked=true]")?.focus();
  });

  const show = () => {
    const { mode, work } = editor;
    document.body.dataset.mode = mode;
    document.body.dataset.tool = editor.tool;
    document.body.toggleAttribute("data-zoomed", !editor.view.fitted);
    document.title = work ? `${work.name} – LightningDrag` : "LightningDrag";
    $("#name").textContent = work?.name ?? "LightningDrag";
    for (const { button, command } of buttons) {
      button.disabled = !(command.can?.(app) ?? true);
      if (command.on) button.setAttribute("aria-pressed", command.on(app));
    }
    app.scene.fit();
    $("#percent").textContent = `${Math.round(editor.view.scale * app.scene.ratio * 100)} %`;
    size.value = editor.brush;
    if (!work) return;
    $("#mask-kind").textContent = maskKind(editor);
    $("#hint").textContent = hint(editor);
    if (mode === "running") showProgress(editor.running);
    thumbs.show();
  };
  editor.addEventListener("change", show);
  show();
}

function maskKind({ state }) {
  if (state.mask) return "Mask: drawn";
  return state.drags.length ? "Mask: automatic" : "Mask: none yet";
}

function hint({ state, tool, selected }) {
  if (tool === "brush") return "Paint what may change.";
  if (tool === "eraser") return "Erase what must stay.";
  if (tool === "hand") return "Move the view.";
  if (tool === "pin") return "Click what must stay in place.";
  if (!state.drags.length) return "Press on something and pull it.";
  if (selected) return TOUCH.matches ? "Pull either end; hold it to remove." : "Pull either end; right-click removes.";
  const drags = state.drags.length;
  return `${drags} ${drags === 1 ? "point" : "points"}. A preview; run for the real thing.`;
}

function showProgress({ label, share }) {
  $("#progress-label").textContent = label;
  const progress = $("#progress");
  if (share === null) progress.removeAttribute("value");
  else progress.value = share;
}

/** Candidates and rounds as small pictures. */
class Thumbs {
  #wholes = new WeakMap(); // Blob -> Promise of a small Blob
  #parts = new WeakMap(); // the same of what the mask holds, where candidates differ

  constructor(app) {
    this.editor = app.editor;
    this.files = app.files;
  }

  show() {
    const { work, mode } = this.editor;
    const { proposal } = work.state;
    const several = mode === "result" && proposal.candidates.length > 1;
    const part = (key) => this.#small(key, this.#parts, () => partOf(this.editor.plan.mask));
    this.#fill($("#candidates"), several ? proposal.candidates : [], part, (key, at) => ({
      role: "radio",
      "aria-checked": at === proposal.chosen,
      "aria-label": `Candidate ${at + 1}`,
      title: `Candidate ${at + 1} (${at + 1})`,
      tabIndex: at === proposal.chosen ? 0 : -1,
      onclick: () => this.editor.choose(at),
    }));
    const { rounds } = work;
    const now = rounds.findIndex(({ photo }) => photo === work.state.photo);
    const whole = (key) => this.#small(key, this.#wholes);
    this.#fill($("#rounds"), rounds.length > 1 ? rounds.map(({ photo }) => photo) : [], whole, (key, at) => ({
      "aria-current": at === now,
      "aria-label": at ? `Round ${at}` : "The photo as opened",
      title: at ? `Round ${at}` : "The photo as opened",
      className: at > now ? "thumb later" : "thumb",
      onclick: () => this.editor.goTo(rounds[at].index),
    }));
  }

  #fill(place, keys, small, properties) {
    const name = keys.join();
    if (place.dataset.keys !== name) {
      place.dataset.keys = name;
      place.replaceChildren(
        ...keys.map((key) => {
          const button = element("button", { type: "button", className: "thumb" });
          small(key).then((blob) => button.append(picture(blob, { alt: "" })), () => {});
          return place.tagName === "OL" ? element("li", {}, button) : button;
        }),
      );
    }
    place.querySelectorAll("button").forEach((button, at) => {
      for (const [key, value] of Object.entries(properties(keys[at], at))) {
        if (key.includes("-") || key === "role") button.setAttribute(key, value);
        else button[key] = value;
      }
    });
  }

  #small(key, made, part) {
    const blob = this.editor.work.photos.get(key);
    if (!made.has(blob)) {
      const read = bitmaps.stored(key) ? Promise.resolve(bitmaps.stored(key)) : this.files.read(blob, key);
      const shares = part?.();
      made.set(blob, read.then((bitmap) => bitmaps.thumbnail(bitmap, THUMB, shares)));
    }
    return made.get(blob);
  }
}

/** What a mask holds, as shares of the photo. */
function partOf(mask) {
  const [x0, y0, x1, y1] = boundingBox(mask);
  return [x0 / mask.width, y0 / mask.height, x1 / mask.width, y1 / mask.height];
}
