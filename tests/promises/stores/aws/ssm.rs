use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use pgswivel::config;
use pgswivel::stores::{Operation, SsmStore, Store};
use serde_json::json;

use super::{harm, keys, settings};
use crate::stores::contract::{self, Fault, Login, World, leading, read};
use crate::support::aws::Aws;
use crate::support::http::{FaultProxy, Reply};

struct Parameter<'a> {
    aws: &'a Aws,
    proxy: FaultProxy,
    name: String,
    login: Cell<Login>,
}

impl<'a> Parameter<'a> {
    async fn new(aws: &'a Aws) -> Self {
        Self {
            aws,
            proxy: FaultProxy::before(aws.address.clone()).await,
            name: format!("/prod/orders-{:016x}", RandomState::new().hash_one(())),
            login: Cell::new(Login(0)),
        }
    }

    async fn put_text(&self, text: &str) {
        let body = json!({ "Name": self.name, "Value": text, "Type": "SecureString", "Overwrite": true });
        self.aws.call("AmazonSSM.PutParameter", body).await;
    }
}

impl World for Parameter<'_> {
    fn open(&self) -> Box<dyn Store> {
        let aws = config::Aws {
            region: None,
            endpoint: Some(self.proxy.url()),
        };
        Box::new(SsmStore::new(self.name.clone(), aws, None).with_settings(settings(keys())))
    }

    async fn put(&self, login: Login) {
        self.login.set(login);
        self.put_text(&login.json()).await;
    }

    async fn harm(&self, fault: Fault) {
        match (fault, fault.payload()) {
            (Fault::Missing, _) => {
                self.aws
                    .call("AmazonSSM.DeleteParameter", json!({ "Name": self.name }))
                    .await;
            }
            (Fault::Large, Some(payload)) => {
                let text = String::from_utf8(payload).unwrap();
                let answer = json!({ "Parameter": { "Value": text, "Version": 9 } });
                self.proxy.answer(move |_| Some(Reply::json(200, &answer)));
            }
            (_, Some(payload)) => self.put_text(std::str::from_utf8(&payload).unwrap()).await,
            (fault, None) => harm(&self.proxy, fault),
        }
    }

    async fn heal(&self) {
        self.proxy.carry_all();
        self.put(self.login.get()).await;
    }
}

aws_promise! {
    async fn a_parameter_keeps_the_contract(aws) {
        let parameter = Parameter::new(aws).await;
        contract::gives_what_is_there_and_names_it_stably(&parameter).await;
        let faults = [
            Fault::Missing, Fault::Denied, Fault::Empty, Fault::Garbage, Fault::Partial, Fault::Large,
            Fault::Slow, Fault::Unreachable, Fault::Throttled,
        ];
        contract::says_what_is_wrong_and_recovers(&parameter, &faults).await;
        contract::never_mixes_two_values(&parameter, 20).await;
        contract::logs_no_secret(&parameter).await;
    }
}

aws_promise! {
    async fn a_parameter_has_its_age(aws) {
        contract::tells_when_it_was_made(&Parameter::new(aws).await).await;
    }
}

aws_promise! {
    async fn a_parameter_is_known_by_its_version_and_costs_one_call(aws) {
        let parameter = Parameter::new(aws).await;
        parameter.put(Login(1)).await;
        let mut store = parameter.open();
        let reading = read(&mut *store).await;
        assert_eq!(&*reading.credentials[0].version, "1");
        parameter.put(Login(2)).await;
        let reading = read(&mut *store).await;
        assert_eq!(leading(&reading), 2);
        assert_eq!(&*reading.credentials[0].version, "2");
        assert_eq!(store.calls().of(Operation::GetParameter), 2);
    }
}

aws_promise! {
    /// A page of some proxy in between, which must not be taken for a value.
    async fn an_answer_that_is_none_is_a_failure(aws) {
        let parameter = Parameter::new(aws).await;
        parameter.put(Login(1)).await;
        parameter.proxy.answer(|_| Some(Reply::json(200, &json!({ "hello": "world" }))));
        let mut store = parameter.open();
        let error = pgswivel::stores::read(&mut *store).await.unwrap_err();
        assert_eq!(error.label(), "failed", "{error}");
    }
}
