//! One flight of pgswivel's own questions over a link at rest, and the answers. Progress lives in `self` and in
//! the [`MessageStream`]: a future that was dropped is taken up again by calling once more.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::{Message, MessageStream, StreamError};
use crate::postgres::wire::described::{Described, Shape};
use crate::postgres::wire::extended;
use crate::postgres::wire::read::{channel, error_field};
use crate::postgres::wire::tag::{field, from_server};
use crate::random;

/// No answer to a question of ours is longer, and no notice or notification that comes between.
const MESSAGE_MAX: usize = 1 << 20;
/// What may come for the client while it waits.
const ASIDE_MAX: usize = 64 << 20;

/// Questions in the making. `T` says what each is for.
pub struct Script<T> {
    /// Of the one statement of ours that exists at a time.
    name: Vec<u8>,
    out: BytesMut,
    steps: VecDeque<(T, u8)>,
}

impl<T: Copy> Script<T> {
    pub fn new() -> Self {
        Self {
            name: format!("_pgswivel_{:016x}", random_number()).into_bytes(),
            out: BytesMut::new(),
            steps: VecDeque::new(),
        }
    }

    /// Runs one statement.
    pub fn run(&mut self, step: T, sql: impl AsRef<[u8]>) {
        self.ask(step, sql, &[], &[]);
    }

    /// Runs one statement with values of these types.
    pub fn ask(&mut self, step: T, sql: impl AsRef<[u8]>, types: &[u32], values: &[Option<&[u8]>]) {
        let Self { name, out, .. } = self;
        extended::parse(out, name, sql.as_ref(), types);
        extended::bind(out, name, values);
        extended::execute(out);
        self.close(step);
    }

    /// Drops the statement of ours, if there is one.
    fn close(&mut self, step: T) {
        extended::close_statement(&mut self.out, &self.name);
        self.steps.push_back((step, from_server::CLOSE_COMPLETE));
    }

    /// Leaves a prepared statement behind.
    pub fn prepare(&mut self, step: T, name: &[u8], sql: &[u8], types: &[u32]) {
        extended::parse(&mut self.out, name, sql, types);
        self.steps.push_back((step, from_server::PARSE_COMPLETE));
    }

    /// The same, as a client's own Parse has it.
    pub fn prepare_body(&mut self, step: T, body: &[u8]) {
        extended::parse_body(&mut self.out, body);
        self.steps.push_back((step, from_server::PARSE_COMPLETE));
    }

    /// Asks what a prepared statement takes and gives.
    pub fn describe(&mut self, step: T, name: &[u8]) {
        extended::describe_statement(&mut self.out, name);
        self.steps.push_back((step, from_server::PARAMETER_DESCRIPTION));
    }

    /// Of the statement that asks.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// All of it, in one flight; `step` is its end.
    pub fn finish(mut self, step: T) -> Exchange<T> {
        extended::sync(&mut self.out);
        self.steps.push_back((step, from_server::READY));
        Exchange {
            name: self.name,
            out: self.out,
            sent: false,
            steps: self.steps,
            refused: None,
            cleaning_up: false,
            describing: None,
            described: Vec::new(),
        }
    }
}

/// Without `Debug`, as everything that has values of the client's in it.
pub struct Exchange<T> {
    name: Vec<u8>,
    out: BytesMut,
    sent: bool,
    /// What is not answered yet, each with the message that completes it.
    steps: VecDeque<(T, u8)>,
    refused: Option<(T, SqlState)>,
    cleaning_up: bool,
    describing: Option<Described>,
    described: Vec<Shape>,
}

/// Why an exchange did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken<T: fmt::Debug> {
    #[error("the link was lost: {0}")]
    Stream(#[from] StreamError),
    #[error("the server ended the link with {0}")]
    Fatal(LastWords),
    #[error("the server sent message {0:?} out of place")]
    Unexpected(char),
    #[error("more than {ASIDE_MAX} bytes came for the client meanwhile")]
    Aside,
    /// The link is at rest, and as it was before.
    #[error("the server refused {at:?} with {state}")]
    Refused { at: T, state: SqlState },
}

/// The body of the FATAL with which a server ends a link.
#[derive(Clone, Debug)]
pub struct LastWords(pub Bytes);

impl LastWords {
    pub fn of(message: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(message))
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SqlState::of(&self.0).fmt(f)
    }
}

impl<T: fmt::Debug> Broken<T> {
    pub fn last_words(&self) -> Option<&Bytes> {
        match self {
            Self::Fatal(words) => Some(&words.0),
            _ => None,
        }
    }

