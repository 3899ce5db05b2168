// Keys: every command, and a cross on the canvas that does with arrows and Space what a mouse does.

import { COMMANDS, keyOf } from "./commands.js";
import { within } from "./view.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @param {(text: string) => void} say tells a screen reader */
export function listenToKeys(canvas, app, say) {
  const { editor, scene } = app;
  const held = new Map(); // event.code -> command that acts while its key is down
  let spaceUsed = false;

  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab" || event.key === " " || event.key in ARROWS) canvas.classList.remove("pointed");
    if (event.defaultPrevented || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && document.querySelector(":popover-open")) return; // the browser closes it
    const onCanvas = event.target === canvas;
    if (event.key === " " && (onCanvas || event.target === document.body)) {
      event.preventDefault();
      editor.spaceHeld = true;
      spaceUsed ||= event.repeat;
      return;
    }
    if (onCanvas && editor.work && event.key in ARROWS) {
      event.preventDefault();
      step(ARROWS[event.key], event);
      return;
    }
    if (/^(Enter| )$/.test(event.key) && event.target.closest("button, a, summary, select, [role=radio]")) return;
    const digit = /^[1-9]$/.test(event.key) && editor.mode === "result" && !event.ctrlKey;
    const key = keyOf(event);
    const command = COMMANDS.find(({ keys, can }) => keys.includes(key) && (can?.(app) ?? true));
    if (digit) editor.choose(Number(event.key) - 1);
    else if (command && !(event.repeat && command.release)) {
      if (command.name === "copy" && String(getSelection())) return;
      command.run(app);
      if (command.release) held.set(event.code, command);
    } else return;
    event.preventDefault();
  });

  document.addEventListener("keyup", (event) => {
    held.get(event.code)?.release(app);
    held.delete(event.code);
    if (event.key !== " " || !editor.spaceHeld) return;
    editor.spaceHeld = false;
    if (event.target === canvas && !spaceUsed) press();
    spaceUsed = false;
  });

  window.addEventListener("blur", () => {
    for (const command of held.values()) command.release(app);
    held.clear();
    editor.spaceHeld = false;
  });
  canvas.addEventListener("pointerdown", () => (spaceUsed = true));
  canvas.addEventListener("blur", () => {
    scene.cursor.key = null;
    scene.ask();
  });

  /** An arrow key moves what is selected, or else the cross: one screen pixel with Alt, many with Shift. */
  function step([dx, dy], event) {
    const pixels = (event.altKey ? 1 : event.shiftKey ? 40 : 8) / editor.view.scale;
    if (editor.mode === "edit" && editor.selected) {
      const { index, end } = editor.selected;
      const [x, y] = editor.state.drags[index][end];
      if (!event.repeat) editor.lift();
      editor.moveEnd([x + dx * pixels, y + dy * pixels]);
      say(describe(editor.state.drags[index], end));
      return;
    }
    const [x, y] = scene.cursor.key ?? [editor.work.width / 2, editor.work.height / 2];
    scene.cursor.key = within(editor.work, [x + dx * pixels, y + dy * pixels]);
    say(`${scene.cursor.key.map(Math.round).join(", ")}`);
    scene.ask();
  }

  /** Space does at the cross what a press does there; once more, it lets go. */
  function press() {
    if (!editor.work || editor.mode === "running") return;
    if (editor.selected) {
      scene.cursor.key = editor.state.drags[editor.selected.index].target;
      editor.set({ selected: null });
      say("Let go.");
      return;
    }
    const at = (scene.cursor.key ??= [editor.work.width / 2, editor.work.height / 2]);
    if (editor.tool === "brush" || editor.tool === "eraser") {
      editor.stroke(at, at);
      editor.endStroke();
      say(editor.tool === "brush" ? "Painted." : "Erased.");
    } else if (editor.tool !== "hand") {
      editor.addDrag(at);
      if (editor.tool === "drag") editor.set({ selected: { ...editor.selected, end: "target" } });
      say(editor.tool === "pin" ? "Pinned." : "Taken hold. Arrows pull, Space lets go.");
    }
  }
}

function describe({ handle, target }, end) {
  const [dx, dy] = [target[0] - handle[0], target[1] - handle[1]].map(Math.round);
  const sideways = `${Math.abs(dx)} ${dx < 0 ? "left" : "right"}`;
  const upwards = `${Math.abs(dy)} ${dy < 0 ? "up" : "down"}`;
  return `${end} at ${(end === "handle" ? handle : target).map(Math.round).join(", ")}: ${sideways}, ${upwards}`;
}

const isTyping = (element) => Boolean(element.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select"));
