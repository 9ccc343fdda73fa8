// The page: sounds, instruments, and their results.

import * as api from "./api.js";
import { Controls } from "./controls.js";
import { $, clock, el, fill, noteName, say, sayError } from "./dom.js";
import { Live } from "./live.js";
import { Player } from "./player.js";
import { Recorder } from "./recorder.js";
import { Teach } from "./teach.js";
import { View } from "./view.js";

const VOICE = "Input", BLEND = "Blend";
const PICTURE_AFTER_MS = 150;
const DOWNLOADS = [["wav", "WAV"], ["flac", "FLAC"], ["midi", "MIDI notes"], ["curves", "Curves (CSV)"], ["picture", "Picture"]];

const player = new Player();
const view = new View($("#views"));
let state, controls, teach;
let take = null; // description of the chosen sound
const chosen = new Set(); // instruments
const results = new Map(); // instrument → { about, curves, spectrogram }
const drawings = new Map(); // "take/instrument" → { id, curves, past }
let voicePicture = null;
let running = null; // AbortController of the plays that are under way

// --- sounds ---

async function addFiles(files) {
  let last = null;
  for (const file of files) {
    say(`Reading ${file.name}`);
    try {
      last = await api.post(`api/takes?name=${encodeURIComponent(file.name)}`, file);
    } catch (problem) {
      sayError(problem);
    }
  }
  if (!last) return;
  say("");
  state.takes = (await api.getJson("api/state")).takes;
  await chooseTake(last);
}

async function chooseTake(which) {
  try {
    take = typeof which === "string" ? await api.getJson(`api/takes/${which}`) : which;
  } catch (problem) {
    sayError(problem);
    return;
  }
  showTakes();
  results.clear();
  voicePicture = null;
  player.stop();
  player.keep([]);
  const mine = take;
  showParts();
  const voice = take.kind === "sound" ? loadVoice(mine) : Promise.resolve();
  if (!chosen.size) chooseInstrument(state.instruments.find((one) => one.name === "flute") ?? state.instruments[0]);
  await Promise.all([voice, replay()]);
}

async function loadVoice(mine) {
  const { values } = await api.floats(`api/takes/${mine.id}/pcm`);
  if (take !== mine) return;
  mine.pcm = values;
  player.set(VOICE, [values], mine.rate_hz, mine.lufs ?? null);
  if (!player.audible || player.audible === VOICE) hear(VOICE);
}

function showTakes() {
  $("#takes").replaceChildren(...state.takes.map((one) => el("li", {},
    el("button", { "aria-pressed": one.id === take?.id, onclick: () => chooseTake(one.id) }, one.name),
    one.id === "example" ? null : el("button", { "aria-label": `Remove ${one.name}`, onclick: () => removeTake(one) }, "×"))));
}

// --- tracks and channels of a MIDI file ---

const DRUMS = 10;
const left = new Map(); // id of a MIDI file → { tracks, channels } that are not played

/** The parts of a MIDI file to play, as the server takes them; null for all. */
function selection() {
  const without = left.get(take.id);
  if (!without) return null;
  const { tracks, channels } = numbersOf(take.parts), kept = channels.filter((n) => !without.channels.has(n));
  // Parts that are not named are played, except the drums.
  const isUsual = channels.every((n) => without.channels.has(n) === (n === DRUMS));
  return { tracks: without.tracks.size ? tracks.filter((n) => !without.tracks.has(n)) : [], channels: isUsual ? [] : kept };
}

const numbersOf = (parts) => ({ tracks: [...new Set(parts.map((part) => part.track))], channels: [...new Set(parts.map((part) => part.channel))].sort((a, b) => a - b) });

