// The settings, the help sheet, and the question for the token.

import { COMMANDS } from "./commands.js";
import { $, element } from "./dom.js";
import { DEFAULTS, loadSettings, saveSettings } from "./settings.js";

const THEME = "lightningdrag.theme";

export class Panels {
  constructor(editor) {
    this.editor = editor;
    this.form = $("#settings");
    fillHelp($("#keys"));
    this.form.addEventListener("input", ({ target }) => this.#read(target));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", (event) => {
      event.preventDefault();
      saveSettings(DEFAULTS);
      this.editor.resetSettings();
    });
    $("#lock-seed").addEventListener("click", () => this.#lockSeed());
    editor.addEventListener("change", () => this.#write());
    followTheme(this.form.elements.theme);
    this.#write();
  }

  toggle(name) {
    const panel = $(`#${name}`);
    if (panel.tagName === "DIALOG") panel.showModal();
    else panel.togglePopover();
  }

  /** What the server offers; a model of another time that it lacks is forgotten. */
  offer({ models }) {
    const { model } = this.editor.settings;
    if (model && !models.some(({ name }) => name === model)) this.#choose({ model: "" });
    const options = models.map(({ name }, at) => element("option", { value: at ? name : "" }, name));
    this.form.elements.model.replaceChildren(...options);
    this.#write();
  }

  #read({ name, type, value, validity }) {
    if (!(name in DEFAULTS) || !validity.valid) return;
    this.#choose({ [name]: type !== "number" ? value : value === "" ? null : Number(value) });
  }

  /** What the person chose is kept for other photos; what came with a saved edit is not. */
  #choose(chosen) {
    saveSettings({ ...loadSettings(), ...chosen });
    this.editor.setOptions(chosen);
  }

  #write() {
    const { elements } = this.form;
    const { settings, models, state } = this.editor;
    for (const [name, value] of Object.entries(settings)) {
      if (elements[name] && elements[name] !== document.activeElement) elements[name].value = value ?? "";
    }
    const model = models.models.find(({ name }) => name === settings.model) ?? models.models[0];
    if (elements.model.selectedIndex < 0) elements.model.value = "";
    $("#model-note").textContent = model ? `${model.summary}. ${model.licence}.` : "";
    elements.steps.placeholder = model?.steps ? `${model.steps}` : "automatic";
    elements.guidance.closest("label").hidden = [0, 1].includes(model?.guidance) && settings.guidance === null; // of no use
    elements.guidance.placeholder = model?.guidance ? `${model.guidance}` : "automatic";
    $("#lock-seed").hidden = state?.proposal?.request.options?.seed === undefined;
  }

  #lockSeed() {
    this.#choose({ seed: this.editor.state.proposal.request.options.seed });
  }
}

/** @returns {Promise<string>} the token that the person gives */
export function askToken(wasWrong) {
  const dialog = $("#token");
  if (wasWrong) $("#token-note").textContent = "That token is not the server's. Try again.";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.querySelector("input").value.trim()), { once: true });
  });
}

function fillHelp(place) {
  for (const group of new Set(COMMANDS.map(({ group }) => group))) {
    const rows = COMMANDS.filter((command) => command.group === group && command.keys.length).map(({ title, keys }) =>
      element("div", {}, element("span", {}, title), element("span", {}, ...keys.map((key) => element("kbd", {}, key)))),
    );
    place.append(element("section", {}, element("h3", {}, group), ...rows));
  }
}

function followTheme(choice) {
  const light = matchMedia("(prefers-color-scheme: light)");
  choice.value = localStorage.getItem(THEME) ?? "";
  const apply = () => {
    document.documentElement.dataset.theme = choice.value || (light.matches ? "light" : "dark");
  };
  choice.addEventListener("change", () => {
    localStorage.setItem(THEME, choice.value);
    apply();
  });
  light.addEventListener("change", apply);
  apply();
}
