// Teach: recordings, what `ddsp prepare` says of them, training with its curve and clips.

import * as api from "./api.js";
import { $, colour, el, fill, noteName, say, sayError, sentence } from "./dom.js";

const EVERY_MS = 1000;

export class Teach extends EventTarget {
  #projects = [];
  #chosen = null; // name
  #shown = ""; // content of the page, to draw it again only where it changed
  #timer = 0;
  #choices = null;

  constructor(place, state) {
    super();
    this.instruments = state.instruments.filter((one) => !one.problem);
    this.list = el("ul", { class: "takes", "aria-label": "Instruments you teach" });
    this.form = el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); this.#create(); } });
    this.project = el("div", { id: "teach-project" });
    place.replaceChildren(el("section", { "aria-labelledby": "teach-heading" },
      el("h2", { id: "teach-heading" }, "Teach an instrument"),
      el("p", {}, "Ten to twenty minutes of one instrument, one line, in one room, as dry as you can. From the base or from an instrument, half a minute to two minutes do."),
      this.form, this.list, this.project));
  }

  open() { this.#refresh(); clearInterval(this.#timer); this.#timer = setInterval(() => this.#refresh(), EVERY_MS); }
  close() { clearInterval(this.#timer); }

  async addFiles(files) {
    if (!this.#chosen) { say("Begin an instrument first: give it a name.", true); return; }
    for (const file of files) {
      say(`Reading ${file.name}`);
      try {
        await api.post(`api/teach/${this.#chosen}/recordings?name=${encodeURIComponent(file.name)}`, file);
        say("");
      } catch (problem) { sayError(problem); }
    }
    this.#refresh();
  }

  async #refresh() {
    try {
      const { projects, presets } = await api.getJson("api/teach");
      this.#projects = projects;
      if (!this.#choices) { this.#choices = presets; this.#showForm(presets); }
      if (!projects.some((one) => one.name === this.#chosen)) this.#chosen = projects[0]?.name ?? null;
      this.#show();
    } catch (problem) { sayError(problem); this.close(); }
  }

  #showForm(presets) {
    const option = (value, text) => el("option", { value }, text);
    this.form.replaceChildren(
      el("label", { class: "inline" }, "Name", el("input", { type: "text", id: "teach-name", maxlength: 40, pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]*", required: true })),
      el("label", { class: "inline" }, "Begin with", el("select", { id: "teach-from" }, option("", "the base (preset hifi)"), option("none", "nothing"), ...this.instruments.map((one) => option(one.name, one.name)))),
      el("label", { class: "inline" }, "Preset", el("select", { id: "teach-preset" }, ...presets.map((one) => option(one.name, one.name)))),
      el("button", { class: "primary", id: "teach-create" }, "Begin"));
    $("#teach-preset").value = "hifi";
  }

  async #create() {
    try {
      const asked = { name: $("#teach-name").value, start_from: $("#teach-from").value, preset: $("#teach-preset").value };
      this.#chosen = (await api.postJson("api/teach", asked)).name;
      $("#teach-name").value = "";
      await this.#refresh();
    } catch (problem) { sayError(problem); }
  }

  async #act(path, value) {
    try {
      await api.postJson(`api/teach/${this.#chosen}/${path}`, value ?? {});
      say("");
      await this.#refresh();
    } catch (problem) { sayError(problem); }
  }

  #show() {
    const one = this.#projects.find((project) => project.name === this.#chosen);
    this.list.replaceChildren(...this.#projects.map((project) => el("li", {}, el("button", {
      "aria-pressed": project === one, onclick: () => { this.#chosen = project.name; this.#show(); },
    }, project.name + (project.running ? " …" : "")))));
    // Players and fields are built again only after a change, so that a player continues and the focus stays.
    const shape = one ? JSON.stringify([one.name, one.recordings, one.prepared, one.report, one.running, one.clips, one.playable, one.now?.ended, one.now?.error, one.now?.restartable]) : "";
    if (shape !== this.#shown) { this.#shown = shape; this.#build(one); }
    if (one) this.#update(one);
  }

  #build(one) {
    if (!one) { this.project.replaceChildren(); return; }
    const trained = one.curve.length > 0, restart = one.now?.restartable ?? false;
    const steps = el("input", { type: "number", id: "teach-steps", min: 1, max: 10000000, value: one.steps || "", placeholder: "automatic", "aria-label": "Steps of training in all; empty for as many as suit the recordings" });
    const clips = one.clips.filter((clip) => clip !== "original.wav").slice(-4).reverse();
    const player = (clip, text) => el("p", { class: "row" }, el("audio", { controls: true, preload: "none", src: `api/teach/${one.name}/clips/${clip}`, "aria-label": text }), text);
    const link = (which, text) => el("a", { href: `api/teach/${one.name}/page/${which}`, target: "_blank", rel: "noopener" }, text);
    fill(this.project,
      el("h3", {}, `1 Recordings of ${one.name}`),
      el("div", { class: "drop" }, el("p", {}, "Drop recordings here, or"), el("p", { class: "row" },
        el("label", { class: "button primary", for: "teach-files" }, "Choose files"),
        el("input", { id: "teach-files", class: "hidden", type: "file", multiple: true, accept: "audio/*,video/*", onchange: (event) => { this.addFiles([...event.target.files]); event.target.value = ""; } }))),
      el("ul", { class: "takes" }, ...one.recordings.map((name) => el("li", {}, el("button", { disabled: true }, name), one.running ? null : el("button", { "aria-label": `Remove ${name}`, onclick: async () => {
        try { await api.remove(`api/teach/${one.name}/recordings/${encodeURIComponent(name)}`); this.#refresh(); } catch (problem) { sayError(problem); }
      } }, "×")))),
      el("h3", {}, "2 Check"),
      el("p", { class: "row" }, el("button", { id: "teach-prepare", class: one.prepared ? "" : "primary", disabled: one.running || !one.recordings.length, onclick: () => this.#act("start/prepare") }, one.prepared ? "Check again" : "Check the recordings"),
        one.report ? link("dataset", "The whole report") : null),
      one.prepared ? this.#prepared(one.prepared) : null,
      el("h3", {}, "3 Train"),
      el("p", { class: "row" },
        el("button", { id: "teach-train", class: one.prepared && (!trained || restart) ? "primary" : "", disabled: one.running || !one.prepared, onclick: () => this.#act("start/train", { steps: +steps.value, again: restart }) }, restart ? "Train again" : trained ? "Go on" : "Train"),
        el("label", { class: "inline" }, "up to step", steps),
        el("button", { id: "teach-stop", class: "danger", disabled: !one.running, onclick: () => { say("Stopping; the last checkpoint is kept."); this.#act("stop"); } }, "Stop"),
        trained && !one.running ? link("training", "The page of the training") : null),
      el("div", { id: "teach-work", class: "work" }, el("progress", { id: "teach-bar", max: 1, value: 0, "aria-labelledby": "teach-doing" }), el("span", { id: "teach-doing" })),
      el("canvas", { id: "teach-curve", role: "img", height: 180, hidden: !trained }),
      clips.length ? el("div", {}, el("h3", {}, "Clips"), player("original.wav", "The recording"), ...clips.map((clip) => player(clip, `After step ${+clip.slice(5, -4)}`))) : null,
      el("p", { class: "row" },
        one.playable ? el("button", { id: "teach-play", class: "primary", onclick: () => this.dispatchEvent(new CustomEvent("play", { detail: one.name })) }, `Play ${one.name}`) : null,
        one.running ? null : el("button", { class: "danger", onclick: () => this.#remove(one) }, "Remove recordings and data set")));
  }

  #prepared(found) {
    const fact = (label, value) => el("div", {}, el("dt", {}, label), el("dd", {}, value));
    const rows = [...found.skipped, ...found.notes];
    return el("div", {},
      el("dl", { class: "facts" },
        fact("Used", `${found.minutes.toFixed(1)} min`), fact("Notes", `${(found.note_s / 60).toFixed(1)} min`), fact("Recordings used", `${found.n_used} of ${found.n_recordings}`),
        fact("Range", `${noteName(found.lowest_midi)} to ${noteName(found.highest_midi)}`), fact("Level", `${Math.round(found.quietest_db)} to ${Math.round(found.loudest_db)} dB`),
        fact("Polyphonic", `${Math.round(found.polyphonic_s)} s`)),
      el("p", {}, found.advice),
      rows.length ? el("ul", { class: "remarks" }, ...rows.map(([name, words]) => el("li", {}, `${name}: ${words}`))) : null);
  }

  #update(one) {
    const { now } = one, bar = $("#teach-bar"), words = $("#teach-doing");
    $("#teach-work").hidden = !now;
    if (now) {
      const unit = now.action === "train" ? "step" : "s";
      const numbers = now.total ? `, ${unit === "step" ? `step ${now.done} of ${now.total}` : `${Math.round(now.done)} of ${Math.round(now.total)} s`}` : "";
      const loss = now.loss != null ? `, loss ${now.loss.toFixed(2)}` : "";
      words.textContent = now.error ? `${sentence(now.error)} ${now.hint}` : `${now.doing}${numbers}${loss}`;
      bar.hidden = now.ended;
      if (now.total) bar.value = now.done / now.total; else bar.removeAttribute("value");
    }
    this.#curve(one.curve);
  }

  #curve(points) {
    const canvas = $("#teach-curve");
    if (!points.length) return;
    canvas.hidden = false;
    canvas.setAttribute("aria-label", `Loss after ${points.at(-1)[0]} steps: training ${points.at(-1)[1].toFixed(2)}, validation ${points.at(-1)[2].toFixed(2)}, best ${Math.min(...points.map((point) => point[2])).toFixed(2)}.`);
    canvas.style.width = "100%";
    const ratio = devicePixelRatio, width = canvas.clientWidth, height = 180;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const values = points.flatMap((point) => point.slice(1)).filter(Number.isFinite);
    const low = Math.min(...values), high = Math.max(...values), last = points.at(-1)[0] || 1;
    const x = (step) => 40 + (step / last) * (width - 50), y = (loss) => 10 + (1 - (loss - low) / (high - low || 1)) * (height - 34);
    c.font = "12px system-ui";
    c.fillStyle = colour("soft");
    c.fillText(high.toFixed(1), 2, 16);
    c.fillText(low.toFixed(1), 2, height - 24);
    c.fillText(`step ${last}`, width - 80, height - 6);
    [["voice", 1, "training"], ["played", 2, "validation"]].forEach(([name, column, text], i) => {
      c.strokeStyle = c.fillStyle = colour(name);
      c.lineWidth = 2;
      c.beginPath();
      points.forEach((point, k) => (k ? c.lineTo(x(point[0]), y(point[column])) : c.moveTo(x(point[0]), y(point[column]))));
      c.stroke();
      if (points.length === 1) c.fillRect(x(points[0][0]) - 2, y(points[0][column]) - 2, 4, 4);
      c.fillText(text, 50 + 80 * i, height - 6);
    });
  }

  async #remove(one) {
    if (!confirm(`Remove the recordings and the data set of ${one.name}? The instrument stays.`)) return;
    try {
      await api.remove(`api/teach/${one.name}`);
      this.#chosen = null;
      await this.#refresh();
    } catch (problem) { sayError(problem); }
  }
}
