// Small helpers for the document.

export const $ = (selector) => document.querySelector(selector);

/** An element with attributes, listeners (`onclick`), and children. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Puts children into an element in place of those that it has; null is none. */
export const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child != null));

/** Says something in the line below the header, which screen readers read out. */
export function say(text, bad = false) {
  const line = $("#status");
  line.textContent = text;
  line.classList.toggle("bad", bad);
}

export function sayError(problem) {
  if (problem.name === "AbortError") return;
  say(problem.hint ? `${sentence(problem.message)} ${problem.hint}` : sentence(problem.message), true);
}

export const sentence = (text) => {
  const isName = /^\S*[.\/]\S/.test(text); // of a file: it stays as it is
  const first = isName ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
};

/** 63.25 → "1:03.2" */
export function clock(seconds) {
  const tenths = Math.floor(Math.max(seconds, 0) * 10 + 1e-6);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const NAMES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];

/** 69 → "A4" */
export const noteName = (midi) => `${NAMES[((Math.round(midi) % 12) + 12) % 12]}${Math.floor(Math.round(midi) / 12) - 1}`;

export const hzToMidi = (hz) => 69 + 12 * Math.log2(hz / 440);
export const midiToHz = (midi) => 440 * 2 ** ((midi - 69) / 12);
