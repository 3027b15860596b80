//! Moves pages on a backend that does nothing, with the observer that is off: the program whose instructions are compared.

#[path = "../benches/noop/mod.rs"]
mod noop;

fn main() {
    noop::move_there_and_back(());
}
