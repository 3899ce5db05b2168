// Every command once: what it is called, its keys, when it can be used. Buttons, keys and help read this.

import { resized } from "./pointer.js";
import { MOST } from "./runner.js";

const tool = (name, title, key) => ({
  name,
  title,
  keys: [key],
  group: "Tools",
  run: ({ editor }) => editor.set({ tool: name }),
  on: ({ editor }) => editor.tool === name,
});

const hasWork = ({ editor }) => editor.mode !== "empty";
const editing = ({ editor }) => editor.mode === "edit";
const showing = ({ editor }) => editor.mode === "result";

/**
 * `can`: when it may be used, always by default; `on`: whether its button is pressed; `release`: when its key is let go.
 * Of several commands on one key, the first that can is run.
 */
export const COMMANDS = [
  tool("drag", "Drag: press and pull", "D"),
  tool("pin", "Pin: a point that stays", "P"),
  tool("brush", "Brush: may change", "B"),
  tool("eraser", "Eraser: must stay", "E"),
  tool("hand", "Hand: move the view", "H"),

  { name: "run", title: "Run", keys: ["Enter"], group: "Edit",
    can: ({ editor }) => editing({ editor }) && editor.state.drags.length > 0, run: ({ runner }) => runner.run() },
  { name: "keep", title: "Keep the result and go on from it", keys: ["Enter"], group: "Edit",
    can: showing, run: ({ editor }) => editor.keep() },
  { name: "more", title: "More candidates: other readings of the drags, other fills", keys: ["R"], group: "Edit",
    can: ({ editor }) => showing({ editor }) && editor.state.proposal.candidates.length < MOST,
    run: ({ runner }) => runner.more() },
  { name: "adjust", title: "Back from the result to its drags", keys: ["Escape"], group: "Edit",
    can: showing, run: ({ editor }) => editor.adjust() },
  { name: "cancel", title: "Cancel the run", keys: ["Escape"], group: "Edit",
    can: ({ editor }) => editor.mode === "running", run: ({ editor }) => editor.cancel() },
  { name: "deselect", title: "Select nothing", keys: ["Escape"], group: "Points",
    can: ({ editor }) => editing({ editor }) && editor.selected !== null,
    run: ({ editor }) => editor.set({ selected: null }) },
  { name: "undo", title: "Undo", keys: ["Ctrl+Z"], group: "Edit",
    can: ({ editor }) => hasWork({ editor }) && editor.work.index > 0, run: ({ editor }) => editor.undo() },
  { name: "redo", title: "Redo", keys: ["Ctrl+Shift+Z", "Ctrl+Y"], group: "Edit",
    can: ({ editor }) => hasWork({ editor }) && editor.work.index < editor.work.states.length - 1,
    run: ({ editor }) => editor.redo() },

  { name: "next", title: "Select the next point", keys: ["N"], group: "Points",
    can: editing, run: ({ editor }) => editor.selectNext(1) },
  { name: "previous", title: "Select the point before", keys: ["Shift+N"], group: "Points",
    can: editing, run: ({ editor }) => editor.selectNext(-1) },
  { name: "remove", title: "Remove the selected drag or pin", keys: ["Delete", "Backspace"], group: "Points",
    can: ({ editor }) => editing({ editor }) && editor.selected !== null,
    run: ({ editor }) => editor.remove(editor.selected.index) },
  { name: "removeAll", title: "Remove all drags and the drawn mask", keys: ["Shift+Delete"], group: "Points",
    can: ({ editor }) => editing({ editor }) && (editor.state.drags.length > 0 || editor.state.mask !== null),
    run: ({ editor }) => editor.removeAll() },

  { name: "smaller", title: "Smaller brush (or the wheel)", keys: ["["], group: "Mask",
    can: hasWork, run: ({ editor }) => editor.set({ brush: resized(editor.brush, 0.85) }) },
  { name: "larger", title: "Larger brush (or the wheel)", keys: ["]"], group: "Mask",
    can: hasWork, run: ({ editor }) => editor.set({ brush: resized(editor.brush, 1 / 0.85) }) },
  { name: "invert", title: "Invert the mask", keys: ["I"], group: "Mask",
    can: editing, run: ({ editor }) => editor.invertMask() },
  { name: "clearMask", title: "Back to the automatic mask", keys: ["X"], group: "Mask",
    can: ({ editor }) => editing({ editor }) && editor.state.mask !== null, run: ({ editor }) => editor.clearMask() },
  { name: "mask", title: "Show or hide the mask", keys: ["M"], group: "Mask",
    can: hasWork, run: ({ editor }) => editor.set({ showMask: !editor.showMask }), on: ({ editor }) => editor.showMask },

  { name: "before", title: "The photo as it was, while held", keys: ["C"], group: "View",
    can: hasWork, run: ({ editor }) => editor.set({ before: true }), release: ({ editor }) => editor.set({ before: false }) },
  { name: "compare", title: "Slider between before and after", keys: ["S"], group: "View", can: showing,
    run: ({ editor }) => editor.set({ divide: editor.divide === null ? 0.5 : null }),
    on: ({ editor }) => editor.divide !== null },
  { name: "zoomIn", title: "Zoom in (or the wheel)", keys: ["+", "="], group: "View",
    can: hasWork, run: ({ zoom }) => zoom(1.25) },
  { name: "zoomOut", title: "Zoom out", keys: ["-"], group: "View", can: hasWork, run: ({ zoom }) => zoom(0.8) },
  { name: "fit", title: "Fit the photo", keys: ["F", "0"], group: "View", can: hasWork,
    run: ({ editor }) => { editor.view.fitted = true; editor.changed("look"); } },
  { name: "actual", title: "One photo pixel to one of the screen", keys: ["Z"], group: "View", can: hasWork,
    run: ({ editor, zoom, scene }) => zoom(1 / scene.ratio / editor.view.scale) },

  { name: "open", title: "Open a photo or a saved edit", keys: ["Ctrl+O"], group: "Files", run: ({ files }) => files.ask() },
  { name: "close", title: "Start page", keys: [], group: "Files", can: hasWork, run: ({ editor }) => editor.close() },
  { name: "save", title: "Save as PNG", keys: ["Ctrl+S"], group: "Files", can: hasWork, run: ({ saving }) => saving.image("png") },
  { name: "saveJpeg", title: "Save as JPEG", keys: [], group: "Files", can: hasWork, run: ({ saving }) => saving.image("jpeg") },
  { name: "saveWebp", title: "Save as WebP", keys: [], group: "Files", can: hasWork, run: ({ saving }) => saving.image("webp") },
  { name: "copy", title: "Copy the picture", keys: ["Ctrl+C"], group: "Files", can: hasWork, run: ({ saving }) => saving.copy() },
  { name: "saveRequest", title: "Save the edit as JSON", keys: ["Ctrl+Shift+S"], group: "Files", can: hasWork,
    run: ({ saving }) => saving.request() },
  { name: "copyRequest", title: "Copy the edit as JSON", keys: [], group: "Files", can: hasWork,
    run: ({ saving }) => saving.copyRequest() },
  { name: "animateWebp", title: "Save the drag as animated WebP", keys: [], group: "Files",
    can: ({ editor }) => hasWork({ editor }) && editor.mode !== "running", run: ({ saving }) => saving.animation("webp") },
  { name: "animateMp4", title: "Save the drag as MP4", keys: [], group: "Files",
    can: ({ editor }) => hasWork({ editor }) && editor.mode !== "running" && editor.models.animations.includes("mp4"),
    run: ({ saving }) => saving.animation("mp4") },
  { name: "settings", title: "Settings", keys: [","], group: "Files", run: ({ panels }) => panels.toggle("settings") },
  { name: "help", title: "Keys and help", keys: ["?"], group: "Files", run: ({ panels }) => panels.toggle("help") },
];

/** The key combination of an event as COMMANDS writes it. */
export function keyOf(event) {
  const name = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const shift = event.shiftKey && (name.length > 1 || /[A-Z]/.test(name)) ? "Shift+" : "";
  return control + shift + name;
}
