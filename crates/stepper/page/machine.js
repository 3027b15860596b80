// The replay machine: WebAssembly made of the library's own parser, checker and replay. Text goes in, JSON comes out.

class Machine {
  static async load(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const { instance } = await WebAssembly.instantiate(bytes, {});
    return new Machine(instance.exports);
  }

  constructor(exports) {
    this.exports = exports;
    this.decoder = new TextDecoder();
  }

  // The memory may have moved whenever the machine ran: views of it are never kept.
  give(bytes) {
    const at = this.exports.input(bytes.length);
    new Uint8Array(this.exports.memory.buffer, at, bytes.length).set(bytes);
  }

  taken() {
    const { memory, output, output_length } = this.exports;
    return JSON.parse(this.decoder.decode(new Uint8Array(memory.buffer, output(), output_length())));
  }

  // Reads, checks and replays a trace; says how long it is and what is wrong with it.
  open(bytes) {
    this.give(bytes);
    this.exports.open();
    return this.taken();
  }

  // Goes to the state after `step` events; says what that step was.
  go(step) {
    this.exports.go(step);
    return this.taken();
  }

  // The rows of a panel, of the state that `go` went to.
  rows(panel, from, count) {
    this.exports.rows(panel, from, count);
    return this.taken();
  }

  lines(from, count) {
    this.exports.lines(from, count);
    return this.taken();
  }

  // The steps that a search finds, in order.
  find(query) {
    this.give(new TextEncoder().encode(query));
    this.exports.find();
    return this.taken();
  }
}
