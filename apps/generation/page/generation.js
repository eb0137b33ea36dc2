// The page: a prompt becomes a generation, what is under way is watched, what is done can be played.

import { ask, newKey } from "./api.js";
import { Card, nameProviders, showSeconds } from "./card.js";
import { Live } from "./live.js";

const PAGE = 12;
const USER = "generation-user";
const find = (selector) => document.querySelector(selector);
const cards = new Map();
const tabs = new BroadcastChannel("generation"); // what is asked for in one tab shows up in the others
let older = null; // where the next page of the history begins
let key = newKey();

// Whoever opens the page is somebody: their videos are listed, and one user cannot take all the room.
const user = localStorage.getItem(USER) ?? `visitor-${newKey().slice(0, 12)}`;
localStorage.setItem(USER, user);
const mine = `/api/generations?userId=${encodeURIComponent(user)}`;

function tellError(error) {
  find("#wish-error").textContent = error ?? "";
  find("#wish-error").hidden = !error;
  if (error) find("#prompt").setAttribute("aria-invalid", "true");
  else find("#prompt").removeAttribute("aria-invalid");
}

// What may be asked for

function segments(selector, name, values, chosen, show = String) {
  const box = Object.assign(document.createElement("div"), { className: "segments" });
  for (const value of values) {
    const input = Object.assign(document.createElement("input"), { type: "radio", name, value, checked: value === chosen });
    const label = document.createElement("label");
    label.append(input, show(value));
    box.append(label);
  }
  find(selector).append(box);
}

async function learn() {
  const options = await ask("GET", "/api/options");
  nameProviders(options.providers);
  for (const provider of options.providers) {
    const option = Object.assign(document.createElement("option"), { value: provider.name, textContent: provider.title, title: provider.model });
    option.selected = provider.name === options.provider;
    find("#provider").append(option);
  }
  find("#prompt").maxLength = options.promptCharsMax;
  const { duration, aspectRatio, resolution } = options.parameters;
  segments("#durations", "duration", duration.values, duration.default);
  segments("#shapes", "aspectRatio", aspectRatio.values, aspectRatio.default);
  segments("#resolutions", "resolution", resolution.values, resolution.default);
  find("#sandbox").hidden = !options.sandbox;
  find("#choices").removeAttribute("aria-busy");
}

// A new one

function wish() {
  const form = new FormData(find("#wish"));
  return {
    userId: user,
    prompt: form.get("prompt").trim(),
    parameters: { duration: Number(form.get("duration")), aspectRatio: form.get("aspectRatio"), resolution: form.get("resolution") },
    provider: form.get("provider"),
    priority: form.get("vip") ? 9 : 0,
  };
}

async function create(body) {
  const button = find("#make");
  button.disabled = true;
  tellError(null);
  try {
    const view = await ask("POST", "/api/generations", { body, headers: { "idempotency-key": key } });
    key = newKey(); // only now: whoever presses twice while the answer is on its way asks once
    show(view, { first: true });
    tabs.postMessage(view);
    say(`Asked for: ${view.prompt}`);
    return view;
  } catch (error) {
    tellError(error.words);
    if (error.status) key = newKey();
    return null;
  } finally {
    button.disabled = false;
  }
}

find("#wish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = find("#prompt");
  if (!prompt.value.trim()) {
    tellError("Describe the video first.");
    prompt.focus();
    return;
  }
  const view = await create(wish());
  if (!view) return;
  prompt.value = "";
  prompt.focus();
  cards.get(view.id).root.scrollIntoView({ block: "nearest", behavior: "smooth" });
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("#wish").requestSubmit();
  const isTyping = event.target.closest("input, textarea, select, video");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    find("#prompt").focus();
  }
});

// The list

