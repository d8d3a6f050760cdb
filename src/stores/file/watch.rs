//! Notices that a file is not what it was.

use super::{FilePlace, on_a_blocking_thread};
use crate::lookout::Lookout;

/// Resolves when the content is not what was seen. `seen` is None when nothing could be read.
pub(super) async fn until_different(place: &FilePlace, seen: Option<&str>) {
    let lookout = Lookout::new();
    loop {
        lookout.cover(&place.path);
        if is_different(place, seen).await {
            return;
        }
        lookout.pause().await;
    }
}

async fn is_different(place: &FilePlace, seen: Option<&str>) -> bool {
    let look = place.clone();
    let now = on_a_blocking_thread(move || look.look().map(|contents| look.name(&contents))).await;
    now.as_deref().ok() != seen
}
