//! The processes of a fleet: called, and heard, over the servers of a rotation. No list of them is needed.
//!
//! Whoever may log in can say what they say. So it is believed for speed and for reasons: what they say holds nothing up
//! for long, and lets nobody go. That nobody is on a user is seen in `pg_stat_activity`.

use super::database::{DatabaseError, Session};
use crate::config::{self, Secret};
use crate::credentials::Position;
use crate::fleet::{Call, SecretDigest, SecretWord, Standing, Word, of_secret, of_version};
use crate::stores::Reading;

/// What tells a rotation's fleet from others.
#[derive(Clone, Debug)]
pub struct Fleet {
    channel: String,
    secret: SecretDigest,
    /// Versions of the secret's values are the same here and there.
    pub compares: bool,
}

/// One process, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub instance: String,
    pub said: SecretWord,
    /// From where it is logged in. None: over a Unix socket.
    pub client: Option<String>,
}

impl Fleet {
    /// None: the configuration has none.
    pub fn of(fleet: Option<&config::Fleet>, secret: &Secret, has_shared_key: bool) -> Option<Self> {
        Some(Self {
            channel: fleet?.channel.clone(),
            secret: of_secret(&secret.source),
            compares: has_shared_key || !secret.source.gives_no_versions(),
        })
    }

    /// Has all of them that are in the session's database read the secret now.
    pub async fn call(&self, session: &Session) -> Result<(), DatabaseError> {
        let payload = Call::Secret(self.secret).payload();
        session.notify(&self.channel, &payload).await
    }

    /// Those that use the secret, wherever on the server they are.
    pub async fn members(&self, session: &Session) -> Result<Vec<Member>, DatabaseError> {
        let found = session.backends_called(crate::fleet::NAME_PREFIX).await?;
        let member = |(name, client): (String, Option<String>)| {
            let word = Word::parse(&name)?;
            Some(Member {
                said: *word.of(self.secret)?,
                instance: word.instance,
                client,
            })
        };
        Ok(found.into_iter().filter_map(member).collect())
    }
}

/// The version that a process says when it has read this.
pub fn newest(reading: &Reading) -> u16 {
    let next = (reading.credentials.iter()).find(|credential| credential.position == Position::Next);
    let newest = next.or(reading.credentials.first());
    newest.map_or(0, |credential| of_version(&credential.version))
}

impl Member {
    /// What keeps it on a user that was replaced, if anything does.
    pub fn why_it_stays(&self) -> Option<String> {
        let SecretWord {
            left,
            pinned,
            standing,
            ..
        } = self.said;
        match (standing, left, pinned) {
            (Standing::Broken, ..) => Some("no credential works there".to_owned()),
            (_, 0, _) => None,
            (_, left, 0) => Some(format!("sessions on a replaced user: {left}")),
            (_, left, pinned) => Some(format!(
                "sessions on a replaced user: {left}, {pinned} of them pinned"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(standing: Standing, left: u32, pinned: u32) -> Member {
        Member {
            instance: "a".to_owned(),
            said: SecretWord {
                secret: "0aff31".parse().unwrap(),
                version: 1,
                standing,
                left,
                pinned,
            },
            client: None,
        }
    }

    #[test]
    fn a_process_says_why_it_stays() {
        assert_eq!(member(Standing::Current, 0, 0).why_it_stays(), None);
        let why = member(Standing::Moving, 3, 1).why_it_stays().unwrap();
        assert!(why.contains('3') && why.contains("1 of them pinned"), "{why}");
        assert!(member(Standing::Broken, 0, 0).why_it_stays().is_some());
    }
}
