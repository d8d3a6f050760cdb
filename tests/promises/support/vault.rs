use super::sts;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::support::Postgres;
use crate::support::http::{Asked, HttpServer, Reply};

/// A double of HashiCorp Vault, not a Vault: written from the official HTTP API documentation (KV version 2,
/// database engine, AppRole, Kubernetes, AWS and token authentication, leases), with only the paths that the
/// stores use. What holds here is still to be held in front of a real one; see `a_real_vault_…`.
pub struct VaultDouble {
    server: HttpServer,
    state: Arc<Mutex<State>>,
    revoking: Option<AbortOnDropHandle<()>>,
}

/// A token that may do everything and does not end, as `vault server -dev` gives one.
pub const ROOT: &str = "root-canary-7f3a";

/// Everything about it that a test may look at or change.
pub struct State {
    tokens: HashMap<String, Token>,
    issued_tokens: u32,
    leases: HashMap<String, Lease>,
    issued_leases: u32,
    kv: HashMap<String, Vec<Version>>,
    /// The engine takes no write without check-and-set.
    pub cas_required: bool,
    /// What somebody else writes right before the next write.
    pub overtaken_by: Option<Value>,
    /// How long a token of a login lives, and what a renewal makes of it.
    pub token_ttl: Duration,
    pub token_renewed_ttl: Duration,
    pub token_is_renewable: bool,
    pub secret_id: String,
    /// What the tokens of logins begin with.
    pub token_prefix: String,
    pub jwt: String,
    pub namespace: Option<String>,
    /// What the static role holds, and when it says that it rotates.
    pub static_role: Option<(String, String)>,
    pub static_ttl: i64,
    /// What the next lease of the dynamic role is for.
    pub dynamic_role: Option<(String, String)>,
    /// Where it is made before, if anywhere.
    database: Option<Arc<Client>>,
    /// Users whose leases have ended and who are still in the database.
    ended: Vec<String>,
    pub lease_renewals: u32,
    pub lease_ttl: Duration,
    pub lease_renewed_ttl: Duration,
    pub lease_is_renewable: bool,
}

struct Token {
    ends: Option<Instant>,
    is_renewable: bool,
}

struct Lease {
    token: String,
    user: String,
    ends: Instant,
}

/// How long a user may outlive its lease.
const REVOCATION_PACE: Duration = Duration::from_millis(20);

struct Version {
    data: Option<Value>,
    created_time: String,
}

impl VaultDouble {
    pub async fn start() -> Self {
        let hour = Duration::from_secs(3600);
        let root = Token {
            ends: None,
            is_renewable: false,
        };
        let state = Arc::new(Mutex::new(State {
            tokens: HashMap::from([(ROOT.to_owned(), root)]),
            issued_tokens: 0,
            leases: HashMap::new(),
            issued_leases: 0,
            kv: HashMap::new(),
            cas_required: false,
            overtaken_by: None,
            token_ttl: hour,
            token_renewed_ttl: hour,
            token_is_renewable: true,
            secret_id: "secret-id-canary-7f3a".to_owned(),
            token_prefix: "hvs.canary-7f3a".to_owned(),
            jwt: "jwt-canary-7f3a".to_owned(),
            namespace: None,
            static_role: None,
            static_ttl: 60,
            dynamic_role: None,
            database: None,
            ended: Vec::new(),
            lease_renewals: 0,
            lease_ttl: hour,
            lease_renewed_ttl: hour,
            lease_is_renewable: true,
        }));
        let shared = Arc::clone(&state);
        let server = HttpServer::start(move |asked| {
            let shared = Arc::clone(&shared);
            async move {
                let database = shared.lock().unwrap().database.clone();
                if let Some(database) = database.filter(|_| asked.target == "/v1/database/creds/orders") {
                    let user = create_user(&database).await;
                    shared.lock().unwrap().dynamic_role = Some(user);
                }
                shared.lock().unwrap().answer(&asked)
            }
        })
        .await;
        Self {
            server,
            state,
            revoking: None,
        }
    }

    /// From now on the dynamic role's users are real ones, dropped when their lease ends.
    pub async fn make_users_in(&mut self, postgres: &Postgres) {
        let database = Arc::new(postgres.admin_of(Postgres::DATABASE).await);
        self.state().database = Some(Arc::clone(&database));
        let state = Arc::clone(&self.state);
        let revoke = async move {
            loop {
                let ended = {
                    let mut state = state.lock().unwrap();
                    state.forget_what_ended();
                    std::mem::take(&mut state.ended)
                };
                for user in ended {
                    // What Vault's own plugin says when the role has no revocation statements of its own.
                    database
                        .batch_execute(&format!("DROP ROLE \"{user}\""))
                        .await
                        .unwrap();
                }
                // As Vault does: now and then.
                tokio::time::sleep(REVOCATION_PACE).await;
            }
        };
        self.revoking = Some(AbortOnDropHandle::new(tokio::spawn(revoke)));
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn url(&self) -> String {
        self.server.url()
    }
}

impl State {
    pub fn add_token(&mut self, token: &str, ttl: Duration, is_renewable: bool) {
        let ends = Some(Instant::now() + ttl);
        self.tokens.insert(token.to_owned(), Token { ends, is_renewable });
    }

