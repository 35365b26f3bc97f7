// A terminal in a rental: a ticket, a WebSocket, frames (kind, length in four bytes, payload).

import { Terminal } from "./xterm-6.0.0.mjs";
import { FitAddon } from "./addon-fit-0.11.0.mjs";

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const RESIZE = 3;
const EXIT = 5;
const HEAD_BYTES = 5;
const FRAME_BYTES_MAX = 32 * 1024;
/** Of what isn't shown yet there is so much at most: above 50 MB the terminal throws away what comes, and says so to nobody. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** What is said of a connection that ended before its program did, by its close code. */
const CLOSED = {
  1000: "The connection is closed.",
  1006: "The connection broke.",
  1008: "The rental has ended, or your access to it.",
  1012: "The market restarts.",
  4408: "Nothing happened for too long.",
  4502: "The connection to the rental's node broke.",
};

const place = document.getElementById("terminal");
const status = document.getElementById("status");
const again = document.getElementById("again");
const reader = document.getElementById("reader");
const after = document.getElementById("after");
const rental = place.dataset.rental;

/** The page's policy takes style sheets with its nonce, and no style attributes: the terminal makes both. */
function keepPolicy() {
  const nonce = document.querySelector("script[nonce]").nonce;
  const createElement = document.createElement;
  document.createElement = function (name, options) {
    const made = createElement.call(this, name, options);
    if (String(name).toLowerCase() === "style") made.nonce = nonce;
    return made;
  };
  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
}

function frame(kind, payload) {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes[0] = kind;
  new DataView(bytes.buffer).setUint32(1, payload.length);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

/** The frames of a message: there may be several, and each is whole. */
function* framesOf(message) {
  const view = new DataView(message);
  for (let at = 0; at + HEAD_BYTES <= view.byteLength; ) {
    const length = view.getUint32(at + 1);
    yield [view.getUint8(at), new Uint8Array(message, at + HEAD_BYTES, length)];
    at += HEAD_BYTES + length;
  }
}

function tell(text) {
  status.textContent = text;
}

async function post(path, body) {
  const headers = { "content-type": "application/json", "x-requested-with": "ramarket" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin" });
}

/** A ticket; a sign-in whose short part is over is renewed once. */
async function ticket() {
  const path = `/api/v1/rentals/${rental}/tickets`;
  let answer = await post(path, { verb: "exec" });
  if (answer.status === 401 && (await post("/api/v1/auth/refresh", {})).ok) {
    answer = await post(path, { verb: "exec" });
  }
  if (answer.ok) return (await answer.json()).ticket;
  if (answer.status === 401) throw new Error("You aren't signed in any more: load this page again.");
  const problem = await answer.json().catch(() => ({}));
  throw new Error(problem.detail ?? `The market answers ${answer.status}.`);
}

function ended(exit) {
  if ("signal" in exit) return `The shell was ended by signal ${exit.signal}.`;
  return `The shell has ended with exit code ${exit.code}.`;
}

keepPolicy();
const terminal = new Terminal({ cursorBlink: false, fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, monospace", fontSize: 14, scrollback: 5000 });
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(place);
fit.fit();

let socket = null;
const isOpen = () => socket !== null && socket.readyState === WebSocket.OPEN;

function send(bytes) {
  for (let at = 0; isOpen() && at < bytes.length; at += FRAME_BYTES_MAX) {
    socket.send(frame(STDIN, bytes.subarray(at, at + FRAME_BYTES_MAX)));
  }
}

function sendSize({ cols, rows }) {
  if (!isOpen()) return;
  const size = new DataView(new ArrayBuffer(4));
  size.setUint16(0, cols);
  size.setUint16(2, rows);
  socket.send(frame(RESIZE, new Uint8Array(size.buffer)));
}

async function connect() {
  again.hidden = true;
  tell("Connecting …");
  try {
    begin(await ticket());
  } catch (error) {
    over(error.message);
  }
}

let waitingBytes = 0;

function show(payload) {
  waitingBytes += payload.length;
  terminal.write(payload, () => (waitingBytes -= payload.length));
}

/** Ends a connection at once: what was sent before the other end hears of it isn't shown. */
function stop(opened, why) {
  opened.onmessage = null;
  opened.onclose = null;
  opened.close(1000, "too much to show");
  over(why);
}

function begin(pass) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const query = new URLSearchParams({ ticket: pass });
  const opened = new WebSocket(`${scheme}//${location.host}/api/v1/rentals/${rental}/exec?${query}`);
  opened.binaryType = "arraybuffer";
  socket = opened;
  let last = null;
  opened.onopen = () => {
    const size = { columns: terminal.cols, rows: terminal.rows };
    opened.send(JSON.stringify({ command: [], terminal: { term: "xterm-256color", size } }));
    tell("Connected.");
    terminal.focus();
  };
  opened.onmessage = ({ data }) => {
    if (typeof data === "string") {
      last = JSON.parse(data).detail;
      return;
    }
    for (const [kind, payload] of framesOf(data)) {
      if (kind === STDOUT || kind === STDERR) show(payload);
      if (kind === EXIT) last = ended(JSON.parse(new TextDecoder().decode(payload)));
    }
    // the protocol can't ask the program to wait
    if (waitingBytes > WAITING_BYTES_MAX && last === null) {
      stop(opened, "It wrote faster than this page can show, so the connection is closed: send much output to a file, or use ramarket exec.");
    }
  };
  opened.onclose = ({ code }) => over(last ?? CLOSED[code] ?? `The connection is closed (${code}).`);
}

function over(why) {
  socket = null;
  tell(why);
  terminal.write(`\r\n\x1b[7m ${why} \x1b[0m\r\n`);
  again.hidden = false;
}

const encoder = new TextEncoder();
terminal.onData((text) => send(encoder.encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
terminal.onResize(sendSize);
terminal.attachCustomKeyEventHandler((event) => {
  const leaves = event.key === "F6" && event.ctrlKey;
  if (leaves && event.type === "keydown") {
    event.preventDefault();
    after.focus();
  }
  return !leaves;
});
new ResizeObserver(() => fit.fit()).observe(place);
again.addEventListener("click", connect);
reader.addEventListener("click", () => {
  terminal.options.screenReaderMode = !terminal.options.screenReaderMode;
  reader.setAttribute("aria-pressed", String(terminal.options.screenReaderMode));
  terminal.focus();
});
document.body.dataset.ready = "true";
connect();
