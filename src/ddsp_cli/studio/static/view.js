// Draws a result over time: waveform, spectrogram with F0 and notes, level. Zoom, playhead, and drawing of curves.

import { colour, el, hzToMidi, midiToHz, noteName } from "./dom.js";
import { extremes } from "./recorder.js";

const LOWEST_HZ = 55, ROWS_PER_OCTAVE = 24; // of studio/picture.py
const HEIGHTS = { wave: 70, pitch: 270, level: 110 };
const LABELS = { wave: "Waveform", pitch: "Spectrogram and F0", level: "Level" };
const LEVEL_DB = [-80, 0];

export class View extends EventTarget {
  #canvases = {};
  #range = [0, 1]; // seconds that are shown
  #shown = null; // { seconds, pcm, rate, spectrogram, curves (played), input, frameRate, notes }
  #image = null;
  #position = 0;
  #stroke = null;
  tool = "seek";

  constructor(place) {
    super();
    this.place = place;
    for (const name of Object.keys(HEIGHTS)) {
      const canvas = el("canvas", { role: "img", tabindex: 0, "aria-label": LABELS[name], "aria-description": "Plus and minus zoom, 0 shows everything, arrow keys move the playhead", id: `view-${name}` });
      canvas.style.height = `${HEIGHTS[name]}px`;
      this.#canvases[name] = canvas;
      place.append(el("figure", {}, canvas, el("figcaption", {}, LABELS[name])));
      canvas.addEventListener("pointerdown", (event) => this.#press(name, event));
      canvas.addEventListener("pointermove", (event) => this.#move(name, event));
      canvas.addEventListener("pointerup", () => this.#release());
      canvas.addEventListener("pointercancel", () => this.#release());
      canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
      canvas.addEventListener("keydown", (event) => this.#key(event));
    }
    new ResizeObserver(() => this.draw()).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
  }

  get curves() { return this.#shown?.curves; }

  /** Shows a sound; the zoom is kept where the length stays the same. */
  show(shown) {
    const before = this.#shown;
    this.#shown = shown;
    if (!before || Math.abs(before.seconds - shown.seconds) > 0.2) this.#range = [0, shown.seconds];
    if (before?.spectrogram !== shown.spectrogram) this.#image = null;
    const n = shown.notes?.length ?? 0;
    const line = shown.curves ? ` F0 of what is played, ${shown.notes?.length ? `${n} notes from ${noteName(Math.min(...shown.notes.map((note) => note.midi)))} to ${noteName(Math.max(...shown.notes.map((note) => note.midi)))}` : "no notes listed"}.` : "";
    this.#canvases.pitch.setAttribute("aria-label", `Spectrogram, ${shown.seconds.toFixed(1)} seconds.${line}`);
    this.draw();
  }

  recolour() { this.#image = null; this.draw(); }

  moveTo(seconds) { this.#position = seconds; this.draw(); }

  zoom(factor, at = null) {
    if (!this.#shown) return;
    const [from, to] = this.#range, length = Math.min(Math.max((to - from) * factor, 0.1), this.#shown.seconds);
    const centre = at ?? (this.#position > from && this.#position < to ? this.#position : (from + to) / 2);
    this.#setRange(centre - ((centre - from) / (to - from)) * length, length);
  }

  all() { if (this.#shown) this.#setRange(0, this.#shown.seconds); }

  #setRange(from, length) {
    const start = Math.min(Math.max(from, 0), this.#shown.seconds - length);
    this.#range = [start, start + length];
    this.draw();
  }

  // --- pointer and keys ---

  #seconds(event) {
    const box = event.target.getBoundingClientRect();
    return this.#range[0] + ((event.clientX - box.left) / box.width) * (this.#range[1] - this.#range[0]);
  }

  #value(name, event) {
    const box = event.target.getBoundingClientRect(), share = 1 - (event.clientY - box.top) / box.height;
    if (name === "level") return LEVEL_DB[0] + share * (LEVEL_DB[1] - LEVEL_DB[0]);
    const [low, high] = this.#pitchRange();
    return midiToHz(low + share * (high - low));
  }

  #press(name, event) {
    if (!this.#shown || event.button) return;
    if (this.tool === "seek" || name === "wave" || !this.#shown.curves) {
      this.dispatchEvent(new CustomEvent("seek", { detail: this.#seconds(event) }));
      return;
    }
    event.target.setPointerCapture(event.pointerId);
    this.dispatchEvent(new Event("drawstart"));
    this.#stroke = { name, seconds: this.#seconds(event), value: this.#value(name, event), changed: false };
    this.#move(name, event);
  }

  #move(name, event) {
    const stroke = this.#stroke;
    if (!stroke || stroke.name !== name) return;
    const seconds = this.#seconds(event), value = this.#value(name, event);
    const { frameRate, curves } = this.#shown;
    const frame = (s) => Math.min(Math.max(Math.round(s * frameRate), 0), curves.f0_hz.length - 1);
    const [a, b] = [frame(stroke.seconds), frame(seconds)], [first, last] = [Math.min(a, b), Math.max(a, b)];
    if (this.tool === "draw") {
      for (let i = first; i <= last; i++) {
        const share = a === b ? 1 : (i - a) / (b - a);
        if (name === "level") curves.level_db[i] = stroke.value + share * (value - stroke.value);
        else {
          curves.f0_hz[i] = stroke.value * (value / stroke.value) ** share;
          if (curves.gate[i] === 0) { // a note where there was a rest needs a level too
            curves.gate[i] = 1;
            if (curves.level_db[i] < -60) curves.level_db[i] = this.#usualLevel();
          }
        }
      }
    } else if (this.tool === "erase") {
      if (name === "level" || name === "pitch") curves.gate.fill(0, first, last + 1);
    } else if (this.tool === "smooth") {
      const reach = Math.round(0.04 * frameRate), curve = name === "level" ? curves.level_db : curves.f0_hz;
      const source = curve.slice(), from = Math.max(0, first - reach), to = Math.min(curve.length - 1, last + reach);
      for (let i = from; i <= to; i++) {
        let sum = 0, n = 0;
        for (let j = Math.max(0, i - reach); j <= Math.min(source.length - 1, i + reach); j++) {
          if (curves.gate[j] === 0 && curves.gate[i] !== 0) continue;
          sum += name === "level" ? source[j] : Math.log(source[j]);
          n++;
        }
        if (n) curve[i] = name === "level" ? sum / n : Math.exp(sum / n);
      }
    }
    stroke.seconds = seconds;
    stroke.value = value;
    stroke.changed = true;
    this.draw();
  }

  #usualLevel() {
    const { level_db, gate } = this.#shown.curves;
    const levels = level_db.filter((_, i) => gate[i] > 0).sort();
    return levels.length ? levels[levels.length >> 1] : -25;
  }

  #release() {
    if (this.#stroke?.changed) this.dispatchEvent(new Event("drawn"));
    this.#stroke = null;
  }

  #wheel(event) {
    if (!this.#shown) return;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, this.#seconds(event));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const length = this.#range[1] - this.#range[0];
      this.#setRange(this.#range[0] + (event.deltaX / event.target.clientWidth) * length, length);
    }
  }

  #key(event) {
    if (!this.#shown) return;
    const length = this.#range[1] - this.#range[0];
    const moves = {
      "+": () => this.zoom(1 / 1.5), "-": () => this.zoom(1.5), "0": () => this.all(),
      ArrowLeft: () => this.dispatchEvent(new CustomEvent("seek", { detail: this.#position - 0.05 * length })),
      ArrowRight: () => this.dispatchEvent(new CustomEvent("seek", { detail: this.#position + 0.05 * length })),
      PageUp: () => this.#setRange(this.#range[0] - 0.5 * length, length),
      PageDown: () => this.#setRange(this.#range[0] + 0.5 * length, length),
    };
    if (moves[event.key]) { event.preventDefault(); moves[event.key](); }
  }

  // --- drawing ---

  draw() {
    if (this.#waiting) return;
    this.#waiting = requestAnimationFrame(() => {
      this.#waiting = 0;
      this.#paint();
    });
  }

  #waiting = 0;

  #paint() {
    for (const [name, canvas] of Object.entries(this.#canvases)) {
      const ratio = devicePixelRatio, width = canvas.clientWidth, height = HEIGHTS[name];
      if (!width) return;
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
      }
      const c = canvas.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, width, height);
      if (!this.#shown) continue;
      const x = (s) => ((s - this.#range[0]) / (this.#range[1] - this.#range[0])) * width;
      ({ wave: () => this.#wave(c, width, height), pitch: () => this.#pitch(c, width, height, x), level: () => this.#level(c, width, height, x) })[name]();
      this.#times(c, width, height, x, name === "level");
      c.fillStyle = colour("warm");
      const at = x(this.#position);
      if (at >= 0 && at <= width) c.fillRect(at - 0.75, 0, 1.5, height);
    }
  }

  #wave(c, width, height) {
    const { pcm, rate } = this.#shown;
    if (!pcm) return;
    c.fillStyle = colour(this.#shown.curves ? "played" : "voice");
    const [from, to] = this.#range, step = ((to - from) * rate) / width;
    const peak = (this.#shown.peak ??= Math.max(0.05, ...extremes(pcm, 0, pcm.length).map(Math.abs)));
    for (let i = 0; i < width; i++) {
      const [low, high] = extremes(pcm, from * rate + i * step, from * rate + (i + 1) * step);
      const y = height / 2, scale = (y * 0.95) / peak;
      c.fillRect(i, y - high * scale, 1, Math.max(1, (high - low) * scale));
    }
  }

  /** MIDI numbers at the bottom and the top of the spectrogram. */
  #pitchRange() {
    const rows = this.#shown.spectrogram?.rows ?? 174;
    return [hzToMidi(LOWEST_HZ), hzToMidi(LOWEST_HZ) + (12 * rows) / ROWS_PER_OCTAVE];
  }

  #pitch(c, width, height, x) {
    const { spectrogram, curves, input, frameRate, notes } = this.#shown;
    const [low, high] = this.#pitchRange(), y = (midi) => height * (1 - (midi - low) / (high - low));
    if (spectrogram) {
      const image = this.#picture(spectrogram), [from, to] = this.#range;
      const scale = 1 / spectrogram.hop;
      c.imageSmoothingEnabled = true;
      c.drawImage(image, from * scale, 0, Math.max(1, (to - from) * scale), image.height, 0, 0, width, height);
    }
    c.font = "11px system-ui";
    for (let midi = 36; midi < high; midi += 12) {
      c.fillStyle = colour("line");
      c.fillRect(0, y(midi), width, 0.5);
      c.fillStyle = colour("soft");
      c.fillText(noteName(midi), 3, y(midi) - 2);
    }
    for (const note of notes ?? []) {
      c.globalAlpha = 0.35;
      c.fillStyle = colour("accent");
      c.fillRect(x(note.start_s), y(note.midi + 0.5), x(note.stop_s) - x(note.start_s), y(note.midi - 0.5) - y(note.midi + 0.5));
      c.globalAlpha = 1;
      if (x(note.stop_s) - x(note.start_s) > 22) { c.fillStyle = colour("text"); c.fillText(note.name, x(note.start_s) + 2, y(note.midi + 0.5) - 2); }
    }
    const line = (curve, visible, stroke, lineWidth) => this.#line(c, x, frameRate, (i) => (visible(i) ? y(hzToMidi(curve[i])) : null), curve.length, stroke, lineWidth);
    if (input) line(input.f0_hz, (i) => input.f0_hz[i] > 0, colour("voice"), curves ? 1.2 : 2.4);
    if (curves) line(curves.f0_hz, (i) => curves.gate[i] > 0, colour("played"), 2.4);
  }

  #level(c, width, height, x) {
    const { curves, input, frameRate } = this.#shown;
    const y = (db) => height * (1 - (db - LEVEL_DB[0]) / (LEVEL_DB[1] - LEVEL_DB[0]));
    c.font = "11px system-ui";
    for (let db = -60; db < 0; db += 20) {
      c.fillStyle = colour("line");
      c.fillRect(0, y(db), width, 0.5);
      c.fillStyle = colour("soft");
      c.fillText(`${db} dB`, 3, y(db) - 2);
    }
    if (input) this.#line(c, x, frameRate, (i) => y(input.level_db[i]), input.level_db.length, colour("voice"), curves ? 1.2 : 2.2);
    if (curves) this.#line(c, x, frameRate, (i) => (curves.gate[i] > 0 ? y(curves.level_db[i]) : null), curves.level_db.length, colour("played"), 2.2);
  }

  #line(c, x, frameRate, y, n, stroke, lineWidth) {
    const [from, to] = this.#range;
    const first = Math.max(0, Math.floor(from * frameRate) - 1), last = Math.min(n - 1, Math.ceil(to * frameRate) + 1);
    const step = Math.max(1, Math.floor((last - first) / 4000));
    c.strokeStyle = stroke;
    c.lineWidth = lineWidth;
    c.beginPath();
    let pen = false;
    for (let i = first; i <= last; i += step) {
      const at = y(i);
      if (at == null) { pen = false; continue; }
      if (pen) c.lineTo(x(i / frameRate), at); else c.moveTo(x(i / frameRate), at);
      pen = true;
    }
    c.stroke();
  }

  #times(c, width, height, x, words) {
    const length = this.#range[1] - this.#range[0];
    const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300].find((s) => (s / length) * width > 55) ?? 600;
    c.font = "11px system-ui";
    for (let s = Math.ceil(this.#range[0] / step) * step; s < this.#range[1]; s += step) {
      c.fillStyle = colour("line");
      c.globalAlpha = 0.6;
      c.fillRect(x(s), 0, 0.5, height);
      c.globalAlpha = 1;
      if (words) { c.fillStyle = colour("soft"); c.fillText(`${+s.toFixed(2)} s`, x(s) + 3, height - 4); }
    }
  }

  /** The spectrogram as an image, one pixel a value, in the colours of the page. */
  #picture({ levels, columns, rows }) {
    if (this.#image) return this.#image;
    const rgb = (name) => colour(name).match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16));
    const background = rgb("card"), ink = rgb("accent");
    const image = new ImageData(columns, rows);
    for (let t = 0; t < columns; t++) {
      for (let r = 0; r < rows; r++) {
        const share = (levels[t * rows + r] / 255) ** 1.6, at = 4 * ((rows - 1 - r) * columns + t);
        for (let k = 0; k < 3; k++) image.data[at + k] = background[k] + share * (ink[k] - background[k]);
        image.data[at + 3] = 255;
      }
    }
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return (this.#image = canvas);
  }
}
