use std::collections::BTreeMap;

use super::super::desk::{Desk, Trouble, check};
use super::Kind;

/// Everybody who listens hears everybody who speaks, once and in order, and knows its own words by its process id.
pub struct Listening {
    process_id: i32,
    spoken: i64,
    /// Of each speaker, the last that was heard.
    heard: BTreeMap<i32, i64>,
}

impl Kind for Listening {
    const NAME: &'static str = "listening";

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        let process_id = desk.simple("SELECT pg_backend_pid()").await?;
        desk.client.batch_execute("LISTEN crowd").await?;
        Ok(Self {
            process_id: process_id[0].parse().unwrap(),
            spoken: 0,
            heard: BTreeMap::new(),
        })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let (session, number) = (desk.session, desk.number());
        self.spoken += 1;
        let spoken = self.spoken;
        let sql =
            format!("INSERT INTO writes VALUES ({session}, {number}); NOTIFY crowd, '{session} {spoken}'");
        let answer = desk.simple(&sql).await;
        desk.told(&[number], answer)?;
        loop {
            let notification = desk.hear().await?;
            let payload = notification.payload();
            let (speaker, word) = payload.split_once(' ').unwrap();
            let (speaker, word): (i32, i64) = (speaker.parse().unwrap(), word.parse().unwrap());
            check("a channel", &notification.channel(), &"crowd")?;
            let is_own = notification.process_id() == self.process_id;
            check("whose words they are", &is_own, &(speaker == session))?;
            let before = self.heard.insert(speaker, word);
            let follows = match before {
                Some(before) if desk.may_fail => word > before,
                Some(before) => word == before + 1,
                None => true,
            };
            if !follows {
                let what = format!("heard {word} of {speaker} after {before:?}");
                return Err(Trouble::Wrong(what));
            }
            if speaker == session && word == spoken {
                let channels = desk.simple("SELECT pg_listening_channels()").await?;
                return check("its channels", &channels, &vec!["crowd".to_owned()]);
            }
        }
    }
}
