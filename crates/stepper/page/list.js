// A list of any length of which only the rows in view exist.
//
// A step redraws eight of these. Nothing here asks the document for a size while it draws, because each answer would cost a layout
// of everything that was drawn before; and a row is touched only where it shows something else than it did.

const ROW = 24; // px; the style sheet's --row

class List {
  // `fetch(from, count)` gives the data of rows, `draw(row, data, index)` shows them in an element used before for others.
  constructor(element, { role, fetch, draw }) {
    this.element = element;
    this.role = role;
    this.fetch = fetch;
    this.draw = draw;
    this.count = 0;
    this.height = 0;
    this.top = 0;
    // Row `n` is always in the element `n` modulo their number: to scroll by a row is to draw one.
    this.pool = [];
    this.space = document.createElement("div");
    this.space.className = "space";
    this.space.role = "presentation";
    element.append(this.space);
    element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => {
      this.measure();
      this.redraw();
    }).observe(element);
  }

  measure() {
    this.height = this.element.clientHeight;
    this.top = this.element.scrollTop;
  }

  // Makes room for as many rows as there will ever be.
  fit(most) {
    this.space.style.height = `${most * ROW}px`;
    this.measure();
  }

  // Gets ready to show `count` rows, the `focus`th among those in view; `null` leaves the scroll position. To scroll is to ask for a
  // layout: all lists do it before one of them draws.
  prepare(count, focus) {
    this.count = count;
    if (focus !== null && count > 0) this.reveal(focus);
    else if (this.top > count * ROW) this.reveal(count - 1);
  }

  reveal(index) {
    const at = index * ROW;
    const margin = Math.min(2 * ROW, Math.max(0, (this.height - ROW) / 2));
    // Whole rows at the top, so that none is cut there.
    let top = this.top;
    if (at < top + margin) top = Math.floor((at - margin) / ROW) * ROW;
    else if (at + ROW > top + this.height - margin) top = Math.ceil((at + ROW - this.height + margin) / ROW) * ROW;
    top = Math.max(0, Math.min(top, this.count * ROW - this.height));
    if (top !== this.top) this.element.scrollTop = this.top = top;
  }

  scrolled() {
    const top = this.element.scrollTop;
    if (Math.abs(top - this.top) < 1) return;
    this.top = top;
    this.redraw();
  }

  redraw() {
    const first = Math.max(0, Math.min(Math.floor(this.top / ROW), this.count - 1));
    const seen = Math.max(0, Math.min(Math.ceil(this.height / ROW) + 1, this.count - first));
    const rows = seen > 0 ? this.fetch(first, seen) : [];
    this.grow(rows.length);
    const size = this.pool.length;
    const unused = new Set(this.pool);
    rows.forEach((data, n) => {
      const index = first + n;
      const row = this.pool[index % size];
      unused.delete(row);
      if (row.hidden) row.hidden = false;
      if (row.index !== index) this.place(row, index);
      this.draw(row, data, index);
    });
    for (const row of unused) if (!row.hidden) row.hidden = true;
  }

  place(row, index) {
    row.index = index;
    row.dataset.index = index;
    row.style.transform = `translateY(${index * ROW}px)`;
    row.setAttribute(this.role === "row" ? "aria-rowindex" : "aria-posinset", index + 1);
  }

  grow(size) {
    if (this.pool.length >= size) return;
    while (this.pool.length < size) {
      const row = document.createElement("div");
      row.className = "row";
      row.role = this.role;
      this.space.append(row);
      this.pool.push(row);
    }
    // Another number of elements is another place for each row.
    for (const row of this.pool) row.index = -1;
  }
}
