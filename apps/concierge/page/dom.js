// What every part of the page stands on: calls of the API, elements out of words, moments for people.

export const find = (selector, root = document) => root.querySelector(selector);

export async function ask(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/api/login") dispatchEvent(new Event("signed-out"));
  throw Object.assign(new Error(answer?.error ?? `The server answered ${response.status}.`), { status: response.status, field: answer?.field });
}

// make("li", { class: "file", onclick: f }, "text", other) - text is never read as HTML
export function make(tag, facts = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...inside.filter((each) => each !== null && each !== undefined));
  return element;
}

const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// `isShort` is for lists: of another day no clock.
export function moment(text, isShort = false) {
  if (!text) return "";
  const when = new Date(text);
  const isToday = when.toDateString() === new Date().toDateString();
  const words = [isToday ? null : DAY.format(when), isToday || !isShort ? CLOCK.format(when) : null];
  return make("time", { datetime: text, title: FULL.format(when) }, words.filter(Boolean).join(", "));
}

const LOOKS = {
  delivered: "good", ready: "good", sent: "good", active: "good", held: "wait", disabled: "bad", failed: "bad", bounced: "bad", review: "wait", approved: "wait",
  queued: "busy", sending: "busy", running: "busy",
};
export const pill = (state) => make("span", { class: `pill ${LOOKS[state] ?? ""}` }, state);

export function facts(rows) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of rows) {
    if (value !== null && value !== undefined && value !== "") list.append(make("dt", {}, name), make("dd", {}, value));
  }
  return list;
}

let quieten = 0;
export function tell(text, isBad = false) {
  const notice = find("#notice");
  notice.textContent = text;
  notice.classList.toggle("bad", isBad);
  notice.hidden = false;
  clearTimeout(quieten);
  quieten = setTimeout(() => { notice.hidden = true; }, isBad ? 9000 : 4000);
}

// An error at its field, if it names one of this form; else at the form's end.
export function accuse(form, error) {
  for (const each of form.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  const line = find(".error", form);
  line.textContent = error?.message ?? "";
  line.hidden = !error;
  const name = error?.field?.split(".").pop();
  const field = name ? form.elements.namedItem({ sendAt: "at" }[name] ?? name) : null;
  if (field instanceof HTMLElement) {
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
}

// A button that does one thing at a time, and says what went wrong.
export function deed(words, look, work) {
  const button = make("button", { type: "button", class: look }, words);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      tell(error.message, true);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
