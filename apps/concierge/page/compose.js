// Writing a message: a new one, or other words for one that has not gone.

import { accuse, ask, find, tell } from "./dom.js";

const form = find("#letter");
const MOST = { email: 50000, sms: 1600 };
let editing = null;
let done = () => {};

export function begin(onDone) {
  done = onDone;
}

export function clear() {
  editing = null;
  form.reset();
  accuse(form, null);
  find("#compose-title").textContent = "New message";
  look();
}

export function edit(message) {
  clear();
  editing = message;
  find("#compose-title").textContent = "Other words";
  for (const name of ["recipient", "subject", "content", "priority"]) form.elements[name].value = message[name] ?? "";
  form.elements.channel.value = message.channel;
  form.elements.once.checked = message.once;
  if (message.sendAt) {
    form.elements.when.value = "later";
    form.elements.at.value = local(new Date(message.sendAt));
  }
  look();
}

const local = (when) => new Date(when.getTime() - when.getTimezoneOffset() * 60000).toISOString().slice(0, 16);

function look() {
  const channel = form.elements.channel.value;
  const text = form.elements.content.value;
  find("#subject-line").hidden = channel === "sms";
  find("#later").hidden = form.elements.when.value !== "later";
  form.elements.recipient.placeholder = channel === "sms" ? "+491701234567" : "mia@example.com";
  const parts = channel === "sms" && text ? `, about ${Math.ceil(text.length / 153)} part${text.length > 153 ? "s" : ""}` : "";
  find("#letter-count").textContent = `${text.length.toLocaleString()} of ${MOST[channel].toLocaleString()} characters${parts}`;
}

// Whoever says `later` and no moment, or one that is over, does not mean at once.
function momentOf({ when, at }) {
  if (when.value !== "later") return null;
  const moment = new Date(at.value);
  const problem = Number.isNaN(moment.getTime()) ? "Say when it is to go." : moment < Date.now() - 60000 ? "That moment is over." : null;
  if (problem) throw Object.assign(new Error(problem), { field: "sendAt" });
  return moment.toISOString();
}

function written(then) {
  const { elements } = form;
  return {
    channel: elements.channel.value,
    recipient: elements.recipient.value.trim(),
    subject: elements.channel.value === "sms" ? "" : elements.subject.value.trim(),
    content: elements.content.value,
    priority: elements.priority.value,
    once: elements.once.checked,
    sendAt: momentOf(elements),
    then,
    ...(editing ? { version: editing.version } : {}),
  };
}

form.addEventListener("input", look);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const then = event.submitter?.value ?? "draft";
  accuse(form, null);
  for (const each of form.querySelectorAll("button")) each.disabled = true;
  try {
    const body = written(then);
    const message = editing ? await ask("PUT", `/api/messages/${editing.id}`, body) : await ask("POST", "/api/messages", body);
    tell({ draft: "Kept as a draft.", review: "Handed in for review." }[then] ?? "It is on its way.");
    clear();
    done(message);
  } catch (error) {
    accuse(form, error);
  } finally {
    for (const each of form.querySelectorAll("button")) each.disabled = false;
  }
});
find("#letter-clear").addEventListener("click", clear);
