// One video on the page: where it stands in the line, how far it is, and the video itself when it is done.

const VIP = 5;
export const FINAL = ["completed", "failed", "cancelled"];
const TITLES = new Map();

// What went wrong, for people; the provider's own words are what the line shows when it is pointed at.
const FAILURES = {
  safety: "The provider refused this video for reasons of safety. Other words may help.",
  invalid_argument: "The provider did not accept this prompt. Other words may help.",
  timeout: "The provider took too long. You can try again.",
  empty: "The provider ended without a video. You can try again.",
  not_found: "The provider knows nothing of this video any more. You can try again.",
  unreachable: "The provider cannot be reached. You can try again later.",
  unavailable: "The provider is out of order. You can try again later.",
  internal: "The provider had a fault of its own. You can try again.",
  resource_exhausted: "The provider has too much to do. You can try again later.",
  permission_denied: "The provider does not let this server in: its key needs a look.",
  unauthenticated: "The provider does not let this server in: its key needs a look.",
  submission_in_doubt: "The connection broke while the provider was asked, so it was not asked again. You can try again.",
};

export function nameProviders(providers) {
  for (const provider of providers) TITLES.set(provider.name, provider.title);
}

export function showSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function showPlace(place) {
  if (place === null || place === undefined) return "In the line";
  if (place === 1) return "Next in the line";
  const ending = place % 100 >= 11 && place % 100 <= 13 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[place % 10] ?? "th";
  return `${place}${ending} in the line`;
}

function showBytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function make(tag, facts) {
  return Object.assign(document.createElement(tag), facts);
}

export class Card {
  constructor(view, act) {
    this.view = view;
    this.root = document.querySelector("#generation-template").content.firstElementChild.cloneNode(true);
    this.root.dataset.id = view.id;
    this.root.setAttribute("aria-label", `Video: ${view.prompt}`);
    for (const what of ["cancel", "retry", "reuse"]) {
      this.find(`.${what}`).addEventListener("click", () => act(what, this));
    }
    const prompt = this.find(".prompt");
    prompt.textContent = view.prompt;
    prompt.title = view.prompt;
    this.draw();
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  get isOver() {
    return FINAL.includes(this.view.state);
  }

  // What came by a stream may be older than what came by a look: an attempt's progress never goes back.
  take(news) {
    const { view } = this;
    if (this.isOver && !FINAL.includes(news.state ?? "")) return;
    const isSame = (news.attempt ?? view.attempt) === view.attempt;
    if (isSame && news.progress !== undefined) news = { ...news, progress: Math.max(news.progress, view.progress) };
    if (news.progress > 0 && !news.state && ["queued", "retrying"].includes(view.state)) news = { ...news, state: "processing", queuePosition: null };
    this.view = { ...view, ...news };
    this.draw();
  }

  say(error) {
    const line = this.find(".error");
    line.textContent = error ?? "";
    line.hidden = !error;
  }

  draw() {
    const { view } = this;
    const kind = { queued: "waiting", retrying: "waiting", processing: "running", completed: "done" }[view.state] ?? view.state;
    this.root.dataset.state = kind;
    const percent = `${Math.floor(view.progress * 100)} %`;
    const headline = {
      queued: showPlace(view.queuePosition), retrying: "Trying again soon", processing: view.progress > 0 ? percent : "Beginning",
      completed: "", failed: "It did not work", cancelled: "Cancelled",
    }[view.state];
    this.find(".headline").textContent = headline;
    this.find(".note").textContent = this.isOver ? "" : view.note ?? "";
    const bar = this.find("progress");
    bar.value = view.progress;
    bar.hidden = this.isOver;
    bar.setAttribute("aria-label", `Progress of ${view.prompt}`);
    bar.setAttribute("aria-valuetext", headline);
    this.find(".facts").textContent = this.facts();
    this.find(".times").textContent = this.times();
    this.say(view.state === "failed" ? FAILURES[view.error.code.toLowerCase()] ?? view.error.message : null);
    this.find(".error").title = view.error?.message ?? "";
    this.find(".cancel").hidden = this.isOver;
    this.find(".retry").hidden = !["failed", "cancelled"].includes(view.state);
    if (view.state === "completed") this.play();
  }

  facts() {
    const { view } = this;
    const { duration, aspectRatio, resolution } = view.parameters;
    const facts = [TITLES.get(view.provider) ?? view.provider, `${duration} s`, aspectRatio, resolution];
    if (view.priority >= VIP) facts.unshift("VIP");
    if (view.attempt > 1) facts.push(`attempt ${view.attempt}`);
    return facts.join(" · ");
  }

  times() {
    const { state, timings, result } = this.view;
    if (state !== "completed") return "";
    const waited = timings.waitSeconds >= 0.1 ? `waited ${showSeconds(timings.waitSeconds)}, ` : "";
    return `${waited}made in ${showSeconds(timings.processingSeconds)} · ${showBytes(result.size)}`;
  }

  // A still picture until somebody wants to see it move; the player's own controls only then.
  play() {
    if (this.find("video")) return;
    const address = `/api/generations/${this.view.id}/video`;
    const video = make("video", { preload: "metadata", playsInline: true, src: `${address}#t=0.1`, tabIndex: -1 });
    video.setAttribute("aria-label", this.view.prompt);
    video.addEventListener("error", () => this.say("This video is not kept any more."));
    const button = make("button", { type: "button", className: "play" });
    button.setAttribute("aria-label", `Play: ${this.view.prompt}`);
    button.addEventListener("click", () => {
      button.remove();
      Object.assign(video, { controls: true, tabIndex: 0, currentTime: 0 });
      video.focus();
      video.play();
    });
    this.find(".scene").replaceWith(video, button);
    const link = this.find(".download");
    link.href = `${address}?download=1`;
    link.download = "";
    link.hidden = false;
  }
}
