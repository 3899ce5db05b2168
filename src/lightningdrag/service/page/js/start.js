// The start page: what was left open, and examples.

import { $, element, icon, picture } from "./dom.js";
import { hold } from "./keeping.js";
import * as storage from "./storage.js";

export async function showRecent({ editor, keeping }) {
  await keeping.write(); // what was left just now is to be found here
  const records = await storage.list().catch(() => []);
  $("#recent").hidden = !records.length;
  $("#recent ul").replaceChildren(
    ...records.map(({ id, name, thumbnail }) => {
      const open = element("button", { type: "button", className: "card" });
      if (thumbnail) open.append(picture(thumbnail, { alt: "" }));
      open.append(name);
      open.addEventListener("click", async () => editor.restore(id, await hold(id)));
      const forget = element("button", { type: "button", className: "forget", "aria-label": `Forget ${name}` }, icon("close"));
      forget.addEventListener("click", async () => {
        await keeping.forget(id);
        showRecent({ editor, keeping });
      });
      return element("li", {}, open, forget);
    }),
  );
}

export async function showExamples({ client, files, toasts }) {
  const { examples } = await client.json("/api/v1/examples");
  $("#examples").hidden = !examples.length;
  for (const example of examples) {
    const open = element("button", { type: "button", className: "card", title: example.credit }, example.title);
    open.addEventListener("click", () => files.example(example).catch((error) => toasts.error(error)));
    $("#examples ul").append(element("li", {}, open));
    const blob = await client.blob(example.photo);
    open.prepend(picture(blob, { alt: "" }));
  }
}
