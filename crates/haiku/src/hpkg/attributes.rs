//! The trees of attributes, as a stream of their beginnings and ends.

use super::{Data, HpkgError, damaged};

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Text(Vec<u8>),
    Raw(Data),
}

/// A step through the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An attribute: its id, its value, and whether children follow.
    Attribute(u64, Value, bool),
    /// The end of the children of the last one that has some, or of everything.
    End,
}

/// A section: a table of strings, and attributes.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    at: usize,
    /// Where each string begins and ends.
    strings: Vec<(usize, usize)>,
}

impl Reader {
    pub(super) fn new(bytes: Vec<u8>, size: u64, count: u64) -> Result<Self, HpkgError> {
        let wrong = |problem: String| Err(damaged("strings", problem));
        let end = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
        let (mut strings, mut at) = (Vec::new(), 0);
        // An empty string ends the table.
        while at < end {
            let Some(length) = bytes[at..end].iter().position(|byte| *byte == 0) else {
                return wrong("the last one has no end".to_owned());
            };
            if length == 0 {
                break;
            }
            strings.push((at, at + length));
            at += length + 1;
        }
        if strings.len() as u64 != count {
            return wrong(format!("{} in place of {count}", strings.len()));
        }
        Ok(Self { bytes, at: end, strings })
    }

    pub(super) fn next(&mut self) -> Result<Step, HpkgError> {
        let tag = self.leb()?;
        // The tag is (encoding << 11) + (children << 10) + (type << 7) + id + 1.
        let Some(tag) = tag.checked_sub(1) else { return Ok(Step::End) };
        let (id, kind) = (tag & 0x7f, tag >> 7 & 7);
        let (children, encoding) = (tag >> 10 & 1 == 1, tag >> 11);
        let value = match (kind, encoding) {
            (1 | 2, 0..=3) => Value::Number(self.number(1 << encoding)?),
            (3, 0) => Value::Text(self.inline_text()?),
            (3, 1) => Value::Text(self.string()?),
            (4, 0) => {
                let length = self.leb()?;
                Value::Raw(Data::Inline(self.take(length)?.to_vec()))
            }
            (4, 1) => {
                let size = self.leb()?;
                Value::Raw(Data::Heap { offset: self.leb()?, size })
            }
            _ => {
                let problem = format!("type {kind} with encoding {encoding}");
                return Err(damaged("attribute", problem));
            }
        };
        Ok(Step::Attribute(id, value, children))
    }

    fn take(&mut self, length: u64) -> Result<&[u8], HpkgError> {
        let start = self.at;
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        let Some(end) = end.filter(|end| *end <= self.bytes.len()) else {
            return Err(damaged("attribute", format!("{length} bytes at {start} of a section")));
        };
        self.at = end;
        Ok(&self.bytes[start..end])
    }

    /// A number of 7 bits a byte, the lowest first; the highest bit says that more follow.
    fn leb(&mut self) -> Result<u64, HpkgError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(self.take(1)?[0]);
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("attribute", "a number of more than 64 bits"))
    }

    fn number(&mut self, length: u64) -> Result<u64, HpkgError> {
        Ok(self.take(length)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn inline_text(&mut self) -> Result<Vec<u8>, HpkgError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            return Err(damaged("attribute", "a string without an end"));
        };
        let text = rest[..length].to_vec();
        self.at += length + 1;
        Ok(text)
    }

    fn string(&mut self) -> Result<Vec<u8>, HpkgError> {
        let index = self.leb()?;
        let found = usize::try_from(index).ok().and_then(|index| self.strings.get(index));
        match found {
            Some((start, end)) => Ok(self.bytes[*start..*end].to_vec()),
            None => Err(damaged("attribute", format!("string {index} of {}", self.strings.len()))),
        }
    }
}
