use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use pgswivel::config;
use pgswivel::names::Endpoint;
use pgswivel::stores::{DigestKey, Operation, RdsIamStore, Store};

use super::{keys, settings};
use crate::stores::contract::read;

fn store(credentials: Credentials) -> RdsIamStore {
    let endpoint = Endpoint::Tcp {
        host: "orders.cluster-x.eu-west-1.rds.amazonaws.com".into(),
        port: 5432,
    };
    let aws = config::Aws::default();
    RdsIamStore::new("app".to_owned(), aws, &[endpoint], DigestKey::random())
        .unwrap()
        .with_settings(settings(credentials))
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_is_signed_at_every_read_and_two_reads_fit_into_its_life() {
    let mut store = store(keys());
    let reading = read(&mut store).await;
    let token = String::from_utf8(reading.credentials[0].password.expose().to_vec()).unwrap();
    assert!(token.starts_with("orders.cluster-x.eu-west-1.rds.amazonaws.com:5432/?"));
    assert!(token.contains("Action=connect&DBUser=app"));
    assert!(token.contains("X-Amz-Expires=900"));
    assert_eq!(&*reading.credentials[0].user, "app");
    assert_eq!(reading.logins_for, Some(14 * MINUTE));
    assert!(reading.next_read.unwrap() * 2 <= 14 * MINUTE);
    assert_eq!(reading.lease, None);
    read(&mut store).await;
    assert_eq!(store.calls().of(Operation::SignToken), 2);
    assert!(!format!("{reading:?}").contains("X-Amz"));
}

#[tokio::test]
async fn a_token_is_not_trusted_longer_than_the_keys_that_signed_it() {
    let end = SystemTime::now() + 4 * MINUTE;
    let mut store = store(Credentials::new(
        "AKID",
        "SECRET",
        Some("TOKEN".to_owned()),
        Some(end),
        "test",
    ));
    let reading = read(&mut store).await;
    assert!(reading.logins_for.unwrap() <= 4 * MINUTE);
    assert!(reading.next_read.unwrap() <= 2 * MINUTE);
}
