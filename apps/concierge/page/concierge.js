// The page: who is there, which section is shown, and the keys.

import * as compose from "./compose.js";
import { accuse, ask, find, tell } from "./dom.js";
import * as inbox from "./inbox.js";
import * as office from "./office.js";
import * as records from "./records.js";

const SECTIONS = { inbox: "message.list", review: "message.review", compose: "message.compose", exports: "export", audit: "audit", holds: "audit", queue: "queue.watch", people: "people" };
const KEYS = { i: "inbox", v: "review", c: "compose", e: "exports", t: "audit", h: "holds", q: "queue", p: "people" };
const LOADS = { inbox: inbox.load, review: inbox.loadReviews, exports: records.loadFiles, audit: records.loadRecords, queue: records.loadQueue, holds: office.loadHolds, people: office.loadPeople };
const REFRESHES = { inbox: inbox.refresh, queue: records.loadQueue };
const REFRESH_MS = 30000;
let session = null;
let shown = null;

const may = (right) => Boolean(session?.rights.includes(right));
const go = (section) => { location.hash = `#/${section}`; };

async function enter(person) {
  session = person;
  find("#door").hidden = true;
  find("#house").hidden = false;
  find("#who").textContent = person.name === person.role ? person.name : `${person.name}, ${person.role}`;
  for (const each of document.querySelectorAll("[data-right]")) {
    each.hidden = !may(each.dataset.right);
    if (each instanceof HTMLOptionElement) each.disabled = each.hidden;
  }
  const firstOf = find("#wish [name=dataset]");
  firstOf.value = may("message.read") ? "messages" : "audit";
  firstOf.dispatchEvent(new Event("input", { bubbles: true }));
  inbox.begin(person, (message) => { go("compose"); compose.edit(message); });
  office.begin(person);
  compose.begin((message) => { go("inbox"); inbox.open(message.id).catch(() => {}); });
  compose.clear();
  inbox.count().catch(() => {});
  await show();
}

function leave() {
  session = null;
  shown = null;
  for (const each of document.querySelectorAll("#messages, #detail, #reviews, #files, #records, #lately, #tiles")) each.replaceChildren();
  inbox.close();
  compose.clear();
  records.leaveFiles();
  office.clear();
  find("#notice").hidden = true;
  for (const each of document.querySelectorAll("dialog[open]")) each.close("no");
  find("#password form").reset();
  find("#house").hidden = true;
  find("#door").hidden = false;
  find("#login [name=name]").focus();
}

async function show() {
  const wanted = location.hash.slice(2).split("/")[0];
  const section = may(SECTIONS[wanted]) ? wanted : Object.keys(SECTIONS).find((each) => may(SECTIONS[each]));
  if (section !== "exports") records.leaveFiles();
  for (const each of Object.keys(SECTIONS)) find(`#${each}`).hidden = each !== section;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.hash === `#/${section}`) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  const isNew = shown !== section;
  shown = section;
  document.title = `${find(`#${section} h2`).textContent} · concierge`;
  try {
    await LOADS[section]?.();
  } catch (error) {
    if (session) tell(error.message, true);
  }
  if (isNew && section === "compose") find("#letter [name=recipient]").focus();
  else if (isNew) find("#main").focus({ preventScroll: true });
}

find("#login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  accuse(form, null);
  try {
    const person = await ask("POST", "/api/login", Object.fromEntries(new FormData(form)));
    form.reset();
    await enter(person);
  } catch (error) {
    accuse(form, error);
    form.elements.password.select();
  }
});
find("#leave").addEventListener("click", async () => {
  await ask("POST", "/api/logout", {}).catch(() => {});
  history.replaceState(null, "", "/");
  leave();
});
find("#own").addEventListener("click", () => {
  find("#password form").reset();
  accuse(find("#password form"), null);
  find("#password").showModal();
});
find("#password-no").addEventListener("click", () => find("#password").close());
find("#password form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  accuse(form, null);
  try {
    await ask("POST", "/api/me/password", Object.fromEntries(new FormData(form)));
    find("#password").close();
    leave();
    accuse(find("#login"), new Error("Your password is another one: sign in with it."));
  } catch (error) {
    accuse(form, error);
  }
});
find("#keys").addEventListener("click", () => find("#help").showModal());
addEventListener("hashchange", () => { if (session) show(); });
addEventListener("signed-out", () => { if (session) { leave(); accuse(find("#login"), new Error("Your session is over: sign in again.")); } });

// What others do shows, while somebody looks.
setInterval(() => {
  if (!session || document.hidden) return;
  REFRESHES[shown]?.().catch(() => {});
  inbox.count().catch(() => {});
}, REFRESH_MS);

document.addEventListener("keydown", (event) => {
  if (!session || event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  if (event.key === "Escape" && shown === "inbox") inbox.close();
  if (event.target.closest("input, select, textarea")) return;
  const section = KEYS[event.key];
  if (section && may(SECTIONS[section])) go(section);
  else if (event.key === "j" || event.key === "k") inbox.step(event.key === "j" ? 1 : -1);
  else if (event.key === "/") find(`#${shown} form :is(input, select)`)?.focus();
  else if (event.key === "?") find("#help").showModal();
  else return;
  event.preventDefault();
});

ask("GET", "/api/me").then(enter).catch(leave);
