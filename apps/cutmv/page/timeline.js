// The timeline: a strip of pictures, clips as marks upon it, and the same clips as numbers below.

const STEP = 0.1;
const CLIPS_MAX = 20;

export function showTime(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - minutes * 60).toFixed(1).padStart(4, "0")}`;
}

export class Timeline {
  constructor(root) {
    this.strip = root.querySelector("#strip");
    this.marks = root.querySelector("#marks");
    this.list = root.querySelector("#clips");
    this.clips = [];
    this.duration = 1;
    root.querySelector("#add-clip").addEventListener("click", () => this.addAfterLast());
    this.marks.addEventListener("pointerdown", (event) => this.begin(event));
  }

  show(upload) {
    this.duration = upload.media.duration_s;
    this.clips = [];
    this.strip.replaceChildren(...Array.from({ length: upload.previews }, (_, number) => {
      const picture = document.createElement("img");
      picture.src = `/api/uploads/${upload.id}/previews/${number}.jpg`;
      picture.alt = "";
      return picture;
    }));
    this.add(0, Math.min(this.duration, 5));
  }

  add(start, end) {
    if (this.clips.length >= CLIPS_MAX) return null;
    const clip = { start: this.round(start), end: this.round(end) };
    this.clips.push(clip);
    this.draw();
    return clip;
  }

  addAfterLast() {
    const last = this.clips.at(-1);
    const start = last && last.end + STEP < this.duration ? last.end : 0;
    this.add(start, Math.min(this.duration, start + 5));
    this.list.querySelector("li:last-child input")?.focus();
  }

  round(seconds) {
    return Math.min(this.duration, Math.max(0, Math.round(seconds * 1000) / 1000));
  }

  begin(event) {
    const box = this.marks.getBoundingClientRect();
    const at = (each) => this.round(((each.clientX - box.left) / box.width) * this.duration);
    const from = at(event);
    let clip = null;
    const move = (each) => {
      const to = at(each);
      if (Math.abs(to - from) < STEP) return;
      clip ??= this.add(from, from + STEP);
      if (!clip) return;
      [clip.start, clip.end] = from < to ? [from, to] : [to, from];
      this.draw();
    };
    const end = () => {
      this.marks.removeEventListener("pointermove", move);
      this.marks.removeEventListener("pointerup", end);
      this.marks.removeEventListener("pointercancel", end);
    };
    this.marks.setPointerCapture(event.pointerId);
    this.marks.addEventListener("pointermove", move);
    this.marks.addEventListener("pointerup", end);
    this.marks.addEventListener("pointercancel", end);
  }

  draw() {
    this.marks.replaceChildren(...this.clips.map((clip, number) => {
      const mark = document.createElement("div");
      mark.className = "mark";
      this.place(mark, clip);
      const label = document.createElement("span");
      label.textContent = String(number + 1);
      mark.append(label);
      return mark;
    }));
    this.list.replaceChildren(...this.clips.map((clip, number) => this.row(clip, number)));
  }

  place(mark, clip) {
    mark.style.left = `${(clip.start / this.duration) * 100}%`;
    mark.style.width = `${((clip.end - clip.start) / this.duration) * 100}%`;
  }

  row(clip, number) {
    const row = document.createElement("li");
    const length = document.createElement("span");
    length.className = "muted";
    const tell = () => {
      length.textContent = clip.end > clip.start ? `${(clip.end - clip.start).toFixed(1)} s long ` : "ends before it starts ";
    };
    const edge = (name, words) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "number", min: 0, max: this.duration, step: "any", value: clip[name] });
      input.setAttribute("aria-label", `Clip ${number + 1} ${words}, seconds`);
      const take = (value) => {
        clip[name] = this.round(value);
        this.place(this.marks.children[number], clip);
        tell();
      };
      input.addEventListener("input", () => input.value !== "" && take(Number(input.value)));
      input.addEventListener("keydown", (event) => {
        const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!way) return;
        event.preventDefault();
        take(Number(input.value) + way * (event.shiftKey ? 1 : STEP));
        input.value = clip[name];
      });
      label.append(`${words} `, input);
      return label;
    };
    const remove = document.createElement("button");
    Object.assign(remove, { type: "button", className: "quiet", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove clip ${number + 1}`);
    remove.addEventListener("click", () => {
      this.clips.splice(number, 1);
      this.draw();
    });
    tell();
    row.append(edge("start", "from"), edge("end", "to"), length, remove);
    return row;
  }
}
