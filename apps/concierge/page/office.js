// What admins keep in order: people's accounts, and legal holds.

import { accuse, ask, deed, find, make, moment, pill, tell } from "./dom.js";

const accounts = find("#accounts");
const newcomer = find("#newcomer");
const account = find("#account");
const holds = find("#held");
const newHold = find("#new-hold");
let session = null;
let changed = null;

const may = (right) => session.rights.includes(right);

export function begin(person) {
  session = person;
}

export function clear() {
  accounts.replaceChildren();
  holds.replaceChildren();
  for (const each of [newcomer, newHold, find("form", account)]) {
    each.reset();
    accuse(each, null);
  }
  changed = null;
}

// People

export async function loadPeople() {
  const { items } = await ask("GET", "/api/users");
  accounts.replaceChildren(...items.map((each) => make("tr", { "data-name": each.name },
    make("td", {}, each.name), make("td", {}, each.role), make("td", {}, each.address),
    make("td", {}, pill(each.disabled ? "disabled" : "active")), make("td", {}, moment(each.createdAt)),
    make("td", {}, each.name === session.name ? make("span", { class: "muted" }, "yourself") : deed("Change …", "", async () => change(each))))));
}

function change(person) {
  const form = find("form", account);
  form.reset();
  accuse(form, null);
  changed = person;
  find("#account-title").textContent = `The account of ${person.name}`;
  form.elements.role.value = person.role;
  form.elements.address.value = person.address;
  form.elements.disabled.checked = person.disabled;
  account.showModal();
}

newcomer.addEventListener("submit", async (event) => {
  event.preventDefault();
  accuse(newcomer, null);
  try {
    const made = await ask("POST", "/api/users", Object.fromEntries(new FormData(newcomer)));
    newcomer.reset();
    await loadPeople();
    tell(`${made.name} may sign in now.`);
  } catch (error) {
    accuse(newcomer, error);
  }
});

find("form", account).addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const path = `/api/users/${encodeURIComponent(changed.name)}`;
  accuse(form, null);
  try {
    const { role, address, disabled, password } = form.elements;
    if (password.value) await ask("POST", `${path}/password`, { password: password.value });
    await ask("PUT", path, { role: role.value, address: address.value, disabled: disabled.checked });
    account.close();
    await loadPeople();
    tell(`The account of ${changed.name} is changed.`);
  } catch (error) {
    accuse(form, error);
  }
});
find("#account-no").addEventListener("click", () => account.close());
account.addEventListener("close", () => find("form", account).reset());

// Legal holds

const KINDS = { all: "everything", user: "person", message: "message", recipient: "recipient", export: "export" };

export async function loadHolds() {
  const { items } = await ask("GET", "/api/holds");
  holds.replaceChildren(...items.map(card));
  find("#no-holds").hidden = items.length > 0;
}

function card(hold) {
  return make("article", { class: "card file", "data-id": hold.id },
    make("p", { class: "top" }, make("b", {}, hold.subject ? `${KINDS[hold.kind]} ${hold.subject}` : KINDS[hold.kind]),
      pill(hold.liftedAt ? "released" : "held"), moment(hold.placedAt)),
    make("p", { class: "held-why" }, hold.reason),
    make("p", { class: "muted" }, `by ${hold.placedBy}`, ...(hold.liftedAt ? [`; released by ${hold.liftedBy}, `, moment(hold.liftedAt)] : [])),
    hold.liftedAt || !may("cleanup") ? null : make("p", { class: "buttons" }, deed("Release …", "", () => release(hold))));
}

async function release(hold) {
  const dialog = find("#release");
  find("#release-what").textContent = `${hold.subject ? `${KINDS[hold.kind]} ${hold.subject}` : KINDS[hold.kind]}: ${hold.reason}`;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => { dialog.addEventListener("close", resolve, { once: true }); });
  if (dialog.returnValue !== "yes") return;
  await ask("POST", `/api/holds/${hold.id}/lift`, {});
  await loadHolds();
  tell("It is released.");
}

newHold.addEventListener("input", () => {
  const isAll = newHold.elements.kind.value === "all";
  find("#held-what").hidden = isAll;
  if (isAll) newHold.elements.subject.value = "";
});
newHold.addEventListener("reset", () => { find("#held-what").hidden = false; });
newHold.addEventListener("submit", async (event) => {
  event.preventDefault();
  accuse(newHold, null);
  try {
    await ask("POST", "/api/holds", Object.fromEntries(new FormData(newHold)));
    newHold.reset();
    await loadHolds();
    tell("It is held from now on.");
  } catch (error) {
    accuse(newHold, error);
  }
});
