//! A change of ours taken out of a file that somebody else changed since.

use super::Access;

/// A file: its bytes, and whose it is.
type State = (Vec<u8>, Access);

/// Returns what a file becomes that is `now`, when what made it `after` from `before` is taken out of
/// it; `None` where the two changes are not apart, or it is no text. Where our change is gone already,
/// the file stays as it is.
pub(super) fn without(before: &State, after: &State, now: &State) -> Option<State> {
    let bytes = three_way(&after.0, &before.0, &now.0)?;
    let (was, made, is) = (before.1.mode, after.1.mode, now.1.mode);
    let mode = match () {
        () if is == made => was,
        () if was == made || is == was => is,
        () => return None,
    };
    Some((bytes, Access { mode, owner: now.1.owner }))
}

/// Merges by line what one and another made of a text.
pub(crate) fn three_way(ancestor: &[u8], one: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    if [ancestor, one, other].iter().any(|bytes| bytes.contains(&0)) {
        return None;
    }
    diffy::merge_bytes(ancestor, one, other).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_apart_is_merged_and_what_is_not_is_no_guess() {
        let before = "a\nb\nc\nd\ne\n";
        let after = "a\nB\nc\nd\ne\n";
        for (now, expected) in [
            // A change elsewhere stays, and ours goes.
            ("a\nB\nc\nd\nE\n", Some("a\nb\nc\nd\nE\n")),
            ("first\na\nB\nc\nd\ne\nlast\n", Some("first\na\nb\nc\nd\ne\nlast\n")),
            // Ours was taken out by hand, and more.
            ("a\nb\nc\nd\nE\n", Some("a\nb\nc\nd\nE\n")),
            // The line is ours and theirs.
            ("a\nB2\nc\nd\ne\n", None),
            ("", None),
            ("a\nB\0\nc\nd\ne\n", None),
        ] {
            let merged = three_way(after.as_bytes(), before.as_bytes(), now.as_bytes());
            let merged = merged.map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(merged.as_deref(), expected, "{now:?}");
        }
    }

    #[test]
    fn permission_bits_are_merged_too() {
        let state = |text: &str, mode| (text.as_bytes().to_vec(), Access { mode, owner: None });
        let mode = |before, after, now| {
            let (before, after) = (state("a\nb\n", before), state("a\nb\nours\n", after));
            without(&before, &after, &state("0\na\nb\nours\n", now)).map(|(_, access)| access.mode)
        };
        assert_eq!(mode(0o644, 0o644, 0o600), Some(0o600));
        assert_eq!(mode(0o644, 0o755, 0o755), Some(0o644));
        assert_eq!(mode(0o644, 0o755, 0o644), Some(0o644));
        assert_eq!(mode(0o644, 0o755, 0o600), None);
    }

    /// Few different lines, so that they come together often; the last may be without an end.
    fn text() -> impl Strategy<Value = String> {
        let line = prop::sample::select(vec!["a", "b", "c", "", "d e"]);
        (prop::collection::vec(line, 0..12), any::<bool>())
            .prop_map(|(lines, is_ended)| lines.join("\n") + if is_ended { "\n" } else { "" })
    }

    proptest! {
        #[test]
        fn one_change_alone_is_itself(base in text(), changed in text()) {
            let (base, changed) = (base.as_bytes(), changed.as_bytes());
            let expected = Some(changed.to_vec());
            prop_assert_eq!(three_way(base, changed, base), expected.clone());
            prop_assert_eq!(three_way(base, base, changed), expected.clone());
            prop_assert_eq!(three_way(base, changed, changed), expected);
        }

        /// What undo relies on: what is far apart is merged, and both changes are in the result.
        #[test]
        fn changes_that_are_apart_are_both_there(
            (head, other_head) in (text(), text()), (tail, other_tail) in (text(), text()),
        ) {
            let of = |head: &str, tail: &str| {
                format!("{head}\nbetween 1\nbetween 2\nbetween 3\n{tail}").into_bytes()
            };
            let merged = three_way(&of(&head, &tail), &of(&other_head, &tail), &of(&head, &other_tail));
            prop_assert_eq!(merged, Some(of(&other_head, &other_tail)));
        }
    }
}