    /// Wherever it was.
    pub fn anywhere(self) -> Broken<()> {
        match self {
            Self::Stream(error) => Broken::Stream(error),
            Self::Fatal(words) => Broken::Fatal(words),
            Self::Unexpected(tag) => Broken::Unexpected(tag),
            Self::Aside => Broken::Aside,
            Self::Refused { state, .. } => Broken::Refused { at: (), state },
        }
    }
}

/// As the server gave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SqlState([u8; 5]);

impl SqlState {
    fn of(error: &[u8]) -> Self {
        let code = error_field(error, field::SQLSTATE).and_then(|code| code.try_into().ok());
        Self(code.unwrap_or(*b"XX000"))
    }

    pub fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }

    /// The first two characters.
    pub fn class(&self) -> &[u8] {
        &self.0[..2]
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<T: Copy + fmt::Debug> Exchange<T> {
    /// The next row of any answer; None when everything was answered and the link is at rest.
    pub async fn next_row<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        talk: &mut MessageStream<S>,
        aside: &mut Aside,
    ) -> Result<Option<Message>, Broken<T>> {
        loop {
            if !self.sent {
                talk.write_and_read(&mut self.out)
                    .await
                    .map_err(StreamError::from)?;
                self.sent = true;
            }
            let message = talk.read(MESSAGE_MAX).await?;
            let first = self.steps.front().copied();
            match message.tag {
                from_server::PARAMETER_STATUS | from_server::NOTICE | from_server::NOTIFICATION => {
                    aside.take_in(&message)?;
                }
                from_server::DATA_ROW => return Ok(Some(message)),
                from_server::ERROR if !self.cleaning_up => {
                    self.refused = Some(refusal(message.body(), first)?);
                }
                from_server::READY => match self.refused {
                    Some((at, _)) if !self.cleaning_up => self.clean_up(at, message.body() != b"I"),
                    _ => return self.end(message.body()),
                },
                from_server::PARSE_COMPLETE
                | from_server::BIND_COMPLETE
                | from_server::CLOSE_COMPLETE
                | from_server::COMMAND_COMPLETE
                | from_server::ROW_DESCRIPTION
                | from_server::PARAMETER_DESCRIPTION
                | from_server::NO_DATA => {
                    self.read_description(message.tag, message.body());
                    if first.is_some_and(|(_, completion)| completion == message.tag) {
                        self.steps.pop_front();
                    }
                }
                other => return Err(Broken::Unexpected(char::from(other))),
            }
        }
    }

    fn read_description(&mut self, tag: u8, body: &[u8]) {
        match tag {
            from_server::PARAMETER_DESCRIPTION => self.describing = Some(Described::taking(body)),
            from_server::ROW_DESCRIPTION | from_server::NO_DATA => {
                if let Some(mut described) = self.describing.take() {
                    described.read(body);
                    self.described.push(described.finish());
                }
            }
            _ => {}
        }
    }

    /// What the server said of each statement that it was asked about, in that order.
    pub fn take_described(&mut self) -> Vec<Shape> {
        std::mem::take(&mut self.described)
    }

    /// To the end, whatever the answers are.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        talk: &mut MessageStream<S>,
        aside: &mut Aside,
    ) -> Result<(), Broken<T>> {
        while self.next_row(talk, aside).await?.is_some() {}
        Ok(())
    }

    /// Takes back what a refused flight left: a statement of ours, and an open transaction.
    fn clean_up(&mut self, at: T, transaction: bool) {
        let mut script = Script {
            name: std::mem::take(&mut self.name),
            out: BytesMut::new(),
            steps: VecDeque::new(),
        };
        script.close(at);
        if transaction {
            script.run(at, "/* pgswivel */ ROLLBACK");
        }
        *self = Self {
            refused: self.refused,
            cleaning_up: true,
            ..script.finish(at)
        };
    }

    fn end(&mut self, status: &[u8]) -> Result<Option<Message>, Broken<T>> {
        if self.steps.len() != 1 || status != b"I" {
            return Err(Broken::Unexpected(char::from(from_server::READY)));
        }
        self.steps.clear();
        match self.refused {
            Some((at, state)) => Err(Broken::Refused { at, state }),
            None => Ok(None),
        }
    }
}

fn refusal<T: Copy + fmt::Debug>(body: &[u8], first: Option<(T, u8)>) -> Result<(T, SqlState), Broken<T>> {
    let state = SqlState::of(body);
    let severity =
        error_field(body, field::SEVERITY_UNTRANSLATED).or_else(|| error_field(body, field::SEVERITY));
    if matches!(severity, Some(b"FATAL" | b"PANIC")) {
        return Err(Broken::Fatal(LastWords::of(body)));
    }
    let (at, _) = first.ok_or(Broken::Unexpected('E'))?;
    Ok((at, state))
}

/// A channel that nobody else knows. A notification on it cuts the one sequence of notifications that all sessions
/// of a database see in two, at the same place for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker(String);

