//! kireji
fn main() {}
