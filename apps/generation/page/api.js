// Asks the server; what it refuses comes as an Error in words for people, with a hint where there is one.

export class Refused extends Error {
  constructor(message, { status = 0, code = "", hint = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, hint });
  }

  get words() {
    return this.hint ? `${this.message} ${this.hint}` : this.message;
  }
}

const AWAY = new Refused("The server cannot be reached.", { hint: "Nothing is lost: please try again in a moment." });

export async function ask(method, path, { body, headers = {} } = {}) {
  const given = { method, headers: { ...headers } };
  if (body !== undefined) {
    given.headers["content-type"] = "application/json";
    given.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, given);
  } catch {
    throw AWAY;
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Refused(answer.detail ?? `The server answered ${response.status}.`, { status: response.status, code: answer.code, hint: answer.hint ?? "" });
}

// A key that makes a request which is sent twice count once.
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
}
