// Orders: what was ordered here, how far each is, and the socket that tells of it.

const KEY = "cutmv-orders";
const WORDS = {
  queued: "waiting", running: "working", retrying: "trying again soon", succeeded: "done", failed: "failed", cancelled: "cancelled",
};
const WATCH_AT_ONCE = 30; // a message to the server has 4,096 bytes at most
const FINAL = ["succeeded", "failed", "cancelled"];

function showBytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function showLeft(seconds) {
  if (!Number.isFinite(seconds)) return "";
  return seconds < 60 ? `${Math.ceil(seconds)} s left` : `${Math.ceil(seconds / 60)} min left`;
}

export async function ask(method, path, body) {
  const given = { method, headers: {} };
  if (body !== undefined) {
    given.headers["content-type"] = "application/json";
    given.body = JSON.stringify(body);
  }
  const response = await fetch(path, given);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.error ?? `The server answered ${response.status}.`), { status: response.status });
  return answer;
}

export class Orders {
  constructor(root, live) {
    this.root = root;
    this.live = live;
    this.orders = new Map();
    this.names = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    for (const id of Object.keys(this.names)) this.card(id);
    this.wait = 250;
    this.connect();
  }

  add(view, name) {
    this.names[view.id] = name;
    this.keep();
    this.card(view.id);
    this.take(view);
    this.watch([view.id]);
    this.orders.get(view.id).card.scrollIntoView({ block: "nearest" });
  }

  keep() {
    localStorage.setItem(KEY, JSON.stringify(this.names));
    document.querySelector("#none").hidden = Object.keys(this.names).length > 0;
  }

  forget(id) {
    this.orders.get(id)?.card.remove();
    this.orders.delete(id);
    delete this.names[id];
    this.keep();
  }

