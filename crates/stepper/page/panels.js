// What a step shows: its card, and the panels beside one another.

// Makes an element with text or elements in it. Nothing of a trace ever becomes markup.
function make(tag, { className, ...attributes } = {}, ...inside) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside.filter((piece) => piece !== null && piece !== undefined));
  return element;
}

// Prose of a comment: what stands between backticks is code.
function prose(text) {
  return text.split("`").map((piece, n) => (n % 2 ? make("code", {}, piece) : piece));
}

// A table of which only the rows in view exist. What changed is marked, with what it was before.
class PanelTable {
  constructor(parent, machine, number, { title, columns }) {
    this.machine = machine;
    this.number = number;
    const id = `panel-${title.toLowerCase()}`;
    this.note = make("small");
    const head = make("div", { className: "row head", role: "row" });
    for (const column of columns) head.append(make("span", { role: "columnheader" }, column));
    const body = make("div", { className: "list", role: "rowgroup", tabindex: "0", "aria-labelledby": id });
    const table = make("div", { className: "table", role: "table", "aria-labelledby": id }, head, body);
    if (columns.every((column) => column === "")) head.hidden = true;
    const panel = (this.panel = make("section", { className: `panel ${title.toLowerCase()}`, "aria-labelledby": id }));
    panel.style.setProperty("--columns", columns.length);
    panel.append(make("h2", { id }, title, " ", this.note), table);
    parent.append(panel);
    this.list = new List(body, {
      role: "row",
      fetch: (from, count) => machine.rows(number, from, count),
      draw: (row, data) => PanelTable.draw(row, data, columns.length),
    });
  }

  // Makes room for as many rows as the panel ever has of this trace, up to what the style sheet allows: nothing moves at a step.
  fit(most) {
    this.panel.style.setProperty("--most", Math.max(2, most));
    this.list.fit(most);
  }

  prepare({ count, focus }) {
    this.list.prepare(count, focus);
  }

  show({ note }) {
    if (this.note.textContent !== (note ?? "")) this.note.textContent = note ?? "";
    this.list.redraw();
  }

  static draw(row, { cells, was, warn }, columns) {
    while (row.children.length < columns) row.append(make("span", { role: "cell" }));
    let changed = false;
    cells.forEach((text, n) => {
      const cell = row.children[n];
      const before = was?.[n] ?? null;
      changed ||= before !== null;
      const key = before === null ? text : `${before}\u0000${text}`;
      if (cell.shown === key) return;
      cell.shown = key;
      cell.className = before === null ? "" : "changed";
      cell.title = before === null ? text : before === "" ? `${text} (new)` : `${text} (was ${before})`;
      if (before) cell.replaceChildren(make("ins", {}, text), " ", make("del", {}, before));
      else if (before === "") cell.replaceChildren(make("ins", {}, text));
      else cell.textContent = text;
    });
    const marks = `row${changed ? " changed" : ""}${warn ? " warn" : ""}`;
    if (row.className !== marks) row.className = marks;
  }
}

// Links into the source tree: relative to the page, or to the base that `?source=` names.
class Source {
  constructor(guide) {
    this.base = new URLSearchParams(location.search).get("source") ?? guide.base;
    if (!/^(https?:|file:|\.{0,2}\/)/.test(this.base)) this.base = guide.base;
    if (!this.base.endsWith("/")) this.base += "/";
  }

  link({ file, line, code }) {
    const short = file.split("/").pop();
    return make("a", { className: "code", href: `${this.base}${file}#L${line}`, title: `${file}, line ${line}\n${code}` }, `${short}:${line}`);
  }

  links(places) {
    return places.flatMap((place, n) => [n ? ", " : "", this.link(place)]);
  }
}

// The card: the event, the documented steps, the rules it is held against, and where the code says so.
class Card {
  constructor(element, guide) {
    this.element = element;
    this.guide = guide;
    this.source = new Source(guide);
    this.made = new Map();
  }

