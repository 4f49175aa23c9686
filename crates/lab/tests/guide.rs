//! Holds the guide's page on the lab to the rigs.

use lab::rig::{Rig, SHIPPED};

#[test]
fn the_page_lists_every_rig_as_it_describes_itself() {
    let page = include_str!("../../../docs/src/lab.md");
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = SHIPPED
        .iter()
        .map(|shipped| Rig::parse(shipped.name, shipped.text).unwrap())
        .map(|rig| format!("| `{}` | {} |", rig.name, rig.description))
        .collect();
    assert_eq!(listed[..rows.len()], rows);
}
