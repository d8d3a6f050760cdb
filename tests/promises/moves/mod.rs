//! Sessions that change links and do not notice.

pub mod carried;
mod edges;
mod listening;
mod pinned;
mod replaced;
mod sequences;
mod state;

pub use carried::Carried;

use crate::support::{Postgres, Swivel};

/// A pgswivel that moves every session when a credential changes, and soon.
pub async fn moving(postgres: &Postgres, user: &str) -> Swivel {
    Swivel::in_front_of(postgres)
        .trusting()
        .credential(user, Postgres::PASSWORD)
        .secret_line("sessions = \"move\"")
        .secret_line("grace = \"1s\"")
        .start()
        .await
}

/// Gives `user` another password, in the database and then in the store.
pub async fn rotate(postgres: &Postgres, swivel: &Swivel, user: &str, password: &str) {
    postgres.change_password(user, password).await;
    swivel.write_secret(user, password);
}
