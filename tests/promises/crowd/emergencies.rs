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

/// In both ways in turn.
async fn restart(stage: &mut Stage, round: u32) {
    let how = if round.is_multiple_of(2) {
        Stop::Fast
    } else {
        Stop::Immediate
    };
    stage.restart(how).await;
    println!("restarted: {how:?}");
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
            restart(&mut stage, round).await;
            crowd.works().await;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    /// Every pool says SET first.
    async fn a_restart_a_moment_after_everybody_has_set_something_loses_no_session(version) {
        let mut stage = Stage::set(version, |swivel| swivel).await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Fresh).await;
        for round in 0..rounds(4, 50) {
            restart(&mut stage, round).await;
            crowd.works().await;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}

promise! {
    /// An operator who does not wait.
    async fn whoever_is_idle_on_the_old_user_is_thrown_out_under_load_without_an_error(version) {
        let mut stage = Stage::set(version, |swivel| swivel.secret_line("grace = \"20s\"")).await;
        stage.hire(Stage::OTHER, "never used").await;
        let crowd = Crowd::gather(&stage.swivel, Mood::Unscathed).await;
        for round in 0..rounds(5, 50) {
            let [old, _] = stage.next_turn(round).await;
            stage.admin.batch_execute(&format!("ALTER ROLE {old} NOLOGIN")).await.unwrap();
            let idle = format!("usename = '{old}' AND state = 'idle'");
            let mut thrown = 0;
            while stage.backends(&format!("usename = '{old}' AND application_name LIKE 'crowd %'")).await > 0 {
                thrown += stage.throw_out(&idle).await;
                crowd.is_well();
            }
            println!("{thrown} were thrown out");
            crowd.works().await;
        }
        println!("{}", crowd.leave(&stage.postgres).await);
    }
}
