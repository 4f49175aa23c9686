//! The topology as a picture, for bug reports: SVG 1.1, without scripts or anything from outside.

use std::fmt::Write;

use pci::{Host, Names};

use super::tree::Node;

/// Height of a row and width of a level, in pixels.
const ROW: usize = 22;
const LEVEL: usize = 24;
/// Width of a character of the text, about, in pixels.
const CHARACTER: usize = 8;
const MARGIN: usize = 12;
/// Width of the badge with the group's number.
const BADGE: usize = 44;

/// Returns the picture.
pub(super) fn draw(host: &Host, names: &Names, nodes: &[Node<'_>], short: bool) -> String {
    let texts: Vec<_> = nodes.iter().map(|node| text(host, names, node, short)).collect();
    let widest = nodes
        .iter()
        .zip(&texts)
        .map(|(node, text)| node.open.len() * LEVEL + text.chars().count() * CHARACTER)
        .max()
        .unwrap_or_default();
    let width = widest + BADGE + LEVEL + 3 * MARGIN;
    let height = nodes.len() * ROW + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"13\">\n\
         <title>PCI functions and their IOMMU groups</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut last_at: Vec<usize> = Vec::new();
    for (row, (node, text)) in nodes.iter().zip(&texts).enumerate() {
        let depth = node.open.len();
        let (x, y) = (MARGIN + depth * LEVEL, MARGIN + row * ROW + ROW / 2);
        // Down from the bridge, then across to the function.
        last_at.truncate(depth + 1);
        if let Some(above) = depth.checked_sub(1).and_then(|level| last_at.get(level)) {
            let stem = x - LEVEL / 2;
            svg +=
                &format!("<path d=\"M{stem} {above} V{y} H{x}\" stroke=\"#999\" fill=\"none\"/>\n");
        }
        last_at.resize(depth, y);
        last_at.push(y + ROW / 3);
        svg += &badge(node.function.group, x, y);
        let at = x + BADGE + MARGIN;
        let baseline = y + 4;
        svg += &format!("<text x=\"{at}\" y=\"{baseline}\">{}</text>\n", escaped(text));
    }
    svg += "</svg>\n";
    svg
}

fn text(host: &Host, names: &Names, node: &Node<'_>, short: bool) -> String {
    let function = node.function;
    let driver = function.driver.as_deref().map_or_else(String::new, |name| format!(" ({name})"));
    let slot = host.card(function.address).known().and_then(|card| card.slot.clone());
    let slot = slot.map_or_else(String::new, |slot| format!(" in slot {slot}"));
    let address = super::shown(function.address, short);
    format!("{address} {}{driver}{slot}", super::what(names, function))
}

/// A group's number on a colour of its own; neighbours differ most.
fn badge(group: Option<u32>, x: usize, y: usize) -> String {
    let top = y - ROW / 2 + 3;
    let (fill, label) = match group {
        // The golden angle keeps successive hues apart.
        Some(group) => {
            (format!("hsl({},60%,80%)", u64::from(group) * 137 % 360), group.to_string())
        }
        None => ("#eee".to_owned(), "-".to_owned()),
    };
    let (middle, baseline, height) = (x + BADGE / 2, y + 4, ROW - 6);
    format!(
        "<rect x=\"{x}\" y=\"{top}\" width=\"{BADGE}\" height=\"{height}\" rx=\"4\" \
         fill=\"{fill}\"/>\n<text x=\"{middle}\" y=\"{baseline}\" \
         text-anchor=\"middle\">{label}</text>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Most control characters are no characters of XML at all (XML 1.0, 2.2).
            char if char.is_control() => out.push(' '),
            char if u32::from(char) > 0xffff => {
                // Writing to a string cannot fail.
                let _ = write!(out, "&#{};", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_the_picture() {
        assert_eq!(escaped("<a & \"b\">\u{1}"), "&lt;a &amp; &quot;b&quot;&gt; ");
    }
}
