//! What is set up before the load begins: Postgres, the secret, and pgswivel between them and the
//! application.

use tokio_postgres::Config;

use super::cluster::{Cluster, DATABASE, USERS};
use super::failure::Failure;
use super::find;
use super::place::{DemoPlace, random_word};
use super::rotation::Rotator;
use super::sidecar::{ROLE, Sidecar};

/// In the order in which they end.
pub(super) struct Stage {
    pub(super) sidecar: Sidecar,
    pub(super) cluster: Cluster,
    /// What an application that reads it at its start has for good.
    first_password: String,
    _place: DemoPlace,
}

impl Stage {
    pub(super) async fn set() -> Result<(Self, Rotator), Failure> {
        let bin = find::postgres()?;
        let place = DemoPlace::new()?;
        let cluster = Cluster::start(&bin, &place).await?;
        let passwords = [random_word(), random_word()];
        cluster.prepare(&passwords).await?;
        let [first_password, _] = passwords;
        let rotator = Rotator::new(&place, &cluster, cluster.connect().await?, &first_password)?;
        let sidecar = Sidecar::start(&place, cluster.port(), &rotator.secret()).await?;
        let stage = Self {
            sidecar,
            cluster,
            first_password,
            _place: place,
        };
        Ok((stage, rotator))
    }

    /// The application's `DATABASE_URL` when it points at pgswivel.
    pub(super) fn with_pgswivel(&self) -> Config {
        let mut config = local(self.sidecar.port());
        config.user(ROLE).password(self.sidecar.password());
        config
    }

    /// The application's `DATABASE_URL` as it was on the day that it was started.
    pub(super) fn without_pgswivel(&self) -> Config {
        let mut config = local(self.cluster.port());
        config.user(USERS[0]).password(&self.first_password);
        config
    }
}

fn local(port: u16) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).dbname(DATABASE);
    config
}
