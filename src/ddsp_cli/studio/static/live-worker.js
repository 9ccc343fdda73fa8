// Between the audio thread and the server, so that drawing the page never delays the sound.

let port = null, socket = null, wanted = null;

onmessage = ({ data }) => {
  if (data.port) { port = data.port; port.onmessage = (event) => send(event.data); }
  if (data.wanted) wanted = data.wanted; // what changes before the line is open is sent when it opens
  if (data.address) open(data.address);
  else if (data.wanted && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wanted));
  if (data.close) { socket?.close(); close(); }
};

function open(address) {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(wanted));
  socket.onclose = () => postMessage({ closed: true });
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") { postMessage(JSON.parse(data)); return; }
    const view = new DataView(data);
    const samples = new Float32Array(data, 16);
    const [load, input_hz, output_hz] = [4, 8, 12].map((at) => view.getFloat32(at, true));
    port?.postMessage({ number: view.getUint32(0, true), load, f0: [input_hz, output_hz], samples });
  };
}

function send({ number, samples }) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const message = new ArrayBuffer(4 + 4 * samples.length);
  new DataView(message).setUint32(0, number, true);
  new Float32Array(message, 4).set(samples);
  socket.send(message);
}
