// The page: a file comes in parts, is cut as its owner says, and its orders are watched.

import { ask, Orders } from "./orders.js";
import { showTime, Timeline } from "./timeline.js";

const PART = 4 << 20;
const KEY = "cutmv-upload";
const find = (selector) => document.querySelector(selector);
const orders = new Orders(find("#orders"), find("#live"));
const timeline = new Timeline(find("#cut"));
let current = null;
let sending = 0; // the number of the upload that may go on; another file makes it another number

function tell(selector, text) {
  find(selector).textContent = text ?? "";
  find(selector).hidden = !text;
}

// Upload

const fingerprint = (file) => `${file.name}/${file.size}/${file.lastModified}`;

async function begin(file) {
  const number = ++sending;
  tell("#upload-error", null);
  find("#drop").hidden = true;
  find("#upload").hidden = false;
  find("#cut").hidden = true;
  find("#upload-resume").hidden = true;
  find("#upload-name").textContent = file.name;
  find("#upload-facts").textContent = `${(file.size / 1e6).toFixed(1)} MB`;
  try {
    const upload = (await known(file)) ?? (await ask("POST", "/api/uploads", { name: file.name, size: file.size }));
    localStorage.setItem(KEY, JSON.stringify({ id: upload.id, fingerprint: fingerprint(file) }));
    await send(file, upload, number);
  } catch (error) {
    if (number !== sending) return;
    tell("#upload-error", error.status ? error.message : "The connection broke. Nothing is lost: go on when you are ready.");
    find("#upload-resume").hidden = Boolean(error.status);
    find("#upload-resume").onclick = () => begin(file);
  }
}

async function known(file) {
  const kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
  if (kept?.fingerprint !== fingerprint(file)) return null;
  return ask("GET", `/api/uploads/${kept.id}`).then((found) => (found.state === "refused" ? null : found)).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
}

async function send(file, upload, number) {
  const begun = performance.now();
  const first = upload.received;
  let found = upload;
  while (found.state === "receiving") {
    const from = found.received;
    const speed = (from - first) / ((performance.now() - begun) / 1000);
    const left = speed > 0 ? `, ${Math.ceil((file.size - from) / speed)} s left` : "";
    find("#upload-progress").value = from / file.size;
    find("#upload-note").textContent = `${Math.floor((from / file.size) * 100)} %${speed > 0 ? ` at ${(speed / 1e6).toFixed(1)} MB/s` : ""}${left}`;
    const response = await fetch(`/api/uploads/${found.id}`, {
      method: "PATCH",
      headers: { "content-type": "application/offset+octet-stream", "upload-offset": String(from) },
      body: file.slice(from, from + PART),
    });
    if (number !== sending) return;
    if (response.status !== 409 && !response.ok) {
      throw Object.assign(new Error((await response.json()).error), { status: response.status });
    }
    found = await ask("GET", `/api/uploads/${found.id}`);
  }
  find("#upload-progress").value = 1;
  find("#upload-note").textContent = "looking at it …";
  while (found.state === "examining") {
    await new Promise((resolve) => setTimeout(resolve, 300));
    found = await ask("GET", `/api/uploads/${found.id}`);
    if (number !== sending) return;
  }
  show(found);
}

function show(upload) {
  if (upload.state === "refused") {
    localStorage.removeItem(KEY);
    find("#upload-note").textContent = "";
    tell("#upload-error", upload.error);
    return;
  }
  current = upload;
  const { media } = upload;
  const picture = media.video === null ? "sound only" : `${media.width} × ${media.height}, ${Math.round(media.fps * 100) / 100} fps`;
  find("#upload-note").textContent = "ready";
  find("#upload-facts").textContent = `${showTime(media.duration_s)}, ${picture}, ${(upload.size / 1e6).toFixed(1)} MB`;
  for (const box of document.querySelectorAll("[name=format]")) {
    box.disabled = box.value === "mp3" ? media.audio === null : media.video === null;
    if (box.disabled) box.checked = false;
  }
  if (media.video === null) find("[value=mp3]").checked = true;
  find("#cut").hidden = false;
  timeline.show(upload);
}

find("#file").addEventListener("change", (event) => {
  if (event.target.files[0]) begin(event.target.files[0]);
  event.target.value = "";
});
find("#upload-forget").addEventListener("click", () => {
  sending += 1;
  localStorage.removeItem(KEY);
  for (const id of ["#upload", "#cut"]) find(id).hidden = true;
  tell("#upload-error", null);
  find("#drop").hidden = false;
  find("#file").focus();
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("#drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) begin(event.dataTransfer.files[0]);
  });
}

// Order

find("#wish").addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("#wish-error", null);
  const form = new FormData(event.target);
  try {
    const clips = timeline.clips.map(({ start, end }) => ({ start, end }));
    const wish = { clips, formats: form.getAll("format"), aspect: form.get("aspect"), quality: form.get("quality") };
    const view = await ask("POST", "/api/orders", { upload: current.id, ...wish });
    orders.add(view, `${current.name}: ${clips.length} ${clips.length === 1 ? "clip" : "clips"}`);
  } catch (error) {
    tell("#wish-error", error.status ? error.message : "The server cannot be reached. Please try again.");
  }
});

// The queue

async function askQueue() {
  const pill = find("#queue");
  try {
    const status = await ask("GET", "/api/queue-status");
    pill.textContent = status.healthy ? "queue is up" : "queue is away, working directly";
    pill.title = status.message;
    pill.className = `pill ${status.healthy ? "good" : "bad"}`;
  } catch {
    pill.textContent = "server is away";
    pill.className = "pill bad";
  }
}
askQueue();
setInterval(askQueue, 15000);

// A page that was reloaded shows the upload that it had.
const kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
if (kept) {
  ask("GET", `/api/uploads/${kept.id}`).then((upload) => {
    if (upload.state !== "ready" || sending) return;
    find("#drop").hidden = true;
    find("#upload").hidden = false;
    find("#upload-name").textContent = upload.name;
    find("#upload-progress").value = 1;
    show(upload);
  }).catch(() => localStorage.removeItem(KEY));
}
