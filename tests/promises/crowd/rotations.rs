//! Credentials and users are replaced, again and again, and nobody notices.

use std::time::Instant;

use super::{Crowd, Mood, Stage, rounds};
use crate::support::{Postgres, eventually};

/// Times that each kind of rotation is repeated.
fn times() -> u32 {
    rounds(4, 20)
}

promise! {
    async fn a_new_password_of_the_same_user_moves_nobody(version) {
        let mut stage = Stage::set(version, |swivel| swivel).await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        // Of those who stay; a run of pgbench ends by itself.
        let backends = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity \
                        WHERE application_name ~ '^crowd ([1-9]|[12][0-9])$'";
        let before: String = stage.admin.query_one(backends, &[]).await.unwrap().get(0);
        for round in 0..times() {
            let password = format!("password {round}");
            stage.change_password(Postgres::USER, &password).await;
            stage.rotate_to(Postgres::USER, &password).await;
            crowd.works().await;
        }
        let after: String = stage.admin.query_one(backends, &[]).await.unwrap().get(0);
        assert_eq!(before, after, "nobody moved");
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    async fn a_new_password_of_the_same_user_moves_everybody_if_that_is_wanted(version) {
        let mut stage = Stage::set(version, |swivel| {
            swivel.secret_line("sessions = \"move\"").secret_line("grace = \"1s\"")
        })
        .await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        for round in 0..times() {
            let password = format!("password {round}");
            let now = stage.now().await;
            stage.change_password(Postgres::USER, &password).await;
            stage.rotate_to(Postgres::USER, &password).await;
            let began = Instant::now();
            let old = format!("application_name LIKE 'crowd %' AND backend_start < '{now}'");
            eventually("everybody moves", async || {
                crowd.is_well();
                stage.backends(&old).await == 0
            })
            .await;
            println!("everybody moved within {:?}", began.elapsed());
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}
