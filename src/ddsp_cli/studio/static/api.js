// Requests of the page to the server. Addresses are relative: the token is part of the page's own address.

export class Problem extends Error {
  constructor({ error, hint = "", parameter = "" }) {
    super(error);
    this.hint = hint;
    this.parameter = parameter;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Problem({ error: "the studio does not answer", hint: "Start it again with: ddsp studio" });
  }
  if (response.ok) return response;
  let words = { error: `the studio answers ${response.status}` };
  try { words = await response.json(); } catch { /* no JSON: the status has to do */ }
  throw new Problem(words);
}

export const getJson = async (path, options) => (await ask(path, options)).json();
export const post = async (path, body, options = {}) =>
  (await ask(path, { method: "POST", body, ...options })).json();
export const postJson = (path, value, options) => post(path, JSON.stringify(value), options);
export const remove = async (path) => (await ask(path, { method: "DELETE" })).json();

/** A file, with the name that the server gives it. */
export async function file(path) {
  const response = await ask(path);
  const name = decodeURIComponent(response.headers.get("Content-Disposition").split("''")[1]);
  return { blob: await response.blob(), name };
}

export async function floats(path, signal) {
  const response = await ask(path, { signal });
  return { values: new Float32Array(await response.arrayBuffer()), headers: response.headers };
}

export async function bytes(path, signal) {
  const response = await ask(path, { signal });
  return { values: new Uint8Array(await response.arrayBuffer()), headers: response.headers };
}

/** Long work: calls `progress(doing, share)` and `onExcerpt(excerpt)` for its lines, returns its result. Abort the signal to cancel it. */
export async function work(path, value, progress, onExcerpt, signal) {
  const response = await ask(path, { method: "POST", body: JSON.stringify(value), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value: part, done } = await reader.read();
    if (done) throw new Problem({ error: "the studio has stopped in the middle of its work" });
    text += part;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const message = JSON.parse(line);
      if (message.error) throw new Problem(message);
      if (message.cancelled) throw new DOMException("cancelled", "AbortError");
      if (message.done) return message.done;
      if (message.excerpt) onExcerpt(message.excerpt);
      if (message.doing) progress(message.doing, message.share);
    }
  }
}