    /// One more version of a secret of the KV engine.
    pub fn put_kv(&mut self, path: &str, data: Value) -> usize {
        self.issued_leases += 1;
        let created_time = format!("2026-01-01T00:00:00.{:06}Z", self.issued_leases);
        let versions = self.kv.entry(path.to_owned()).or_default();
        versions.push(Version {
            data: Some(data),
            created_time,
        });
        versions.len()
    }

    pub fn last_kv(&self, path: &str) -> Value {
        self.kv[path].last().unwrap().data.clone().unwrap()
    }

    /// Every token of a login is gone, and its leases with it.
    pub fn revoke_tokens(&mut self) {
        self.tokens.retain(|name, _| name == ROOT);
        self.leases.retain(|_, lease| lease.token == ROOT);
    }

    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    pub fn revoke_leases(&mut self) {
        self.leases.clear();
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let Some(path) = path.strip_prefix("/v1/") else {
            return errors(404, &[]);
        };
        let header = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap());
        if self.namespace.as_deref() != header("x-vault-namespace") {
            return errors(404, &["no handler for route"]);
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        match path {
            "auth/approle/login" => {
                let is_right = body["role_id"] == "orders" && body["secret_id"] == *self.secret_id;
                return self.log_in(is_right, 400, "invalid role or secret ID");
            }
            "auth/aws/login" => {
                let is_right = body["role"] == "orders" && sts::accepts(&body);
                return self.log_in(
                    is_right,
                    400,
                    "error making upstream request: SignatureDoesNotMatch",
                );
            }
            "auth/kubernetes/login" => {
                let is_right = body["role"] == "orders" && body["jwt"] == *self.jwt;
                return self.log_in(is_right, 403, "permission denied");
            }
            _ => {}
        }
        let token = header("x-vault-token").unwrap_or_default().to_owned();
        self.forget_what_ended();
        if !self.tokens.contains_key(&token) {
            return errors(403, &["permission denied"]);
        }
        match (asked.method.as_str(), path) {
            ("GET", "auth/token/lookup-self") => self.look_up(&token),
            ("POST" | "PUT", "auth/token/renew-self") => self.renew_token(&token),
            ("POST" | "PUT", "sys/leases/renew") => self.renew_lease(body["lease_id"].as_str().unwrap()),
            ("GET", "database/static-creds/orders") => self.static_creds(),
            ("GET", "database/creds/orders") => self.creds(&token),
            ("GET", path) if path.starts_with("database/") => errors(400, &["unknown role: other"]),
            (method, path) => self.kv(method, path, query, &body),
        }
    }

    fn forget_what_ended(&mut self) {
        let now = Instant::now();
        self.tokens
            .retain(|_, token| token.ends.is_none_or(|end| end > now));
        let tokens = &self.tokens;
        let is_over = |lease: &Lease| lease.ends <= now || !tokens.contains_key(&lease.token);
        let over = self.leases.extract_if(|_, lease| is_over(lease));
        self.ended.extend(over.map(|(_, lease)| lease.user));
    }

    fn log_in(&mut self, is_right: bool, status: u16, words: &str) -> Reply {
        if !is_right {
            return errors(status, &[words]);
        }
        self.issued_tokens += 1;
        let token = format!("{}-{}", self.token_prefix, self.issued_tokens);
        self.add_token(&token, self.token_ttl, self.token_is_renewable);
        self.auth(&token, self.token_ttl)
    }

    fn auth(&self, token: &str, ttl: Duration) -> Reply {
        Reply::json(
            200,
            &json!({
                "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null,
                "auth": {
                    "client_token": token, "accessor": "a", "policies": ["default"],
                    "lease_duration": ttl.as_secs(), "renewable": self.token_is_renewable,
                },
            }),
        )
    }

    fn look_up(&self, name: &str) -> Reply {
        let token = &self.tokens[name];
        let ttl = token.ends.map_or(0, |end| (end - Instant::now()).as_secs());
        let data =
            json!({ "id": name, "ttl": ttl, "renewable": token.is_renewable, "policies": ["default"] });
        Reply::json(200, &json!({ "data": data }))
    }

    fn renew_token(&mut self, name: &str) -> Reply {
        let ttl = self.token_renewed_ttl;
        if let Some(token) = self.tokens.get_mut(name) {
            if !token.is_renewable {
                return errors(400, &["lease is not renewable"]);
            }
            token.ends = Some(Instant::now() + ttl);
        }
        self.auth(name, ttl)
    }