/** Check boxes for the tracks and the channels of a MIDI file that has several. */
function showParts() {
  const place = $("#parts"), parts = take?.parts ?? [], { tracks, channels } = numbersOf(parts);
  place.hidden = parts.length < 2;
  if (place.hidden) { place.replaceChildren(); return; }
  const without = left.get(take.id) ?? { tracks: new Set(), channels: new Set(channels.filter((n) => n === DRUMS)) };
  const names = Object.fromEntries(parts.map((part) => [part.track, part.name]));
  const count = (test) => {
    const n = parts.filter(test).reduce((sum, part) => sum + part.n_notes, 0);
    return n === 1 ? "1 note" : `${n} notes`;
  };
  // Where each track has a channel of its own, the tracks are choice enough; but the drums are left out by their channel.
  const hasChoice = channels.includes(DRUMS) || tracks.some((track) => parts.filter((part) => part.track === track).length > 1);
  const group = (legend, kind, all, text) => (all.length < 2 ? null : el("fieldset", { class: "parts" }, el("legend", {}, legend), ...all.map((n) => {
    const box = el("input", { type: "checkbox", id: `${kind}-${n}` });
    box.checked = !without[kind].has(n);
    box.onchange = () => {
      if (box.checked) without[kind].delete(n); else without[kind].add(n);
      if (all.every((one) => without[kind].has(one))) { without[kind].delete(n); box.checked = true; say("One has to be played.", true); return; }
      left.set(take.id, without);
      replay();
    };
    return el("label", { class: "inline", for: box.id }, box, text(n));
  })));
  fill(place,
    group("Tracks", "tracks", tracks, (n) => `${n}${names[n] ? ` ${names[n]}` : ""} (${count((part) => part.track === n)})`),
    hasChoice ? group("Channels", "channels", channels, (n) => `${n}${n === DRUMS ? " drums" : ""} (${count((part) => part.channel === n)})`) : null);
}

async function removeTake(one) {
  if (!confirm(`Remove ${one.name}? It is deleted from this computer's studio folder.`)) return;
  try {
    await api.remove(`api/takes/${one.id}`);
    state.takes = state.takes.filter((other) => other.id !== one.id);
    if (take?.id === one.id) { take = null; player.keep([]); results.clear(); }
    showTakes();
    showParts();
  } catch (problem) { sayError(problem); }
}

// --- instruments ---

function showInstruments() {
  $("#instruments").replaceChildren(...state.instruments.map((one) => {
    if (one.problem) return el("li", {}, el("strong", {}, one.name), el("p", {}, one.problem));
    const box = el("input", { type: "checkbox", id: `instrument-${one.name}` });
    box.checked = chosen.has(one.name);
    box.onchange = () => { box.checked ? chooseInstrument(one) : leaveInstrument(one); replay(); };
    const credit = one.sources.map((source) => source.attribution || source.title).filter(Boolean).join("; ");
    return el("li", { class: box.checked ? "chosen" : "" },
      el("label", { for: box.id }, box, one.name.replaceAll("_", " ")),
      el("p", {}, `${one.lowest} to ${one.highest}`),
      el("p", {}, one.own ? `Yours, ${one.licence}` : one.licence),
      credit ? el("details", {}, el("summary", {}, "Recordings"), el("p", {}, credit)) : null,
      el("div", { class: "row" },
        one.preview ? el("button", { "aria-label": `Preview of ${one.name}`, onclick: (event) => preview(one, event.target) }, "▶ Preview") : null));
  }));
}

function chooseInstrument(one) {
  if (!one) { say("There is no instrument yet: train one in Teach.", true); return; }
  chosen.add(one.name);
  hear(one.name);
  showInstruments();
}

function leaveInstrument(one) {
  chosen.delete(one.name);
  results.delete(one.name);
  player.keep(player.names.filter((name) => name !== one.name));
  if (player.audible === one.name) hear([...chosen][0] ?? VOICE);
  showInstruments();
}

// --- a blend of two ---

const isTimed = () => $("#blend-mode").value === "timed";

/** The name of an instrument on the server. */
function words(name) {
  if (name !== BLEND) return name;
  if (isTimed()) return points.map(({ time, instrument }) => `${+time.toFixed(2)}s:${instrument}`).join(" ");
  return `${$("#blend-a").value}:${(1 - $("#blend-share").value).toFixed(2)}+${$("#blend-b").value}:${(+$("#blend-share").value).toFixed(2)}`;
}

