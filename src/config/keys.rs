//! Every key that the file takes, with its default and its meaning. The reader refuses what is not
//! here and takes its defaults from here; a test holds docs/configuration.md against it.

use Unset::{Means, Number, Switch, Text};

/// The keys of one kind of section.
pub(super) struct Keys {
    /// As docs/configuration.md writes it.
    pub(super) title: &'static str,
    pub(super) keys: &'static [Key],
}

pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) unset: Unset,
    pub(super) meaning: &'static str,
}

/// What holds when a key is not written.
pub(super) enum Unset {
    Text(&'static str),
    Number(u32),
    Switch(bool),
    /// In words.
    #[cfg_attr(not(test), expect(dead_code, reason = "for docs/configuration.md, which a test holds against it"))]
    Means(&'static str),
}

impl Keys {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    pub(super) fn key(&self, name: &str) -> &'static Key {
        let found = self.keys.iter().find(|key| key.name == name);
        found.unwrap_or_else(|| unreachable!("{name} is read but not declared in {}", self.title))
    }

    pub(super) fn text_default(&self, name: &str) -> &'static str {
        match self.key(name).unset {
            Text(default) => default,
            _ => unreachable!("{name} is declared with text as its default"),
        }
    }
}

const fn key(name: &'static str, unset: Unset, meaning: &'static str) -> Key {
    Key {
        name,
        unset,
        meaning,
    }
}

pub(super) const ROOT: Keys = Keys {
    title: "Top level",
    keys: &[
        key("drain", Text("25s"), "how long sessions may take to end after SIGTERM"),
        key("version_key", Means("the password of the secret's first role"), "the key of the digest that stands for a version where the store has none, as `file`, `env`, `command` and `vault-db-static`. Set the same text in every process whose versions you want to compare: text, `{ file = \"…\" }` or `{ env = \"…\" }`"),
        key("workers", Number(1), "threads that serve sessions"),
        key("listen", Means("see below"), "where clients connect"),
        key("role", Means("see below"), "local identities, one table for each name"),
        key("upstream", Means("see below"), "Postgres to reach, one table for each name"),
        key("secret", Means("see below"), "places in a store, one table for each name"),
        key("rotation", Means("see below"), "what is rotated, one table for each name"),
        key("login", Means("see below"), "what happens while nobody can log in"),
        key("limits", Means("see below"), "everything that can be exhausted"),
        key("fleet", Means("no fleet"), "how the processes that use the same secrets tell each other of changes"),
        key("admin", Means("see below"), "metrics, health and status"),
        key("log", Means("see below"), "what is logged, and how"),
    ],
};

pub(super) const LISTEN: Keys = Keys {
    title: "[listen]",
    keys: &[
        key("address", Text("127.0.0.1:6432"), "`host:port`, `[IPv6]:port`, `unix:/directory` or a socket file named `.s.PGSQL.*`, `systemd` or `systemd:NAME` for sockets that systemd passes; a list is allowed"),
        key("tls", Means("no TLS"), "the certificate that clients see"),
        key("auth", Text("scram"), "for roles without a password (one that has a password uses SCRAM): `scram` makes that an error at the start, `trust` lets in whoever reaches a loopback or Unix listener"),
        key("insecure", Switch(false), "allow a listener that others can reach without TLS"),
        key("scram_iterations", Number(4096), "announced to local clients in SCRAM"),
    ],
};

pub(super) const LISTEN_TLS: Keys = Keys {
    title: "[listen.tls]",
    keys: &[
        key("certificate", Means("required"), "PEM file: the certificate chain, leaf first"),
        key("key", Means("required"), "PEM file: its private key"),
    ],
};

pub(super) const ROLE: Keys = Keys {
    title: "[role.NAME]",
    keys: &[
        key("password", Means("`PGSWIVEL_PASSWORD` or `PGSWIVEL_PASSWORD_FILE`"), "what clients log in with: text, `{ file = \"…\" }` or `{ env = \"…\" }`"),
        key("auth", Means("`listen.auth`"), "`scram` or `trust`"),
        key("upstream", Means("the only upstream"), "name of the upstream it is mapped to"),
        key("secret", Means("the only secret"), "name of the secret that yields its credentials"),
        key("set_role", Means("no `SET ROLE`"), "`SET ROLE` to this after login, so that alternating users create objects with one owner"),
    ],
};

