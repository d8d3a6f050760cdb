//! What a program says on stderr helps to repair it, and may hold the secret: what looks like one, or
//! stands in the payload, is hidden.

const HIDDEN: &str = "***";

/// Words that announce a secret.
const ANNOUNCE: [&str; 6] = ["pass", "pwd", "secret", "token", "key", "credential"];

/// Parts shorter than this are found in any payload by chance.
const PART_CHARS_MIN: usize = 4;

/// Letters and digits mixed for this long are nobody's prose.
const RANDOM_CHARS_MIN: usize = 12;

pub(super) fn redact(text: &str, payload: &[u8]) -> String {
    let payload = String::from_utf8_lossy(payload);
    let mut announced = false;
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let hidden = announced || is_secret(word, &payload);
        let announces = announces(word);
        match word.split_once(['=', ':']) {
            Some((name, value)) if announces && !value.is_empty() => words.push(format!("{name}={HIDDEN}")),
            _ if hidden => words.push(HIDDEN.to_owned()),
            _ => words.push(word.to_owned()),
        }
        announced = announces;
    }
    words.join(" ")
}

fn announces(word: &str) -> bool {
    let word = word.to_lowercase();
    ANNOUNCE.iter().any(|secret| word.contains(secret))
}

fn is_secret(word: &str, payload: &str) -> bool {
    let in_payload = |part: &str| part.chars().count() >= PART_CHARS_MIN && payload.contains(part);
    if in_payload(word) {
        return true;
    }
    word.split(|c: char| !c.is_alphanumeric()).any(|part| {
        let random = part.len() >= RANDOM_CHARS_MIN
            && part.contains(|c: char| c.is_ascii_digit())
            && part.contains(char::is_alphabetic);
        random || in_payload(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_keeps_its_sense_and_loses_its_secrets() {
        let payload = br#"{"username":"app","password":"correct horse"}"#;
        let said = redact("cannot open /etc/app.conf: No such file\n", payload);
        assert_eq!(said, "cannot open /etc/app.conf: No such file");
        let said = redact(
            "got correct and horse, password=hunter2 PGPASSWORD: hunter3",
            payload,
        );
        for secret in ["correct", "horse", "hunter"] {
            assert!(!said.contains(secret), "{said}");
        }
        assert!(said.starts_with("got *** and ***"));
        let said = redact("answer was hvs.CAESIJ1k2j3h4k5j6 today", b"");
        assert_eq!(said, "answer was *** today");
    }
}