let points = []; // of a blend over time: { time, instrument }, in order of time

/** The points, each with a time and an instrument that can be changed. */
function showPoints() {
  const names = state.instruments.filter((one) => !one.problem).map((one) => one.name);
  const changed = () => { points.sort((a, b) => a.time - b.time); showPoints(); blendChanged(); };
  $("#blend-points").replaceChildren(...points.map((point, i) => {
    const time = el("input", { type: "number", min: 0, max: 36000, step: 0.1, value: point.time, "aria-label": `Seconds of point ${i + 1}` });
    time.onchange = () => { point.time = Math.max(0, +(+time.value).toFixed(2)) || 0; changed(); };
    const choice = el("select", { "aria-label": `Instrument of point ${i + 1}` }, ...names.map((name) => el("option", { value: name }, name.replaceAll("_", " "))));
    choice.value = point.instrument;
    choice.onchange = () => { point.instrument = choice.value; changed(); };
    const drop = el("button", { class: "quiet", "aria-label": `Remove point ${i + 1}`, disabled: points.length < 3, onclick: () => { points.splice(i, 1); changed(); } }, "×");
    return el("li", { class: "row" }, time, el("span", {}, "s"), choice, drop);
  }));
}

$("#blend-add").onclick = () => {
  const at = +(player.position || Math.max(...points.map(({ time }) => time)) + 2).toFixed(1);
  const before = points.filter(({ time }) => time <= at).at(-1) ?? points[0];
  const names = state.instruments.filter((one) => !one.problem).map((one) => one.name);
  points = points.filter(({ time }) => time !== at);
  points.push({ time: at, instrument: names[(names.indexOf(before?.instrument) + 1) % names.length] });
  points.sort((a, b) => a.time - b.time);
  showPoints();
  blendChanged();
};

$("#blend-mode").onchange = () => {
  $("#blend-fixed").hidden = isTimed();
  $("#blend-timed").hidden = !isTimed();
  if (isTimed() && !points.length) points = [{ time: 0, instrument: $("#blend-a").value }, { time: +Math.max(1, 0.8 * (take?.seconds ?? 10)).toFixed(1), instrument: $("#blend-b").value }];
  showPoints();
  $("#blend").checked = true;
  blendChanged();
};

function showBlend() {
  const names = state.instruments.filter((one) => !one.problem).map((one) => one.name);
  for (const [id, value] of [["#blend-a", "flute"], ["#blend-b", "violin"]]) {
    const kept = $(id).value || (names.includes(value) ? value : names[0]);
    $(id).replaceChildren(...names.map((name) => el("option", { value: name }, name.replaceAll("_", " "))));
    $(id).value = kept;
  }
  showPoints();
}

/** Why the blend cannot be played, or nothing. */
function blendProblem() {
  if (!isTimed()) return $("#blend-a").value === $("#blend-b").value ? "A blend needs two different instruments." : "";
  return points.some(({ time }, i) => i && time === points[i - 1].time) ? "Two points of the blend have the same time." : "";
}

function blendChanged() {
  const share = Math.round(100 * $("#blend-share").value);
  $("#blend-shown").textContent = `${100 - share} : ${share}`;
  $("#blend-share").setAttribute("aria-valuetext", `${100 - share} to ${share}`);
  if (take) drawings.delete(key(BLEND));
  const problem = blendProblem(), wanted = $("#blend").checked && !problem;
  if (wanted) { chosen.add(BLEND); if (player.audible !== BLEND) hear(BLEND); } else if (chosen.has(BLEND)) leaveInstrument({ name: BLEND });
  if ($("#blend").checked && problem) say(problem, true);
  replay();
}

for (const id of ["#blend", "#blend-a", "#blend-b"]) $(id).onchange = blendChanged;
$("#blend-share").oninput = () => { $("#blend").checked = true; blendChanged(); };

