//! The names of what the protocol writes as one letter. The same letter means one thing from a client, another from a
//! server, and a third inside of a message.

/// Tags of messages that a client sends.
pub mod from_client {
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    /// A password, or what SCRAM sends in the place of one.
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// Tags of messages that a server sends.
pub mod from_server {
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_IN: u8 = b'G';
    pub const COPY_OUT: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY: u8 = b'I';
    pub const ERROR: u8 = b'E';
    pub const NEGOTIATE_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE: u8 = b'N';
    pub const NOTIFICATION: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// What ReadyForQuery says of the transaction.
pub mod status {
    pub const IDLE: u8 = b'I';
    pub const OPEN: u8 = b'T';
    pub const FAILED: u8 = b'E';
}

/// What Describe and Close are about.
pub mod object {
    pub const PORTAL: u8 = b'P';
    pub const STATEMENT: u8 = b'S';
}

/// The parts of an error, or of a notice.
pub mod field {
    pub const DETAIL: u8 = b'D';
    pub const HINT: u8 = b'H';
    pub const MESSAGE: u8 = b'M';
    pub const ROUTINE: u8 = b'R';
    /// In the language of the server.
    pub const SEVERITY: u8 = b'S';
    pub const SEVERITY_UNTRANSLATED: u8 = b'V';
    pub const SQLSTATE: u8 = b'C';
}
