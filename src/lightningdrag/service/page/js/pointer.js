// Mouse, pen and touch on the canvas: pulling, painting, panning, pinching, tap-hold.

import { isPin } from "./mask.js";

const HOLD = 550; // milliseconds of a tap that removes
const LEAST_PULL = 3; // screen pixels; less is a click
const STILL = 8; // screen pixels that a finger may tremble

export function listen(canvas, editor, scene) {
  const fingers = new Map(); // pointer id -> [x, y]
  let gesture = null; // {move(x, y), end() when let go, drop() when a second finger makes it a pinch}
  let hold = null;
  let mouse = null; // where it is over the canvas
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function begin(event, x, y) {
    const { tool, view } = editor;
    const byTouch = event.pointerType === "touch";
    const least = byTouch ? STILL : LEAST_PULL;
    if (event.button === 1 || tool === "hand" || editor.spaceHeld) return panning(x, y);
    if (editor.divide !== null && editor.mode === "result") return sliding(x);
    if (tool === "brush" || tool === "eraser") return stroking(x, y, byTouch);
    const touched = editor.state.proposal ? null : hit(editor, x, y, event.pointerType);
    const point = view.toPhoto(x, y);
    if (!touched && !inPhoto(editor.work, point)) return panning(x, y);
    if (touched) {
      if (byTouch) hold = setTimeout(() => removeHeld(touched.index), HOLD);
      return moving(x, y, touched, least);
    }
    if (tool === "drag") return pulling(x, y, least);
    return pinning(point);
  }

  /** A new drag, once it is more than a click. */
  function pulling(fromX, fromY, least) {
    const handle = editor.view.toPhoto(fromX, fromY);
    let mark = null;
    return {
      move(x, y) {
        const point = editor.view.toPhoto(x, y);
        if (mark) editor.moveEnd(point);
        else if (Math.hypot(x - fromX, y - fromY) >= least) {
          mark = editor.mark;
          editor.addDrag(handle, point);
        }
      },
      drop: () => mark && editor.returnTo(mark),
    };
  }

  /** A pin, set when it is let go: until then a second finger may land. */
  function pinning(point) {
    return { move() {}, end: () => editor.addDrag(point) };
  }

  /** An end of a drag, picked up where it was touched. */
  function moving(fromX, fromY, touched, least) {
    editor.set({ selected: touched });
    const [px, py] = editor.view.toScreen(editor.state.drags[touched.index][touched.end]);
    let mark = null;
    return {
      move(x, y) {
        const way = Math.hypot(x - fromX, y - fromY);
        if (way > STILL) clearTimeout(hold);
        if (!mark) {
          if (way < least) return;
          mark = editor.mark;
          editor.lift();
        }
        editor.moveEnd(editor.view.toPhoto(x + px - fromX, y + py - fromY));
      },
      drop: () => mark && editor.returnTo(mark),
    };
  }

  function panning(fromX, fromY) {
    return {
      move(x, y) {
        editor.view.pan(x - fromX, y - fromY);
        [fromX, fromY] = [x, y];
        editor.changed("look");
      },
    };
  }

  function sliding() {
    const move = (x) => {
      const share = (x - editor.view.x) / (editor.work.width * editor.view.scale);
      editor.set({ divide: Math.min(1, Math.max(0, share)) });
    };
    return { move };
  }

  /** A stroke; that of a finger begins when it moves or is let go, as a second one may land. */
  function stroking(x, y, byTouch) {
    let from = editor.view.toPhoto(x, y);
    let mark = null;
    const paint = (to) => {
      mark ??= editor.mark;
      editor.stroke(from, to);
      from = to;
    };
    if (!byTouch) paint(from);
    return {
      move(toX, toY) {
        if (mark || Math.hypot(toX - x, toY - y) >= STILL) paint(editor.view.toPhoto(toX, toY));
      },
      end() {
        if (!mark) paint(from);
        editor.endStroke();
      },
      drop: () => mark && editor.returnTo(mark),
    };
  }

  function removeHeld(index) {
    gesture?.drop?.();
    gesture = null;
    editor.remove(index);
    navigator.vibrate?.(15);
  }

  function stop() {
    clearTimeout(hold);
    gesture?.end?.();
    gesture = null;
  }

  function drop() {
    clearTimeout(hold);
    gesture?.drop?.();
    gesture = null;
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (!editor.work || event.button === 2) return;
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("pointed"); // no focus ring for the mouse
    scene.cursor.key = null;
    const [x, y] = place(event);
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 2) {
      drop();
      editor.changed();
    } else if (fingers.size === 1) gesture = begin(event, x, y);
  });

  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    mouse = event.pointerType === "touch" ? null : [x, y];
    if (fingers.size === 2 && fingers.has(event.pointerId)) pinch(event.pointerId, x, y);
    else if (fingers.has(event.pointerId)) gesture?.move(x, y);
    showCursor();
    if (scene.cursor.brush) scene.ask();
  });

  /** The cursor is that of the tool at once, not when the mouse is next moved. */
  function showCursor() {
    const paints = editor.work && (editor.tool === "brush" || editor.tool === "eraser");
    scene.cursor.brush = paints ? mouse : null;
    if (mouse && !fingers.size) canvas.style.cursor = cursorAt(editor, ...mouse);
  }
  editor.addEventListener("change", showCursor);

  function pinch(id, x, y) {
    const [other] = [...fingers].filter(([key]) => key !== id).map(([, point]) => point);
    const [oldX, oldY] = fingers.get(id);
    const factor = Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(oldX - other[0], oldY - other[1]));
    editor.view.pan((x - oldX) / 2, (y - oldY) / 2);
    editor.view.zoom(factor, (x + other[0]) / 2, (y + other[1]) / 2);
    fingers.set(id, [x, y]);
    editor.changed("look");
  }

  canvas.addEventListener("pointerup", (event) => {
    if (!fingers.delete(event.pointerId)) return;
    if (!fingers.size) stop();
    scene.ask();
  });

  canvas.addEventListener("pointercancel", (event) => {
    if (!fingers.delete(event.pointerId)) return;
    drop(); // a palm, or the system's own gesture: nobody meant it
    scene.ask();
  });

  canvas.addEventListener("pointerleave", () => {
    mouse = null;
    showCursor();
    scene.ask();
  });

  canvas.addEventListener("contextmenu", (event) => {
    event.preventDefault();
    if (editor.mode !== "edit") return;
    const touched = hit(editor, ...place(event), event.pointerType);
    if (touched && !gesture) editor.remove(touched.index);
  });

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (!editor.work) return;
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    const paints = editor.tool === "brush" || editor.tool === "eraser";
    if (paints && !event.ctrlKey) {
      editor.set({ brush: resized(editor.brush, Math.exp(-pixels / 400)) });
    } else if (event.shiftKey) {
      editor.view.pan(-(event.deltaX || pixels), 0);
      editor.changed("look");
    } else {
      editor.view.zoom(Math.exp(-pixels / (event.ctrlKey ? 120 : 400)), ...place(event));
      editor.changed("look");
    }
  }, { passive: false });
}

