// The page: a trace, a place in it, and the ways to go to another.

const byId = (id) => document.getElementById(id);
const data = (id) => JSON.parse(byId(id).textContent);
const PAGE_OF_STEPS = 10;

class App {
  constructor(machine) {
    this.machine = machine;
    this.traces = data("traces");
    this.step = 0;
    this.steps = 0;
    this.hits = [];
    this.known = new Map();
    this.card = new Card(byId("now-body"), data("guide"));
    this.events = new List(byId("events"), {
      role: "option",
      fetch: (from, count) => this.lines(from, count),
      draw: (row, line, index) => this.drawLine(row, line, index),
    });
    this.listSamples();
    this.listen();
  }

  listSamples() {
    const groups = new Map();
    for (const trace of this.traces) {
      if (!groups.has(trace.group)) groups.set(trace.group, make("optgroup", { label: trace.group }));
      groups.get(trace.group).append(make("option", { value: trace.name, title: trace.about }, trace.name));
    }
    byId("samples").append(...groups.values());
  }

  // Opens a trace; `step` beyond its end is its end.
  open(bytes, { name, about = "", step = 0 }) {
    this.name = name;
    const opened = this.machine.open(bytes);
    this.steps = opened.steps;
    this.problem = opened.problem;
    if (!this.panels) {
      this.panels = opened.panels.map((panel, number) => new PanelTable(byId("panels"), this.machine, number, panel));
    }
    this.known = new Map();
    this.hits = [];
    byId("slider").max = this.steps;
    // As wide as it ever gets: what stands beside it does not move.
    byId("place").style.width = `${this.placeText(this.steps, this.steps + 1).length}ch`;
    byId("events-title").textContent = `Events of ${name}`;
    byId("about").textContent = about;
    byId("about").hidden = !about;
    document.title = `${name} – page migration, step by step`;
    this.showProblem();
    this.panels.forEach((panel, n) => panel.fit(opened.panels[n].most));
    this.events.fit(this.steps);
    this.go(step);
    if (byId("query").value) this.search();
  }

  openSample(name, step) {
    const trace = this.traces.find((known) => known.name === name) ?? this.traces[0];
    byId("samples").value = trace.name;
    this.sample = trace.name;
    this.open(new TextEncoder().encode(trace.text), { name: trace.name, about: trace.about, step });
  }

  async openFile(file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    byId("samples").selectedIndex = -1;
    this.sample = null;
    this.open(bytes, { name: file.name });
  }

  showProblem() {
    const problem = this.problem;
    byId("problem").hidden = !problem;
    if (!problem) return;
    const where = problem.line ? `Line ${problem.line}, column ${problem.column}` : "The checker";
    const broken = problem.kind === "broken";
    byId("problem-title").textContent = broken ? "This trace breaks a rule" : problem.kind === "unchecked" ? "This trace could not be checked" : "This is not a trace";
    const before = this.steps ? ` What comes before it can be gone through: ${this.steps} ${this.steps === 1 ? "event" : "events"}.` : "";
    byId("problem-text").textContent = broken
      ? `${where}: ${problem.rule} (${problem.says}): ${problem.what}. The steps up to it can be gone through.`
      : `${where}: ${problem.what}.${before}`;
    const line = byId("problem-line");
    line.hidden = !problem.excerpt;
    line.textContent = problem.excerpt ? `${problem.excerpt}\n${" ".repeat(problem.caret)}^` : "";
    byId("problem-go").hidden = !broken;
  }

  // Goes to a step and shows it, at once.
  go(step) {
    this.step = Math.max(0, Math.min(step, this.steps));
    const state = this.machine.go(this.step);
    this.events.prepare(this.steps, this.step ? this.step - 1 : 0);
    this.panels.forEach((panel, n) => panel.prepare(state.panels[n]));
    byId("slider").value = this.step;
    byId("slider").setAttribute("aria-valuetext", state.event ? `step ${this.step}: ${state.event.text}` : "before the first event");
    byId("place").textContent = this.placeText(this.step, state.line);
    byId("first").disabled = byId("back").disabled = this.step === 0;
    byId("last").disabled = byId("forward").disabled = this.step === this.steps;
    this.card.show(state, this.problem);
    this.events.redraw();
    this.panels.forEach((panel, n) => panel.show(state.panels[n]));
    this.showHits();
    this.remember();
  }

  placeText(step, line) {
    return `step ${step} of ${this.steps} · line ${line}`;
  }

