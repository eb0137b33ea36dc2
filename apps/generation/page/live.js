// Who is watched live: a stream each for the few that are next to move, a look at all others now and then.
// A browser opens six connections to a server at most; three are left for videos and questions.

const STREAMS_MAX = 3;
const LOOK_MS = 2000;
const LATEST_WAIT_MS = 8000;

export class Live {
  constructor({ take, look, tell }) {
    Object.assign(this, { take, look, tell });
    this.streams = new Map();
    this.wanted = [];
    this.wait = LOOK_MS;
    this.again();
  }

  // `ids` are those that are not over, the next to move first.
  watch(ids) {
    this.wanted = ids;
    const chosen = new Set(ids.slice(0, STREAMS_MAX));
    for (const id of [...this.streams.keys()]) if (!chosen.has(id)) this.close(id);
    for (const id of chosen) if (!this.streams.has(id)) this.open(id);
  }

  open(id) {
    const stream = new EventSource(`/api/generations/${id}/events`);
    this.streams.set(id, stream);
    stream.addEventListener("generation", (event) => this.take(JSON.parse(event.data)));
    stream.addEventListener("progress", (event) => this.take({ id, ...JSON.parse(event.data) }));
    stream.addEventListener("end", (event) => {
      this.close(id);
      this.take(JSON.parse(event.data));
    });
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) this.close(id); // the next look opens it anew
    });
  }

  close(id) {
    this.streams.get(id)?.close();
    this.streams.delete(id);
  }

  again() {
    setTimeout(() => this.beat(), this.wait);
  }

  async beat() {
    try {
      if (!document.hidden) await this.look(this.wanted.filter((id) => !this.streams.has(id)));
      this.wait = LOOK_MS;
      this.tell(true);
    } catch {
      this.wait = Math.min(LATEST_WAIT_MS, this.wait * 1.5);
      this.tell(false);
    }
    this.again();
  }
}