pub(super) const SENSITIVE: Keys = Keys {
    title: "password, token, secret_id, version_key",
    keys: &[
        key("file", Means("one of the two is required"), "a file that holds it; one newline at its end is ignored"),
        key("env", Means("one of the two is required"), "an environment variable that holds it"),
    ],
};

pub(super) const UPSTREAM: Keys = Keys {
    title: "[upstream.NAME]",
    keys: &[
        key("hosts", Means("required"), "`host:port`, or a list; the port is 5432 when absent; `unix:/directory` or a socket file"),
        key("database", Means("what the client asks for"), "the database to log in to"),
        key("other_database", Text("refuse"), "who asks for another one than `database`: `refuse` (3D000), or `ignore` what was asked for"),
        key("tls", Means("see below"), "how the connection is protected"),
        key("md5", Text("guarded"), "may the server ask for md5: `guarded` (over TLS or on this machine), `allow`, `deny`"),
        key("connect_timeout", Text("10s"), "per address, from dialling until the login is done"),
        key("keepalive", Means("see below"), "TCP keep-alive"),
        key("user_timeout", Text("60s"), "how long sent bytes may stay unacknowledged before the connection counts as lost"),
        key("connections_max", Number(100), "connections for clients, in use or idle, at once; more clients queue for `limits.queue_wait`, then get 53300. Not counted: one for each session that moves (`limits.moves` at once), one per database while its functions are read, one per database with `[fleet]`, and proofs. Leave room for them in `max_connections` and in the `CONNECTION LIMIT` of a role"),
        key("warm", Number(1), "logged-in connections kept ready, for each role and database"),
        key("reuse", Switch(true), "`DISCARD ALL` and lend a connection again"),
        key("again", Switch(true), "ask a new connection once more for what Postgres says it rolled back when it ended the old one"),
    ],
};

pub(super) const UPSTREAM_TLS: Keys = Keys {
    title: "[upstream.NAME.tls]",
    keys: &[
        key("mode", Text("prefer"), "libpq's `sslmode`: `disable`, `prefer`, `require`, `verify-ca`, `verify-full`; `require` with a `ca` verifies as `verify-ca` does"),
        key("ca", Means("the system's roots"), "PEM file with the roots to trust; `system` for the system's, which implies `verify-full`"),
        key("server_name", Means("the host"), "the name to verify and to announce"),
        key("certificate", Means("none"), "PEM file: client certificate chain, leaf first"),
        key("key", Means("none"), "PEM file: its private key"),
        key("negotiation", Text("postgres"), "libpq's `sslnegotiation`: `postgres` or `direct`"),
        key("channel_binding", Text("prefer"), "libpq's `channel_binding`: `disable`, `prefer`, `require`"),
        key("pin", Means("none"), "`sha256:…` of the server's certificate in hexadecimal: trusted whatever its chain or name"),
    ],
};

pub(super) const KEEPALIVE: Keys = Keys {
    title: "[upstream.NAME.keepalive]",
    keys: &[
        key("idle", Text("60s"), "silence before the first probe"),
        key("interval", Text("10s"), "between probes"),
        key("count", Number(6), "unanswered probes before the connection counts as lost"),
    ],
};

