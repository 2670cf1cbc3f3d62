
// Elements made from text alone: nothing a model or a question says is ever read as HTML.
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
};
const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (value) => (value * 100).toFixed(value > 0.995 || value < 0.005 ? 1 : 0) + " %";
const plural = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");
// A tick near the end keeps its notch and leaves its label out, where the label would not fit: place in percent.
const tickClass = (place) => "tick" + (place > 88 ? " narrow" : "") + (place > 94 ? " bare" : "");
