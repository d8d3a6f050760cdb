mod conversations;

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use self::conversations::{Flight, conversations};
use super::*;
use crate::postgres::wire::frame::Fate;
use crate::postgres::wire::work::Statements;

/// What a client sends. Texts are as close to SQL as the model of a server needs.
#[derive(Clone, Debug, PartialEq)]
enum Say {
    Query(&'static str),
    Parse(&'static str, &'static str),
    Bind(&'static str),
    Execute,
    Close(&'static str),
    Sync,
    Flush,
    Function(&'static str),
    Data,
    Done,
}

use Say::{Bind, Close, Data, Done, Execute, Flush, Function, Parse, Query, Sync};

impl Say {
    fn message(&self) -> (u8, Vec<u8>) {
        match self {
            Query(text) => (b'Q', [text.as_bytes(), b"\0"].concat()),
            Parse(name, text) => (
                b'P',
                [name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"].concat(),
            ),
            Bind(name) => (b'B', [b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat()),
            Execute => (b'E', b"\0\0\0\0\0".to_vec()),
            Close(name) => (b'C', [b"S", name.as_bytes(), b"\0"].concat()),
            Sync => (b'S', Vec::new()),
            Flush => (b'H', Vec::new()),
            Function(_) => (b'F', Vec::new()),
            Data => (b'd', b"data".to_vec()),
            Done => (b'c', Vec::new()),
        }
    }
}

/// A reply: its tag, and the command tag, the SQLSTATE or the transaction status.
type Reply = (u8, String);

fn reply(tag: u8) -> Reply {
    (tag, String::new())
}

/// What the model of a server says of everything that it does not do.
const REFUSED: &str = "XX000";

/// A server, as far as transactions and the order of replies go.
#[derive(Clone, Debug)]
struct Backend {
    transaction: Transaction,
    pending: Vec<&'static str>,
    committed: Vec<&'static str>,
    skipping: bool,
    statements: BTreeMap<&'static str, &'static str>,
    portal: &'static str,
    /// What is copied, and whether by a Query.
    copying: Option<(&'static str, bool)>,
}

impl Backend {
    fn new(transaction: Transaction, statements: BTreeMap<&'static str, &'static str>) -> Self {
        Self {
            transaction,
            pending: Vec::new(),
            committed: Vec::new(),
            skipping: false,
            statements,
            portal: "",
            copying: None,
        }
    }

    fn take(&mut self, said: &Say) -> Vec<Reply> {
        if let Some((what, simple)) = self.copying {
            if *said != Done {
                return Vec::new();
            }
            self.copying = None;
            self.pending.push(what);
            let mut replies = vec![(b'C', "COPY".to_owned())];
            if simple {
                replies.push(self.ready());
            }
            return replies;
        }
        if self.skipping && *said != Sync {
            return Vec::new();
        }
        match said {
            Query(text) => self.query(text),
            Parse(name, text) => {
                self.statements.insert(name, text);
                vec![reply(b'1')]
            }
            Bind(name) => {
                let Some(text) = self.statements.get(name) else {
                    self.skipping = true;
                    return vec![self.fail()];
                };
                self.portal = text;
                vec![reply(b'2')]
            }
            Execute => match self.run(self.portal, false) {
                Err(error) => {
                    self.skipping = true;
                    vec![error]
                }
                Ok(reply) => vec![reply],
            },
            Close(name) => {
                self.statements.remove(name);
                vec![reply(b'3')]
            }
            Sync => {
                self.skipping = false;
                vec![self.ready()]
            }
            Function(statement) => {
                let result = self.run(statement, true);
                vec![result.map_or_else(|error| error, |_| reply(b'V')), self.ready()]
            }
            Flush | Data | Done => Vec::new(),
        }
    }

    fn query(&mut self, text: &'static str) -> Vec<Reply> {
        let mut replies = Vec::new();
        for statement in text.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            match self.run(statement, true) {
                Ok(done) => replies.push(done),
                Err(error) => {
                    replies.push(error);
                    break;
                }
            }
        }
        if self.copying.is_none() {
            replies.push(self.ready());
        }
        replies
    }

    fn run(&mut self, statement: &'static str, simple: bool) -> Result<Reply, Reply> {
        use Transaction::*;
        let words: Vec<&str> = statement.split(' ').collect();
        let failed = self.transaction == Failed;
        let done = |tag: &str| Ok((b'C', tag.to_owned()));
        match words[..] {
            ["ROLLBACK"] | ["COMMIT"] if failed => self.roll_back(),
            ["ROLLBACK"] => self.roll_back(),
            _ if failed => Err(self.fail()),
            ["COMMIT", ..] => {
                self.committed.append(&mut self.pending);
                let chained = words.len() > 1 && self.transaction == Open;
                self.transaction = if chained { Open } else { Idle };
                done("COMMIT")
            }
            ["BEGIN"] => {
                self.transaction = Open;
                done("BEGIN")
            }
            ["COPY", id] => {
                self.copying = Some((id, simple));
                Ok(reply(b'G'))
            }
            ["INSERT", id] => {
                self.pending.push(id);
                done("INSERT")
            }
            ["SHOW"] => done("SHOW"),
            _ => Err(self.fail()),
        }
    }

    fn roll_back(&mut self) -> Result<Reply, Reply> {
        self.pending.clear();
        self.transaction = Transaction::Idle;
        Ok((b'C', "ROLLBACK".to_owned()))
    }

    fn fail(&mut self) -> Reply {
        self.pending.clear();
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
        (b'E', REFUSED.to_owned())
    }

    fn ready(&mut self) -> Reply {
        if self.transaction == Transaction::Idle {
            self.committed.append(&mut self.pending);
        }
        (b'Z', letter(self.transaction).to_string())
    }
}

fn letter(transaction: Transaction) -> char {
    match transaction {
        Transaction::Idle => 'I',
        Transaction::Open => 'T',
        Transaction::Failed => 'E',
    }
}

/// A client, a server, and the one between them.
struct World {
    tracker: Tracker,
    statements: Statements,
    unfinished: Unfinished,
    again: Again,
    /// What was passed on since everything was answered.
    unit: Vec<Say>,
    backend: Backend,
    /// Of the servers that are lost.
    committed: Vec<&'static str>,
    /// What the client has said, and nobody has looked at.
    held: VecDeque<Say>,
    to_server: VecDeque<Say>,
    to_client: VecDeque<Reply>,
    sent: Vec<Say>,
    got: Vec<Reply>,
}

impl World {
    fn new() -> Self {
        Self {
            tracker: Tracker::new(),
            statements: Statements::default(),
            unfinished: Unfinished::Nothing,
            again: Again::up_to(1000),
            unit: Vec::new(),
            backend: Backend::new(Transaction::Idle, BTreeMap::new()),
            committed: Vec::new(),
            held: VecDeque::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            sent: Vec::new(),
            got: Vec::new(),
        }
    }

    fn client_says(&mut self, say: &Say) {
        self.sent.push(say.clone());
        self.held.push_back(say.clone());
        self.looks();
    }

    fn looks(&mut self) {
        while let Some(say) = self.held.pop_front() {
            if self.passes(&say) == Fate::Held {
                return self.held.push_front(say);
            }
        }
    }

    fn passes(&mut self, say: &Say) -> Fate {
        let (tag, body) = say.message();
        let asked = self.statements.read(tag, &body, true);
        let mut out = BytesMut::new();
        let fate = self.unfinished.meet(tag, &asked, &mut self.tracker, &mut out);
        self.hear(&out);
        if fate == Fate::PassedOn {
            let is_idle = self.tracker.is_idle() && self.unfinished.is_nothing();
            if is_idle {
                self.unit.clear();
            }
            self.unit.push(say.clone());
            self.again.asked(tag, body.len(), true, || is_idle);
            let length = (body.len() as u32 + 4).to_be_bytes();
            self.again.went_on(&[&[tag][..], &length, &body].concat());
            self.tracker.from_client(tag, asked.work);
            self.to_server.push_back(say.clone());
        }
        fate
    }

    fn server_works(&mut self) {
        if let Some(said) = self.to_server.pop_front() {
            self.to_client.extend(self.backend.take(&said));
        }
    }

    fn reply_arrives(&mut self) {
        if let Some((tag, text)) = self.to_client.pop_front() {
            let status = text.bytes().next().filter(|_| tag == b'Z');
            // Each goes on by itself: nothing is taken back.
            self.again.told(tag);
            self.again.passed();
            self.tracker.from_server(tag, status);
            if tag == b'Z' && self.tracker.is_idle() {
                self.again.answered();
            }
            self.got.push((tag, text));
            self.looks();
        }
    }

    fn settle(&mut self) {
        while !(self.to_server.is_empty() && self.to_client.is_empty()) {
            self.server_works();
            self.reply_arrives();
        }
    }

    fn hear(&mut self, mut messages: &[u8]) {
        while let Some((header, rest)) = messages.split_first_chunk::<5>() {
            let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4;
            let (body, rest) = rest.split_at(length);
            let text = match header[0] {
                b'E' => error_field(body, b'C').unwrap(),
                b'C' => &body[..length - 1],
                _ => body,
            };
            let text = String::from_utf8(text.to_vec()).unwrap();
            self.got.push((header[0], text));
            messages = rest;
        }
    }

    /// The server ends the link, and says so behind everything else that it has said.
    fn terminates(&mut self, more: bool) {
        while !self.to_client.is_empty() {
            self.reply_arrives();
        }
        let statements = self.backend.statements.clone();
        let text_of = |name: &[u8]| {
            let text = statements.get(std::str::from_utf8(name).unwrap())?;
            Some(text.as_bytes())
        };
        if !self.again.is_undone(b"C57P01\0\0", text_of, |_| true) {
            return self.lose(more);
        }
        self.committed.append(&mut self.backend.committed);
        self.backend = Backend::new(Transaction::Idle, statements);
        self.to_server.clear();
        let mut kept = &self.again.take()[..];
        let mut count = 0;
        while let Some((header, _)) = kept.split_first_chunk::<5>() {
            kept = &kept[1 + u32::from_be_bytes(header[1..].try_into().unwrap()) as usize..];
            count += 1;
        }
        self.unit.drain(..self.unit.len() - count);
        Aftermath::unnoticed().settle(&mut self.tracker, &mut self.unfinished);
        let behind = std::mem::take(&mut self.held);
        self.held = std::mem::take(&mut self.unit).into();
        self.held.extend(behind);
        self.looks();
    }

    /// The link is lost, and the next one taken up.
    fn lose(&mut self, more: bool) {
        self.again.lost();
        let behind = match more || !self.held.is_empty() {
            true => Behind::More,
            false => Behind::Nothing,
        };
        let aftermath = Aftermath::of(&self.tracker, behind, None).unwrap();
        let transaction = match aftermath.transaction_failed {
            true => Transaction::Failed,
            false => Transaction::Idle,
        };
        self.committed.append(&mut self.backend.committed);
        // What a client knows of is replayed; what it was not told of does no harm.
        let statements = std::mem::take(&mut self.backend.statements);
        self.backend = Backend::new(transaction, statements);
        self.to_server.clear();
        self.to_client.clear();
        self.hear(&aftermath.answer);
        aftermath.settle(&mut self.tracker, &mut self.unfinished);
        self.looks();
    }

    fn committed(&self) -> Vec<&'static str> {
        let mut all = [&self.committed[..], &self.backend.committed].concat();
        all.sort_unstable();
        all
    }
}

/// What a client makes of what it hears, if that answers what it said.
#[derive(Debug, Default)]
struct Heard {
    acknowledged: Vec<&'static str>,
    /// An error that is not the server's.
    lost: bool,
    unknown: bool,
    status: String,
}

/// Reads the replies as the answers to what was said, every one of them in its place.
struct Reading<'a> {
    replies: std::slice::Iter<'a, Reply>,
    heard: Heard,
    /// Of the unit, and of the transaction before it.
    done: Vec<&'static str>,
    open: Vec<&'static str>,
    failed: bool,
    failed_twice: bool,
}

impl Reading<'_> {
    fn next(&mut self) -> Reply {
        let reply = self.replies.next().cloned().expect("an answer is missing");
        if reply.0 == b'E' {
            self.failed_twice = self.failed;
            self.failed = true;
            self.heard.lost |= reply.1 != REFUSED;
            self.heard.unknown |= reply.1 == "08007";
            self.done.clear();
        }
        reply
    }

    /// What a statement that was carried out means to the client.
    fn note(&mut self, statement: &'static str, reply: &Reply) {
        match (statement.split(' ').next().unwrap(), reply.1.as_str()) {
            ("INSERT" | "COPY", _) => self.done.push(statement.split(' ').nth(1).unwrap()),
            ("COMMIT", "COMMIT") => {
                self.heard.acknowledged.append(&mut self.open);
                self.heard.acknowledged.append(&mut self.done);
            }
            ("COMMIT" | "ROLLBACK", _) => {
                self.open.clear();
                self.done.clear();
            }
            _ => {}
        }
    }

    fn ready(&mut self, (tag, status): Reply) {
        assert_eq!(tag, b'Z', "out of place");
        match status.as_str() {
            _ if self.failed => self.open.clear(),
            "I" => {
                self.heard.acknowledged.append(&mut self.open);
                self.heard.acknowledged.append(&mut self.done);
            }
            "T" => self.open.append(&mut self.done),
            _ => self.open.clear(),
        }
        assert!(!self.failed_twice, "one error is enough");
        self.failed = false;
        self.heard.status = status;
    }
}

fn read(sent: &[Say], got: &[Reply]) -> Heard {
    let mut reading = Reading {
        replies: got.iter(),
        heard: Heard::default(),
        done: Vec::new(),
        open: Vec::new(),
        failed: false,
        failed_twice: false,
    };
    let (mut skipping, mut statements, mut portal) = (false, BTreeMap::new(), "");
    let mut sent = sent.iter();
    while let Some(say) = sent.next() {
        match say {
            Query(_) | Function(_) if skipping => {}
            Query(text) => {
                let mut texts = text.split(';').map(str::trim);
                loop {
                    let reply = reading.next();
                    match reply.0 {
                        b'Z' => break reading.ready(reply),
                        b'C' if !reading.failed => {
                            // A ROLLBACK that was told twice is one.
                            reading.note(texts.next().unwrap_or("ROLLBACK"), &reply);
                        }
                        b'G' => sent
                            .by_ref()
                            .find(|say| **say == Done)
                            .map(drop)
                            .expect("the client ends its COPY"),
                        b'E' if !reading.failed_twice => {}
                        tag => panic!("{:?} for a Query", char::from(tag)),
                    }
                }
            }
            Function(statement) => {
                let mut reply = reading.next();
                if reply.0 == b'V' {
                    reading.note(statement, &reply);
                    reply = reading.next();
                }
                if reply.0 == b'E' {
                    reply = reading.next();
                }
                reading.ready(reply);
            }
            Sync => {
                let skipped = std::mem::take(&mut skipping);
                let mut reply = reading.next();
                if reply.0 == b'E' && !skipped {
                    reply = reading.next();
                }
                reading.ready(reply);
            }
            Parse(name, text) => {
                statements.insert(name, text);
                skipping = skipping || reading.next().0 == b'E';
            }
            Bind(name) => {
                portal = statements[name];
                skipping = skipping || reading.next().0 == b'E';
            }
            Close(_) => skipping = skipping || reading.next().0 == b'E',
            Execute if skipping => {}
            Execute => {
                let mut reply = reading.next();
                if reply.0 == b'G' {
                    sent.by_ref().find(|say| **say == Done).unwrap();
                    reply = reading.next();
                }
                skipping = reply.0 == b'E';
                if !skipping {
                    reading.note(portal, &reply);
                }
            }
            Flush | Data | Done => {}
        }
    }
    assert_eq!(reading.replies.as_slice(), [], "nobody asked for that");
    reading.heard
}

/// What is inserted in each transaction of a conversation, and whether it is committed: then it is there as a whole
/// or not at all.
fn transactions(flights: &[Flight]) -> Vec<(Vec<&'static str>, bool)> {
    let (mut all, mut open, mut prepared) = (Vec::new(), None, BTreeMap::new());
    let (mut statements, mut portal) = (Vec::new(), "");
    for say in flights.iter().flatten() {
        match say {
            Query(text) => statements.extend(text.split(';').map(str::trim)),
            Function(statement) => statements.push(statement),
            Parse(name, text) => drop(prepared.insert(name, *text)),
            Bind(name) => portal = prepared[name],
            Execute => statements.push(portal),
            _ => {}
        }
    }
    for statement in statements {
        match (statement, &mut open) {
            ("BEGIN", _) => open = Some(Vec::new()),
            ("COMMIT", _) => all.extend(open.take().map(|ids| (ids, true))),
            ("ROLLBACK", _) => all.extend(open.take().map(|ids| (ids, false))),
            ("COMMIT AND CHAIN", _) => all.extend(open.replace(Vec::new()).map(|ids| (ids, true))),
            (_, Some(ids)) => ids.extend(statement.split(' ').nth(1)),
            (_, None) => {}
        }
    }
    all
}

/// What must hold once a client has heard all it waits for.
fn judge(world: &World) -> Heard {
    let heard = read(&world.sent, &world.got);
    let committed = world.committed();
    for id in &heard.acknowledged {
        assert!(committed.contains(id), "{id} was acknowledged");
    }
    for (place, id) in committed.iter().enumerate() {
        assert!(!committed[..place].contains(id), "{id} was done twice");
        let known = heard.acknowledged.contains(id) || heard.unknown;
        assert!(known, "{id} was said not to have been done");
    }
    if world.unfinished.is_nothing() && world.tracker.is_quiet() && !heard.status.is_empty() {
        assert_eq!(heard.status, letter(world.tracker.transaction()).to_string());
    }
    heard
}

/// A client in the middle of a conversation.
struct Client<'a> {
    flights: &'a [Flight],
    flight: usize,
    said: usize,
    /// It stops at the first error that it did not ask for, and rolls back what it can.
    careful: bool,
    gave_up: bool,
}

impl Client<'_> {
    fn says_next(&mut self, world: &mut World) {
        let waits = !world.to_server.is_empty() || !world.to_client.is_empty();
        let Some(flight) = self.flights.get(self.flight).filter(|_| !self.gave_up) else {
            return;
        };
        if self.said < flight.len() {
            world.client_says(&flight[self.said]);
            self.said += 1;
        } else if !waits {
            self.next_flight(world);
        }
    }

    fn next_flight(&mut self, world: &mut World) {
        self.flight += 1;
        self.said = 0;
        let heard = judge(world);
        if self.careful && heard.lost {
            self.gave_up = true;
            if world.tracker.is_skipping() || world.tracker.unit().begun {
                world.client_says(&Sync);
                world.settle();
            }
            if judge(world).status != "I" {
                world.client_says(&Query("ROLLBACK"));
            }
        }
    }

    /// Whether it has sent more than was shown to the tracker, if it sends all it can.
    fn has_more(&self) -> bool {
        let flight = self.flights.get(self.flight);
        self.said > 0 && flight.is_some_and(|flight| self.said < flight.len())
    }

    fn goes_on_to_the_end(&mut self, world: &mut World) {
        while self.flight < self.flights.len() && !self.gave_up {
            self.says_next(world);
            if self
                .flights
                .get(self.flight)
                .is_none_or(|flight| self.said == flight.len())
            {
                world.settle();
            }
        }
        world.settle();
        judge(world);
        assert!(world.tracker.is_quiet(), "{:?}", world.tracker);
        if self.careful {
            let committed = world.committed();
            for (ids, commits) in transactions(self.flights) {
                let done = ids.iter().filter(|id| committed.contains(id)).count();
                assert!(done == 0 || commits && done == ids.len(), "{done} of {ids:?}");
            }
        }
    }
}

/// As far as it goes without a loss: `flight` is the one that `said` messages were said of, of which the server
/// has worked through `worked`, and `heard` replies have arrived.
fn bring(flights: &[Flight], place: [usize; 4], careful: bool) -> Option<(World, Client<'_>)> {
    let [flight, said, worked, heard] = place;
    let mut world = World::new();
    let mut client = Client {
        flights,
        flight: 0,
        said: 0,
        careful,
        gave_up: false,
    };
    while client.flight < flight {
        client.says_next(&mut world);
        if client.said == flights[client.flight].len() {
            world.settle();
            client.next_flight(&mut world);
        }
    }
    world.settle();
    (0..said).for_each(|_| client.says_next(&mut world));
    (0..worked).for_each(|_| world.server_works());
    if heard > world.to_client.len() {
        return None;
    }
    (0..heard).for_each(|_| world.reply_arrives());
    Some((world, client))
}

/// A session to which this happened: `>` from the client, with the text of a Query or Execute, `<` from the server.
fn after(steps: &[&'static str]) -> Tracker {
    let (mut tracker, mut statements) = (Tracker::new(), Statements::default());
    for step in steps {
        let (tag, text) = (step.as_bytes()[1], &step[2..]);
        if step.starts_with('<') {
            tracker.from_server(tag, text.bytes().next());
            continue;
        }
        let says = match tag {
            b'E' => &[Parse("", text), Bind(""), Execute][..],
            b'S' => &[Sync],
            b'c' => &[Done],
            _ => &[Query(text)],
        };
        for (tag, body) in says.iter().map(Say::message) {
            tracker.from_client(tag, statements.read(tag, &body, true).work);
        }
    }
    tracker
}

#[test]
fn what_was_in_flight_is_named_and_its_outcome_known_or_not() {
    use InFlight::*;
    for (steps, expected, known) in [
        (&[][..], Nothing, true),
        (&[">Sunasked"], Nothing, true),
        (&[">QBEGIN", "<C", "<ZT"], OpenTransaction, true),
        (
            &[">QBEGIN", "<C", "<ZT", ">QX", "<E", "<ZE"],
            FailedTransaction,
            true,
        ),
        (&[">QSHOW x"], Autocommit, true),
        (&[">QSELECT f()"], Autocommit, false),
        (&[">ESELECT f()", "<1", "<2", "<C"], Autocommit, false),
        (&[">QINSERT 1", "<E", ">QSHOW x"], Autocommit, true),
        (&[">QINSERT 1", "<E", ">QINSERT 2"], Autocommit, false),
        (&[">QBEGIN", "<C", "<ZT", ">QINSERT 1"], Transaction, true),
        (&[">QBEGIN", "<C", "<ZT", ">QCOMMIT"], Commit, false),
        (&[">QBEGIN", "<C", "<ZT", ">QROLLBACK"], Nothing, true),
        (&[">QCOPY t FROM STDIN", "<G"], CopyIn, true),
        (&[">QCOPY t FROM STDIN", "<G", ">c"], CopyIn, false),
        (
            &[
                ">ECALL p()",
                ">ECOPY t FROM STDIN",
                "<1",
                "<2",
                "<C",
                "<1",
                "<2",
                "<G",
            ],
            CopyIn,
            false,
        ),
        (&[">QCOPY t TO STDOUT", "<H"], CopyOut, false),
        (
            &[">QBEGIN", "<C", "<ZT", ">QCOPY t TO STDOUT", "<H"],
            CopyOut,
            true,
        ),
    ] {
        let aftermath = Aftermath::of(&after(steps), Behind::Nothing, None).unwrap();
        assert_eq!(
            (aftermath.in_flight, aftermath.outcome_known),
            (expected, known),
            "{steps:?}"
        );
    }
}

#[test]
fn one_error_is_enough_for_what_fails_together() {
    for (steps, expected) in [
        (&[">ESHOW x", "<1", ">S"][..], "EZ"),
        (&[">ESHOW x", "<1", "<2", "<C", ">S", ">S"], "EZZ"),
        (&[">ESHOW x", ">QSHOW y", ">S", ">QSHOW z"], "EZEZ"),
        (&[">ESHOW x", "<1", "<E", ">S"], "Z"),
        (&[">ESHOW x", "<1", "<E"], ""),
        (&[">QSHOW x", "<E", ">QSHOW y"], "ZEZ"),
        (&["<E", ">QSHOW x"], "EZ"),
        (&[">QBEGIN", "<ZT", ">S", ">S"], "EZZ"),
        (&[">QBEGIN", "<ZT"], ""),
        (&[">QBEGIN", "<ZT", ">QROLLBACK"], "CZ"),
    ] {
        let answer = Aftermath::of(&after(steps), Behind::Nothing, None)
            .unwrap()
            .answer;
        let (mut rest, mut tags) = (&answer[..], String::new());
        while let Some((header, after)) = rest.split_first_chunk::<5>() {
            tags.push(char::from(header[0]));
            rest = &after[u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4..];
        }
        assert_eq!(tags, expected, "{steps:?}");
    }
}

#[test]
fn an_error_says_what_the_server_said_unless_nobody_knows() {
    let fatal = b"SFATAL\0VFATAL\0C57P02\0Mcra\xffshed\0Hretry\0\0";
    let error = |steps: &[&'static str], fatal: Option<&[u8]>| {
        let answer = Aftermath::of(&after(steps), Behind::Nothing, fatal)
            .unwrap()
            .answer;
        let length = u32::from_be_bytes(answer[1..5].try_into().unwrap()) as usize;
        answer[5..=length].to_vec()
    };
    let transaction = [">QBEGIN", "<C", "<ZT", ">QINSERT 1"];
    let told = error(&transaction, Some(fatal));
    assert_eq!(error_field(&told, b'S'), Some(&b"ERROR"[..]));
    assert_eq!(error_field(&told, b'C'), Some(&b"57P02"[..]));
    assert!(error_field(&told, b'M').unwrap().ends_with(b"was rolled back"));
    assert!(error_field(&told, b'D').unwrap().ends_with(b"cra\xffshed"));
    assert_eq!(error_field(&error(&transaction, None), b'C'), Some(&b"57P01"[..]));
    assert_eq!(
        error_field(&error(&transaction, Some(b"C1\0\0")), b'C'),
        Some(&b"57P01"[..])
    );
    let told = error(&[">QINSERT 1"], Some(fatal));
    assert_eq!(error_field(&told, b'C'), Some(&b"08007"[..]));
    assert!(error_field(&told, b'M').unwrap().ends_with(b"is not known"));
}

#[test]
fn what_can_not_be_told_is_not() {
    let of = |steps: &[&'static str]| Aftermath::of(&after(steps), Behind::Nothing, None).map(|_| ());
    assert_eq!(of(&[">QSTART_REPLICATION", "<W"]), Err(Unanswerable::Replication));
    // Whether the Sync that was sent during the COPY is answered shows later.
    let copy = [">ECOPY t FROM STDIN", ">Sahead", "<1", "<2", "<G", "<E"];
    assert_eq!(of(&copy), Err(Unanswerable::Unclear));
    let doubted = [&copy[..], &[">c", ">Sreal", "<ZI"]].concat();
    assert_eq!(of(&doubted), Err(Unanswerable::Unclear));
    assert_eq!(of(&[&doubted[..], &[">ESHOW x", "<1"]].concat()), Ok(()));
}

#[test]
fn a_client_is_told_the_truth_wherever_its_link_is_lost() {
    let mut places = 0;
    for flights in conversations() {
        for (flight, says) in flights.iter().enumerate() {
            let sizes = (0..=says.len()).flat_map(|said| (0..=said).map(move |worked| (said, worked)));
            for (said, worked) in sizes {
                for heard in 0.. {
                    let place = [flight, said, worked, heard];
                    if bring(&flights, place, true).is_none() {
                        break;
                    }
                    for (careful, is_said) in [(true, false), (false, false), (true, true), (false, true)] {
                        let (mut world, mut client) = bring(&flights, place, careful).unwrap();
                        if client.gave_up {
                            continue;
                        }
                        places += 1;
                        println!("{flights:?} lost at {place:?}, careful: {careful}, said: {is_said}");
                        match is_said {
                            true => world.terminates(client.has_more()),
                            false => world.lose(client.has_more()),
                        }
                        client.goes_on_to_the_end(&mut world);
                    }
                }
            }
        }
    }
    assert!(places > 1000, "{places}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The same, with the server and the network at any speed, and links that are lost again and again.
    #[test]
    fn a_client_is_told_the_truth_however_often_its_links_are_lost(
        flights in prop::sample::select(conversations()),
        steps in prop::collection::vec(0..14_u8, 0..80),
    ) {
        let mut world = World::new();
        let mut client = Client { flights: &flights, flight: 0, said: 0, careful: true, gave_up: false };
        for step in steps {
            match step {
                0..4 => client.says_next(&mut world),
                4..8 => world.server_works(),
                8..12 => world.reply_arrives(),
                12 => world.lose(client.has_more()),
                _ => world.terminates(client.has_more()),
            }
        }
        client.goes_on_to_the_end(&mut world);
    }
}
