//! One session of the application.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Notification};

use super::tally::Tally;

/// More notifications than this wait for nobody.
const NOTIFICATIONS_MAX: usize = 64;

pub(super) struct Session {
    pub(super) client: Client,
    pub(super) notifications: mpsc::Receiver<Notification>,
}

impl Session {
    /// A login. The session ends when this is dropped, and is counted until then.
    pub(super) async fn open(config: &Config, tally: &Arc<Tally>) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let (sender, notifications) = mpsc::channel(NOTIFICATIONS_MAX);
        let counted = Counted::new(tally);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // Who does not listen any more does not want it.
                    let _ = sender.try_send(notification);
                }
            }
            drop(counted);
        });
        Ok(Self {
            client,
            notifications,
        })
    }

    /// Ended, and not by us.
    pub(super) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }
}

struct Counted(Arc<Tally>);

impl Counted {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.session_opened();
        Self(Arc::clone(tally))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.session_ended();
    }
}