function show(view, { first = false } = {}) {
  const known = cards.get(view.id);
  if (known) return known.take(view);
  const card = new Card(view, act);
  cards.set(view.id, card);
  if (first) find("#generations").prepend(card.root);
  else find("#generations").append(card.root);
  find("#none").hidden = true;
  watch();
}

tabs.addEventListener("message", (event) => show(event.data, { first: true }));

function take(news) {
  const card = cards.get(news.id);
  if (!card) return;
  const before = card.view.state;
  card.take(news);
  const { state, prompt } = card.view;
  if (state === before) return;
  const words = { processing: "Begun", completed: "Done", failed: "Failed", cancelled: "Cancelled" }[state];
  if (words) say(`${words}: ${prompt}`);
  watch();
}

// Those at work first, then those that wait, the next in the line before the others.
function watch() {
  const open = [...cards.values()].filter((card) => !card.isOver).map((card) => card.view);
  const place = (view) => (view.state === "processing" ? -1 : view.queuePosition ?? 1e6);
  live.watch(open.sort((a, b) => place(a) - place(b)).map((view) => view.id));
}

async function act(what, card) {
  const { view } = card;
  try {
    if (what === "cancel") take(await ask("POST", `/api/generations/${view.id}/cancel`, { body: {} }));
    if (what === "retry") {
      const { userId, prompt, parameters, provider, model, priority } = view;
      const again = await create({ userId, prompt, parameters, provider, model, priority });
      if (again) cards.get(again.id).root.focus();
    }
    if (what === "reuse") {
      find("#prompt").value = view.prompt;
      find("#prompt").focus();
    }
  } catch (error) {
    card.say(error.words);
  }
}

function say(text) {
  find("#said").textContent = text;
}

async function list(cursor) {
  const path = `${mine}&limit=${PAGE}`;
  const page = await ask("GET", cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path);
  for (const view of page.generations) show(view);
  older = page.nextCursor;
  find("#more").hidden = !older;
}
find("#more").addEventListener("click", async (event) => {
  event.target.disabled = true;
  await list(older).catch((error) => say(error.words));
  event.target.disabled = false;
});

// The queue

const MODES = {
  immediate: "Mode “immediate”: each begins the moment it is asked for, all side by side.",
  cron: "Mode “cron”: once a minute the next in the line begins, so the wait can be up to a minute.",
  alarm: "Mode “alarm”: one after the other; the first begins after a second, the next when the one before has ended.",
  queue: "Mode “queue”: several at once, the others wait in the line.",
};

function tellStatus(status) {
  find("#mode").textContent = `mode: ${status.mode}`;
  find("#mode").title = MODES[status.mode] ?? "";
  find("#mode-words").textContent = MODES[status.mode] ?? "";
  const figures = {
    waiting: status.waiting, running: status.running, wait: showSeconds(status.averageWaitSeconds) || "–",
    pace: status.processedPerMinute, success: status.successRate === null ? "–" : `${Math.round(status.successRate * 100)} %`,
  };
  for (const [name, value] of Object.entries(figures)) find(`[data-figure=${name}]`).textContent = value;
}

const live = new Live({
  take,
  look: async (ids) => {
    tellStatus(await ask("GET", "/api/queue/status"));
    if (!ids.length) return;
    const page = await ask("GET", `${mine}&limit=100`);
    for (const view of page.generations) take(view);
  },
  tell: (isUp) => {
    find("#live").textContent = isUp ? "live" : "reconnecting …";
    find("#live").className = `pill ${isUp ? "good" : "bad"}`;
    if (isUp) watch();
  },
});

async function begin() {
  await learn();
  await list(null);
  tellStatus(await ask("GET", "/api/queue/status"));
  find("#live").textContent = "live";
  find("#live").className = "pill good";
  find("#prompt").focus({ preventScroll: true });
}
begin().catch((error) => {
  tellError(error.words ?? String(error));
  find("#live").textContent = "server is away";
  find("#live").className = "pill bad";
  setTimeout(() => location.reload(), 5000);
});
