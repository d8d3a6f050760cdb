//! What one process says of itself, where everybody sees it who may see `pg_stat_activity`: in the application name of the
//! link that it listens on.
//!
//! `pgswivel:INSTANCE DIGEST@VERSION=S12.3 …` and `+` when there are more secrets than a name has room for.

use super::digest::SecretDigest;

/// Postgres cuts a name that is longer.
pub const NAME_BYTES_MAX: usize = 63;
/// How every such name begins.
pub const NAME_PREFIX: &str = "pgswivel:";
/// Room is left for two secrets.
const INSTANCE_BYTES_MAX: usize = 24;
/// Nobody counts so many sessions, and the name has little room.
const COUNT_MAX: u32 = 9999;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub instance: String,
    /// Those first that others wait for.
    pub secrets: Vec<SecretWord>,
    /// There are more, and none of those keeps anybody waiting that these do not.
    pub is_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretWord {
    pub secret: SecretDigest,
    /// Of the newest value that was read; see [`super::of_version`].
    pub version: u16,
    pub standing: Standing,
    /// Sessions on a user that was replaced.
    pub left: u32,
    /// Those of them that can't leave it.
    pub pinned: u32,
}

/// The one that needs looking after is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No credential is known to work.
    Broken,
    /// Sessions leave a user that was replaced.
    Moving,
    /// The store was never read.
    Unread,
    /// The newest value was read and works nowhere yet.
    Seen,
    /// The newest value is in use.
    Current,
}

impl Standing {
    const ALL: [(Self, char); 5] = [
        (Self::Broken, 'b'),
        (Self::Moving, 'm'),
        (Self::Unread, 'u'),
        (Self::Seen, 's'),
        (Self::Current, 'c'),
    ];

    fn letter(self) -> char {
        let known = Self::ALL.iter().find(|(standing, _)| *standing == self);
        known.map_or('?', |(_, letter)| *letter)
    }

    fn of(letter: char) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| *known == letter);
        known.map(|(standing, _)| *standing)
    }
}

impl Word {
    /// At most [`NAME_BYTES_MAX`] bytes, all of them printable ASCII: Postgres replaces others.
    pub fn name(&self) -> String {
        const MORE: &str = " +";
        let mut name = format!("{NAME_PREFIX}{}", instance(&self.instance));
        let mut secrets = self.secrets.clone();
        secrets.sort_by_key(|word| (word.standing, std::cmp::Reverse(word.left), word.secret));
        for (index, word) in secrets.iter().enumerate() {
            let part = word.text();
            let is_last = index + 1 == secrets.len() && !self.is_cut;
            let reserved = if is_last { 0 } else { MORE.len() };
            if name.len() + 1 + part.len() + reserved > NAME_BYTES_MAX {
                return name + MORE;
            }
            name.push(' ');
            name.push_str(&part);
        }
        if self.is_cut {
            name.push_str(MORE);
        }
        name
    }

    /// None: no pgswivel of a fleet says this.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(NAME_PREFIX)?.split(' ');
        let instance = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let mut word = Self {
            instance,
            secrets: Vec::new(),
            is_cut: false,
        };
        for part in parts {
            match part {
                _ if word.is_cut => return None,
                "+" => word.is_cut = true,
                part => word.secrets.push(SecretWord::parse(part)?),
            }
        }
        Some(word)
    }

    pub fn of(&self, secret: SecretDigest) -> Option<&SecretWord> {
        self.secrets.iter().find(|word| word.secret == secret)
    }
}