let previewing = null;

async function preview(one, button) {
  const again = previewing?.button === button;
  if (previewing) { previewing.audio.pause(); previewing.button.textContent = "▶ Preview"; previewing = null; }
  if (again) return;
  player.pause();
  const audio = new Audio(`api/instruments/${encodeURIComponent(one.name)}/preview`);
  previewing = { audio, button };
  button.textContent = "■ Stop";
  audio.onended = () => { button.textContent = "▶ Preview"; previewing = null; };
  try { await audio.play(); } catch (problem) { sayError(problem); }
}

// --- results ---

const key = (instrument) => `${take.id}/${instrument}`;

/** Plays the sound on every chosen instrument, the audible one first; plays under way are cancelled. */
async function replay() {
  running?.abort();
  if (!take || !chosen.size) { refresh(); return; }
  const mine = (running = new AbortController());
  document.documentElement.dataset.playing = "yes";
  const began = performance.now();
  const order = [...chosen].sort((a, b) => (b === player.audible) - (a === player.audible));
  const slow = setTimeout(() => { $("#work").hidden = false; }, 400);
  try {
    for (const instrument of order) {
      const result = await playOn(instrument, mine.signal);
      if (mine.signal.aborted) return;
      result.spectrogram = results.get(instrument)?.spectrogram ?? null;
      results.set(instrument, result);
      if (take.lufs == null && result.about.input_lufs != null && take.pcm) {
        take.lufs = result.about.input_lufs;
        player.set(VOICE, [take.pcm], take.rate_hz, take.lufs);
      }
      player.set(instrument, result.channels, result.about.rate_hz, result.about.loudness_lufs);
      if (!player.names.includes(player.audible)) hear(instrument);
      document.documentElement.dataset.lastMs = Math.round(performance.now() - began);
      refresh();
    }
    say("");
  } catch (problem) {
    if (!mine.signal.aborted) sayError(problem);
  } finally {
    clearTimeout(slow);
    if (running === mine) { running = null; $("#work").hidden = true; delete document.documentElement.dataset.playing; }
  }
}

async function playOn(instrument, signal) {
  const drawing = drawings.get(key(instrument));
  const asked = { take: take.id, instrument: words(instrument), settings: controls.settings, curves: drawing?.id ?? "", selection: selection() };
  // The audible instrument is rendered first; others can wait until the whole sound is ready.
  if (instrument === player.audible && player.names.includes(instrument)) asked.at_s = player.position;
  const progress = (doing, share) => {
    $("#work-text").textContent = `${instrument}: ${doing}`;
    $("#work-bar").value = share;
  };
  let first = null, whole = false, before = Promise.resolve(); // the excerpt so far; whether it is not needed any more
  const show = async (part) => {
    const { values } = await api.floats(`api/excerpts/${part.id}`, signal);
    const channels = split(values, part.n_channels);
    first = { ...(first ?? part), channels: first ? first.channels.map((samples, i) => joined(samples, channels[i])) : channels };
    if (!signal.aborted && !whole) player.patch(instrument, first.channels, part.rate_hz, part.loudness_lufs, first.start_s);
  };
  const onExcerpt = (part) => { before = before.then(() => show(part)).catch(sayError); };
  const about = await api.work("api/play", asked, progress, onExcerpt, signal);
  const path = `api/played/${about.id}`;
  const [sound, curves] = await Promise.all([api.floats(`${path}/pcm`, signal), api.floats(`${path}/curves`, signal)]);
  const named = {};
  curves.headers.get("X-Curves").split(",").forEach((name, i) => {
    named[name] = curves.values.slice(i * about.n_frames, (i + 1) * about.n_frames);
  });
  whole = true;
  const channels = split(sound.values, about.n_channels);
  return { about, channels, pcm: channels[0], curves: named, spectrogram: null };
}

/** Samples of several channels in turn, as an array for each channel. */
function split(values, n) {
  if (n === 1) return [values];
  const channels = Array.from({ length: n }, () => new Float32Array(values.length / n));
  channels.forEach((samples, c) => { for (let i = 0; i < samples.length; i++) samples[i] = values[i * n + c]; });
  return channels;
}

