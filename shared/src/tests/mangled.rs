//! Bytes that are nearly right, for tests of parsers: something valid, with a few bytes changed, added, removed or doubled.
//! Included by the tests of every crate.

use proptest::{prelude::*, sample::Index};

/// How many cases a property gets: more with `TEST_FULL=1`.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let full = std::env::var_os("TEST_FULL").is_some_and(|value| value == "1");
    ProptestConfig {
        cases: if full {
            usual.saturating_mul(40)
        } else {
            usual
        },
        // a case that fails is printed; it becomes a test by hand
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// One edit: where, what kind, which byte.
type Edit = (Index, u8, u8);

fn apply(text: &mut Vec<u8>, (at, kind, byte): &Edit) {
    let at = at.index(text.len().saturating_add(1));
    match kind {
        0 => text.insert(at, *byte),
        1 => text.truncate(at),
        2 => {
            let doubled = text.get(at..).unwrap_or_default().to_vec();
            text.extend(doubled);
        }
        _ if at < text.len() => match kind {
            3 => drop(text.remove(at)),
            // within the same kind of character, so that more of it is still read
            4 => text[at] ^= 1,
            _ => text[at] = *byte,
        },
        _ => {}
    }
}

/// `valid` with up to three edits, possibly none.
pub(crate) fn mangled(valid: impl Into<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let valid = valid.into();
    prop::collection::vec((any::<Index>(), 0..6_u8, any::<u8>()), 0..4).prop_map(move |edits| {
        let mut text = valid.clone();
        for edit in &edits {
            apply(&mut text, edit);
        }
        text
    })
}

/// The same, as text.
pub(crate) fn mangled_text(valid: impl Into<Vec<u8>>) -> impl Strategy<Value = String> {
    mangled(valid).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
