//! What every peer is asked to do.

/// One line of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub load: Load,
}

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Pgbench(Pgbench),
    /// Log in with keys that were derived before, ask one thing, leave.
    Connect {
        clients: u32,
    },
    Bulk(Bulk),
    Idle {
        clients: u32,
        tls: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Pgbench {
    pub script: Script,
    pub protocol: &'static str,
    pub clients: u32,
    /// A connection for each transaction.
    pub reconnect: bool,
    pub over: Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    SelectOnly,
    TpcbLike,
    Pipeline,
    HundredRows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    CopyOut,
    SelectOut,
    CopyIn,
}

impl Workload {
    /// Whether this names it, or a family that it belongs to.
    pub fn is(&self, name: &str) -> bool {
        let rest = self.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// What its rate counts.
    pub fn unit(&self) -> &'static str {
        match self.load {
            Load::Pgbench(_) | Load::Connect { .. } => "transaction",
            Load::Bulk(_) => "MB",
            Load::Idle { .. } => "client",
        }
    }
}

const fn select(protocol: &'static str, clients: u32) -> Load {
    pgbench(Script::SelectOnly, protocol, clients)
}

const fn pgbench(script: Script, protocol: &'static str, clients: u32) -> Load {
    Load::Pgbench(Pgbench {
        script,
        protocol,
        clients,
        reconnect: false,
        over: Over::Tcp,
    })
}

pub fn all() -> Vec<Workload> {
    use Script::{HundredRows, Pipeline, TpcbLike};
    let reconnecting = Load::Pgbench(Pgbench {
        script: Script::SelectOnly,
        protocol: "simple",
        clients: 4,
        reconnect: true,
        over: Over::Tcp,
    });
    let over_unix = Load::Pgbench(Pgbench {
        script: Script::SelectOnly,
        protocol: "simple",
        clients: 1,
        reconnect: false,
        over: Over::Unix,
    });
    let idle = |clients, tls| Load::Idle { clients, tls };
    [
        (
            "simple-1",
            "pgbench -S, simple protocol, 1 client",
            select("simple", 1),
        ),
        ("simple-16", "16 clients", select("simple", 16)),
        ("simple-64", "64 clients", select("simple", 64)),
        (
            "extended-1",
            "pgbench -S -M extended, 1 client",
            select("extended", 1),
        ),
        ("extended-16", "16 clients", select("extended", 16)),
        ("extended-64", "64 clients", select("extended", 64)),
        (
            "prepared-1",
            "pgbench -S -M prepared, 1 client",
            select("prepared", 1),
        ),
        ("prepared-16", "16 clients", select("prepared", 16)),
        ("prepared-64", "64 clients", select("prepared", 64)),
        (
            "pipelined-1",
            "pipelines of 10 prepared selects, 1 client",
            pgbench(Pipeline, "prepared", 1),
        ),
        ("pipelined-16", "16 clients", pgbench(Pipeline, "prepared", 16)),
        ("pipelined-64", "64 clients", pgbench(Pipeline, "prepared", 64)),
        (
            "rows-16",
            "100 rows of 100 bytes, prepared, 16 clients",
            pgbench(HundredRows, "prepared", 16),
        ),
        (
            "tpcb-16",
            "pgbench's TPC-B-like, prepared, 16 clients",
            pgbench(TpcbLike, "prepared", 16),
        ),
        (
            "unix-1",
            "as simple-1, with the client on a Unix socket",
            over_unix,
        ),
        (
            "connect",
            "pgbench -S -C, 4 clients: each derives its keys anew",
            reconnecting,
        ),
        (
            "connect-kept",
            "the same by 4 clients that keep their SCRAM keys",
            Load::Connect { clients: 4 },
        ),
        (
            "copy-out",
            "100 MB out by COPY, rows of 1,000 bytes",
            Load::Bulk(Bulk::CopyOut),
        ),
        ("select-out", "100 MB out by SELECT", Load::Bulk(Bulk::SelectOut)),
        ("copy-in", "100 MB in by COPY", Load::Bulk(Bulk::CopyIn)),
        (
            "idle-1000",
            "memory of each of 1,000 idle clients",
            idle(1_000, false),
        ),
        (
            "idle-5000",
            "memory of each of 5,000 idle clients",
            idle(5_000, false),
        ),
        ("idle-1000-tls", "1,000, with TLS upstream", idle(1_000, true)),
        ("idle-5000-tls", "5,000, with TLS upstream", idle(5_000, true)),
    ]
    .map(|(name, about, load)| Workload { name, about, load })
    .into()
}