function joined(a, b) {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

async function loadSpectrogram(path) {
  const { values, headers } = await api.bytes(`${path}/spectrogram`);
  return { levels: values, columns: +headers.get("X-Columns"), rows: +headers.get("X-Rows"), hop: +headers.get("X-Hop-S") };
}

function hear(name) {
  player.hear(name);
  refresh();
}

/** The curves that were measured of the sound; a MIDI file and drawn curves have none. */
const inputCurves = ({ curves }) => (curves.input_f0_hz ? { f0_hz: curves.input_f0_hz, level_db: curves.input_level_db } : null);

/** Shows what is audible. */
function refresh() {
  const name = player.audible, result = results.get(name);
  showSources();
  follow();
  $("#play").disabled = !player.names.length;
  $("#position").max = player.duration.toFixed(2);
  const remarks = [...(result?.about.remarks ?? [])];
  if (result?.about.curves) remarks.push("The curves that you drew are played as they are: only formant and room change them.");
  if (result?.about.n_voices > 1) remarks.push(`${result.about.n_voices} voices play. The curves are those of the highest one; what you draw is played as one line.`);
  $("#remarks").replaceChildren(...remarks.map((remark) => el("li", {}, remark)));
  const rows = (result?.about.notes ?? []).map((note) => el("tr", {}, ...[note.name, note.start_s.toFixed(2), note.stop_s.toFixed(2), Math.round(note.cents)].map((cell) => el("td", {}, `${cell}`))));
  $("#notes tbody").replaceChildren(...rows);
  $("#notes summary").textContent = rows.length ? `Notes (${rows.length})` : "Notes";
  controls?.showCommand((result ?? [...results.values()][0])?.about.command ?? "");
  for (const button of $("#downloads").children) button.disabled = button.id === "download-input" ? !take : !result;
  const drawing = result && drawings.get(key(name));
  $("#draw-undo").disabled = $("#draw-reset").disabled = !drawing;
  if (result) {
    view.show({
      seconds: Math.max(result.pcm.length / result.about.rate_hz, result.about.n_frames / result.about.frame_rate_hz), pcm: result.pcm, rate: result.about.rate_hz, spectrogram: result.spectrogram,
      curves: result.curves, input: inputCurves(result), frameRate: result.about.frame_rate_hz, notes: result.about.notes,
    });
    if (!result.asked) {
      // Not while a control moves: the picture of the result before stays until the hand rests.
      result.asked = true;
      setTimeout(async () => {
        if (results.get(name) !== result) return;
        try {
          result.spectrogram = await loadSpectrogram(`api/played/${result.about.id}`);
          if (results.get(player.audible) === result) refresh();
        } catch (problem) { sayError(problem); }
      }, PICTURE_AFTER_MS);
    }
  } else if (take?.pcm) {
    // What was measured is the same for every instrument; notes are given as they are played.
    const measured = [...results.values()].find(inputCurves), shift = measured?.about.transpose ?? 0;
    view.show({
      seconds: take.pcm.length / take.rate_hz, pcm: take.pcm, rate: take.rate_hz, spectrogram: voicePicture,
      input: measured && inputCurves(measured), frameRate: measured?.about.frame_rate_hz,
      notes: measured?.about.notes.map((note) => ({ ...note, midi: note.midi - shift, name: noteName(note.midi - shift) })),
    });
    if (voicePicture === null) {
      const mine = take;
      voicePicture = undefined;
      loadSpectrogram(`api/takes/${take.id}`).then((picture) => {
        if (take === mine) { voicePicture = picture; refresh(); }
      }).catch(sayError);
    }
  }
}

function showSources() {
  const names = [...(take?.kind === "sound" ? [VOICE] : []), ...chosen];
  const place = $("#sources"), had = place.contains(document.activeElement);
  place.replaceChildren(...names.map((name) => el("button", {
    role: "radio", "aria-checked": name === player.audible, tabindex: name === player.audible ? 0 : -1, onclick: () => hear(name),
  }, name.replaceAll("_", " "))));
  if (had) place.querySelector("[aria-checked=true]")?.focus();
}

$("#sources").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const names = [...(take?.kind === "sound" ? [VOICE] : []), ...chosen];
  hear(names[(names.indexOf(player.audible) + step + names.length) % names.length]);
});

