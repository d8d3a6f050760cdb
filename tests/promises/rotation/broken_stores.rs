//! A store that is in trouble keeps nobody from the database: what worked goes on, and the log says once
//! what is wrong and once that it is over.

use std::time::Duration;

use super::{Application, MOMENT, Window, found_out};
use crate::stores::contract::{Fault, Habitable, Login};
use crate::stores::file::{OneFile, Volume};
use crate::support::{Postgres, Swivel, eventually};

/// A store that is read all the time.
const POLL: &str = "poll = \"200ms\"";
const WRONG: &str = "the store can't be read";
const OVER: &str = "the store can be read again";

const LOGIN: Login = Login(1);

async fn postgres() -> Postgres {
    let postgres = Postgres::start(18);
    postgres.create_user(&LOGIN.user(), &LOGIN.password()).await;
    postgres
}

fn before(postgres: &Postgres, world: &impl Habitable) -> crate::support::swivel::Unstarted {
    let swivel = Swivel::in_front_of(postgres).trusting().secret_line(POLL);
    world.settle(swivel)
}

async fn is_survived(world: &impl Habitable, faults: &[Fault]) {
    let postgres = postgres().await;
    world.put(LOGIN).await;
    let swivel = before(&postgres, world).start().await;
    let application = Application::of(&swivel).await;
    for (times, fault) in faults.iter().enumerate() {
        world.harm(*fault).await;
        let what = format!("the log says that the store is in trouble: {fault:?}");
        eventually(&what, async || swivel.said(WRONG) > times).await;
        // A few polls more, which have nothing new to say.
        tokio::time::sleep(Duration::from_millis(700)).await;
        application.is_served_as(&LOGIN.user()).await;
        assert_eq!(
            (swivel.said(WRONG), swivel.said(OVER)),
            (times + 1, times),
            "{fault:?}"
        );
        world.heal().await;
        let what = format!("the log says that it is over: {fault:?}");
        eventually(&what, async || swivel.said(OVER) > times).await;
        assert_eq!(swivel.said(WRONG), times + 1, "{fault:?}");
    }
    application.is_served_as(&LOGIN.user()).await;
    application.leave().await.is_untroubled(MOMENT);
    assert_eq!(postgres.refusals(), 0);
}

/// Started while the store can't be read: clients wait for it.
async fn is_waited_for(world: &impl Habitable, fault: Fault) {
    let postgres = postgres().await;
    world.put(LOGIN).await;
    world.harm(fault).await;
    let swivel = before(&postgres, world).start().await;
    let window = Window::open();
    let application = Application::waiting_for(&swivel);
    eventually("the log says what is wrong", async || swivel.said(WRONG) == 1).await;
    window.pass().await;
    world.heal().await;
    let window = window.close();
    application.is_served_as(&LOGIN.user()).await;
    application
        .leave()
        .await
        .is_untroubled(found_out(window) + MOMENT);
    assert_eq!((swivel.said(WRONG), swivel.said(OVER)), (1, 1));
}

#[tokio::test]
async fn a_file_that_is_wrong_for_a_while() {
    let faults = [
        Fault::Missing,
        Fault::Empty,
        Fault::Garbage,
        Fault::Partial,
        Fault::Large,
    ];
    is_survived(&OneFile::new(), &faults).await;
}

#[tokio::test]
async fn a_mounted_volume_that_is_wrong_for_a_while() {
    let faults = [Fault::Missing, Fault::Garbage, Fault::Partial, Fault::Large];
    is_survived(&Volume::new(), &faults).await;
}

#[tokio::test]
async fn a_file_that_comes_late() {
    is_waited_for(&OneFile::new(), Fault::Missing).await;
}

/// What a service over HTTP can do besides being slow.
#[cfg(any(feature = "aws", feature = "vault"))]
const FAULTS: [Fault; 8] = [
    Fault::Missing,
    Fault::Denied,
    Fault::Empty,
    Fault::Garbage,
    Fault::Partial,
    Fault::Large,
    Fault::Unreachable,
    Fault::Throttled,
];

#[cfg(feature = "aws")]
mod aws {
    use super::*;
    use crate::stores::aws::secrets_manager::Secret;
    use crate::stores::contract::World;
    use crate::support::aws::{Aws, StandIn};
    use crate::support::http::Reply;

    aws_promise! {
        async fn a_secrets_manager_in_trouble(aws) {
            is_survived(&Secret::new(aws).await, &FAULTS).await;
        }
    }

    #[tokio::test]
    async fn a_secrets_manager_that_comes_late() {
        let aws = Aws::of(StandIn::Moto).await;
        is_waited_for(&Secret::new(&aws).await, Fault::Unreachable).await;
    }

    /// As long as one read may take, and longer.
    #[tokio::test]
    async fn a_secrets_manager_that_does_not_answer() {
        let aws = Aws::of(StandIn::Moto).await;
        let secret = Secret::new(&aws).await;
        secret.put(LOGIN).await;
        let postgres = postgres().await;
        let swivel = before(&postgres, &secret).start().await;
        let application = Application::of(&swivel).await;
        let mut is_first = true;
        let proxy = &secret.proxy;
        proxy.answer(move |_| std::mem::take(&mut is_first).then_some(Reply::Silence));
        eventually("the store is found to be slow", async || swivel.said(WRONG) == 1).await;
        eventually("it is over", async || swivel.said(OVER) == 1).await;
        application.is_served_as(&LOGIN.user()).await;
        application.leave().await.is_untroubled(MOMENT);
        assert_eq!(
            (swivel.said(WRONG), swivel.said("did not answer within 10 s")),
            (1, 1)
        );
    }
}

#[cfg(feature = "vault")]
mod vault {
    use super::*;
    use crate::stores::vault::kv::Kv;
    use crate::support::vault::{ROOT, VaultDouble};

    #[tokio::test]
    async fn a_vault_in_trouble() {
        let vault = VaultDouble::start().await;
        is_survived(&Kv::at(&vault.url(), ROOT).await, &FAULTS).await;
    }

    #[tokio::test]
    async fn a_vault_that_comes_late() {
        let vault = VaultDouble::start().await;
        is_waited_for(&Kv::at(&vault.url(), ROOT).await, Fault::Denied).await;
    }
}
