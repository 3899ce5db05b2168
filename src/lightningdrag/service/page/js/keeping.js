// Keeps the work in the browser as it changes, one work for each tab, and finds it again after a reload.

import * as bitmaps from "./bitmaps.js";
import * as storage from "./storage.js";

const TAB = "lightningdrag.work";
const PAUSE = 400;

export async function keepWork(editor, toasts) {
  let timer = null;
  let told = false;
  const write = async () => {
    const { work } = editor;
    if (!work) return;
    const bitmap = bitmaps.stored(work.state.photo);
    const thumbnail = bitmap ? await bitmaps.thumbnail(bitmap, 120) : undefined;
    try {
      await storage.keep(work, thumbnail);
    } catch {
      if (!told) toasts.show("This browser keeps nothing for this page: save your work before you close it.", true);
      told = true;
    }
  };
  editor.addEventListener("change", ({ detail }) => {
    if (detail === "look") return;
    if (editor.work) sessionStorage.setItem(TAB, editor.work.id);
    else sessionStorage.removeItem(TAB);
    if (detail === "opened") hold(editor.work?.id);
    clearTimeout(timer);
    timer = setTimeout(write, PAUSE);
  });
  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && write());
  const left = sessionStorage.getItem(TAB);
  if (left) await editor.restore(left, await hold(left)).catch(() => {});
}

let held = { id: undefined, release: () => {} };

/**
 * Make a work this tab's own, in the place of the one before.
 * @returns {Promise<boolean>} false if another tab is on it; this one may begin a copy
 */
export async function hold(id) {
  if (held.id === id) return true;
  held.release();
  held = { id: undefined, release: () => {} };
  if (!id || !navigator.locks) return true;
  return new Promise((resolve) => {
    navigator.locks.request(`work-${id}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise((release) => (held = { id, release })); // until the tab closes or goes on to another
    });
  });
}