  show(step, problem) {
    const parts = step.event ? this.event(step) : [make("p", { className: "quiet" }, "Before the first event.")];
    if (step.broken) parts.unshift(this.broken(problem));
    if (step.beyond) parts.unshift(make("p", { className: "beyond" }, `After the violation on line ${problem.line}: the machine only believes what the trace says.`));
    this.element.replaceChildren(...parts);
  }

  event({ event, profile }) {
    const parts = [
      make("p", { className: "headline" },
        event.numbers ? make("span", { className: "number", title: `step ${event.numbers} of the document (${profile})` }, event.numbers) : null,
        make("code", {}, event.text)),
    ];
    if (event.refusal) parts.push(this.refusal(event.refusal, profile));
    parts.push(this.facts(event, profile));
    return parts;
  }

  // What is said of every event of a kind is made once.
  facts(event, profile) {
    const key = `${event.kind} ${event.numbers} ${profile}`;
    if (!this.made.has(key)) this.made.set(key, this.makeFacts(event, profile));
    return this.made.get(key);
  }

  makeFacts(event, profile) {
    const known = this.guide.events[event.kind];
    const facts = make("dl", { className: "facts" });
    const fact = (name, ...inside) => facts.append(make("div", {}, make("dt", {}, name), make("dd", {}, ...inside)));
    fact("what happened", ...prose(known.says), " ", ...this.source.links(known.raised));
    for (const { number, text } of event.steps) {
      fact(`step ${number}`, `${text} `, this.source.link(this.guide.steps[profile][number]));
    }
    if (event.rules.length) {
      const rules = make("ul", { className: "rules" });
      for (const rule of event.rules) rules.append(this.rule(rule, known.checks[rule.id], known.function));
      fact(event.rules.length > 1 ? "rules that apply" : "the rule that applies", rules);
    } else fact("rules that apply", make("span", { className: "quiet" }, "none: it changes nothing that one could break"));
    return facts;
  }

  rule({ id, rule }, checks, whole) {
    const known = this.guide.rules[id];
    // An event that no rule can break, because it is what the rule asks for, leads to the function that takes note of it.
    const places = checks
      ? checks.flatMap((check, n) => [n ? ", " : "", this.source.link({ ...check, code: `not: ${check.what}` })])
      : [this.source.link(whole)];
    return make("li", {},
      make("a", { className: "rule", href: `${this.source.base}${known.at.file}#L${known.at.line}`, title: known.says }, id),
      ` ${rule} `, make("span", { className: "checks" }, ...places));
  }

  refusal(refusal, profile) {
    const known = this.guide.refusals[refusal.word];
    const who = refusal.page ? `${refusal.page} in ${refusal.frame}` : refusal.frame;
    const head = refusal.last
      ? `${who} stays: refused ${refusal.transient ? "for now" : "for good"}`
      : `${who} is refused, and tried again`;
    return make("div", { className: `refusal ${refusal.last ? "last" : ""}`, role: "note" },
      make("h3", {}, head),
      make("p", {}, make("code", {}, `Refusal::${refusal.value}`), " ", this.source.link(known.at)),
      make("p", {}, ...prose(known.says), " ", make("span", { className: "advice" }, `What one can do: ${refusal.advice}.`)),
      make("p", { className: "quiet" }, `In the trace: ${refusal.text}. A kernel under ${profile} would answer errno ${refusal.errno}.`));
  }

  broken(problem) {
    const known = this.guide.rules[problem.rule];
    return make("div", { className: "violation", role: "note" },
      make("h3", {}, problem.ends ? "Here the trace ends too early" : "Here a rule breaks"),
      make("p", {}, make("a", { className: "rule", href: `${this.source.base}${known.at.file}#L${known.at.line}` }, problem.rule), ` ${problem.says}: `, make("strong", {}, problem.what)),
      make("p", { className: "quiet" }, ...prose(known.says)));
  }
}
