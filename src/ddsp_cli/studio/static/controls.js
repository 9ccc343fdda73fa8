// Settings: sliders that act at once, undo, presets, and the command that gives the same file.

import { $, el, say, sayError } from "./dom.js";
import * as api from "./api.js";

const signed = (value) => (value > 0 ? `+${value}` : `${value}`);
const percent = (value) => `${Math.round(100 * value)} %`;
const semitones = (value) => `${signed(value)} semitones`;

/** Name, label, and either a range [low, high, step] or words to choose from; how a value is shown. */
const CONTROLS = [
  { name: "transpose", label: "Octave", choose: [["auto", "Automatic"], ...[24, 12, 7, 5, 0, -5, -7, -12, -24].map((n) => [n, n ? semitones(n) : "As sung"])] },
  { name: "dynamics", label: "Dynamics", range: [0, 1, 0.05], show: (v) => (v === 0 ? "yours" : v === 1 ? "the instrument's" : percent(v)) },
  { name: "loudness", label: "Level", range: [-20, 20, 0.5], show: (v) => `${signed(v)} dB` },
  { name: "autotune", label: "Autotune", range: [0, 1, 0.05], show: (v) => (v === 0 ? "off" : percent(v)) },
  { name: "key", label: "Key", choose: "keys" },
  { name: "vibrato", label: "Vibrato", choose: [["auto", "As the instrument has it"], [1, "As sung"], [0, "None"], [0.5, "Half"], [1.5, "× 1.5"], [2, "× 2"], [3, "× 3"]] },
  { name: "glide", label: "Glide", range: [0, 1, 0.02], show: (v) => `${Math.round(1000 * v)} ms` },
  { name: "formant", label: "Formant", range: [-12, 12, 0.5], show: semitones },
  { name: "voices", label: "Notes", choose: [["auto", "Automatic"], ["chords", "All, also chords"], ["lead", "One line"]] },
  { name: "ensemble", label: "Players", choose: [[1, "One"], ...[2, 3, 4, 6, 8, 12].map((n) => [n, `${n}, in stereo`])] },
  { name: "threshold", label: "Silent below", range: [10, 60, 1], show: (v) => `−${v} dB` },
  { name: "room", label: "Room", choose: "rooms" },
  { name: "wet", label: "Room dry/wet", range: [0, 2, 0.05], show: percent },
];

export class Controls extends EventTarget {
  #past = [];
  #future = [];
  #inputs = new Map();

