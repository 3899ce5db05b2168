// Short messages that go by themselves, and errors that stay until they are read.

import { Offline } from "./client.js";
import { element, icon } from "./dom.js";

const SHOWN = 6000;

const PLAIN = {
  memory: "The server ran out of memory. Try fewer candidates, a smaller mask, or a smaller photo.",
  storage: "The server's disk is full. Your work is kept here; try again later.",
  worker: "The server's worker stopped in the middle and was started again. Run it once more.",
  internal: "Something went wrong on the server. Your work is kept here; try once more.",
  "not-ready": "The server is not ready.",
};

const MOST = 3; // at a time

export class Toasts {
  constructor(place) {
    this.place = place;
  }

  show(text, isError = false) {
    if ([...this.place.children].some((toast) => toast.textContent === text)) return;
    const close = element("button", { className: "tool", type: "button", "aria-label": "Dismiss" }, icon("close"));
    const toast = element("div", { className: isError ? "toast error" : "toast" }, element("p", {}, text), close);
    close.addEventListener("click", () => toast.remove());
    while (this.place.children.length >= MOST) this.place.firstElementChild.remove();
    this.place.append(toast);
    if (!isError) setTimeout(() => toast.remove(), SHOWN);
  }

  /** What was said of what is no more on view. */
  clear() {
    this.place.replaceChildren();
  }

  /** What went wrong, in plain words. */
  error(error) {
    if (error.name === "AbortError") return;
    const offline = error instanceof Offline && "The server does not answer. Your work is kept here.";
    const plain = PLAIN[error.type];
    const detail = error.type === "not-ready" ? `${plain} ${error.message}` : plain;
    this.show(offline || detail || error.message, true);
    if (!error.type && !offline) console.error(error);
  }
}
