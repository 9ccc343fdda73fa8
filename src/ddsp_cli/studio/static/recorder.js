// Records the microphone: meter, waveform, count-in, trim. The result is a WAV file of 32-bit floats.

import { $, clock, colour, el, say, sayError } from "./dom.js";

const BEATS = 4, TEMPO_BPM = 100, LONGEST_S = 1200;

/** Opens the microphone without the processing that browsers add for telephony; `extra` are more of its constraints. */
export async function openMicrophone(extra = {}) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("this browser gives the page no microphone");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1, ...extra },
    });
  } catch (problem) {
    const reasons = { NotAllowedError: "the browser was not allowed to use the microphone", NotFoundError: "there is no microphone" };
    throw new Error(reasons[problem.name] ?? `the microphone cannot be used: ${problem.message}`);
  }
}

/** Ends a microphone and its context; either may not have been made. */
export function release(stream, context) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  context?.close();
}

export class Recorder {
  #pieces = [];
  #n = 0;
  #rate = 48000;
  #opening = false;
  #running = null; // what has to be closed
  #recording = false;
  #peak = 0;

  /** @param box where it is shown; @param keep called with the blob of a WAV file and a name */
  constructor(box, keep) {
    this.box = box;
    this.keep = keep;
  }

  async open() {
    if (this.#opening || this.#running) return;
    this.#opening = true;
    let stream = null, context = null;
    try {
      stream = await openMicrophone();
      context = new AudioContext({ latencyHint: "interactive" });
      await context.audioWorklet.addModule("static/recorder-worklet.js");
      const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream }); // Firefox refuses other sample rates
      const node = new AudioWorkletNode(context, "recorder", { numberOfInputs: 1, numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      source.connect(node);
      node.port.onmessage = ({ data }) => this.#take(data);
    } catch (problem) {
      release(stream, context);
      sayError(problem);
      return;
    } finally {
      this.#opening = false;
    }
    this.#rate = context.sampleRate;
    this.#running = { stream, context };
    stream.getAudioTracks()[0].onended = () => { say("The microphone was unplugged; the recording so far is here.", true); this.#stop(); };
    this.#showReady();
    this.#draw();
  }

  close() {
    if (this.#running) {
      release(this.#running.stream, this.#running.context);
      this.#running = null;
    }
    this.#recording = false;
    this.box.hidden = true;
    this.box.replaceChildren();
  }

  #showReady() {
    this.#pieces = [];
    this.#n = 0;
    this.meter = el("meter", { min: -60, max: 0, low: -50, high: -3, optimum: -20, value: -60, "aria-label": "Input level in dB" });
    this.canvas = el("canvas", { role: "img", "aria-label": "Waveform of the recording", height: 70 });
    this.canvas.style.width = "100%";
    this.time = el("output", { class: "clock" }, "0:00.0");
    this.countIn = el("input", { type: "checkbox", id: "count-in" });
    this.button = el("button", { class: "primary", id: "record-start", onclick: () => (this.#recording ? this.#stop() : this.#start()) }, "Start recording");
    this.box.hidden = false;
    this.box.replaceChildren(
      this.meter, this.canvas,
      el("p", { class: "row" }, this.button, el("button", { onclick: () => this.close() }, "Close"),
        el("label", { class: "inline" }, this.countIn, "Count-in"), this.time));
    this.button.focus();
  }

  async #start() {
    this.button.disabled = true;
    if (this.countIn.checked) await this.#count();
    if (!this.#running) return;
    this.#pieces = [];
    this.#n = 0;
    this.#recording = true;
    this.button.disabled = false;
    this.button.textContent = "Stop";
    say("Recording.");
  }

  async #count() {
    const { context } = this.#running;
    const beat = 60 / TEMPO_BPM;
    await context.resume();
    for (let i = 0; i < BEATS; i++) {
      const click = new OscillatorNode(context, { frequency: i ? 880 : 1320 });
      const gain = new GainNode(context, { gain: 0 });
      const at = context.currentTime + 0.05;
      gain.gain.setValueAtTime(0.25, at);
      gain.gain.exponentialRampToValueAtTime(0.001, at + 0.08);
      click.connect(gain).connect(context.destination);
      click.start(at);
      click.stop(at + 0.1);
      this.button.textContent = `${BEATS - i}`;
      say(`${BEATS - i}`);
      await new Promise((done) => setTimeout(done, 1000 * beat));
      if (!this.#running) return;
    }
  }

  #take(piece) {
    let peak = 0;
    for (const sample of piece) peak = Math.max(peak, Math.abs(sample));
    this.#peak = Math.max(peak, this.#peak * 0.9);
    if (!this.#recording) return;
    this.#pieces.push(piece);
    this.#n += piece.length;
    if (this.#n > LONGEST_S * this.#rate) this.#stop();
  }

  #draw() {
    if (!this.#running || !this.meter.isConnected) return;
    this.meter.value = Math.max(-60, 20 * Math.log10(this.#peak + 1e-6));
    this.time.textContent = clock(this.#n / this.#rate);
    const recent = this.#pieces.slice(-200);
    drawWaveform(this.canvas, (i) => {
      const piece = recent[recent.length - 200 + i];
      return piece ? [Math.min(...piece), Math.max(...piece)] : [0, 0];
    }, 200);
    requestAnimationFrame(() => this.#draw());
  }

  #stop() {
    if (!this.#recording) return;
    this.#recording = false;
    const audio = new Float32Array(this.#n);
    let at = 0;
    for (const piece of this.#pieces) { audio.set(piece, at); at += piece.length; }
    if (!audio.length) { this.#showReady(); return; }
    this.#showTrim(audio);
  }

  #showTrim(audio) {
    const rate = this.#rate, seconds = audio.length / rate;
    const [first, last] = loudPart(audio, rate);
    const slider = (id, label, value) => el("input", { type: "range", id, min: 0, max: seconds.toFixed(2), step: 0.01, value: value.toFixed(2), "aria-label": label });
    const from = slider("trim-from", "Begin in seconds", first), to = slider("trim-to", "End in seconds", last);
    const length = el("output", { class: "clock" });
    const canvas = el("canvas", { role: "img", "aria-label": "Waveform of the recording", height: 90 });
    canvas.style.width = "100%";
    const part = () => audio.slice(Math.floor(+from.value * rate), Math.ceil(+to.value * rate));
    const show = () => {
      const step = audio.length / 600;
      drawWaveform(canvas, (i) => extremes(audio, i * step, (i + 1) * step), 600, +from.value / seconds, +to.value / seconds);
      length.textContent = `${clock(Math.max(0, to.value - from.value))} of ${clock(seconds)}`;
      keep.disabled = to.value - from.value < 0.1;
    };
    let playing = null;
    const listen = el("button", { onclick: () => {
      playing?.stop();
      const samples = part(), buffer = new AudioBuffer({ length: Math.max(1, samples.length), numberOfChannels: 1, sampleRate: rate });
      buffer.copyToChannel(samples, 0);
      playing = new AudioBufferSourceNode(this.#running.context, { buffer });
      playing.connect(this.#running.context.destination);
      playing.start();
    } }, "Listen");
    const keep = el("button", { class: "primary", id: "record-keep", onclick: () => {
      const name = `recording ${new Date().toTimeString().slice(0, 8).replaceAll(":", "-")}.wav`;
      const file = wav(part(), rate);
      this.close();
      this.keep(file, name);
    } }, "Use it");
    from.oninput = () => { if (+from.value > +to.value) to.value = from.value; show(); };
    to.oninput = () => { if (+to.value < +from.value) from.value = to.value; show(); };
    this.box.replaceChildren(canvas,
      el("label", {}, "Begin ", from), el("label", {}, "End ", to),
      el("p", { class: "row" }, keep, listen, el("button", { onclick: () => this.#showAgain() }, "Record again"),
        el("button", { onclick: () => this.close() }, "Discard"), length));
    show();
    keep.focus();
    say("Recorded. Trim it, then use it.");
  }

  #showAgain() { this.#showReady(); this.#draw(); }
}

/** From where to where a recording is not silence, in seconds, with a little before and after. */
function loudPart(audio, rate) {
  const hop = Math.round(rate / 50);
  let peak = 0;
  const levels = [];
  for (let start = 0; start < audio.length; start += hop) {
    const [low, high] = extremes(audio, start, start + hop);
    levels.push(Math.max(high, -low));
    peak = Math.max(peak, levels.at(-1));
  }
  const loud = (level) => level > 0.03 * peak;
  const first = Math.max(0, levels.findIndex(loud)), last = levels.findLastIndex(loud);
  return [Math.max(0, first / 50 - 0.2), Math.min(audio.length / rate, (last + 1) / 50 + 0.4)];
}

export function extremes(audio, start, stop) {
  let low = Infinity, high = -Infinity;
  const end = Math.min(Math.max(Math.floor(stop), Math.floor(start) + 1), audio.length);
  for (let i = Math.floor(start); i < end; i++) {
    if (audio[i] < low) low = audio[i];
    if (audio[i] > high) high = audio[i];
  }
  return low > high ? [0, 0] : [low, high];
}

function drawWaveform(canvas, at, n, from = 0, to = 1) {
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio), height = canvas.height;
  const context = canvas.getContext("2d");
  context.fillStyle = colour("chosen");
  context.fillRect(from * width, 0, (to - from) * width, height);
  context.fillStyle = colour("voice");
  for (let i = 0; i < n; i++) {
    const [low, high] = at(i), y = height / 2;
    context.fillRect((i / n) * width, y - high * y, Math.max(1, width / n), Math.max(1, (high - low) * y));
  }
}

/** A WAV file of 32-bit floats. */
export function wav(samples, rate) {
  const head = new DataView(new ArrayBuffer(44));
  const word = (at, text) => [...text].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF"); head.setUint32(4, 36 + 4 * samples.length, true); word(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 3, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, 4 * rate, true); head.setUint16(32, 4, true); head.setUint16(34, 32, true);
  word(36, "data"); head.setUint32(40, 4 * samples.length, true);
  return new Blob([head, samples], { type: "audio/wav" });
}