// --- drawing ---

view.addEventListener("drawstart", () => {
  const result = results.get(player.audible);
  if (!result) return;
  const drawing = drawings.get(key(player.audible)) ?? { id: "", past: [] };
  drawing.past.push({ id: drawing.id });
  drawing.past.splice(0, drawing.past.length - 50);
  drawings.set(key(player.audible), drawing);
});

view.addEventListener("drawn", () => sendDrawing());

async function sendDrawing() {
  const instrument = player.audible, result = results.get(instrument), drawing = drawings.get(key(instrument));
  const { f0_hz, level_db, gate } = result.curves;
  const body = new Float32Array(3 * f0_hz.length);
  body.set(f0_hz, 0);
  body.set(level_db, f0_hz.length);
  body.set(gate, 2 * f0_hz.length);
  try {
    const { curves } = await api.post(`api/draw?take=${take.id}&instrument=${encodeURIComponent(words(instrument))}`, body);
    drawing.id = curves;
    await replay();
  } catch (problem) { sayError(problem); }
}

$("#curves-file").onchange = async (event) => {
  const [file] = event.target.files, instrument = player.audible, result = results.get(instrument);
  event.target.value = "";
  if (!file || !result) { say("Choose an instrument to play the curves.", true); return; }
  try {
    const asked = new URLSearchParams({ take: take.id, instrument: words(instrument), name: file.name });
    const { curves } = await api.post(`api/curves?${asked}`, file);
    const drawing = drawings.get(key(instrument)) ?? { id: "", past: [] };
    drawing.past.push({ id: drawing.id });
    drawing.id = curves;
    drawings.set(key(instrument), drawing);
    await replay();
  } catch (problem) { sayError(problem); }
};

$("#draw-undo").onclick = () => {
  const drawing = drawings.get(key(player.audible)), before = drawing?.past.pop();
  if (!before) return;
  if (before.id) drawing.id = before.id; else drawings.delete(key(player.audible));
  replay();
};

$("#draw-reset").onclick = () => { drawings.delete(key(player.audible)); replay(); };

for (const input of document.querySelectorAll("[name=tool]")) {
  input.onchange = () => {
    view.tool = input.value;
    $("#views").classList.toggle("drawing", input.value !== "seek");
  };
}

// --- transport ---

view.addEventListener("seek", (event) => player.seek(event.detail));
$("#play").onclick = () => (player.playing ? player.pause() : player.play());
$("#position").oninput = (event) => player.seek(+event.target.value);
$("#loop").onchange = (event) => { player.loop = event.target.checked; };
$("#match").onchange = (event) => player.setMatch(event.target.checked);
$("#zoom-in").onclick = () => view.zoom(1 / 1.5);
$("#zoom-out").onclick = () => view.zoom(1.5);
$("#zoom-all").onclick = () => view.all();
$("#work-cancel").onclick = () => { running?.abort(); $("#work").hidden = true; say("Cancelled."); };

player.addEventListener("state", () => {
  $("#play").firstElementChild.textContent = player.playing ? "❚❚" : "▶";
  $("#play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  follow();
});
player.addEventListener("place", follow);

function follow() {
  player.tick();
  view.moveTo(player.position);
  $("#position").value = player.position;
  $("#clock").textContent = `${clock(player.position)} / ${clock(player.duration)}`;
  if (player.playing) requestAnimationFrame(follow);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.target.closest("button, input, select, textarea, summary, a")) return;
  event.preventDefault();
  $("#play").click();
});

// --- downloads, tabs, colours, the end ---