  // The address follows; not at every step, because browsers stop a page that changes it too often.
  remember() {
    const fragment = new URLSearchParams();
    if (this.sample) fragment.set("trace", this.sample);
    fragment.set("step", this.step);
    this.fragment = `#${fragment}`;
    byId("permalink").href = this.fragment;
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => {
      // Somebody has written another address meanwhile, and is about to be followed.
      if (location.hash !== this.address) return;
      history.replaceState(null, "", this.fragment);
      this.address = location.hash;
    }, 200);
  }

  follow() {
    this.address = location.hash;
    if (location.hash === this.fragment) return;
    const fragment = new URLSearchParams(location.hash.slice(1));
    const step = Number.parseInt(fragment.get("step") ?? "0", 10) || 0;
    const trace = fragment.get("trace");
    if (this.steps && (trace === null || trace === this.sample)) this.go(step);
    else this.openSample(trace, step);
  }

  drawLine(row, line, index) {
    if (row.children.length === 0) {
      for (const name of ["at", "number", "text"]) row.append(make("span", { className: name }));
      row.lastChild.append(make("b"), "");
    }
    const here = index + 1 === this.step;
    const marks = ["row"];
    if (line.bad) marks.push("bad");
    if (line.word === "refuse" || line.word === "retry") marks.push("refused");
    if (this.isHit(index + 1)) marks.push("hit");
    if (index >= this.step) marks.push("beyond");
    if (row.className !== marks.join(" ")) row.className = marks.join(" ");
    if (row.ariaSelected !== String(here)) row.ariaSelected = here;
    if (here) byId("events").setAttribute("aria-activedescendant", `event-${index + 1}`);
    if (row.line === line) return;
    row.line = line;
    row.id = `event-${index + 1}`;
    row.title = line.word + line.rest;
    const [at, number, text] = row.children;
    at.textContent = index + 1;
    number.textContent = line.numbers;
    text.firstChild.textContent = line.word;
    text.lastChild.textContent = line.rest;
  }

  // Lines never change: those that were in view are not asked for again.
  lines(from, count) {
    const known = this.known;
    const lines = new Map();
    let missing = null;
    for (let n = from; n < from + count; n++) {
      if (known.has(n)) lines.set(n, known.get(n));
      else missing = missing ? [missing[0], n] : [n, n];
    }
    if (missing) this.machine.lines(missing[0], missing[1] - missing[0] + 1).forEach((line, n) => lines.set(missing[0] + n, line));
    this.known = lines;
    return Array.from({ length: count }, (_, n) => lines.get(from + n));
  }

  // The place in `hits` of the first that is not before `step`.
  hitFrom(step) {
    let [low, high] = [0, this.hits.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.hits[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  isHit(step) {
    return this.hits[this.hitFrom(step)] === step;
  }

  search() {
    this.hits = byId("query").value.trim() ? this.machine.find(byId("query").value) : [];
    this.events.redraw();
    this.showHits();
  }

  showHits() {
    const query = byId("query").value.trim();
    const at = this.hitFrom(this.step);
    const here = this.hits[at] === this.step ? `${at + 1} of ` : "";
    const said = !query ? "" : this.hits.length ? `${here}${this.hits.length} found` : "nothing found";
    if (byId("hits").textContent !== said) byId("hits").textContent = said;
    byId("hit-next").disabled = byId("hit-previous").disabled = this.hits.length === 0;
  }

  // Goes to the next hit, from the end on to the first.
  nextHit() {
    if (this.hits.length) this.go(this.hits[this.hitFrom(this.step + 1)] ?? this.hits[0]);
  }

  previousHit() {
    if (this.hits.length) this.go(this.hits[this.hitFrom(this.step) - 1] ?? this.hits[this.hits.length - 1]);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const query = byId("query");
    if (event.target === query) {
      if (event.key === "Escape") {
        // Where a browser would clear the field, `n` would have nothing to go to.
        event.preventDefault();
        query.blur();
      }
      return;
    }
    if (event.target.tagName === "SELECT") return;
    const steps = {
      ArrowRight: () => this.go(this.step + 1),
      ArrowDown: () => this.go(this.step + 1),
      ArrowLeft: () => this.go(this.step - 1),
      ArrowUp: () => this.go(this.step - 1),
      PageDown: () => this.go(this.step + PAGE_OF_STEPS),
      PageUp: () => this.go(this.step - PAGE_OF_STEPS),
      Home: () => this.go(0),
      End: () => this.go(this.steps),
      n: () => this.nextHit(),
      N: () => this.previousHit(),
      "/": () => query.select(),
    }[event.key];
    if (!steps) return;
    event.preventDefault();
    if (event.key === "/") query.focus();
    steps();
  }

  listen() {
    const click = (id, does) => byId(id).addEventListener("click", does);
    click("first", () => this.go(0));
    click("back", () => this.go(this.step - 1));
    click("forward", () => this.go(this.step + 1));
    click("last", () => this.go(this.steps));
    click("open", () => byId("file").click());
    click("hit-previous", () => this.previousHit());
    click("problem-go", () => this.go(this.problem.step));
    byId("slider").addEventListener("input", (event) => this.go(event.target.valueAsNumber));
    byId("samples").addEventListener("change", (event) => this.openSample(event.target.value, 0));
    byId("query").addEventListener("input", () => this.search());
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.nextHit();
    });
    byId("file").addEventListener("change", async (event) => {
      const [file] = event.target.files;
      if (file) await this.openFile(file);
      // The same file can be picked again, when it has changed.
      event.target.value = "";
    });
    byId("events").addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.go(Number(row.dataset.index) + 1);
    });
    document.addEventListener("keydown", (event) => this.key(event), { capture: true });
    window.addEventListener("hashchange", () => this.follow());
    const drop = byId("drop");
    window.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.hidden = false;
    });
    window.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.hidden = true;
    });
    window.addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.hidden = true;
      const [file] = event.dataTransfer.files;
      if (file) await this.openFile(file);
    });
  }
}

try {
  const app = new App(await Machine.load(byId("wasm").textContent.trim()));
  app.follow();
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  byId("problem").hidden = false;
  byId("problem-title").textContent = "The stepper does not work here";
  byId("problem-text").textContent = `It needs a browser with WebAssembly: ${error}`;
  document.documentElement.dataset.ready = "no";
}
