//! Credentials and users are replaced, again and again, and nobody notices.

use std::time::Instant;

use super::gathering::CROWD_PATIENCE;
use super::stage::CALLABLE;
use super::{Crowd, Mood, Stage, rounds};
use crate::support::{Postgres, eventually_within};

/// Times that each kind of rotation is repeated.
fn times() -> u32 {
    rounds(2, 20)
}

async fn nobody_is_left(stage: &Stage, crowd: &Crowd, of: &str) {
    eventually_within(CROWD_PATIENCE, async || {
        crowd.is_well();
        let left = stage.who(of).await;
        match left.as_slice() {
            [] => Ok(()),
            left => Err(format!("some do not move: {left:#?}")),
        }
    })
    .await;
}

promise! {
    async fn a_new_password_of_the_same_user_moves_nobody(version) {
        // More passwords in a minute than a database is asked to refuse.
        let patient = "[limits]\nrefused_logins_per_minute = 100";
        let mut stage = Stage::set(version, |swivel| swivel.section(patient)).await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        let backends =
            format!("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE {CALLABLE}");
        let before: String = stage.admin.query_one(&backends, &[]).await.unwrap().get(0);
        for round in 0..times() {
            let password = format!("password {round}");
            stage.change_password(Postgres::USER, &password).await;
            stage.rotate_to(Postgres::USER, &password).await;
            crowd.works().await;
        }
        let after: String = stage.admin.query_one(&backends, &[]).await.unwrap().get(0);
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
            nobody_is_left(&stage, &crowd, &old).await;
            println!("everybody moved within {:?}", began.elapsed());
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    async fn users_that_alternate_are_followed_by_everybody(version) {
        let mut stage = Stage::set(version, |swivel| swivel.secret_line("grace = \"1s\"")).await;
        stage.hire(Stage::OTHER, "never used").await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        for round in 0..times() {
            let [old, _] = stage.next_turn(round).await;
            nobody_is_left(&stage, &crowd, &format!("usename = '{old}'")).await;
            // Whoever is idle on the old user would be thrown out.
            let sql = format!("ALTER ROLE {old} NOLOGIN");
            stage.admin.batch_execute(&sql).await.unwrap();
            let thrown = stage.throw_out(&format!("usename = '{old}' AND state = 'idle'")).await;
            println!("{thrown} were thrown out");
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    /// As Vault does it: each user is a new one, and the old one is dropped.
    async fn a_user_that_everybody_has_left_can_be_dropped(version) {
        let mut stage = Stage::set(version, |swivel| swivel.secret_line("grace = \"1s\"")).await;
        let mut old = Postgres::USER.to_owned();
        let crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        for round in 0..times() {
            let new = format!("v_orders_{round}");
            stage.hire(&new, "leased").await;
            let revocable = stage.revocable();
            stage.rotate_to(&new, "leased").await;
            // What pgswivel says is to be true: nobody looks again.
            eventually_within(CROWD_PATIENCE, async || {
                crowd.is_well();
                match stage.revocable() == revocable {
                    true => Err(format!("{old} is never safe to revoke")),
                    false => Ok(()),
                }
            })
            .await;
            assert_eq!(stage.who(&format!("usename = '{old}' AND application_name LIKE 'crowd %'")).await, [""; 0]);
            // The first one owns the database.
            if old != Postgres::USER {
                let sql = format!("REVOKE orders_owner FROM {old}; DROP ROLE {old}");
                stage.admin.batch_execute(&sql).await.unwrap();
            }
            old = new;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    /// Faster than anybody can follow.
    async fn rotations_back_to_back_lose_nothing(version) {
        let mut stage = Stage::set(version, |swivel| {
            swivel.secret_line("sessions = \"move\"").secret_line("grace = \"2s\"")
        })
        .await;
        stage.hire(Stage::OTHER, "never used").await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        let began = Instant::now();
        let count = rounds(30, 1000);
        for round in 0..count {
            stage.next_turn(round).await;
            crowd.is_well();
        }
        println!("{count} rotations in {:?}", began.elapsed());
        crowd.works().await;
        let [old, _] = stage.next_turn(count).await;
        nobody_is_left(&stage, &crowd, &format!("usename = '{old}'")).await;
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    /// Before anybody had the time to leave.
    async fn whoever_is_idle_on_the_old_user_may_be_thrown_out_and_does_not_notice(version) {
        let mut stage = Stage::set(version, |swivel| swivel.secret_line("grace = \"20s\"")).await;
        stage.hire(Stage::OTHER, "never used").await;
        let mut crowd = Crowd::gather(&stage.swivel, Mood::Calm).await;
        for round in 0..times() {
            crowd.hush().await;
            stage.all_is_quiet(&crowd).await;
            let [old, _] = stage.next_turn(round).await;
            stage.admin.batch_execute(&format!("ALTER ROLE {old} NOLOGIN")).await.unwrap();
            let thrown = stage.throw_out(&format!("usename = '{old}' AND {CALLABLE}")).await;
            println!("{thrown} were thrown out");
            // A backend that was told to go may still take a query, and lose it; and who has no link hears nothing.
            nobody_is_left(&stage, &crowd, &format!("usename = '{old}' AND {CALLABLE}")).await;
            stage.all_is_quiet(&crowd).await;
            crowd.go_on().await;
            crowd.works().await;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}
