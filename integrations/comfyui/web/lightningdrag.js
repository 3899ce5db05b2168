// Draws the drags inside the LightningDrag node: press and pull; right-click removes; Shift-click pins.
// The image is the one that came in when the node ran last, or the preview of the node it comes from.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NEAR = 10; // screen pixels around an end that take hold of it

app.registerExtension({
  name: "lightningdrag",
  async beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "LightningDrag") return;
    const { onNodeCreated, onExecuted, onConnectionsChange } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (...values) {
      onNodeCreated?.apply(this, values);
      this.board = new Board(this);
    };
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.call(this, output);
      const [source] = output?.drag_source ?? [];
      if (source) this.board.load(api.apiURL(`/view?${new URLSearchParams(source)}`));
    };
    nodeType.prototype.onConnectionsChange = function (...values) {
      onConnectionsChange?.apply(this, values);
      this.board?.borrow();
    };
  },
});

class Board {
  constructor(node) {
    this.node = node;
    this.text = node.widgets.find(({ name }) => name === "drags");
    this.canvas = document.createElement("canvas");
    this.canvas.style.width = "100%";
    this.held = null; // [index of the drag, 0 handle or 1 target]
    node.addDOMWidget("board", "canvas", this.canvas, { serialize: false, hideOnZoom: false });
    const written = this.text.callback;
    this.text.callback = (...values) => {
      written?.apply(this.text, values);
      this.draw();
    };
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.pull(event));
    this.canvas.addEventListener("pointerup", () => (this.held = null));
    this.canvas.addEventListener("contextmenu", (event) => this.remove(event));
    node.setSize([Math.max(node.size[0], 380), Math.max(node.size[1], 480)]);
    this.draw();
  }

  get drags() {
    try {
      return JSON.parse(this.text.value);
    } catch {
      return [];
    }
  }

  set drags(drags) {
    this.text.value = JSON.stringify(drags.map((pair) => pair.map((point) => point.map(Math.round))));
    this.node.graph?.setDirtyCanvas(true);
    this.draw();
  }

  load(address) {
    const image = new Image();
    image.onload = () => {
      this.image = image;
      this.draw();
    };
    image.src = address;
  }

  /** Before the first run: the picture that the node before shows. */
  borrow() {
    const origin = this.node.getInputNode?.(0);
    if (!this.image && origin?.imgs?.length) this.load(origin.imgs[0].src);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale - 0.5, (event.clientY - box.top) * scale - 0.5];
  }

  /** The nearest point to the pointer that lies on the image. */
  inside(event) {
    const { width, height } = this.canvas;
    const [x, y] = this.point(event);
    return [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
  }

  /** The end under the pointer, or null. */
  hit(event) {
    const [x, y] = this.point(event);
    const near = (NEAR * this.canvas.width) / this.canvas.getBoundingClientRect().width;
    for (const [index, pair] of this.drags.entries()) {
      for (const end of [1, 0]) {
        if (Math.hypot(pair[end][0] - x, pair[end][1] - y) <= near) return [index, end];
      }
    }
    return null;
  }

  press(event) {
    this.borrow();
    if (event.button !== 0 || !this.image) return;
    event.stopPropagation();
    this.canvas.setPointerCapture(event.pointerId);
    this.held = this.hit(event);
    if (this.held) return;
    const point = this.inside(event);
    this.drags = [...this.drags, [point, point]];
    this.held = event.shiftKey ? null : [this.drags.length - 1, 1];
  }

  pull(event) {
    if (!this.held) return;
    event.stopPropagation();
    const [index, end] = this.held;
    const drags = this.drags;
    drags[index][end] = this.inside(event);
    this.drags = drags;
  }

  remove(event) {
    event.preventDefault();
    event.stopPropagation();
    const touched = this.hit(event);
    if (touched) this.drags = this.drags.filter((_, index) => index !== touched[0]);
  }

  draw() {
    const { canvas, image } = this;
    const context = canvas.getContext("2d");
    canvas.width = image?.naturalWidth ?? 380;
    canvas.height = image?.naturalHeight ?? 240;
    const unit = canvas.width / Math.max(1, canvas.clientWidth || 380);
    if (!image) {
      context.fillStyle = "#888";
      context.font = "14px sans-serif";
      context.fillText("Run once, then pull on the image here.", 20, 120);
      return;
    }
    context.drawImage(image, 0, 0);
    context.lineWidth = 2.5 * unit;
    for (const [handle, target] of this.drags) {
      context.strokeStyle = "#fff";
      context.beginPath();
      context.moveTo(...handle);
      context.lineTo(...target);
      context.stroke();
      const pinned = handle[0] === target[0] && handle[1] === target[1];
      for (const [[x, y], colour] of [[handle, pinned ? "#ffc53d" : "#ff4757"], ...(pinned ? [] : [[target, "#2f80ff"]])]) {
        context.beginPath();
        context.arc(x, y, 5 * unit, 0, 2 * Math.PI);
        context.fillStyle = colour;
        context.fill();
        context.stroke();
      }
    }
  }
}
