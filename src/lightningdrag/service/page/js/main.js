// Puts the editor together.

import { showBars } from "./bars.js";
import { Client } from "./client.js";
import { $ } from "./dom.js";
import { Editor } from "./editor.js";
import { Files } from "./files.js";
import { Following } from "./following.js";
import { Keeping } from "./keeping.js";
import { listenToKeys } from "./keyboard.js";
import { askToken, Panels } from "./panels.js";
import { listen } from "./pointer.js";
import { Runner } from "./runner.js";
import { Saving } from "./saving.js";
import { Scene } from "./scene.js";
import { showExamples, showRecent } from "./start.js";
import { Toasts } from "./toasts.js";

const LOADING_CHECK = 1500;

const toasts = new Toasts($("#toasts"));
const client = new Client(askToken);
const editor = new Editor(client);
const canvas = $("#canvas");
const app = { editor, client, toasts, scene: new Scene(editor, toasts, $("#photo"), canvas, freeRoom) };
app.zoom = (factor) => {
  editor.view.zoom(factor, innerWidth / 2, innerHeight / 2);
  editor.changed("look");
};
app.panels = new Panels(editor);
app.runner = new Runner(editor, toasts, (key, blob) => app.scene.ready(key, blob));
app.saving = new Saving(app);
app.keeping = new Keeping(editor, toasts);
app.following = new Following(editor);
app.files = new Files(app, $("#file"));
editor.read = (blob, key) => app.files.read(blob, key);
showBars(app);
listen(canvas, editor, app.scene);
listenToKeys(canvas, app, (text) => ($("#said").textContent = text));
editor.addEventListener("change", ({ detail }) => {
  if (detail !== "opened") return;
  if (editor.work) canvas.focus({ preventScroll: true });
  else {
    showRecent(app);
    $("#start .primary").focus({ preventScroll: true });
  }
});
window.lightningdrag = app; // for the browser tests and the curious

await app.keeping.restore();
if (!editor.work) showRecent(app);
learnModels().catch((error) => toasts.error(error));
showExamples(app).catch(() => {}); // the page works without

/** What the bars leave of the window to the photo. */
function freeRoom() {
  const narrow = innerWidth <= 720;
  return narrow
    ? { left: 8, top: 124, right: innerWidth - 8, bottom: innerHeight - 136 }
    : { left: 76, top: 76, right: innerWidth - 76, bottom: innerHeight - 84 };
}

async function learnModels() {
  const models = await client.json("/api/v1/models");
  editor.set({ models });
  app.panels.offer(models);
  if (!models.ready) setTimeout(() => learnModels().catch(() => {}), LOADING_CHECK);
}