/** A brush made larger or smaller within reason. */
export const resized = (brush, factor) => Math.min(400, Math.max(4, brush * factor));

/** The end of a drag under a point of the screen: {index, end}, or null. The last drawn comes first. */
function hit(editor, x, y, pointerType) {
  const near = pointerType === "touch" ? 24 : 12;
  let best = null;
  let least = near;
  editor.state.drags.forEach((drag, index) => {
    for (const end of isPin(drag) ? ["handle"] : ["handle", "target"]) {
      const [px, py] = editor.view.toScreen(drag[end]);
      const away = Math.hypot(px - x, py - y);
      if (away <= least) [best, least] = [{ index, end }, away];
    }
  });
  return best;
}

function inPhoto({ width, height }, [x, y]) {
  return x >= -0.5 && y >= -0.5 && x <= width - 0.5 && y <= height - 0.5;
}

function cursorAt(editor, x, y) {
  if (!editor.work) return "default";
  if (editor.tool === "hand" || editor.spaceHeld) return "grab";
  if (editor.divide !== null && editor.mode === "result") return "ew-resize";
  if (editor.tool === "brush" || editor.tool === "eraser") return "none";
  if (editor.mode === "edit" && hit(editor, x, y)) return "move";
  return inPhoto(editor.work, editor.view.toPhoto(x, y)) ? "crosshair" : "grab";
}
