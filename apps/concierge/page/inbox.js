// The inbox, one message with its history, and the review queue.

import { ask, deed, facts, find, make, moment, pill, tell } from "./dom.js";

const list = find("#messages");
const detail = find("#detail");
const filter = find("#inbox-filter");
const SOON_MS = 2500;
let next = null;
let shown = null;
let shownAt = null;
let soon = 0;
let isLong = false;
let session = null;
let edit = () => {};

export function begin(person, onEdit) {
  session = person;
  edit = onEdit;
}

const may = (right) => session.rights.includes(right);
const SUPPRESSION = "until somebody lifts its suppression";
const CHANNELS = { email: "e-mail", sms: "SMS" };

function query(cursor) {
  const words = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
  words.set("limit", "40");
  if (cursor) words.set("cursor", cursor);
  return words;
}

export async function load() {
  const page = await ask("GET", `/api/messages?${query()}`);
  const held = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  list.replaceChildren(...page.items.map(row));
  if (held) list.querySelector(`[data-id="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  isLong = false;
  after(page);
  mark();
  const now = page.items.find((each) => each.id === shown);
  if (now && now.updatedAt !== shownAt) await open(shown);
  watch(page.items);
}

// What is on its way is looked at often, so that nobody waits to see it go.
function watch(items) {
  clearTimeout(soon);
  const isDue = (each) => each.state === "sending" || (each.state === "queued" && !(new Date(each.sendAt ?? 0) > new Date()));
  if (!items.some(isDue)) return;
  soon = setTimeout(() => {
    if (!document.hidden && !find("#house").hidden && !find("#inbox").hidden) refresh().catch(() => {});
  }, SOON_MS);
}

// By itself only while nobody looks at older ones.
export async function refresh() {
  if (!isLong) await load();
}

async function more() {
  const page = await ask("GET", `/api/messages?${query(next)}`);
  list.append(...page.items.map(row));
  isLong = true;
  after(page);
}

function after(page) {
  next = page.next;
  find("#more-messages").hidden = !next;
  find("#no-messages").hidden = list.children.length > 0;
}

function row(message) {
  return make("li", {},
    make("button", { type: "button", "data-id": message.id, onclick: () => open(message.id) },
      pill(message.state),
      make("span", { class: "subject" }, message.subject || (message.recipient ? "Text message" : message.id)),
      moment(message.sendAt ?? message.createdAt, true),
      make("span", { class: "to" }, message.recipient ?? `by ${message.createdBy}`),
      make("span", { class: "mark" }, [CHANNELS[message.channel], message.priority === "normal" ? "" : message.priority].filter(Boolean).join(" · ")),
    ));
}

function mark() {
  for (const each of list.querySelectorAll("button")) {
    if (each.dataset.id === shown) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
}

export async function open(id) {
  shown = id;
  mark();
  const [message, history] = await Promise.all([ask("GET", `/api/messages/${id}`), ask("GET", `/api/messages/${id}/history`)]);
  if (shown !== id) return;
  shownAt = message.updatedAt;
  const isHeld = detail.contains(document.activeElement);
  detail.replaceChildren(...parts(message, history.items));
  if (detail.hidden || detail.dataset.id !== id) detail.scrollTop = 0;
  detail.dataset.id = id;
  detail.hidden = false;
  if (isHeld) detail.focus({ preventScroll: true });
}

export function close() {
  const from = list.querySelector("[aria-current]");
  shown = null;
  detail.hidden = true;
  mark();
  from?.focus();
}

export function step(by) {
  const rows = [...list.querySelectorAll("button")];
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at < 0 ? rows.findIndex((each) => each.dataset.id === shown) + by : at + by, 0), rows.length - 1)]?.focus();
}

function parts(message, history) {
  return [
    make("div", { class: "top" }, make("h3", {}, message.subject || (message.content ? "Text message" : message.id)), pill(message.state)),
    facts([
      ["To", message.recipient], ["Channel", CHANNELS[message.channel]], ["Priority", message.priority],
      ["Written by", message.createdBy], ["Reviewed by", message.reviewedBy], ["Goes", moment(message.sendAt)],
      ["Taken by", message.provider], ["Attempts", message.attempt ? String(message.attempt) : ""],
      ["Sent", moment(message.sentAt)], ["Problem", message.error], ["At most once", message.once ? "yes" : ""], ["Id", message.id],
    ]),
    message.content ? make("p", { class: "words" }, message.content) : make("p", { class: "muted" }, "You may not read what it says."),
    make("p", { class: "buttons" }, ...buttons(message), deed("Close", "quiet", close)),
    make("h3", {}, "What happened"),
    make("ol", { class: "history" }, ...history.map((line) => make("li", {}, moment(line.at), `${line.event} `, make("span", { class: "muted" }, [line.actor, line.detail].filter(Boolean).join(" · "))))),
  ];
}

function buttons(message) {
  const own = message.createdBy === session.name || may("message.send");
  const found = [];
  const act = (words, verb, look, body = {}) => deed(words, look, async () => {
    const after = await ask("POST", `/api/messages/${message.id}/${verb}`, body);
    tell(`It is ${after.state} now.`);
    await Promise.all([load(), open(message.id), count()]);
  });
  if (message.state === "draft" && may("message.compose") && own) {
    found.push(act("Hand in for review", "submit", "main"));
    if (may("message.send")) found.push(act("Send without review", "send", ""));
  }
  if (message.state === "review" && may("message.review")) found.push(...judging(message, () => Promise.all([load(), open(message.id), count()])));
  if (["draft", "review", "approved", "queued"].includes(message.state) && may("message.compose") && own) {
    if (message.content) found.push(deed("Edit", "", async () => edit(message)));
    found.push(act("Cancel it", "cancel", ""));
  }
  if (message.recipient && may("message.compose")) found.push(...addressing(message));
  return found;
}

// Whether anything more goes to this address.
function addressing(message) {
  if (message.state !== "failed" || !message.error?.includes(SUPPRESSION)) {
    if (!["sent", "delivered", "bounced", "failed"].includes(message.state)) return [];
    return [deed("Send nothing more there", "quiet", async () => {
      await ask("POST", "/api/suppressions", { channel: message.channel, recipient: message.recipient });
      tell("Nothing more goes to this address.");
    })];
  }
  if (!may("message.send")) return [];
  return [deed("Let messages go there again", "", async () => {
    const page = await ask("GET", `/api/suppressions?${new URLSearchParams({ recipient: message.recipient })}`);
    const active = page.items.filter((each) => each.channel === message.channel && !each.liftedAt);
    for (const each of active) await ask("POST", `/api/suppressions/${each.id}/lift`, {});
    tell(active.length ? "Messages go to this address again." : "Somebody has done so already.");
  })];
}

// Review

function judging(message, done) {
  const isOwn = message.createdBy === session.name && session.role !== "admin";
  return [
    isOwn ? make("span", { class: "muted" }, "Somebody else has to approve this.") : deed("Approve", "main", async () => {
      await ask("POST", `/api/messages/${message.id}/approve`, {});
      tell("Approved: it goes.");
      await done();
    }),
    deed("Send back …", "", async () => {
      const reason = await askReason();
      if (reason === null) return;
      await ask("POST", `/api/messages/${message.id}/reject`, { reason });
      tell("It is back with its author.");
      await done();
    }),
  ];
}

function askReason() {
  const dialog = find("#reject");
  const field = find("input", dialog);
  field.value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? field.value : null), { once: true });
  });
}

export async function count() {
  if (!may("message.review")) return;
  const page = await ask("GET", "/api/messages?state=review&limit=100");
  const badge = find("#waiting");
  badge.textContent = page.next ? "99+" : String(page.items.length);
  badge.hidden = page.items.length === 0;
}

export async function loadReviews() {
  const page = await ask("GET", "/api/messages?state=review&limit=40");
  const messages = await Promise.all(page.items.toReversed().map((each) => ask("GET", `/api/messages/${each.id}`)));
  find("#reviews").replaceChildren(...messages.map(card));
  find("#no-reviews").hidden = messages.length > 0;
  const badge = find("#waiting");
  badge.textContent = page.next ? "40+" : String(messages.length);
  badge.hidden = messages.length === 0;
}

function card(message) {
  return make("article", { class: "card" },
    make("h3", {}, message.subject || "Text message"),
    facts([["To", message.recipient], ["Written by", message.createdBy], ["Channel", CHANNELS[message.channel]],
      ["Priority", message.priority], ["Goes", moment(message.sendAt)]]),
    make("p", { class: "words" }, message.content ?? ""),
    make("p", { class: "buttons" }, ...judging(message, loadReviews)));
}

filter.addEventListener("submit", (event) => {
  event.preventDefault();
  load().catch((error) => tell(error.message, true));
});
filter.addEventListener("change", () => load().catch((error) => tell(error.message, true)));
find("#more-messages").addEventListener("click", () => more().catch((error) => tell(error.message, true)));
