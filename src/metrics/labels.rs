//! Every word that may stand in a label, apart from names that the configuration gives.

macro_rules! labels {
    ($(#[$doc:meta])* $type:ident { $($(#[$what:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$what])* $variant,)*
        }

        impl $type {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

labels! {
    /// How one login ended.
    Login {
        Accepted => "accepted",
        /// For the credential's sake.
        Refused => "refused",
        /// The endpoint could not be asked, or said "not now".
        Unreachable => "unreachable",
        /// For any other reason than the credential.
        Failed => "failed",
    }
}

labels! {
    /// How one attempt to move a session ended.
    Move {
        Moved => "moved",
        /// What the session holds keeps it where it is.
        Pinned => "pinned",
        /// It is tried again later.
        PutOff => "put_off",
        /// The session was ended at the secret's deadline.
        Cut => "cut",
    }
}

labels! {
    /// What came of something that others of the fleet said, or may have said.
    FleetWake {
        Notification => "notification",
        PutOff => "put_off",
        Nonsense => "nonsense",
        Reconnected => "reconnected",
    }
}

labels! {
    /// What became of a session that lost its link.
    Rescue {
        /// The client noticed nothing.
        Unnoticed => "unnoticed",
        /// Work in flight got an error, and the session goes on.
        Interrupted => "interrupted",
        /// The session ended.
        Lost => "lost",
    }
}

labels! {
    /// Why a connection that a session has left is not lent to another.
    NotLent {
        /// A transaction or a request of the client was under way.
        Unfinished => "unfinished",
        /// The session left what no reset takes away.
        SessionState => "session_state",
        /// A custom setting that was set stays, empty.
        CustomSetting => "custom_setting",
        /// So does the schema of temporary objects.
        TemporaryObjects => "temporary_objects",
        /// Nobody knows what a function that it may have called has left.
        UnknownFunctions => "unknown_functions",
        /// A session that begins now begins otherwise.
        ChangedDefaults => "changed_defaults",
        /// A request to cancel may still hit it.
        Cancel => "cancel",
        /// The server did not do as it was asked.
        Failed => "failed",
    }
}

labels! {
    /// What runs in the background, for as long as the process does or what it looks after.
    Task {
        /// Reads a secret's store.
        Reader => "reader",
        /// Proves credentials.
        Prover => "prover",
        /// Says in the log how a rotation goes.
        Story => "story",
        /// Says in the audit log that a credential is safe to revoke.
        Revocable => "revocable",
        Listener => "listener",
        /// Looks for a changed configuration.
        Configuration => "configuration",
        /// Tells systemd how things are.
        Systemd => "systemd",
        /// Says which limits are exceeded.
        Limits => "limits",
        /// Learns what a database's functions do.
        Learning => "learning",
        /// Keeps connections ready.
        Warm => "warm",
        Admin => "admin",
        /// Remembers the last minutes for the page.
        Samples => "samples",
        /// Hears and tells the fleet of changes.
        Fleet => "fleet",
    }
}

labels! {
    /// What can be exhausted. The words are those of the configuration, where it has one.
    Limit {
        Clients => "clients",
        Startups => "startups",
        StartupTime => "startup_time",
        /// The size of a client's first packet.
        StartupPacket => "startup_packet",
        Cancels => "cancels",
        ConnectionsMax => "connections_max",
        QueueWait => "queue_wait",
        LoginsPerEndpoint => "logins_per_endpoint",
        RefusedLoginsPerMinute => "refused_logins_per_minute",
        StatementBytes => "statement_bytes",
        Moves => "moves",
        Warm => "warm",
        AdminConnections => "admin_connections",
    }
}

/// What servers say at a login. Whatever else one says is `other`: a server must not be able to make series.
const SQLSTATES: [&str; 22] = [
    "08004", "08006", "08P01", "0A000", "22023", "26000", "28000", "28P01", "3D000", "42501", "42704",
    "53000", "53100", "53200", "53300", "53400", "55000", "57P01", "57P02", "57P03", "58000", "XX000",
];

/// Empty: the server said nothing.
pub(super) fn sqlstate(said: Option<&str>) -> &'static str {
    let Some(said) = said else {
        return "";
    };
    let known = SQLSTATES.iter().find(|known| **known == said);
    known.copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_not_make_series() {
        assert_eq!(sqlstate(Some("28P01")), "28P01");
        assert_eq!(sqlstate(Some("ZZ123")), "other");
        assert_eq!(sqlstate(None), "");
    }
}
