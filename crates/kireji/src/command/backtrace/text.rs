//! A panic in words.

use std::io::{self, Write};

use haiku::kdl::{Frame, Panic};

use super::super::image::shown;
use super::source::Source;

/// Writes a panic.
pub(crate) fn write(panic: &Panic, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "panic: {}", safe(&panic.title))?;
    if panic.corrupted {
        writeln!(out, "  This report is corrupted, and what it blames a guess:")?;
        for damage in &panic.damage {
            writeln!(out, "    {damage}")?;
        }
    }
    if let Some(message) = &panic.message {
        writeln!(out, "  message: {}", safe(message))?;
    }
    for sentence in &panic.explanation {
        writeln!(out, "  note: {}", safe(sentence))?;
    }
    let mut place = Vec::new();
    place.extend(panic.thread.as_ref().map(|t| format!("thread {} \"{}\"", t.id, safe(&t.name))));
    place.extend(panic.cpu.map(|cpu| format!("processor {cpu}")));
    place.extend(panic.revision.as_deref().map(safe));
    if !place.is_empty() {
        writeln!(out, "  in: {}", place.join(", "))?;
    }
    if let Some(guilty) = &panic.guilty {
        blame(guilty, out)?;
    }
    if !panic.frames.is_empty() {
        writeln!(out, "\nframes, the innermost first:")?;
        frames(&panic.frames, panic.guilty.as_ref(), out)?;
    }
    if panic.more_frames > 0 {
        writeln!(out, "       and {} more", panic.more_frames)?;
    }
    for other in &panic.other_threads {
        writeln!(out, "\nthread {} \"{}\":", other.thread.id, safe(&other.thread.name))?;
        frames(&other.frames, None, out)?;
    }
    if !panic.registers.is_empty() {
        writeln!(out, "\nregisters:")?;
        let mut registers: Vec<_> = panic.registers.iter().collect();
        // `r8` is before `r10`.
        registers.sort_by_key(|(name, _)| (name.len(), *name));
        for row in registers.chunks(4) {
            let row: Vec<_> =
                row.iter().map(|(name, value)| format!("{name:>6} {value:016x}")).collect();
            writeln!(out, " {}", row.join(" "))?;
        }
    }
    Ok(())
}

/// The frame to look at, with its line of the source among its neighbours.
fn blame(frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    let image = frame.image.as_deref().unwrap_or("no image");
    writeln!(out, "\nguilty: {} in {}", function(frame), safe(image))?;
    for (function, file, line) in calls(frame) {
        let Some(file) = file else { continue };
        let line = line.unwrap_or_default();
        let function = function.map(|function| format!(", {}", safe(function)));
        writeln!(out, "  {}:{line}{}", safe(file), function.unwrap_or_default())?;
        if let Some(source) = Source::around(file, line) {
            write!(out, "{source}")?;
        }
    }
    Ok(())
}

type Call<'a> = (Option<&'a str>, Option<&'a str>, Option<u32>);

/// The functions that were running in a frame, the innermost first, and where each was.
fn calls(frame: &Frame) -> Vec<Call<'_>> {
    let Some(outermost) = frame.inlined.last() else {
        return vec![(frame.symbol.as_deref(), frame.file.as_deref(), frame.line)];
    };
    let mut calls: Vec<Call<'_>> = frame
        .inlined
        .iter()
        .map(|inlined| (inlined.symbol.as_deref(), inlined.file.as_deref(), inlined.line))
        .collect();
    let from = &outermost.called_from;
    calls.push((frame.symbol.as_deref(), from.file.as_deref(), from.line));
    calls
}

fn frames(frames: &[Frame], guilty: Option<&Frame>, out: &mut dyn Write) -> io::Result<()> {
    for (index, frame) in frames.iter().enumerate() {
        let mark = if guilty == Some(frame) { '>' } else { ' ' };
        let image = match (frame.image_name(), &frame.area) {
            (Some(name), _) => safe(name),
            (None, Some(area)) => format!("area {}", safe(area)),
            (None, None) => "?".to_owned(),
        };
        let (last, inlined) = calls(frame).split_last().map_or_else(Default::default, |(l, i)| {
            let inlined = i.iter().map(|call| (call.0, place(call)));
            (place(l), inlined.collect::<Vec<_>>())
        });
        for (function, place) in inlined {
            let function = function.map_or_else(|| "?".to_owned(), safe);
            writeln!(out, "{mark} {index:3} {:16} {image} {function} (inlined){place}", "")?;
        }
        let function = function(frame);
        let text = format!("{mark} {index:3} {:016x} {image} {function}{last}", frame.address);
        writeln!(out, "{text}")?;
    }
    Ok(())
}

fn place((_, file, line): &Call<'_>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!(" at {}:{line}", safe(file)),
        _ => String::new(),
    }
}

/// The function of a frame, as far as it is known.
fn function(frame: &Frame) -> String {
    let offset = frame.symbol_offset.map(|offset| format!("+{offset:#x}")).unwrap_or_default();
    match (&frame.symbol, &frame.nearest_symbol, frame.offset) {
        (Some(symbol), _, _) => format!("{}{offset}", safe(symbol)),
        (None, Some(nearest), _) => {
            format!("? (nearest is {}{offset})", safe(nearest))
        }
        (None, None, Some(offset)) => format!("? (at {offset:#x} of the image)"),
        (None, None, None) => format!("{:#x}", frame.address),
    }
}

fn safe(text: &str) -> String {
    shown(text.as_bytes())
}