pub(super) const SECRET: Keys = Keys {
    title: "[secret.NAME]",
    keys: &[
        key("store", Means("required"), "one of the stores that `--secret` names"),
        key("id", Means("required, but not for `env`"), "where in the store; for `command` text or a list of arguments"),
        key("poll", Text("5m"), "how often the store is read, ±10 %"),
        key("sessions", Text("auto"), "sessions on a retired credential: `auto` (move if the user changed or its lease ends), `keep`, `move`, `cut`"),
        key("grace", Text("30s"), "moves are spread over this; under `cut`, pinned sessions may stay this long"),
        key("max_age", Means("no limit"), "a credential older than this is reported"),
        key("fields", Means("recognised by its keys"), "maps a payload of any shape"),
        key("region", Means("the ARN's, else the AWS SDK's own chain"), "AWS stores: the region"),
        key("endpoint", Means("the AWS SDK's"), "AWS stores: another address of the service"),
        key("address", Means("`VAULT_ADDR`"), "Vault stores: the address of Vault"),
        key("namespace", Means("`VAULT_NAMESPACE`, else none"), "Vault stores: the namespace"),
        key("ca", Means("`VAULT_CACERT`, else the system's roots"), "Vault stores: PEM file with the roots to trust"),
        key("mount", Means("the first word of `id`"), "Vault stores: where the engine is mounted, if that has a slash in it"),
        key("auth", Means("`VAULT_TOKEN`, `VAULT_ROLE_ID` or `VAULT_K8S_ROLE`"), "Vault stores: how to log in"),
        key("user", Text("POSTGRES_USER"), "`env` store: the variable that holds the user"),
        key("password", Text("POSTGRES_PASSWORD"), "`env` store: the variable that holds the password"),
        key("timeout", Text("10s"), "`command` store: how long the program may take"),
        key("write", Means("it is only read"), "`command` store: the program that gets a new payload on its standard input, for `rotate`; text or a list of arguments"),
    ],
};

pub(super) const FIELDS: Keys = Keys {
    title: "[secret.NAME.fields]",
    keys: &[
        key("user", Means("required"), "key of the user"),
        key("password", Means("required"), "key of the password"),
        key("next_user", Means("`user`"), "key of the user that comes next"),
        key("next_password", Means("none"), "key of the password that comes next"),
        key("previous_user", Means("`user`"), "key of the user before"),
        key("previous_password", Means("none"), "key of the password before"),
    ],
};

pub(super) const VAULT_AUTH: Keys = Keys {
    title: "[secret.NAME.auth]",
    keys: &[
        key("token", Means("one of the four is required"), "text, `{ file = \"…\" }` or `{ env = \"…\" }`"),
        key("approle", Means("one of the four is required"), "log in by AppRole"),
        key("kubernetes", Means("one of the four is required"), "log in with the service account's token"),
        key("aws", Means("one of the four is required"), "log in as the AWS role that this runs as"),
    ],
};

pub(super) const APPROLE: Keys = Keys {
    title: "[secret.NAME.auth.approle]",
    keys: &[
        key("role_id", Means("required"), "the role id"),
        key("secret_id", Means("required"), "text, `{ file = \"…\" }` or `{ env = \"…\" }`; a file is read at every login"),
        key("mount", Text("approle"), "where the method is mounted"),
    ],
};

pub(super) const KUBERNETES: Keys = Keys {
    title: "[secret.NAME.auth.kubernetes]",
    keys: &[
        key("role", Means("required"), "the Vault role"),
        key("token_file", Text("/var/run/secrets/kubernetes.io/serviceaccount/token"), "the service account's token, read at every login"),
        key("mount", Text("kubernetes"), "where the method is mounted"),
    ],
};

pub(super) const VAULT_AWS: Keys = Keys {
    title: "[secret.NAME.auth.aws]",
    keys: &[
        key("role", Means("required"), "the Vault role"),
        key("region", Means("the global endpoint"), "region of the STS endpoint that Vault is set up with"),
        key("server_id", Means("none"), "Vault's `iam_server_id_header_value`"),
        key("mount", Text("aws"), "where the method is mounted"),
    ],
};