  constructor(place, state) {
    super();
    this.defaults = state.defaults;
    this.settings = { ...state.defaults };
    this.presets = state.presets;
    const rooms = state.instruments.filter((one) => one.has_room).map((one) => [one.name, `As ${one.name}`]);
    this.words = {
      keys: state.keys.map((key) => [key, key === "auto" ? "Found in the melody" : key]),
      rooms: [["model", "The instrument's own"], ["none", "None"], ...rooms],
    };
    place.replaceChildren(this.#bar(), ...CONTROLS.map((control) => this.#control(control)), this.#presetBar(), this.#commandBox());
    this.#show();
  }

  showCommand(text) {
    $("#command").textContent = text;
    $("#command-copy").disabled = !text;
  }

  /** Takes settings as a whole, for instance those of a preset. */
  apply(settings) {
    this.#remember();
    this.settings = { ...this.defaults, ...settings };
    this.#show();
    this.#changed();
  }

  setPresets(presets) {
    this.presets = presets;
    this.#listPresets(this.presetList.value);
  }

  #bar() {
    this.undoButton = el("button", { class: "quiet", id: "undo", onclick: () => this.#travel(this.#past, this.#future) }, "Undo");
    this.redoButton = el("button", { class: "quiet", id: "redo", onclick: () => this.#travel(this.#future, this.#past) }, "Redo");
    return el("p", { class: "row" }, this.undoButton, this.redoButton,
      el("button", { class: "quiet", id: "reset", onclick: () => this.apply({}) }, "Reset"));
  }

  #control({ name, label, range, choose, show }) {
    const id = `control-${name}`;
    if (choose) {
      const options = (Array.isArray(choose) ? choose : this.words[choose]).map(([value, text]) => el("option", { value }, text));
      const select = el("select", { id, onchange: () => this.#set(name, /^-?\d+(\.\d+)?$/.test(select.value) ? +select.value : select.value) }, ...options);
      this.#inputs.set(name, (value) => { select.value = value; });
      return el("div", { class: "control" }, el("div", { class: "row" }, el("label", { for: id }, label)), select);
    }
    const [min, max, step] = range;
    const output = el("output", { for: id });
    const input = el("input", { type: "range", id, min, max, step, oninput: () => this.#set(name, +input.value, true), onchange: () => { this.#dragging = null; } });
    this.#inputs.set(name, (value) => {
      input.value = value;
      output.textContent = show(+value);
      input.setAttribute("aria-valuetext", show(+value));
    });
    return el("div", { class: "control" }, el("div", { class: "row" }, el("label", { for: id }, label), output), input);
  }

  #dragging = null; // the control that is being dragged: one step of undo

  #set(name, value, dragged = false) {
    if (this.#dragging !== name) this.#remember();
    this.#dragging = dragged ? name : null;
    this.settings = { ...this.settings, [name]: value };
    if (name === "key" && value !== "auto" && this.settings.autotune === 0) this.settings.autotune = 1;
    this.#show();
    this.#changed();
  }

  #remember() {
    this.#past.push(this.settings);
    this.#future.length = 0;
    this.#past.splice(0, this.#past.length - 200);
  }

  #travel(from, to) {
    if (!from.length) return;
    to.push(this.settings);
    this.settings = from.pop();
    this.#dragging = null;
    this.#show();
    this.#changed();
  }

  #show() {
    for (const [name, show] of this.#inputs) show(this.settings[name]);
    this.undoButton.disabled = !this.#past.length;
    this.redoButton.disabled = !this.#future.length;
  }

  #changed() { this.dispatchEvent(new Event("change")); }

  #presetBar() {
    this.presetList = el("select", { id: "preset", onchange: () => {
      const settings = this.presets[this.presetList.value];
      if (settings) { this.apply(settings); $("#preset-name").value = this.presetList.value; }
    } });
    const name = el("input", { type: "text", id: "preset-name", maxlength: 60, placeholder: "Name", "aria-label": "Name of the preset" });
    const save = async () => {
      if (!name.value.trim()) { name.focus(); return; }
      try {
        this.presets = await api.postJson(`api/presets/${encodeURIComponent(name.value.trim())}`, this.settings);
        this.#listPresets(name.value.trim());
        say(`Saved the preset ${name.value.trim()}.`);
      } catch (problem) { sayError(problem); }
    };
    const drop = async () => {
      if (!this.presetList.value) return;
      try {
        this.presets = await api.remove(`api/presets/${encodeURIComponent(this.presetList.value)}`);
        this.#listPresets("");
      } catch (problem) { sayError(problem); }
    };
    const bar = el("div", {}, el("h3", {}, "Presets"),
      el("label", { class: "hidden", for: "preset" }, "Presets"), this.presetList,
      el("p", { class: "row" }, name, el("button", { id: "preset-save", onclick: save }, "Save"), el("button", { class: "quiet", onclick: drop }, "Remove")));
    this.#listPresets("");
    return bar;
  }

  #listPresets(chosen) {
    const names = Object.keys(this.presets).sort();
    this.presetList.replaceChildren(el("option", { value: "" }, names.length ? "Choose a preset" : "None saved yet"),
      ...names.map((name) => el("option", { value: name }, name)));
    this.presetList.value = names.includes(chosen) ? chosen : "";
  }

  #commandBox() {
    return el("div", {}, el("h3", { id: "command-label" }, "The same on the command line"),
      el("code", { class: "command", id: "command", tabindex: 0, role: "group", "aria-labelledby": "command-label" }),
      el("p", {}, el("button", { class: "quiet", id: "command-copy", disabled: true, onclick: async () => {
        await navigator.clipboard.writeText($("#command").textContent);
        say("Copied.");
      } }, "Copy")));
  }
}