impl Marker {
    pub fn fresh() -> Self {
        Self(format!(
            "_pgswivel_{:016x}{:016x}",
            random_number(),
            random_number()
        ))
    }

    pub fn channel(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What one link said that answers nothing: for the client, in the order it came, or for nobody.
pub struct Aside {
    for_client: BytesMut,
    keeping: bool,
    marker: Option<Marker>,
    /// How much came before the marker, once it has.
    cut: Option<usize>,
}

impl Aside {
    /// Of the link that the client is on.
    pub fn kept() -> Self {
        Self {
            for_client: BytesMut::new(),
            keeping: true,
            marker: None,
            cut: None,
        }
    }

    /// Of a fresh link: until [`Aside::keep`], or until the marker, what it says is due to the replay or comes over
    /// the old link too.
    pub fn dropped() -> Self {
        Self {
            keeping: false,
            ..Self::kept()
        }
    }

    /// Keeps everything from now on.
    pub fn keep(&mut self) {
        self.keeping = true;
    }

    /// Keeps notifications of `marker` to itself.
    pub fn watch_for(&mut self, marker: &Marker) {
        self.marker = Some(marker.clone());
        self.cut = None;
    }

    pub fn has_seen_marker(&self) -> bool {
        self.cut.is_some()
    }

    /// Whole messages for the client.
    pub fn take(&mut self) -> BytesMut {
        self.cut = self.cut.map(|_| 0);
        std::mem::take(&mut self.for_client)
    }

    /// Those that came before the marker; the rest comes over the new link too.
    pub fn take_until_marker(&mut self) -> BytesMut {
        let cut = self.cut;
        let mut messages = self.take();
        messages.truncate(cut.unwrap_or(messages.len()));
        messages
    }

    /// A ParameterStatus, a notice or a notification.
    fn take_in<T: fmt::Debug>(&mut self, message: &Message) -> Result<(), Broken<T>> {
        if message.tag == from_server::NOTIFICATION
            && let Some(marker) = &self.marker
            && channel(message.body()) == Some(marker.channel())
        {
            self.cut = self.cut.or(Some(self.for_client.len()));
            self.keeping = true;
            return Ok(());
        }
        if !self.keeping || message.tag == from_server::NOTICE && is_about_us(message.body()) {
            return Ok(());
        }
        if self.for_client.len() + message.raw().len() > ASIDE_MAX {
            return Err(Broken::Aside);
        }
        self.for_client.extend_from_slice(message.raw());
        Ok(())
    }
}

/// Our statements give no cause for warnings; a client that wants to see more (`client_min_messages`) would see
/// them at work. Whatever else comes between is at least a warning.
fn is_about_us(notice: &[u8]) -> bool {
    error_field(notice, field::SEVERITY_UNTRANSLATED) != Some(b"WARNING")
}

/// Hears nothing but asides until the marker has come.
pub async fn drain_until_marker<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut MessageStream<S>,
    aside: &mut Aside,
) -> Result<(), Broken<()>> {
    while !aside.has_seen_marker() {
        let message = talk.read(MESSAGE_MAX).await?;
        match message.tag {
            from_server::PARAMETER_STATUS | from_server::NOTICE | from_server::NOTIFICATION => {
                aside.take_in(&message)?;
            }
            from_server::ERROR => return Err(Broken::Fatal(LastWords::of(message.body()))),
            other => return Err(Broken::Unexpected(char::from(other))),
        }
    }
    Ok(())
}

fn random_number() -> u64 {
    u64::from_ne_bytes(random::bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    fn error(severity: &str) -> Vec<u8> {
        message(
            b'E',
            format!("S{severity}\0V{severity}\0C57P01\0Mno\0\0").as_bytes(),
        )
    }

    fn two_steps() -> Exchange<u8> {
        let mut script = Script::new();
        script.run(1, "SELECT 1");
        script.prepare(2, b"name", b"SELECT 2", &[]);
        script.finish(3)
    }

    fn answers() -> Vec<u8> {
        let mut answers = Vec::new();
        for (tag, body) in [
            (b'1', &b""[..]),
            (b'2', b""),
            (b'D', b"\0\0"),
            (b'C', b"SELECT 1\0"),
            (b'3', b""),
        ] {
            answers.extend(message(tag, body));
        }
        answers.extend(message(b'1', b""));
        answers.extend(message(b'Z', b"I"));
        answers
    }

    /// A server that says all this, whatever it is asked, and then no more.
    async fn server(says: &[u8]) -> (MessageStream<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(says).await.unwrap();
        (MessageStream::new(near), far)
    }

    #[tokio::test]
    async fn an_exchange_ends_when_every_step_is_answered() {
        let (mut talk, _far) = server(&answers()).await;
        let mut exchange = two_steps();
        let mut aside = Aside::kept();
        let row = exchange.next_row(&mut talk, &mut aside).await.unwrap().unwrap();
        assert_eq!(row.body(), b"\0\0");
        assert!(exchange.next_row(&mut talk, &mut aside).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_exchange_that_is_cut_off_anywhere_is_lost() {
        let answers = answers();
        for cut in 0..answers.len() {
            let (mut talk, mut far) = server(&answers[..cut]).await;
            far.shutdown().await.unwrap();
            let broken = two_steps().run(&mut talk, &mut Aside::kept()).await.unwrap_err();
            assert!(
                matches!(broken, Broken::Stream(StreamError::Closed)),
                "cut at {cut}: {broken}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_out_of_place_ends_the_link() {
        for says in [
            message(b'G', b""),
            message(b'Z', b"I"),
            message(b'Z', b"T"),
            message(b'R', b"\0\0\0\0"),
        ] {
            let (mut talk, _far) = server(&says).await;
            let broken = two_steps().run(&mut talk, &mut Aside::kept()).await.unwrap_err();
            assert!(matches!(broken, Broken::Unexpected(_)), "{broken}");
        }
        let (mut talk, _far) = server(&error("FATAL")).await;
        let broken = two_steps().run(&mut talk, &mut Aside::kept()).await.unwrap_err();
        assert!(
            broken.to_string().ends_with("with 57P01")
                && broken.last_words().unwrap() == &error("FATAL")[5..]
        );
    }

    #[tokio::test]
    async fn a_refusal_names_its_step_and_is_cleaned_up_behind() {
        for (status, tags) in [(b"E", &b"CPBECS"[..]), (b"I", b"CS")] {
            let mut says = message(b'1', b"");
            says.extend(error("ERROR"));
            says.extend(message(b'Z', status));
            says.extend(message(b'3', b""));
            if status == b"E" {
                says.extend([message(b'1', b""), message(b'2', b""), message(b'3', b"")].concat());
            }
            says.extend(message(b'Z', b"I"));
            let (mut talk, mut far) = server(&says).await;
            let mut exchange = two_steps();
            let first = exchange.out.len();
            let broken = exchange.run(&mut talk, &mut Aside::kept()).await.unwrap_err();
            assert!(matches!(broken, Broken::Refused { at: 1, .. }), "{broken}");
            drop(talk);
            let mut asked = Vec::new();
            far.read_to_end(&mut asked).await.unwrap();
            let (mut rest, mut seen) = (&asked[first..], Vec::new());
            while let [tag, a, b, c, d, ..] = rest {
                seen.push(*tag);
                rest = &rest[1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize..];
            }
            assert_eq!(seen, tags);
        }
    }

    fn notification(channel: &[u8]) -> Vec<u8> {
        message(b'A', &[b"\0\0\0\x07", channel, b"\0\0"].concat())
    }

    async fn drained(mut aside: Aside, marker: &Marker) -> Aside {
        aside.watch_for(marker);
        let says = [
            notification(b"a"),
            notification(marker.channel()),
            notification(b"b"),
            message(b'Z', b"I"),
        ];
        let (mut talk, _far) = server(&says.concat()).await;
        drain_until_marker(&mut talk, &mut aside).await.unwrap();
        let mut exchange = Script::new().finish(());
        exchange.run(&mut talk, &mut aside).await.unwrap();
        aside
    }

    #[tokio::test]
    async fn the_marker_cuts_what_came_in_two_and_is_not_passed_on() {
        let marker = Marker::fresh();
        let mut old = drained(Aside::kept(), &marker).await;
        assert_eq!(old.take_until_marker(), notification(b"a"));
        let mut given_up = drained(Aside::kept(), &marker).await;
        assert_eq!(given_up.take(), [notification(b"a"), notification(b"b")].concat());
        let mut new = drained(Aside::dropped(), &marker).await;
        assert_eq!(new.take(), notification(b"b"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_before_it_is_read_is_no_deadlock() {
        let (near, mut far) = duplex(64);
        let mut talk = MessageStream::new(near);
        let mut script = Script::new();
        for _ in 0..1000 {
            script.prepare((), b"name", &[b'x'; 100], &[]);
        }
        let asked = script.out.len() + 5;
        let serving = async {
            far.write_all(&message(b'1', b"").repeat(1000)).await.unwrap();
            let mut heard = vec![0; asked];
            far.read_exact(&mut heard).await.unwrap();
            far.write_all(&message(b'Z', b"I")).await.unwrap();
        };
        let mut exchange = script.finish(());
        let mut aside = Aside::kept();
        let (done, ()) = tokio::join!(exchange.run(&mut talk, &mut aside), serving);
        done.unwrap();
    }
}