pub(super) const ROTATION: Keys = Keys {
    title: "[rotation.NAME]",
    keys: &[
        key("secret", Means("required"), "name of the secret that is rotated"),
        key("admin", Means("required"), "name of the secret whose credential may look at the servers (`pg_read_all_stats`, so that it sees who is there), and for `rotate run` change the users"),
        key("upstreams", Means("required"), "names of every upstream where the users exist, as a list"),
        key("users", Means("none"), "the logins that take turns, as a list"),
        key("max_age", Means("the secret's `max_age`"), "`rotate age` fails when the credential is older than this or the secret's"),
        key("sidecars", Means("none"), "admin addresses of every pgswivel that uses the secret: `http://host:port`, or `dns+http://name:port` for all addresses of a name; `admin.token` is sent to them"),
        key("kind", Text("postgres"), "what is rotated: logins of Postgres"),
        key("style", Means("`alternating` with `users`, else `single`, or `next` with `keep_next`"), "`single` (a new password of the same user), `next` (the same, and the one after it waits in the secret), `alternating` (`users` take turns)"),
        key("owner", Means("none"), "`alternating`: the role that owns what the users make, and that each of them is in"),
        key("min_interval", Means("the rotation's `max_age`"), "`rotate run --if-due`, which needs one of the two, does nothing before the credential is this old"),
        key("soak", Text("15m"), "`alternating`: between the moment when nobody is on the old login and its end"),
        key("password", Means("see below"), "how passwords are made"),
        key("keep_next", Switch(false), "leave the password after the new one in the secret's place for what comes next"),
        key("audit", Means("none"), "a file that gets one JSON line for each step"),
        key("report", Means("none"), "a directory that gets a report in Markdown of each run"),
    ],
};

pub(super) const ROTATION_PASSWORD: Keys = Keys {
    title: "[rotation.NAME.password]",
    keys: &[
        key("length", Number(40), "characters"),
        key("alphabet", Text("url-safe"), "`url-safe` (letters, digits, `-`, `_`) or `alphanumeric`"),
    ],
};

pub(super) const FLEET: Keys = Keys {
    title: "[fleet]",
    keys: &[
        key("channel", Means("required"), "the channel to `LISTEN` and `NOTIFY` on in each database that is served, by which a change reaches every process at once; at most 63 bytes"),
        key("instance", Means("host and process id"), "what this process is called in `pg_stat_activity`; its last 24 characters are shown"),
    ],
};

pub(super) const LOGIN: Keys = Keys {
    title: "[login]",
    keys: &[
        key("patience", Text("30s"), "how long a login is held while no credential works or no endpoint answers, until it gets 28P01 or 57P03; and how long a lost session is tried again"),
        key("refused_retry", Text("30s"), "how long a refused credential is not tried again on that endpoint"),
    ],
};

pub(super) const LIMITS: Keys = Keys {
    title: "[limits]",
    keys: &[
        key("clients", Number(10_000), "clients at once"),
        key("startups", Number(1000), "clients at once that have not logged in yet"),
        key("startup_time", Text("60s"), "from accept to the client's last authentication message"),
        key("cancels", Number(64), "cancel requests carried upstream at once"),
        key("logins_per_endpoint", Number(8), "upstream logins at once, per endpoint"),
        key("queue_wait", Text("30s"), "how long a client waits for one of `connections_max`"),
        key("statement_bytes", Number(1_048_576), "bytes of statement text kept per session for replay"),
        key("again_bytes", Number(65_536), "bytes of a request kept while it is in flight, to be asked again (`upstream.again`)"),
        key("moves", Number(8), "sessions that change connections at once"),
        key("warm", Number(50), "idle upstream connections in all, kept ready or left by a session"),
        key("admin_connections", Number(64), "connections to the admin address at once that ask for pages; probes, and who has not asked yet, have room of their own"),
        key("refused_logins_per_minute", Number(10), "logins that an endpoint may refuse in a minute before doubtful credentials wait"),
    ],
};

pub(super) const ADMIN: Keys = Keys {
    title: "[admin]",
    keys: &[
        key("address", Text("127.0.0.1:9632"), "`IP:port` of metrics, health, status and the page"),
        key("hosts", Means("its address and `localhost`"), "a name, or a list of names, that it may be asked by besides (`pgswivel` for `http://pgswivel:9632`)"),
        key("token", Means("`POST` from this machine only"), "bearer token for `POST` from elsewhere, which `rotate` also sends to `sidecars`: text, `{ file = \"…\" }` or `{ env = \"…\" }`"),
    ],
};

pub(super) const LOG: Keys = Keys {
    title: "[log]",
    keys: &[
        key("format", Means("text on a terminal, JSON elsewhere"), "`json` or `text`"),
        key("level", Text("info"), "`off`, `error`, `warn`, `info`, `debug`, `trace`; also per module: `info,pgswivel::keeper=debug`"),
        key("audit", Means("in the log only"), "a file that audit lines are appended to, as JSON"),
    ],
};