/** Saves the content of an address, under the name that the server gives it. */
async function save(address) {
  const { blob, name } = await api.file(address);
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  say(`Saved ${name}.`);
}

for (const [kind, label] of [...DOWNLOADS, ["input", "Input"]]) {
  const button = el("button", { id: `download-${kind}`, disabled: true }, label);
  button.onclick = async () => {
    button.disabled = true;
    try {
      await save(kind === "input" ? `api/takes/${take.id}/file` : `api/played/${results.get(player.audible).about.id}/download/${kind}`);
    } catch (problem) { sayError(problem); }
    button.disabled = false;
  };
  $("#downloads").append(button);
}

const tabs = [...document.querySelectorAll("[role=tab]")];
for (const tab of tabs) {
  tab.onclick = () => openTab(tab);
  tab.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    openTab(next);
    next.focus();
  };
}

function openTab(tab) {
  for (const other of tabs) {
    const open = other === tab;
    other.setAttribute("aria-selected", open);
    other.tabIndex = open ? 0 : -1;
    $(`#${other.getAttribute("aria-controls")}`).hidden = !open;
  }
  document.dispatchEvent(new CustomEvent("tab", { detail: tab.id }));
  if (tab.id !== "tab-play") player.pause();
}

const theme = $("#theme");
theme.value = localStorage.getItem("theme") ?? "auto";
theme.onchange = () => {
  localStorage.setItem("theme", theme.value);
  paint();
};
function paint() {
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  view.recolour();
}
paint();

$("#quit").onclick = async () => {
  if (!confirm("End the studio? Your recordings are kept.")) return;
  try { await api.post("api/quit"); } catch { /* it left before it answered */ }
  document.body.replaceChildren(el("p", { class: "box" }, "The studio is closed. You can close this page."));
};

// --- drop, choose, record ---

const drop = $("#drop");
addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", () => drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const files = [...event.dataTransfer.files];
  if (!$("#panel-teach").hidden) teach.addFiles(files);
  else if (!$("#panel-play").hidden) addFiles(files);
});
$("#files").onchange = (event) => { addFiles([...event.target.files]); event.target.value = ""; };

const recorder = new Recorder($("#recorder"), (file, name) => addFiles([new File([file], name)]));
$("#record-open").onclick = () => { player.pause(); recorder.open(); };

// --- another page may have changed something ---

addEventListener("focus", async () => {
  if (!controls) return;
  try {
    const now = await api.getJson("api/state");
    const same = (name) => JSON.stringify(now[name]) === JSON.stringify(state[name]);
    if (!same("takes")) { state.takes = now.takes; showTakes(); }
    if (!same("instruments")) { state.instruments = now.instruments; showInstruments(); showBlend(); }
    if (!same("presets")) { state.presets = now.presets; controls.setPresets(now.presets); }
  } catch { /* the server has left: the next request says so */ }
});

// --- beginning ---

try {
  state = await api.getJson("api/state");
  controls = new Controls($("#controls"), state);
  controls.addEventListener("change", () => replay());
  const live = new Live($("#panel-live"), state, (file, name) => { openTab($("#tab-play")); addFiles([new File([file], name)]); });
  teach = new Teach($("#panel-teach"), state);
  teach.addEventListener("play", async ({ detail }) => {
    state.instruments = (await api.getJson("api/state")).instruments;
    showBlend();
    openTab($("#tab-play"));
    chooseInstrument(state.instruments.find((one) => one.name === detail));
    await replay();
  });
  document.addEventListener("tab", ({ detail }) => {
    if (detail !== "tab-live") live.stop();
    if (detail === "tab-teach") teach.open(); else teach.close();
  });
  showInstruments();
  showBlend();
  showTakes();
  $("#kept").textContent = `Your sounds stay on this computer, in ${state.folder}.`;
  refresh();
  if (state.takes.length) await chooseTake(state.takes[0].id);
  document.documentElement.dataset.ready = "yes";
} catch (problem) {
  sayError(problem);
}
