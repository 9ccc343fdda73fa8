// The audio thread of the live part: sends the microphone in blocks, plays what comes back in order.
//
// Both ends count samples of the same clock, so the delay of a block is measured exactly: the frame in which its first
// sample is played, less the frame in which it was recorded.

const MAX_WAITING_S = 0.5;

// Most blocks need next to nothing, the one that completes a frame of the instrument needs some milliseconds.
const FIRST_WAITING_S = 0.012;

// Samples that waited during all of this time, less a reserve, are needless delay. They are left out: in quiet sound by
// dropping samples, else by a crossfade.
const WATCHED_S = 3, RESERVE_S = 0.004, FADE_SAMPLES = 128;

const PIECE_SAMPLES = 4096; // of a recording, as it is handed over

class Live extends AudioWorkletProcessor {
  #block;
  #n = 0;
  #number = 0;
  #first = 0; // frame of the first sample of the block that is filled
  #queue = []; // { samples, recordedAt, at }
  #waiting = 0; // samples in the queue
  #target; // samples that have to wait before playing begins, or begins again
  #playing = false;
  #recordedAt = new Map(); // number of a block → frame
  #port = null;
  #dropouts = 0;
  #delay = 0;
  #load = 0;
  #f0 = [0, 0]; // Hz of input and output
  #peaks = [0, 0];
  #nextReport = 0;
  #least = Infinity; // samples that were left after playing, at least, since `watchedFrom`
  #watchedFrom = 0;
  #recording = null; // { input, played, n }: what is not handed over yet

  constructor(options) {
    super();
    this.#block = new Float32Array(options.processorOptions.block);
    this.#target = Math.max(this.#block.length, FIRST_WAITING_S * sampleRate);
    this.port.onmessage = ({ data }) => {
      if (data.record !== undefined) { this.#record(data.record); return; }
      this.#port = data;
      this.#port.onmessage = (event) => this.#arrived(event.data);
    };
  }

  #arrived({ number, load, f0, samples }) {
    this.#f0 = f0;
    const recordedAt = this.#recordedAt.get(number);
    this.#recordedAt.delete(number);
    this.#queue.push({ samples, recordedAt, at: 0 });
    this.#waiting += samples.length;
    this.#load += 0.01 * (load - this.#load); // only every few blocks complete a frame, so the mean counts
    while (this.#waiting > MAX_WAITING_S * sampleRate) this.#drop();
    // After a stall more samples wait than needed: the surplus would be a permanent delay.
    while (this.#waiting > this.#target + 4 * this.#block.length && this.#queue.length > 1) this.#drop();
  }

  #drop() {
    const first = this.#queue.shift();
    this.#waiting -= first.samples.length - first.at;
  }

  process([input], [output]) {
    const sung = input[0], out = output[0], n = out.length;
    for (let i = 0; i < n; i++) {
      if (!this.#n) this.#first = currentFrame + i;
      const sample = sung ? sung[i] : 0;
      this.#block[this.#n++] = sample;
      this.#peaks[0] = Math.max(this.#peaks[0], Math.abs(sample));
      if (this.#n === this.#block.length) this.#send();
    }
    if (!this.#playing && this.#waiting >= this.#target + n) this.#playing = true;
    if (this.#playing && this.#waiting < n) { // an under-run: from now on one block more waits
      this.#playing = false;
      this.#dropouts++;
      this.#target = Math.min(this.#target + this.#block.length, MAX_WAITING_S * 0.5 * sampleRate);
      this.#watch();
    }
    if (this.#playing) {
      this.#take(out, currentFrame);
      for (let i = 0; i < n; i++) this.#peaks[1] = Math.max(this.#peaks[1], Math.abs(out[i]));
      this.#least = Math.min(this.#least, this.#waiting);
      if (currentFrame - this.#watchedFrom > WATCHED_S * sampleRate) this.#shorten(out);
    }
    if (this.#recording) this.#keep(sung, out);
    if (currentFrame >= this.#nextReport) {
      this.port.postMessage({ delay_s: this.#delay / sampleRate, dropouts: this.#dropouts, load: this.#load, f0: this.#f0, peaks: this.#peaks });
      this.#peaks = [0, 0];
      this.#nextReport = currentFrame + 0.1 * sampleRate;
    }
    return true;
  }

  /** Takes the next samples out of the queue, of which there are enough. */
  #take(out, frame) {
    for (let i = 0; i < out.length; i++) {
      const first = this.#queue[0];
      if (first.at === 0 && first.recordedAt !== undefined) this.#delay = frame + i - first.recordedAt;
      out[i] = first.samples[first.at++];
      if (first.at === first.samples.length) this.#queue.shift();
    }
    this.#waiting -= out.length;
  }

  #watch() {
    this.#least = Infinity;
    this.#watchedFrom = currentFrame;
  }

  /** Leaves out samples that waited needlessly: fades from the samples due now to those due later. */
  #shorten(out) {
    const surplus = Math.floor(this.#least - RESERVE_S * sampleRate);
    if (surplus >= FADE_SAMPLES && out.length === FADE_SAMPLES) {
      const skipped = Math.min(surplus, 4 * FADE_SAMPLES), later = new Float32Array(skipped);
      this.#take(later, currentFrame);
      const tail = later.subarray(skipped - FADE_SAMPLES);
      for (let i = 0; i < FADE_SAMPLES; i++) out[i] += ((i + 1) / FADE_SAMPLES) * (tail[i] - out[i]);
      this.#target = Math.max(this.#target - skipped, this.#block.length);
    }
    this.#watch();
  }

  #record(on) {
    if (!on && this.#recording) this.#handOver(true);
    this.#recording = on ? { input: new Float32Array(PIECE_SAMPLES), played: new Float32Array(PIECE_SAMPLES), n: 0 } : null;
  }

  #keep(sung, out) {
    const { input: a, played: b, n } = this.#recording;
    if (sung) a.set(sung, n); else a.fill(0, n, n + out.length);
    b.set(out, n);
    this.#recording.n += out.length;
    if (this.#recording.n + out.length > PIECE_SAMPLES) {
      this.#handOver();
      this.#record(true);
    }
  }

  #handOver(isLast = false) {
    const { input, played, n } = this.#recording;
    this.#recording = null;
    this.port.postMessage({ input: input.subarray(0, n), played: played.subarray(0, n), isLast });
  }

  #send() {
    this.#n = 0;
    if (!this.#port) return;
    this.#recordedAt.set(this.#number, this.#first);
    if (this.#recordedAt.size > 1000) this.#recordedAt.clear();
    this.#port.postMessage({ number: this.#number, samples: this.#block.slice() });
    this.#number = (this.#number + 1) >>> 0;
  }
}

registerProcessor("live", Live);