  // The socket: after a break it comes back, and asks for what came after the last event that was seen.

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.wait = 250;
      this.tellLive("live", "good");
      this.watch([...this.orders.keys()]);
    });
    socket.addEventListener("message", (message) => this.hear(JSON.parse(message.data)));
    socket.addEventListener("close", () => {
      this.tellLive("reconnecting …", "bad");
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(5000, this.wait * 2);
    });
  }

  tellLive(text, kind) {
    this.live.textContent = text;
    this.live.className = `pill ${kind}`;
  }

  watch(ids) {
    if (this.socket.readyState !== WebSocket.OPEN || !ids.length) return;
    const watch = ids.map((id) => ({ order: id, after: this.orders.get(id).view?.seq ?? 0 }));
    for (let start = 0; start < watch.length; start += WATCH_AT_ONCE) {
      this.socket.send(JSON.stringify({ watch: watch.slice(start, start + WATCH_AT_ONCE) }));
    }
  }

  async hear(event) {
    if (event.gone) this.forget(event.gone);
    else if (event.snapshot) this.take(event.snapshot);
    else if (event.order) {
      const known = this.orders.get(event.order);
      if (!known) return;
      if (!known.view) return this.take(await ask("GET", `/api/orders/${event.order}`));
      if (event.seq <= known.view.seq) return;
      const outputs = known.view.outputs.map((each) => (each.name === event.output?.name ? event.output : each));
      const started_at = event.state === "running" ? known.view.started_at ?? event.at : known.view.started_at;
      this.take({ ...known.view, ...event, id: event.order, started_at, outputs });
    }
  }

  take(view) {
    const known = this.orders.get(view.id);
    if (!known || (known.view && view.seq < known.view.seq)) return;
    known.view = view;
    this.draw(known);
  }

  card(id) {
    const card = document.querySelector("#order-template").content.firstElementChild.cloneNode(true);
    card.dataset.order = id;
    card.querySelector(".order-name").textContent = this.names[id];
    card.querySelector("progress").setAttribute("aria-label", `Progress of ${this.names[id]}`);
    card.querySelector(".zip").href = `/api/orders/${id}/zip`;
    card.querySelector(".cancel").addEventListener("click", () => this.act(id, "cancel"));
    card.querySelector(".retry").addEventListener("click", () => this.act(id, "retry"));
    card.querySelector(".forget").addEventListener("click", () => this.forget(id));
    this.orders.set(id, { card, view: null, rows: new Map() });
    this.root.prepend(card);
    document.querySelector("#none").hidden = true;
  }

  async act(id, what) {
    const known = this.orders.get(id);
    try {
      this.take(await ask("POST", `/api/orders/${id}/${what}`, {}));
    } catch (error) {
      const line = known.card.querySelector(".error");
      line.textContent = error.message;
      line.hidden = false;
    }
  }

  draw({ card, view, rows }) {
    const ended = FINAL.includes(view.state);
    const state = card.querySelector(".state");
    state.textContent = WORDS[view.state] + (view.attempt > 1 && !ended ? ` (attempt ${view.attempt})` : "");
    state.className = `pill state ${{ succeeded: "good", failed: "bad" }[view.state] ?? ""}`;
    card.querySelector("progress").value = view.fraction;
    const elapsed = view.started_at ? (Date.now() - Date.parse(view.started_at)) / 1000 : NaN;
    const left = view.fraction > 0.02 ? (elapsed / view.fraction) * (1 - view.fraction) : NaN;
    card.querySelector(".left").textContent = ended ? "" : `${Math.floor(view.fraction * 100)} % ${showLeft(left)}`;
    const error = card.querySelector(".error");
    error.textContent = view.error ?? "";
    error.hidden = !view.error || view.state === "succeeded";
    card.querySelector(".cancel").hidden = ended;
    card.querySelector(".retry").hidden = !["failed", "cancelled"].includes(view.state);
    card.querySelector(".forget").hidden = !ended;
    card.querySelector(".zip").hidden = !view.outputs.some((each) => each.size !== null);
    for (const output of view.outputs) this.drawOutput(card, view, rows, output);
  }

  drawOutput(card, view, rows, output) {
    const href = `/api/orders/${view.id}/outputs/${output.name}`;
    if (!rows.has(output.name)) {
      const row = document.createElement("li");
      rows.set(output.name, row);
      card.querySelector(".outputs").append(row);
    }
    const row = rows.get(output.name);
    if (row.dataset.ready) return;
    if (output.size !== null) {
      row.dataset.ready = "yes";
      const link = Object.assign(document.createElement("a"), { href, download: output.name });
      const size = Object.assign(document.createElement("span"), { className: "muted", textContent: showBytes(output.size) });
      if (/\.(jpg|gif)$/.test(output.name)) {
        const picture = Object.assign(document.createElement("img"), { src: href, alt: output.name, loading: "lazy" });
        link.append(picture);
        if (output.name.endsWith(".jpg")) return this.pictures(card, row, link);
      } else {
        link.textContent = output.name;
      }
      const name = Object.assign(document.createElement("span"), { className: "muted", textContent: link.textContent ? "" : output.name });
      row.replaceChildren(link, name, size);
      return;
    }
    if (!row.children.length) {
      const name = Object.assign(document.createElement("span"), { textContent: output.name });
      const bar = Object.assign(document.createElement("progress"), { max: 1, value: 0 });
      bar.setAttribute("aria-label", output.name);
      row.append(name, bar, Object.assign(document.createElement("span"), { className: "muted" }));
    }
    const clip = view.wish.clips[output.clip];
    const speed = output.speed ? `${output.speed.toFixed(1)}× ` : "";
    const left = output.speed ? showLeft(((clip.end - clip.start) * (1 - output.fraction)) / output.speed) : "";
    row.children[1].value = output.fraction;
    row.children[2].textContent = output.fraction > 0 ? `${Math.floor(output.fraction * 100)} % ${speed}${left}` : "";
  }

  pictures(card, row, link) {
    row.remove();
    let strip = card.querySelector(".pictures");
    if (!strip) {
      strip = Object.assign(document.createElement("div"), { className: "pictures" });
      card.querySelector(".outputs").after(strip);
    }
    strip.append(link);
  }
}
