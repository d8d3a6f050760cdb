//! Links that were left: ended, and counted until their backends are.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use super::cancel::{self, Address};
use crate::access::roster::Registration;
use crate::net::Stream;
use crate::postgres::wire::say;

/// For a backend to notice that nobody needs it.
const LEAVE_TIME: Duration = Duration::from_secs(1);
/// A backend that says more than this to nobody is told to stop: Postgres would have failed to send it to a client that
/// is gone, and ended.
const IGNORED_MAX: usize = 64 * 1024;
/// It may have been between two statements, or catch what it is told.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Ends a link at rest politely, and waits for its backend a moment.
pub async fn leave(mut link: Stream, mut registration: Registration) {
    registration.ends_soon();
    let mut out = BytesMut::new();
    say::terminate(&mut out);
    // The server ends the backend either way.
    let _ = timeout(LEAVE_TIME, link.write_all_buf(&mut out)).await;
    let _ = timeout(LEAVE_TIME, tokio::spawn(outlast(link, registration, None))).await;
}

/// Closes a link whatever its backend is busy with, which may be for long. The credential is in use until it is done:
/// what it still says is heard to its end, since a backend that is not listened to any more may go on unseen.
/// `address`: where the backend can be told to stop.
pub async fn outlast(mut link: Stream, mut registration: Registration, address: Option<Address>) {
    registration.ends_soon();
    // A server that can't be reached has no backend that could be waited for.
    if link.shutdown().await.is_ok() {
        let mut heard = 0;
        let is_over = listen(&mut link, |more| {
            heard += more;
            heard < IGNORED_MAX
        });
        if !is_over.await {
            let telling = async {
                loop {
                    tell_to_stop(address.as_ref()).await;
                    tokio::time::sleep(TOLD_AGAIN_AFTER).await;
                }
            };
            tokio::select! {
                _ = listen(&mut link, |_| true) => {}
                () = telling => {}
            }
        }
    }
    drop(registration);
}

/// True: there is no more to come.
async fn listen(link: &mut Stream, mut goes_on: impl FnMut(usize) -> bool) -> bool {
    let mut ignored = vec![0; 16 * 1024];
    loop {
        match link.read(&mut ignored).await {
            Ok(0) | Err(_) => return true,
            // One piece at a time: what nobody needs must not keep the thread from those who wait for it.
            Ok(more) if goes_on(more) => tokio::task::yield_now().await,
            Ok(_) => return false,
        }
    }
}

async fn tell_to_stop(address: Option<&Address>) {
    let Some(address) = address else {
        return;
    };
    let limit = address.target.upstream.connect_timeout;
    match timeout(limit, cancel::send(address)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a backend that speaks to nobody could not be told to stop"),
        Err(_) => debug!("a backend that speaks to nobody could not be told to stop in time"),
    }
}
