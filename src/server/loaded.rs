//! What a configuration names, made ready: files are read, stores are made, nothing is dialled yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use crate::config::{Config, Problem, Problems, Secret, Upstream};
use crate::limit::Limit;
use crate::names::{Endpoint, SecretName, UpstreamName};
use crate::net::tls::{ServerTls, TlsFilesError};
use crate::postgres::{Pool, Target};
use crate::stores::{self, DigestKey, Store, Surroundings};

pub struct Loaded {
    /// Of the listeners.
    pub tls: Option<ServerTls>,
    pub pools: Pools,
    /// Only those that a role uses: reading a secret may cost money, and make leases.
    pub secrets: Vec<OpenSecret>,
}

/// What is open to each upstream, and how much of it may be, whichever configuration opened it.
pub type Connections = BTreeMap<UpstreamName, Arc<Limit>>;

pub type Pools = BTreeMap<UpstreamName, Arc<Pool>>;

pub struct OpenSecret {
    pub secret: Arc<Secret>,
    /// The upstreams that it opens.
    pub users: Vec<Arc<Target>>,
    pub store: Box<dyn Store>,
    /// Under which its values get their versions.
    pub digests: DigestKey,
}

impl OpenSecret {
    pub fn endpoints(&self) -> Vec<Endpoint> {
        endpoints(&self.users)
    }
}

impl Loaded {
    /// All of them, or everything that is wrong with the files and places that the configuration names. `digests` are for
    /// secrets that share no key with any other process.
    pub fn load(config: &Config, digests: &DigestKey, connections: &Connections) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut note = |path: String, message: String| problems.push(Problem { path, message });

        let mut tls = None;
        match config.listen.tls.as_ref().map(ServerTls::load).transpose() {
            Ok(loaded) => tls = loaded,
            Err(error) => note("listen.tls".to_owned(), error.to_string()),
        }
        let mut pools = Pools::new();
        for upstream in config.upstreams.values() {
            match target(upstream) {
                Ok(target) => {
                    let open = connections.get(&upstream.name).cloned();
                    pools.insert(upstream.name.clone(), Arc::new(Pool::new(target, open)));
                }
                Err(error) => note(format!("upstream.{}.tls", upstream.name), error.to_string()),
            }
        }
        let mut secrets = Vec::new();
        for secret in config.secrets.values() {
            let upstreams = upstreams_of(&secret.name, config);
            let users: Vec<_> = upstreams.iter().filter_map(|name| pools.get(*name)).collect();
            // An upstream that could not be made ready is a problem that was noted already.
            if upstreams.is_empty() || users.len() < upstreams.len() {
                continue;
            }
            let shared = config.version_key(&secret.name);
            let shared = shared
                .filter(|_| secret.source.gives_no_versions())
                .map(DigestKey::shared);
            let digests = shared.unwrap_or_else(|| digests.clone());
            match open(
                secret,
                users.iter().map(|pool| Arc::clone(&pool.target)).collect(),
                digests,
            ) {
                Ok(open) => secrets.push(open),
                Err(error) => note(format!("secret.{}", secret.name), error.to_string()),
            }
        }
        if problems.is_empty() {
            Ok(Self { tls, pools, secrets })
        } else {
            Err(Problems::from(problems))
        }
    }
}

fn target(upstream: &Arc<Upstream>) -> Result<Target, TlsFilesError> {
    let target = Target::load(Arc::clone(upstream))?;
    match target.tls.roots_skipped() {
        0 => {}
        skipped => {
            warn!(upstream = %upstream.name, skipped, "some root certificates can't be read and do not count");
        }
    }
    Ok(target)
}

fn upstreams_of<'a>(secret: &SecretName, config: &'a Config) -> Vec<&'a UpstreamName> {
    let mut names: Vec<&UpstreamName> = config
        .roles
        .values()
        .filter(|role| role.secret == *secret)
        .map(|role| &role.upstream)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn open(
    secret: &Arc<Secret>,
    users: Vec<Arc<Target>>,
    digests: DigestKey,
) -> Result<OpenSecret, stores::StoreError> {
    let endpoints = endpoints(&users);
    let around = Surroundings {
        endpoints: &endpoints,
        digests: &digests,
    };
    Ok(OpenSecret {
        secret: Arc::clone(secret),
        store: stores::open(secret, around)?,
        users,
        digests,
    })
}

fn endpoints(users: &[Arc<Target>]) -> Vec<Endpoint> {
    users
        .iter()
        .flat_map(|target| target.upstream.hosts.clone())
        .collect()
}
