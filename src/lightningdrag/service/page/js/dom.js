// Elements from scripts; no HTML from strings.

export const $ = (selector, parent = document) => parent.querySelector(selector);

/** @param {Record<string, any>} properties set on the element; names with a dash become attributes */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.classList.add("icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Draw a small picture of a Blob into an <img>; its address is freed once it has been read. */
export function picture(blob, properties = {}) {
  const address = URL.createObjectURL(blob);
  const image = element("img", { ...properties, src: address });
  image.decode().catch(() => {}).then(() => URL.revokeObjectURL(address));
  return image;
}
