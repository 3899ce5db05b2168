"use strict";

// Tables: a tap on a head sorts by that column, a second one turns the order round.
const number = (text) => {
  if (text.includes("∞")) return Infinity;
  const found = text.replace("−", "-").match(/[-+]?\d+(\.\d+)?/);
  return found ? parseFloat(found[0]) : NaN;
};
// What is no number comes last, whichever way.
const compareCells = (a, b, sign) => {
  const [x, y] = [number(a), number(b)];
  if (Number.isNaN(x) && Number.isNaN(y)) return a.localeCompare(b);
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return x === y ? 0 : x < y ? -sign : sign;
};
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const sign = head.ariaSort === "descending" ? 1 : -1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.ariaSort = sign < 0 ? "descending" : "ascending";
    const cell = (row) => row.cells[column].textContent.trim();
    const compare = column === 0 ? (a, b) => sign * a.localeCompare(b) : (a, b) => compareCells(a, b, sign);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(cell(a), cell(b))));
  }));
}

// Galleries: the slider between before and after, which method is shown, and the order.
for (const gallery of document.querySelectorAll(".gallery")) {
  const controls = gallery.querySelector(".controls");
  const list = gallery.querySelector(".edits");
  const values = new Map([...list.children].map((edit) => [edit, Object.fromEntries(
    edit.dataset.values.split(";").filter(Boolean).map((part) => {
      const at = part.lastIndexOf("=");
      return [part.slice(0, at), parseFloat(part.slice(at + 1))];
    }))]));
  list.addEventListener("input", (event) => {
    event.target.parentElement.style.setProperty("--cut", `${event.target.value}%`);
  });
  const show = () => {
    for (const image of list.querySelectorAll(".after")) image.hidden = image.dataset.method !== controls.method.value;
    gallery.classList.toggle("no-arrows", !controls.arrows.checked);
    if (!controls.key) return;
    const [key, sign] = [controls.key.value, Number(controls.order.value)];
    for (const figure of list.querySelectorAll("[data-extra]")) figure.hidden = figure.dataset.extra !== key;
    const last = -sign * Infinity;  // without this figure: at the end
    const place = (edit) => values.get(edit)[key] ?? -last;
    list.append(...[...list.children].sort((a, b) => {
      const [x, y] = [place(a), place(b)];
      return x === y ? 0 : sign * (x < y ? -1 : 1);
    }));
  };
  controls.addEventListener("change", show);
  show();
}
