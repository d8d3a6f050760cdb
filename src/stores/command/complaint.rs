//! What a program writes to its error stream helps to repair it, and may hold the secret in any form. So it is never
//! repeated: only what it is known to complain about is said, in words of our own.

/// What programs say, in lower case, and what it is called here.
const KNOWN: [(&str, &str); 31] = [
    ("no such file", "no such file"),
    ("command not found", "command not found"),
    ("not found", "not found"),
    ("does not exist", "does not exist"),
    ("permission denied", "permission denied"),
    ("access denied", "access denied"),
    ("accessdenied", "access denied"),
    ("not authorized", "not authorized"),
    ("unauthorized", "not authorized"),
    ("forbidden", "forbidden"),
    ("authentication failed", "authentication failed"),
    ("unable to locate credentials", "no credentials of its own"),
    ("expiredtoken", "its own token has expired"),
    ("token has expired", "its own token has expired"),
    ("token is expired", "its own token has expired"),
    ("sealed", "sealed"),
    ("connection refused", "connection refused"),
    ("connection reset", "connection reset"),
    ("no route to host", "no route to host"),
    ("network is unreachable", "network is unreachable"),
    ("could not resolve", "host name not resolved"),
    ("name or service not known", "host name not resolved"),
    ("name resolution", "host name not resolved"),
    ("no such host", "host name not resolved"),
    ("certificate", "certificate"),
    ("timed out", "timed out"),
    ("timeout", "timed out"),
    ("throttl", "throttled"),
    ("too many requests", "throttled"),
    ("no space left on device", "no space left on device"),
    ("syntax error", "syntax error"),
];

/// In the order of the table. That it can only say what is written above is its type.
pub(super) fn hints(words: &[u8]) -> Vec<&'static str> {
    let words = String::from_utf8_lossy(words).to_lowercase();
    let mut hints = Vec::new();
    for (said, hint) in KNOWN {
        if words.contains(said) && !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_complain_about_is_recognised_in_whatever_words_it_stands() {
        let hints = |words: &str| hints(words.as_bytes()).join(", ");
        assert_eq!(hints("cat: /x/key: No such file or directory\n"), "no such file");
        assert_eq!(
            hints("psql postgres://u:pw@h failed: Connection refused; dial tcp: i/o timeout, timed out"),
            "connection refused, timed out"
        );
        assert_eq!(hints("password is hunter2"), "");
    }
}
