// The microphone through an instrument, live.

import { $, el, hzToMidi, noteName, say, sayError } from "./dom.js";
import { openMicrophone, release, wav } from "./recorder.js";

/** 445 Hz → "A4 +20" */
const tone = (hz) => {
  const midi = hzToMidi(hz), cents = Math.round(100 * (midi - Math.round(midi)));
  return `${noteName(midi)} ${cents < 0 ? "−" : "+"}${Math.abs(cents)}`;
};

const BLOCKS = [128, 256, 512, 1024];

const MAX_RECORDED_S = 1200; // as long as a sound of the studio may be

const LAST_PIECE_MS = 1000; // so long a recording waits for its last piece, which an audio thread that ended cannot send

export class Live {
  #running = null;
  #pieces = null; // of the recording that runs, until its last piece is there: { input, played, n, complete, ended }
  #recordedRate = 0;

  /** @param keep called with the blob of a WAV file and a name, to play it again with other instruments */
  constructor(place, state, keep) {
    this.keep = keep;
    const playable = state.instruments.filter((one) => !one.problem && one.rate_hz % 16000 === 0);
    const select = (id, pairs, value) => {
      const element = el("select", { id, onchange: () => this.#change() }, ...pairs.map(([word, text]) => el("option", { value: word }, text)));
      element.value = value;
      return element;
    };
    const slider = (id, min, max, step, value, show) => {
      const output = el("output", { for: id }, show(value));
      const input = el("input", { type: "range", id, min, max, step, value, oninput: () => { output.textContent = show(+input.value); this.#change(); } });
      return [input, output];
    };
    this.instrument = select("live-instrument", playable.map((one) => [one.name, `${one.name.replaceAll("_", " ")} (${one.lowest} to ${one.highest})`]), playable.some((one) => one.name === "flute") ? "flute" : playable[0]?.name);
    this.octave = select("live-octave", [24, 12, 7, 5, 0, -5, -7, -12, -24].map((n) => [n, n ? `${n > 0 ? "+" : ""}${n} semitones` : "As sung"]), 0);
    this.room = select("live-room", [["model", "The instrument's own"], ["none", "None"], ...state.instruments.filter((one) => one.has_room).map((one) => [one.name, `As ${one.name}`])], "model");
    this.block = select("live-block", BLOCKS.map((n) => [n, `${n} samples`]), 256);
    this.latency = select("live-latency", [["safe", "Exact"], ["low", "Low: 26 ms less, F0 less exact"]], "safe");
    this.record = el("button", { id: "live-record", disabled: true, "aria-pressed": false, onclick: () => (this.#pieces ? this.#endRecording() : this.#beginRecording()) }, "Record");
    this.recorded = el("div", { id: "live-recorded", hidden: true });
    const [level, levelShown] = slider("live-level", -20, 20, 1, 0, (v) => `${v} dB`);
    const [formant, formantShown] = slider("live-formant", -12, 12, 1, 0, (v) => `${v} semitones`);
    const [wet, wetShown] = slider("live-wet", 0, 2, 0.05, 1, (v) => `${Math.round(100 * v)} %`);
    Object.assign(this, { level, formant, wet });
    this.start = el("button", { class: "primary", id: "live-start", onclick: () => (this.#running ? this.stop() : this.#begin()) }, "Start");
    const meter = (id, label) => el("meter", { id, min: -60, max: 0, low: -50, high: -3, optimum: -20, value: -60, "aria-label": label });
    this.meters = [meter("live-in", "Input level in dB"), meter("live-out", "Output level in dB")];
    const fact = (id, label) => el("div", {}, el("dt", {}, label), el("dd", { id }, "–"));
    const labelled = (label, input, output) => el("div", { class: "control" }, el("div", { class: "row" }, el("label", { for: input.id }, label), output ?? null), input);
    place.replaceChildren(el("section", { "aria-labelledby": "live-heading" },
      el("h2", { id: "live-heading" }, "Live"),
      el("p", {}, "Sing, and hear the instrument at once. Use headphones: the microphone would hear loudspeakers."),
      el("p", { class: "row" }, this.start, this.record, el("output", { id: "live-recorded-s" })),
      this.recorded,
      labelled("Input", this.meters[0]), labelled("Output", this.meters[1]),
      el("dl", { class: "facts" }, fact("live-input", "You sing"), fact("live-played", "It plays"), fact("live-trip", "Round trip (measured)"), fact("live-own", "in the instrument"), fact("live-way", "to the server and back"), fact("live-audio", "in the browser's output"), fact("live-load", "Load of one core"), fact("live-dropouts", "Drop-outs")),
      labelled("Instrument", this.instrument), labelled("Octave", this.octave), labelled("Level", level, levelShown), labelled("Formant", formant, formantShown),
      labelled("Room", this.room), labelled("Room dry/wet", wet, wetShown), labelled("Delay", this.latency), labelled("Block (larger where there are drop-outs)", this.block)));
    this.block.onchange = () => { if (this.#running) { this.stop(); this.#begin(); } };
  }

  #wanted() {
    return { instrument: this.instrument.value, settings: { transpose: +this.octave.value, loudness: +this.level.value, formant: +this.formant.value, room: this.room.value, wet: +this.wet.value, latency: this.latency.value } };
  }

  #waiting = 0;

  #change() {
    clearTimeout(this.#waiting);
    this.#waiting = setTimeout(() => this.#running?.worker.postMessage({ wanted: this.#wanted() }), 80);
  }

  async #begin() {
    this.start.disabled = true;
    let stream = null, context = null, worker = null;
    try {
      stream = await openMicrophone({ latency: { ideal: 0 } });
      context = new AudioContext({ latencyHint: 0 });
      await context.audioWorklet.addModule("static/live-worklet.js");
      const node = new AudioWorkletNode(context, "live", { numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [1], channelCount: 1, channelCountMode: "explicit", processorOptions: { block: +this.block.value } });
      worker = new Worker("static/live-worker.js");
      const channel = new MessageChannel();
      node.port.postMessage(channel.port1, [channel.port1]);
      worker.postMessage({ port: channel.port2 }, [channel.port2]);
      const address = new URL(`live?rate=${context.sampleRate}`, document.baseURI);
      address.protocol = "ws:";
      node.port.onmessage = ({ data }) => (data.played ? this.#recordedPiece(data) : this.#report(data));
      new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(node).connect(context.destination);
      await context.resume();
      stream.getAudioTracks()[0].onended = () => { this.stop(); say("The microphone was unplugged.", true); };
      this.#running = { stream, context, worker, node, latency_s: 0, began: performance.now() };
      this.start.textContent = "Stop";
      this.record.disabled = false;
      say("Live.");
      // now that an answer, such as a refusal, is shown
      worker.onmessage = ({ data }) => this.#answered(data);
      worker.postMessage({ address: address.href, wanted: this.#wanted() });
    } catch (problem) {
      release(stream, context);
      worker?.terminate();
      sayError(problem);
    }
    this.start.disabled = false;
  }

  stop() {
    if (!this.#running) return;
    const { stream, context, worker } = this.#running;
    const recorded = this.#pieces ? this.#endRecording() : Promise.resolve();
    this.#running = null;
    this.record.disabled = true;
    worker.postMessage({ close: true });
    recorded.then(() => release(stream, context));
    this.start.textContent = "Start";
    for (const meter of this.meters) meter.value = -60;
  }

  #beginRecording() {
    this.#pieces = { input: [], played: [], n: 0 };
    this.#recordedRate = this.#running.context.sampleRate;
    this.#running.node.port.postMessage({ record: true });
    this.record.textContent = "Stop recording";
    this.record.setAttribute("aria-pressed", true);
    this.recorded.hidden = true;
  }

  #recordedPiece({ input, played, isLast }) {
    if (!this.#pieces) return;
    this.#pieces.input.push(input);
    this.#pieces.played.push(played);
    this.#pieces.n += played.length;
    const seconds = this.#pieces.n / this.#recordedRate;
    if (isLast) this.#pieces.complete?.();
    if (this.#pieces.ended) return;
    $("#live-recorded-s").textContent = `${seconds.toFixed(1)} s`;
    if (seconds >= MAX_RECORDED_S) this.#endRecording();
  }

  /** Ends the recording; returns a promise that is kept when it is offered. */
  #endRecording() {
    const pieces = this.#pieces, rate = this.#recordedRate;
    pieces.ended ??= new Promise((resolve) => {
      pieces.complete = resolve;
      setTimeout(resolve, LAST_PIECE_MS);
      this.#running.node.port.postMessage({ record: false });
      this.record.textContent = "Record";
      this.record.setAttribute("aria-pressed", false);
      $("#live-recorded-s").textContent = "";
    }).then(() => {
      this.#pieces = null;
      if (pieces.n) this.#offer(pieces, rate);
    });
    return pieces.ended;
  }

  /** Offers the recording: to hear, to save, and the voice to play again. */
  #offer(pieces, rate) {
    const file = (kind) => {
      const whole = new Float32Array(pieces.n);
      pieces[kind].reduce((at, piece) => { whole.set(piece, at); return at + piece.length; }, 0);
      return wav(whole, rate);
    };
    const played = file("played"), time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    const address = URL.createObjectURL(played), name = `live ${this.instrument.value} ${time}.wav`;
    const close = () => { URL.revokeObjectURL(address); this.recorded.hidden = true; this.recorded.replaceChildren(); };
    this.recorded.replaceChildren(el("div", { class: "box" },
      el("audio", { controls: true, src: address, "aria-label": "What the instrument played" }),
      el("p", { class: "row" },
        el("a", { class: "button primary", id: "live-save", href: address, download: name }, "Save WAV"),
        el("button", { id: "live-keep", onclick: () => { this.keep(file("input"), `voice ${time}.wav`); close(); } }, "Play my voice in Play"),
        el("button", { class: "quiet", id: "live-discard", onclick: close }, "Discard"))));
    this.recorded.hidden = false;
  }

  #answered({ latency_s, error, hint, closed }) {
    if (!this.#running) return;
    if (closed) {
      const reason = this.#running.problem ?? { message: "the studio has closed the line" };
      this.stop();
      sayError(reason);
      return;
    }
    this.#running.problem = error ? { message: error, hint } : null; // the line may be closed for it
    if (error) sayError(this.#running.problem);
    else this.#running.latency_s = latency_s;
  }

  #report({ delay_s, dropouts, load, f0, peaks }) {
    if (!this.#running) return;
    const { context, latency_s } = this.#running;
    this.meters.forEach((meter, i) => { meter.value = Math.max(-60, 20 * Math.log10(peaks[i] + 1e-6)); });
    const ms = (seconds) => `${Math.round(1000 * seconds)} ms`;
    $("#live-input").textContent = f0[0] ? tone(f0[0]) : "–";
    $("#live-played").textContent = f0[1] ? tone(f0[1]) : "–";
    const out_s = context.outputLatency || context.baseLatency || 0;
    $("#live-trip").textContent = delay_s ? ms(delay_s + latency_s + out_s) : "–";
    $("#live-own").textContent = ms(latency_s);
    $("#live-way").textContent = delay_s ? ms(delay_s) : "–";
    $("#live-audio").textContent = ms(out_s);
    $("#live-load").textContent = `${Math.round(100 * load)} %`;
    $("#live-dropouts").textContent = `${dropouts}`;
    if (load > 0.9) say("This computer cannot keep up: choose a larger block or a lighter instrument.", true);
  }
}