#[cfg(test)]
pub(super) const SECTIONS: [&Keys; 21] = [
    &ROOT, &LISTEN, &LISTEN_TLS, &ROLE, &SENSITIVE, &UPSTREAM, &UPSTREAM_TLS, &KEEPALIVE, &SECRET, &FIELDS,
    &VAULT_AUTH, &APPROLE, &KUBERNETES, &VAULT_AWS, &ROTATION, &ROTATION_PASSWORD, &LOGIN, &LIMITS, &FLEET, &ADMIN, &LOG,
];

/// A parameter of `--upstream`, and the key that it stands for.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Number,
    Switch,
    /// A bare number, as libpq writes it.
    Seconds,
    Milliseconds,
}

const fn parameter(name: &'static str, key: &'static str, shape: Shape) -> Parameter {
    Parameter { name, key, shape }
}

/// libpq's names where libpq has one.
pub(super) const PARAMETERS: [Parameter; 20] = [
    parameter("dbname", "database", Shape::Text),
    parameter("sslmode", "tls.mode", Shape::Text),
    parameter("sslrootcert", "tls.ca", Shape::Text),
    parameter("sslcert", "tls.certificate", Shape::Text),
    parameter("sslkey", "tls.key", Shape::Text),
    parameter("sslnegotiation", "tls.negotiation", Shape::Text),
    parameter("channel_binding", "tls.channel_binding", Shape::Text),
    parameter("connect_timeout", "connect_timeout", Shape::Seconds),
    parameter("keepalives_idle", "keepalive.idle", Shape::Seconds),
    parameter("keepalives_interval", "keepalive.interval", Shape::Seconds),
    parameter("keepalives_count", "keepalive.count", Shape::Number),
    parameter("tcp_user_timeout", "user_timeout", Shape::Milliseconds),
    parameter("server_name", "tls.server_name", Shape::Text),
    parameter("pin", "tls.pin", Shape::Text),
    parameter("md5", "md5", Shape::Text),
    parameter("connections_max", "connections_max", Shape::Number),
    parameter("warm", "warm", Shape::Number),
    parameter("other_database", "other_database", Shape::Text),
    parameter("reuse", "reuse", Shape::Switch),
    parameter("again", "again", Shape::Switch),
];

/// What the URL calls a key of the section.
pub(super) fn url_parameter(key: &str) -> Option<&'static str> {
    let parameter = PARAMETERS.iter().find(|parameter| parameter.key == key);
    parameter.map(|parameter| parameter.name)
}

/// A flag that describes the configuration, and its environment variable.
pub(super) struct Flag {
    pub(super) flag: &'static str,
    pub(super) variable: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for docs/configuration.md, which a test holds against it"))]
    pub(super) meaning: &'static str,
}

const fn flag(flag: &'static str, variable: &'static str, meaning: &'static str) -> Flag {
    Flag { flag, variable, meaning }
}

pub(super) const CONFIG_FLAG: Flag = flag("--config", "PGSWIVEL_CONFIG", "the file");
pub(super) const LISTEN_FLAG: Flag = flag("--listen", "PGSWIVEL_LISTEN", "`listen.address`; several with commas");
pub(super) const UPSTREAM_FLAG: Flag = flag("--upstream", "PGSWIVEL_UPSTREAM", "`[upstream.default]`, and the role is mapped to it");
pub(super) const SECRET_FLAG: Flag = flag("--secret", "PGSWIVEL_SECRET", "`[secret.default]`, and the role is mapped to it");
pub(super) const ROLE_FLAG: Flag = flag("--role", "PGSWIVEL_ROLE", "the role that flags describe: the only one of the file, else `app`");
pub(super) const ADMIN_FLAG: Flag = flag("--admin", "PGSWIVEL_ADMIN", "`admin.address`");

#[cfg(test)]
pub(super) const FLAGS: [&Flag; 6] =
    [&CONFIG_FLAG, &LISTEN_FLAG, &UPSTREAM_FLAG, &SECRET_FLAG, &ROLE_FLAG, &ADMIN_FLAG];