impl SecretWord {
    fn text(&self) -> String {
        let mut text = format!("{}@{:04x}={}", self.secret, self.version, self.standing.letter());
        if self.left > 0 || self.pinned > 0 {
            text.push_str(&self.left.min(COUNT_MAX).to_string());
        }
        if self.pinned > 0 {
            text.push('.');
            text.push_str(&self.pinned.min(COUNT_MAX).to_string());
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (secret, rest) = text.split_once('@')?;
        let (version, rest) = rest.split_once('=')?;
        let mut characters = rest.chars();
        let standing = Standing::of(characters.next()?)?;
        let (left, pinned) = match characters.as_str().split_once('.') {
            Some((left, pinned)) => (left, pinned),
            None => (characters.as_str(), "0"),
        };
        let number = |text: &str| text.parse::<u32>().ok();
        Some(Self {
            secret: secret.parse().ok()?,
            version: u16::from_str_radix(version, 16)
                .ok()
                .filter(|_| version.len() == 4)?,
            standing,
            left: if left.is_empty() { 0 } else { number(left)? },
            pinned: number(pinned)?,
        })
    }
}

/// As it stands in a name: what tells instances apart is most often at the end.
pub fn instance(name: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | ':' | '-' => character,
        _ => '-',
    };
    let plain: String = name.chars().map(plain).collect();
    plain[plain.len().saturating_sub(INSTANCE_BYTES_MAX)..].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(secret: &str, standing: Standing, left: u32, pinned: u32) -> SecretWord {
        SecretWord {
            secret: secret.parse().unwrap(),
            version: 0x9f3c,
            standing,
            left,
            pinned,
        }
    }

    fn of(instance: &str, secrets: Vec<SecretWord>) -> Word {
        Word {
            instance: instance.to_owned(),
            secrets,
            is_cut: false,
        }
    }

    #[test]
    fn a_process_says_where_it_stands() {
        let said = of(
            "orders-7d9f:1",
            vec![
                word("0aff31", Standing::Current, 0, 0),
                word("b00b1e", Standing::Moving, 12, 3),
            ],
        );
        let name = said.name();
        assert_eq!(name, "pgswivel:orders-7d9f:1 b00b1e@9f3c=m12.3 0aff31@9f3c=c");
        let heard = Word::parse(&name).unwrap();
        assert_eq!(heard.of("b00b1e".parse().unwrap()), Some(&said.secrets[1]));
        assert_eq!(heard.instance, "orders-7d9f:1");
        assert!(!heard.is_cut);
    }

    #[test]
    fn what_others_wait_for_is_not_what_there_is_no_room_for() {
        let mut secrets: Vec<SecretWord> = (0..9)
            .map(|number| word(&format!("00000{number}"), Standing::Current, 0, 0))
            .collect();
        secrets.push(word("ffffff", Standing::Moving, 70_000, 70_000));
        let name = of("a-very-long-name-of-a-host-in-a-region:123456", secrets).name();
        assert!(name.len() <= NAME_BYTES_MAX, "{name}");
        let heard = Word::parse(&name).unwrap();
        assert!(heard.is_cut);
        assert_eq!(heard.secrets[0], word("ffffff", Standing::Moving, 9999, 9999));
        assert!(heard.instance.ends_with(":123456"));
    }

    #[test]
    fn other_names_are_no_words_of_ours() {
        for name in [
            "pgswivel",
            "pgswivel rotate",
            "pgswivel:",
            "pgswivel: 0aff31@9f3c=c",
            "psql",
            "pgswivel:a 0aff31@9f3c=",
            "pgswivel:a 0aff31@9f3c=x",
            "pgswivel:a 0aff31@9f3=c",
            "pgswivel:a + 0aff31@9f3c=c",
            "pgswivel:a 0aff31@9f3c=m-1",
        ] {
            assert_eq!(Word::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_fits_and_is_understood(host in ".{0,80}", counts in prop::collection::vec((0u32..100_000, 0u32..100_000), 0..6)) {
            let secrets: Vec<SecretWord> = (counts.iter().enumerate())
                .map(|(index, (left, pinned))| word(&format!("00000{index}"), Standing::Moving, *left, *pinned))
                .collect();
            let count = secrets.len();
            let name = of(&format!("h{host}"), secrets).name();
            prop_assert!(name.len() <= NAME_BYTES_MAX && name.is_ascii());
            let heard = Word::parse(&name).unwrap();
            prop_assert!(heard.is_cut || heard.secrets.len() == count);
            prop_assert!(!heard.secrets.is_empty() || count == 0);
        }

        #[test]
        fn nothing_that_somebody_else_says_makes_it_panic(name in ".{0,63}") {
            let _ = Word::parse(&format!("{NAME_PREFIX}{name}"));
        }
    }
}
