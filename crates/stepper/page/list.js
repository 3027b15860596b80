// A list of any length of which only the rows in view exist.

const ROW = 24; // px; the style sheet's --row

class List {
  // `fetch(from, count)` gives the data of rows, `draw(element, data, index)` shows them in an element used before for others.
  constructor(element, { role, fetch, draw }) {
    this.element = element;
    this.role = role;
    this.fetch = fetch;
    this.draw = draw;
    this.count = 0;
    this.pool = [];
    this.space = document.createElement("div");
    this.space.className = "space";
    this.space.role = "presentation";
    element.append(this.space);
    element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.redraw()).observe(element);
  }

  // Shows `count` rows, the `focus`th among those in view; `null` leaves the scroll position.
  show(count, focus) {
    if (count !== this.count) {
      this.count = count;
      this.space.style.height = `${count * ROW}px`;
    }
    if (focus !== null && count > 0) this.reveal(focus);
    this.redraw();
  }

  reveal(index) {
    const height = this.element.clientHeight || 0;
    const top = this.element.scrollTop;
    const at = index * ROW;
    const margin = Math.min(2 * ROW, Math.max(0, (height - ROW) / 2));
    // Whole rows at the top, so that none is cut there.
    if (at < top + margin) this.element.scrollTop = Math.max(0, Math.floor((at - margin) / ROW) * ROW);
    else if (at + ROW > top + height - margin) this.element.scrollTop = Math.ceil((at + ROW - height + margin) / ROW) * ROW;
  }

  scrolled() {
    // A scroll that a redraw has already answered brings nothing new.
    if (this.first !== this.place().first) this.redraw();
  }

  place() {
    const seen = Math.ceil((this.element.clientHeight || 0) / ROW) + 1;
    const first = Math.max(0, Math.min(Math.floor(this.element.scrollTop / ROW), this.count - 1));
    return { first, seen: Math.min(seen, this.count - first) };
  }

  redraw() {
    const { first, seen } = this.count ? this.place() : { first: 0, seen: 0 };
    this.first = first;
    const rows = seen > 0 ? this.fetch(first, seen) : [];
    while (this.pool.length < rows.length) {
      const row = document.createElement("div");
      row.className = "row";
      row.role = this.role;
      this.space.append(row);
      this.pool.push(row);
    }
    this.pool.forEach((row, n) => {
      const used = n < rows.length;
      if (row.hidden === used) row.hidden = !used;
      if (!used) return;
      row.style.transform = `translateY(${(first + n) * ROW}px)`;
      row.setAttribute(this.role === "row" ? "aria-rowindex" : "aria-posinset", first + n + 1);
      row.dataset.index = first + n;
      this.draw(row, rows[n], first + n);
    });
  }
}
