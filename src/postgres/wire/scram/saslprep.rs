//! A password's bytes as Postgres hashes them.

use std::borrow::Cow;

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// SASLprep with Postgres's two departures from RFC 4013: what cannot be prepared is used as it is,
/// and the checks look at the text before its normalization.
pub(super) fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = match std::str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => normalize(text),
        _ => None,
    };
    Zeroizing::new(
        prepared
            .map_or(Cow::Borrowed(password), |text| Cow::Owned(text.into_bytes()))
            .into_owned(),
    )
}

fn normalize(text: &str) -> Option<String> {
    let mapped: Zeroizing<String> = Zeroizing::new(
        text.chars()
            .map(|c| {
                if tables::non_ascii_space_character(c) {
                    ' '
                } else {
                    c
                }
            })
            .filter(|c| !tables::commonly_mapped_to_nothing(*c))
            .collect(),
    );
    let allowed = !mapped.is_empty() && !mapped.contains(is_prohibited) && keeps_one_direction(&mapped);
    allowed.then(|| mapped.nfkc().collect())
}

fn is_prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::surrogate_code(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// RFC 3454, section 6: right-to-left text has no left-to-right character, and begins and ends as such.
fn keeps_one_direction(text: &str) -> bool {
    !text.contains(tables::bidi_r_or_al)
        || (!text.contains(tables::bidi_l)
            && text.starts_with(tables::bidi_r_or_al)
            && text.ends_with(tables::bidi_r_or_al))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Vec<u8> {
        prepare(text.as_bytes()).to_vec()
    }

    #[test]
    fn text_is_prepared_as_rfc_4013_shows() {
        assert_eq!(prepared("I\u{ad}X"), b"IX");
        assert_eq!(prepared("\u{aa}"), b"a");
        assert_eq!(prepared("\u{2168}"), b"IX");
        assert_eq!(prepared("a\u{a0}b"), b"a b");
        assert_eq!(prepared("\u{fb01}x"), b"fix");
    }

    #[test]
    fn ascii_stays_as_it_is_even_with_control_characters() {
        assert_eq!(prepared(""), b"");
        assert_eq!(prepared("a\u{7}b"), b"a\x07b");
    }

    #[test]
    fn what_cannot_be_prepared_is_used_as_it_is() {
        assert_eq!(*prepare(b"\xff\xfe\x00"), b"\xff\xfe\x00");
        for text in [
            "\u{ad}",
            "é\u{7}",
            "\u{627}\u{31}",
            "\u{627}a\u{627}",
            "\u{fffd}",
            "\u{e0001}é",
            "\u{221}",
        ] {
            assert_eq!(prepared(text), text.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn checks_look_at_the_text_before_normalization_as_postgres_does() {
        let tone_mark = "\u{340}";
        assert_eq!(prepared(tone_mark), tone_mark.as_bytes());
    }
}