    fn renew_lease(&mut self, id: &str) -> Reply {
        let Some(lease) = self.leases.get_mut(id) else {
            return errors(400, &["lease not found"]);
        };
        lease.ends = Instant::now() + self.lease_renewed_ttl;
        self.lease_renewals += 1;
        let seconds = self.lease_renewed_ttl.as_secs();
        Reply::json(
            200,
            &json!({ "lease_id": id, "renewable": true, "lease_duration": seconds }),
        )
    }

    fn static_creds(&self) -> Reply {
        let Some((user, password)) = &self.static_role else {
            return errors(400, &["unknown role: orders"]);
        };
        Reply::json(
            200,
            &json!({
                "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0,
                "data": {
                    "username": user, "password": password, "rotation_schedule": "0 * * * *",
                    "last_vault_rotation": "2019-05-06T15:26:42.525302-05:00", "ttl": self.static_ttl,
                },
            }),
        )
    }

    fn creds(&mut self, token: &str) -> Reply {
        let Some((user, password)) = &self.dynamic_role else {
            return errors(400, &["unknown role: orders"]);
        };
        self.issued_leases += 1;
        let id = format!("database/creds/orders/{}", self.issued_leases);
        let reply = json!({
            "request_id": "1", "lease_id": id, "renewable": self.lease_is_renewable,
            "lease_duration": self.lease_ttl.as_secs(),
            "data": { "username": user, "password": password },
        });
        let ends = Instant::now() + self.lease_ttl;
        let lease = Lease {
            token: token.to_owned(),
            user: user.clone(),
            ends,
        };
        self.leases.insert(id, lease);
        Reply::json(200, &reply)
    }

    fn kv(&mut self, method: &str, path: &str, query: &str, body: &Value) -> Reply {
        let Some((kind, path)) = path.strip_prefix("secret/").and_then(|path| path.split_once('/')) else {
            return errors(404, &["no handler for route"]);
        };
        match (method, kind) {
            ("POST" | "PUT", "data") => {
                if let Some(foreign) = self.overtaken_by.take() {
                    self.put_kv(path, foreign);
                }
                let last = self.kv.get(path).map_or(0, Vec::len);
                let expected = &body["options"]["cas"];
                if expected.as_u64().is_some_and(|expected| expected != last as u64) {
                    let words = "check-and-set parameter did not match the current version";
                    return errors(400, &[words]);
                }
                if expected.is_null() && self.cas_required {
                    return errors(400, &["check-and-set parameter required for this call"]);
                }
                let version = self.put_kv(path, body["data"].clone());
                Reply::json(200, &json!({ "data": { "version": version } }))
            }
            ("DELETE", "metadata") => {
                self.kv.remove(path);
                Reply::json(204, &Value::Null)
            }
            ("DELETE", "data") => {
                if let Some(version) = self.kv.get_mut(path).and_then(|versions| versions.last_mut()) {
                    version.data = None;
                }
                Reply::json(204, &Value::Null)
            }
            ("POST" | "PUT", "destroy") => {
                let number = body["versions"][0].as_u64().unwrap() as usize;
                self.kv.get_mut(path).unwrap()[number - 1].data = None;
                Reply::json(204, &Value::Null)
            }
            ("GET", "data") => self.kv_version(path, query),
            _ => errors(405, &["unsupported operation"]),
        }
    }

    fn kv_version(&self, path: &str, query: &str) -> Reply {
        let Some(versions) = self.kv.get(path) else {
            return errors(404, &[]);
        };
        let asked = query
            .strip_prefix("version=")
            .map(|number| number.parse::<usize>().unwrap());
        let number = asked.filter(|number| *number > 0).unwrap_or(versions.len());
        let Some(version) = versions.get(number - 1) else {
            return errors(404, &[]);
        };
        let metadata = json!({
            "version": number, "created_time": version.created_time, "custom_metadata": null,
            "deletion_time": if version.data.is_none() { "2026-01-02T00:00:00Z" } else { "" },
            "destroyed": false,
        });
        let status = if version.data.is_some() { 200 } else { 404 };
        Reply::json(
            status,
            &json!({
                "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0,
                "data": { "data": version.data, "metadata": metadata },
            }),
        )
    }
}

/// A user of its own for each lease, with the rights of the owner.
async fn create_user(database: &Client) -> (String, String) {
    let word = format!("{:016x}", RandomState::new().hash_one(()));
    let (user, password) = (format!("v-token-orders-{word}"), format!("A1a-{word}"));
    let owner = Postgres::USER;
    database
        .batch_execute(&format!(
            "CREATE ROLE \"{user}\" LOGIN PASSWORD '{password}' IN ROLE \"{owner}\""
        ))
        .await
        .unwrap();
    (user, password)
}

fn errors(status: u16, errors: &[&str]) -> Reply {
    Reply::json(status, &json!({ "errors": errors }))
}
