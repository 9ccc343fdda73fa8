// Plays several sounds in step: all of them run, one of them is audible. So switching does not lose the place.

const FADE_S = 0.012;
const PATCH_FADE_S = 0.01; // where an excerpt takes over from the sound around it

export class Player extends EventTarget {
  #context = null;
  #sounds = new Map(); // name → { buffer, lufs, gain, nodes, patch: { buffer, from, to } or null }
  #audible = "";
  #playing = false;
  #startedAt = 0; // time of the context at which second 0 of the sounds was, or would have been
  #position = 0;
  loop = false;
  match = true;

  /** The context, made when it is first needed: browsers want a click before. */
  get context() {
    this.#context ??= new AudioContext({ latencyHint: "interactive" });
    return this.#context;
  }

  get audible() { return this.#audible; }
  get playing() { return this.#playing; }
  get names() { return [...this.#sounds.keys()]; }
  get duration() { return Math.max(0, ...[...this.#sounds.values()].map((sound) => sound.buffer.duration)); }

  get position() {
    return this.#playing ? Math.min(this.context.currentTime - this.#startedAt, this.duration) : this.#position;
  }

  /** Adds a sound, or replaces it while it plays; `channels` are arrays of samples. */
  set(name, channels, rate, lufs) {
    this.#replace(name, { buffer: bufferOf(channels, rate), lufs, gain: null, nodes: [], patch: null });
  }

  /** Puts an excerpt in place of a stretch of a sound, until the sound or the excerpt is replaced. */
  patch(name, channels, rate, lufs, from) {
    const sound = this.#sounds.get(name), buffer = bufferOf(channels, rate);
    if (sound) this.#replace(name, { buffer: sound.buffer, lufs, gain: null, nodes: [], patch: { buffer, from, to: from + buffer.duration } });
  }

  #replace(name, sound) {
    const position = this.position;
    this.#silence(this.#sounds.get(name));
    this.#sounds.set(name, sound);
    if (this.#playing) this.#start(sound, position);
    this.#levels();
    this.#notify("sounds");
  }

  /** Removes every sound but those named. */
  keep(names) {
    for (const [name, sound] of this.#sounds) {
      if (!names.includes(name)) {
        this.#silence(sound);
        this.#sounds.delete(name);
      }
    }
    if (!this.#sounds.size) this.stop();
    this.#notify("sounds");
  }

  hear(name) {
    this.#audible = name;
    this.#levels();
    this.#notify("sounds");
  }

  async play() {
    if (this.#playing || !this.#sounds.size) return;
    await this.context.resume();
    if (this.#position >= this.duration - 0.02) this.#position = 0;
    this.#begin(this.#position);
  }

  pause() {
    this.#position = this.position;
    this.#end();
  }

  stop() {
    this.#position = 0;
    this.#end();
  }

  seek(seconds) {
    const position = Math.min(Math.max(seconds, 0), this.duration);
    if (this.#playing) { this.#end(false); this.#begin(position); } else this.#position = position;
    this.#notify("place");
  }

  /** To be called for each picture: notices the end. */
  tick() {
    if (!this.#playing || this.context.currentTime - this.#startedAt < this.duration) return;
    if (this.loop) { this.#end(false); this.#begin(0); } else this.stop();
  }

  setMatch(match) { this.match = match; this.#levels(); }

  #begin(position) {
    this.#playing = true;
    this.#startedAt = this.context.currentTime - position;
    for (const sound of this.#sounds.values()) this.#start(sound, position);
    this.#levels();
    this.#notify("state");
  }

  #end(notify = true) {
    for (const sound of this.#sounds.values()) this.#silence(sound);
    this.#playing = false;
    if (notify) this.#notify("state");
  }

  #start(sound, position) {
    if (position >= sound.buffer.duration) return;
    const now = this.context.currentTime, begun = now - position; // when second 0 is, or was
    sound.gain = new GainNode(this.context, { gain: 0 });
    sound.gain.connect(this.context.destination);
    const play = (buffer, from) => {
      const source = new AudioBufferSourceNode(this.context, { buffer }), share = new GainNode(this.context);
      source.connect(share).connect(sound.gain);
      if (position <= from) source.start(begun + from, 0); else source.start(0, position - from);
      sound.nodes.push(source);
      return share.gain;
    };
    const whole = play(sound.buffer, 0);
    if (!sound.patch || sound.patch.to <= position) return;
    const { buffer, from, to } = sound.patch, patch = play(buffer, from);
    const fade = (gain, at, value) => {
      if (at <= position) { gain.setValueAtTime(value, now); return; }
      gain.setValueAtTime(1 - value, begun + at);
      gain.linearRampToValueAtTime(value, begun + at + PATCH_FADE_S);
    };
    patch.setValueAtTime(0, now);
    fade(patch, from, 1);
    fade(whole, from, 0);
    fade(whole, to - PATCH_FADE_S, 1);
    fade(patch, to - PATCH_FADE_S, 0);
  }

  #silence(sound) {
    if (!sound?.nodes.length) return;
    const { nodes, gain } = sound, now = this.context.currentTime;
    gain.gain.setTargetAtTime(0, now, FADE_S / 3);
    for (const node of nodes) node.stop(now + 4 * FADE_S);
    nodes[0].onended = () => gain.disconnect();
    sound.nodes = [];
    sound.gain = null;
  }

  /** Gains: 0 but for the audible one, turned down to the softest of all where loudness is matched. */
  #levels() {
    const known = [...this.#sounds.values()].map((sound) => sound.lufs).filter((lufs) => lufs != null);
    const softest = Math.min(...known);
    for (const [name, sound] of this.#sounds) {
      if (!sound.gain) continue;
      const matched = this.match && sound.lufs != null ? 10 ** ((softest - sound.lufs) / 20) : 1;
      sound.gain.gain.setTargetAtTime(name === this.#audible ? matched : 0, this.context.currentTime, FADE_S / 3);
    }
  }

  #notify(what) { this.dispatchEvent(new Event(what)); }
}

function bufferOf(channels, rate) {
  const buffer = new AudioBuffer({ length: Math.max(channels[0].length, 1), numberOfChannels: channels.length, sampleRate: rate });
  channels.forEach((samples, i) => buffer.copyToChannel(samples, i));
  return buffer;
}
