// What is kept: exports with their progress, the audit trail, and how the queue stands.

import { accuse, ask, deed, find, make, moment, pill, tell } from "./dom.js";

const files = find("#files");
const wish = find("#wish");
const WATCH_MS = 1000;
let watching = 0;
let lastRecord = null;

// Exports

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} KB`);
const rows = (number) => `${number.toLocaleString()} row${number === 1 ? "" : "s"}`;

export async function loadFiles() {
  clearTimeout(watching);
  const page = await ask("GET", "/api/exports?limit=40");
  const cards = new Map([...files.children].map((each) => [each.dataset.id, each]));
  files.replaceChildren(...page.items.map((each) => refreshed(cards.get(each.id), each)));
  find("#no-files").hidden = page.items.length > 0;
  if (page.items.some((each) => ["queued", "running"].includes(each.state))) {
    watching = setTimeout(() => loadFiles().catch(() => {}), WATCH_MS);
  }
}

export function leaveFiles() {
  clearTimeout(watching);
}

// Only what changed is made anew, so that a button keeps its focus while a bar moves.
function refreshed(card, item) {
  if (card && card.dataset.state === item.state) {
    const bar = find("progress", card);
    if (bar && item.rowsTotal) bar.value = item.rowsDone / item.rowsTotal;
    if (bar) find(".count-of", card).textContent = progressOf(item);
    return card;
  }
  const filters = Object.entries(item.filters).filter(([name]) => name !== "dataset").map(([name, value]) => `${name} ${value}`).join(", ");
  const isGoing = ["queued", "running"].includes(item.state);
  const bar = make("progress", { max: "1", "aria-label": "Rows written" });
  if (item.rowsTotal) bar.value = item.rowsDone / item.rowsTotal;
  return make("article", { class: "card file", "data-id": item.id, "data-state": item.state },
    make("p", { class: "top" }, make("b", {}, `${item.filters.dataset ?? "messages"} as ${item.format}`), pill(item.state), moment(item.createdAt)),
    make("p", { class: "muted" }, [filters, `by ${item.user}`].filter(Boolean).join(" · ")),
    isGoing ? bar : null,
    isGoing ? make("p", { class: "muted count-of", role: "status" }, progressOf(item)) : null,
    item.state === "ready" ? make("p", {}, `${rows(item.rowsTotal)}, ${size(item.bytes)}; here until `, moment(item.expiresAt)) : null,
    item.state === "ready" ? make("p", { class: "sum" }, `SHA-256 ${item.sha256}`) : null,
    item.error ? make("p", { class: "error" }, item.error) : null,
    make("p", { class: "buttons" },
      item.state === "ready" ? deed("Download", "main", () => download(item.id)) : null,
      isGoing ? deed("Cancel", "", async () => { await ask("POST", `/api/exports/${item.id}/cancel`, {}); await loadFiles(); }) : null));
}

function progressOf(item) {
  if (item.state === "queued") return "waits for its turn";
  return item.rowsTotal ? `${item.rowsDone.toLocaleString()} of ${rows(item.rowsTotal)}` : "counting";
}

async function download(id) {
  const link = await ask("POST", `/api/exports/${id}/link`, {});
  make("a", { href: link.url, download: "" }).click();
}

wish.addEventListener("input", () => {
  for (const each of wish.querySelectorAll(".of-messages")) each.hidden = wish.elements.dataset.value !== "messages";
});
wish.addEventListener("submit", async (event) => {
  event.preventDefault();
  accuse(wish, null);
  const { format, ...given } = Object.fromEntries(new FormData(wish));
  if (given.dataset !== "messages") delete given.state;
  const filters = Object.fromEntries(Object.entries(given).filter(([, value]) => value));
  try {
    await ask("POST", "/api/exports", { filters, format });
    await loadFiles();
  } catch (error) {
    accuse(wish, error);
  }
});

// The trail

const records = find("#records");
const auditFilter = find("#audit-filter");

export async function loadRecords({ goOn = false } = {}) {
  const words = new URLSearchParams([...new FormData(auditFilter)].filter(([, value]) => value));
  words.set("limit", "50");
  if (goOn && lastRecord) words.set("before", String(lastRecord));
  const page = await ask("GET", `/api/audit?${words}`);
  const lines = page.items.map((each) => make("tr", {},
    make("td", {}, String(each.number)), make("td", {}, moment(new Date(each.at).toISOString())),
    make("td", {}, `${each.actor}${each.role ? ` (${each.role})` : ""}`), make("td", {}, each.address), make("td", {}, each.action),
    make("td", {}, each.target), make("td", { class: each.result === "ok" ? "" : "bad" }, each.result)));
  if (goOn) records.append(...lines);
  else records.replaceChildren(...lines);
  lastRecord = page.next;
  find("#more-records").hidden = !page.next;
}

async function verify() {
  const line = find("#verified");
  line.hidden = false;
  line.className = "muted";
  line.textContent = "reading the whole trail …";
  const found = await ask("GET", "/api/audit/verify");
  line.className = found.faults.length ? "error" : "pill good";
  line.textContent = found.faults.length
    ? found.faults.slice(0, 5).map((each) => `Number ${each.number} ${each.problem}.`).join(" ")
    : `${found.records.toLocaleString()} records from number ${found.first}, each as it was written.`;
}

auditFilter.addEventListener("submit", (event) => {
  event.preventDefault();
  loadRecords().catch((error) => tell(error.message, true));
});
find("#more-records").addEventListener("click", () => loadRecords({ goOn: true }).catch((error) => tell(error.message, true)));
find("#verify").addEventListener("click", () => verify().catch((error) => tell(error.message, true)));

// The queue

export async function loadQueue() {
  const found = await ask("GET", "/debug/queue-status");
  const health = find("#health");
  health.textContent = found.status;
  health.className = `pill ${found.status === "healthy" ? "good" : "bad"}`;
  const warnings = find("#warnings");
  warnings.replaceChildren(...found.warnings.map((each) => make("li", {}, each)));
  warnings.hidden = !found.warnings.length;
  const tiles = [["Waiting", found.totals.queued], ["Sending", found.totals.processing], ["Failed", found.totals.failed],
    ["Dead letters", found.deadLetters], ["Failure rate", `${(found.failureRate * 100).toFixed(1)} %`], ["Messages", found.totals.total]];
  find("#tiles").replaceChildren(...tiles.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value.toLocaleString()))));
  find("#providers").replaceChildren(...found.providers.map((each) => make("li", {}, make("span", { class: `pill ${each.circuit === "closed" ? "good" : "bad"}` }, `${each.name} · ${each.channel} · ${each.circuit}`))));
  if (!found.providers.length) find("#providers").append(make("li", { class: "muted" }, "None is set up."));
  find("#lately").replaceChildren(...found.recentActivity.map((each) => make("li", {}, moment(each.at), `${each.event} `, make("span", { class: "muted" }, `${each.message} · ${each.actor}`))));
}
