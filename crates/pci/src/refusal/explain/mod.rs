//! What each code means, and what to do.

mod findings;
mod refusals;

use super::Code;

/// The explanation of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A line.
    pub title: &'static str,
    /// What it means and what would happen.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Title, meaning and remedy.
type Words = (&'static str, &'static str, &'static str);

impl Code {
    /// Returns the explanation of the code.
    pub fn explanation(self) -> Explanation {
        let (title, meaning, remedy) =
            refusals::words(self).unwrap_or_else(|| findings::words(self));
        Explanation { title, meaning, remedy }
    }

    /// Whether it refuses, rather than being only diagnosed.
    pub fn is_refusal(self) -> bool {
        self < Self::CpuVirtualisation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        let mut titles = Vec::new();
        for code in Code::ALL.iter().copied() {
            let Explanation { title, meaning, remedy } = code.explanation();
            assert_eq!(refusals::words(code).is_some(), code.is_refusal(), "{code}");
            assert!(!title.is_empty() && !title.ends_with('.'), "{code}");
            assert!(meaning.ends_with('.') && remedy.ends_with('.'), "{code}");
            assert!(!meaning.contains("  ") && !remedy.contains("  "), "{code}");
            let offers = remedy.contains(&format!("--allow {code}"));
            assert_eq!(offers, code.is_allowable(), "{code}");
            titles.push(title);
        }
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), Code::ALL.len());
    }
}
