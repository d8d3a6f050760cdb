//! pgswivel: a Postgres sidecar proxy. Credentials rotate upstream; the application's sessions stay.
//!
//! # Layout
//!
//! Rooms on floors. Imports point down only; `tests/floor_plan.rs` enforces it.
//!
//! | floor | room | what it is for |
//! |---|---|---|
//! | roof | [`cli`] | one file a command |
//! | 3 | [`server`] | binds, accepts, listens for signals, drains; puts the rooms below together, and changes them with the configuration |
//! | 3 | [`admin`] | metrics, health, status and the page, on a thread of its own |
//! | 3 | [`rotate`] | the orchestrator of rotations: a client of stores, of Postgres and of running pgswivels |
//! | 2 | [`keeper`] | one task a secret: store → book → proof → page |
//! | 2 | [`postgres`] | one task a client. The only door is [`postgres::serve`] |
//! | 2 | [`access`] | getting logged in, whatever the protocol: which credential where, how many at once, who is on which |
//! | 1 | [`stores`] | one trait to read and one to write, one file a store, and the shapes of payloads |
//! | 1 | [`metrics`] | what is counted: built once, passed down, read by `admin` |
//! | 1 | [`journal`] | what happened to credentials: audit lines, and the last events for the page |
//! | 1 | [`net`] | sockets and TLS; the only room that names the TLS library is [`net::tls`] |
//! | 1 | [`supervise`] | tasks that nobody waits for: begun again and counted when they panic |
//! | 1 | [`backoff`] | waits that grow, with jitter |
//! | 1 | [`complaint`] | when a failure that goes on is worth a log line |
//! | 1 | [`limit`] | how many at once: a number that changes while some are taken |
//! | 1 | [`lock`] | a mutex, locked whatever became of who had it |
//! | 1 | [`lookout`] | sees that something moved near a file |
//! | 1 | [`random`] | bytes that nobody can guess |
//! | ground | [`fleet`] | what the processes of a fleet tell each other: words in, words out |
//! | ground | [`config`] | as written by the user → all problems at once → typed |
//! | ground | [`credentials`] | passwords that do not leak, and the book: what is known of a secret's credentials |
//! | ground | [`postgres::wire`] | the protocol: slices in, values out |
//! | ground | [`names`] | names that a person gave to things, and endpoints |
//!
//! # The way of a client
//!
//! `server::doors` accepts → [`postgres::serve`] → `session::begin` → `client::admit`: `startup` settles encryption and
//! says what the client came for, `auth` makes it prove its role → `link::obtain` gets a link: one that is ready in the
//! `pool`, or one that is made by way of `access::log_in` (which credential, which endpoint, how long to wait) and
//! `link::login` (one real login) → `session::run` on the `relay`, two `lane`s of it, until either side ends →
//! `session::close`, which gives the link back.
//!
//! # The way of a session
//!
//! `session::run` relays, and meanwhile: `state::notes` of what passes say whether the session may have changed
//! (`state::risky_names` has what functions do out of sight, as `link::learn` has learned it), and then `talk::survey` asks
//! Postgres and writes a `state::ledger`. When the credential is replaced, `access::leave` says when to leave;
//! `session::moving` logs in beside, and `crossing` carries the session over with a `talk::replay`. When the link is lost,
//! `session::rescue` has it made again by the ledger (`rebuilding`). Either way `session::relink` puts the session on it.
//! The `access::roster` knows who is logged in with what.
//!
//! # The way of a secret
//!
//! `stores` reads → `keeper` offers it to the `credentials::Book` → a real login proves it → a
//! [`credentials::Page`] is published, and every login from then on goes by it. Logins report what Postgres said to the
//! same book, through [`credentials::Verdicts`].
//!
//! # What holds everywhere
//!
//! * The ground floor has no IO and no clock: what it needs to know, it is told.
//! * `postgres` sees pages. It knows no store and no keeper; `keeper` knows no Postgres: `server` hands it the way to
//!   prove a credential.
//! * A credential is one (user, password) of one read, from the store to the login.
//! * Nothing that failed (a read, a proof, a reload) takes away what works.
//! * A changed configuration is applied whole or not at all, and ends no session.
//! * One task owns both sockets of a session. Between two messages there is no lock, no channel and no allocation.
//! * What a client or a server sends is bounded before it is believed.
//! * There are no statics: no global configuration, no global metrics.

pub mod access;
pub mod admin;
pub mod backoff;
pub mod cli;
pub mod complaint;
pub mod config;
pub mod credentials;
pub mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod journal;
pub mod keeper;
pub mod limit;
pub mod lock;
pub mod lookout;
pub mod metrics;
pub mod names;
pub mod net;
pub mod postgres;
pub mod random;
pub mod rotate;
pub mod server;
pub mod stores;
pub mod supervise;
