// Arrows, handles and cursors over the photo, on a 2D canvas. Screen pixels.

import { isPin } from "./mask.js";

const RED = "#ff4757";
const BLUE = "#2f80ff";
const PIN = "#ffc53d";

/** Draw all that lies over the photo. */
export function drawOverlay(context, editor, cursor) {
  const { canvas } = context;
  const ratio = canvas.width / canvas.clientWidth || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  context.fillStyle = "rgb(0 0 0 / 1%)"; // Chromium may go on showing the last frame where one is all clear
  context.fillRect(0, 0, 1, 1);
  if (!editor.work) return;
  const { state, view, selected } = editor;
  if (!state.proposal && !editor.before) {
    state.drags.forEach((drag, index) => {
      const end = selected?.index === index ? selected.end : null;
      drawDrag(context, view.toScreen(drag.handle), view.toScreen(drag.target), isPin(drag), end);
    });
  }
  if (editor.divide !== null && editor.mode === "result") drawDivide(context, editor);
  if (cursor.brush) drawBrush(context, cursor.brush, editor.brush / 2);
  if (cursor.key) drawCross(context, view.toScreen(cursor.key));
}

function drawDrag(context, [hx, hy], [tx, ty], pinned, selectedEnd) {
  if (pinned) {
    ring(context, hx, hy, 9, PIN, selectedEnd !== null);
    disc(context, hx, hy, 3.5, PIN);
    return;
  }
  const length = Math.hypot(tx - hx, ty - hy);
  if (length > 20) {
    const [ux, uy] = [(tx - hx) / length, (ty - hy) / length];
    const gap = selectedEnd === "target" ? 14 : 10;
    const tip = [tx - ux * gap, ty - uy * gap];
    const shaft = () => {
      context.beginPath();
      context.moveTo(hx + ux * 7, hy + uy * 7);
      context.lineTo(tip[0] - ux * 8, tip[1] - uy * 8);
    };
    context.lineCap = "round";
    stroke(context, shaft, 5.5, "rgb(0 0 0 / 50%)");
    stroke(context, shaft, 3, "#fff");
    const head = () => {
      context.beginPath();
      context.moveTo(...tip);
      context.lineTo(tip[0] - ux * 13 - uy * 7, tip[1] - uy * 13 + ux * 7);
      context.lineTo(tip[0] - ux * 13 + uy * 7, tip[1] - uy * 13 - ux * 7);
      context.closePath();
    };
    context.lineJoin = "round";
    stroke(context, head, 3, "rgb(0 0 0 / 55%)");
    context.fillStyle = "#fff";
    context.fill();
  }
  disc(context, hx, hy, 6, RED);
  ring(context, tx, ty, 6, BLUE, false);
  if (selectedEnd === "handle") halo(context, hx, hy);
  if (selectedEnd === "target") halo(context, tx, ty);
}

function stroke(context, path, width, colour) {
  path();
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}

function disc(context, x, y, radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = "#fff";
  context.stroke();
  context.beginPath();
  context.arc(x, y, radius + 1.5, 0, 2 * Math.PI);
  context.lineWidth = 1;
  context.strokeStyle = "rgb(0 0 0 / 45%)";
  context.stroke();
}

function ring(context, x, y, radius, colour, selected) {
  const circle = () => {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
  };
  circle();
  context.fillStyle = "rgb(255 255 255 / 25%)";
  context.fill();
  stroke(context, circle, 5, "rgb(0 0 0 / 45%)");
  stroke(context, circle, 4, "#fff");
  stroke(context, circle, 2.5, colour);
  if (selected) halo(context, x, y);
}

function halo(context, x, y) {
  const circle = () => {
    context.beginPath();
    context.arc(x, y, 12, 0, 2 * Math.PI);
  };
  stroke(context, circle, 3.5, "rgb(0 0 0 / 40%)");
  stroke(context, circle, 2, "#fff");
}

function drawBrush(context, [x, y], radius) {
  const circle = () => {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
  };
  stroke(context, circle, 3, "rgb(0 0 0 / 50%)");
  stroke(context, circle, 1.5, "#fff");
}

function drawCross(context, [x, y]) {
  const cross = () => {
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 4 * dx, y + 4 * dy);
      context.lineTo(x + 16 * dx, y + 16 * dy);
    }
  };
  stroke(context, cross, 4, "rgb(0 0 0 / 60%)");
  stroke(context, cross, 2, "#fff");
}

function drawDivide(context, { view, work, divide }) {
  const x = view.x + work.width * view.scale * divide;
  const top = Math.max(view.y, 0);
  const bottom = Math.min(view.y + work.height * view.scale, context.canvas.clientHeight);
  const line = () => {
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
  };
  stroke(context, line, 4, "rgb(0 0 0 / 35%)");
  stroke(context, line, 2, "#fff");
  const y = (top + bottom) / 2;
  context.beginPath();
  context.arc(x, y, 15, 0, 2 * Math.PI);
  context.fillStyle = "#fff";
  context.fill();
  const arrows = () => {
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(x + 4 * side, y - 4.5);
      context.lineTo(x + 8.5 * side, y);
      context.lineTo(x + 4 * side, y + 4.5);
    }
  };
  stroke(context, arrows, 2, "#23252b");
}
