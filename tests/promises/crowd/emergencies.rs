//! Backends go away under a crowd at work: what was under way fails, and says so. Nobody is lost.

use super::{Crowd, Mood, Stage, rounds};
use crate::support::Stop;

fn times() -> u32 {
    rounds(2, 20)
}

/// Whoever has set something and was not surveyed since can't be rescued: after everybody was, they go on with what
/// leaves their sessions as they are.
async fn settle(stage: &Stage, crowd: &mut Crowd) {
    crowd.hush().await;
    stage.all_is_quiet(crowd).await;
    crowd.go_on().await;
    crowd.works().await;
}

promise! {
    /// The old user may not log in any more, and all that it had is thrown out.
    async fn an_emergency_fails_what_is_under_way_and_no_more(version) {
        let mut stage = Stage::set(version, |swivel| swivel).await;
        stage.hire(Stage::OTHER, "never used").await;
        let mut crowd = Crowd::gather(&stage.swivel, Mood::Troubled).await;
        for round in 0..times() {
            settle(&stage, &mut crowd).await;
            let [old, _] = stage.next_turn(round).await;
            stage.admin.batch_execute(&format!("ALTER ROLE {old} NOLOGIN")).await.unwrap();
            let thrown = stage.throw_out(&format!("usename = '{old}'")).await;
            println!("{thrown} were thrown out");
            crowd.works().await;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    async fn a_restart_of_the_server_fails_what_is_under_way_and_no_more(version) {
        let mut stage = Stage::set(version, |swivel| swivel).await;
        let mut crowd = Crowd::gather(&stage.swivel, Mood::Troubled).await;
        for round in 0..times() {
            settle(&stage, &mut crowd).await;
            let how = if round % 2 == 0 { Stop::Fast } else { Stop::Immediate };
            stage.restart(how).await;
            println!("restarted: {how:?}");
            crowd.works().await;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}
