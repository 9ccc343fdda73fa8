// Hands the microphone's samples to the page, in pieces of 1024.

class Recorder extends AudioWorkletProcessor {
  #piece = new Float32Array(1024);
  #n = 0;

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (let i = 0; i < samples.length; i++) {
      this.#piece[this.#n++] = samples[i];
      if (this.#n === this.#piece.length) {
        this.port.postMessage(this.#piece);
        this.#piece = new Float32Array(1024);
        this.#n = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
