//! Knows, from message headers alone, what a client has asked for and a server has not answered yet.
//!
//! The server works through the client's messages in order, so a queue of what is owed mirrors it: runs of
//! extended-protocol messages (each has one reply that completes it), and boundaries (each ends in a
//! ReadyForQuery). Three rules of the server make it more than a counter:
//!
//! * An error in the extended protocol makes it skip everything, a simple Query included, until Sync.
//! * During COPY from the client, Sync and Flush are ignored until CopyDone or CopyFail.
//! * Notices, notifications and parameter changes answer nothing.
//!
//! A *unit* is what ends with one ReadyForQuery: a Query, a FunctionCall, or the messages of the extended protocol up to
//! their Sync.
//!
//! What the messages of a pipeline meet is small, and inlined where they pass; the rest is kept out of its way.

use std::collections::VecDeque;

use super::tag::{from_client, from_server, status};
use super::work::Work;

/// With so many kinds of messages in turn unanswered, nothing more is taken from the client: the server has to
/// answer some first.
const OWED_ENOUGH: usize = 4096;
/// Beyond this, which takes a client whose messages may not be answered at all, the count is given up.
const OWED_MAX: usize = 1 << 17;
/// Room for so many is kept at rest.
const OWED_KEPT: usize = 64;

/// The transaction status that the last ReadyForQuery told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    Idle,
    Open,
    Failed,
}

/// One kind of message that the server still has to work through, as often as it stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Parse, Bind, Close, Describe, Execute: one completing reply each. What they do together.
    Extended(u32, Work),
    /// Each of them does the same.
    Query(u32, Work),
    Sync(u32),
    Function(u32),
    /// CopyDone or CopyFail: owed nothing, but they end the stretch in which Sync is ignored.
    CopyEnd(u32),
    /// Syncs sent during a COPY that failed: ignored if the server read them before the failure, else each ends
    /// in a ReadyForQuery. What comes after tells.
    Perhaps(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    None,
    /// From the client, whose CopyDone or CopyFail has not been seen. Counts the Syncs ignored meanwhile.
    In {
        ignored: u32,
        open: bool,
    },
    Out,
    /// Replication: both ways.
    Both,
}

/// What was answered since the last ReadyForQuery, and is not settled before the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// An extended-protocol message was.
    pub begun: bool,
    /// With an error.
    pub told: bool,
    pub done: Work,
}

impl Unit {
    const NEW: Self = Self {
        begun: false,
        told: false,
        done: Work::NOTHING,
    };
}

#[derive(Debug)]
pub struct Tracker {
    owed: VecDeque<Owed>,
    unit: Unit,
    /// After an error in the extended protocol: everything is ignored until a Sync comes.
    skipping: bool,
    copy: Copy,
    transaction: Transaction,
    /// The count is lost for good: no moment of this session is known to be safe any more.
    uncertain: bool,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new()
    }
}

impl Tracker {
    /// A session that has just seen its first ReadyForQuery.
    pub fn new() -> Self {
        Self {
            owed: VecDeque::new(),
            unit: Unit::NEW,
            skipping: false,
            copy: Copy::None,
            transaction: Transaction::Idle,
            uncertain: false,
        }
    }

    /// Nothing in flight and no transaction. Together with both directions at a message boundary: a safe point.
    pub fn is_idle(&self) -> bool {
        self.is_quiet() && self.transaction == Transaction::Idle
    }

    /// Nothing in flight; a transaction may be open.
    pub fn is_quiet(&self) -> bool {
        // What was answered upon a Flush is not over before its Sync.
        self.owed.is_empty()
            && !self.unit.begun
            && !self.skipping
            && self.copy == Copy::None
            && !self.uncertain
    }

    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// In the order in which the server will work through it.
    pub(super) fn owed(&self) -> impl ExactSizeIterator<Item = Owed> {
        self.owed.iter().copied()
    }

    /// Whether the client has to wait for answers before it may say more. They are sure to come: only then.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.owed.len() >= OWED_ENOUGH && self.is_certain()
    }

    /// Whether the server reads past such a message of the client's.
    #[inline]
    pub fn skips(&self, tag: u8) -> bool {
        self.skipping && tag != from_client::SYNC && !matches!(self.owed.front(), Some(Owed::Perhaps(_)))
    }

    pub(super) fn unit(&self) -> Unit {
        self.unit
    }

    /// The client has sent messages of the extended protocol and no Sync behind them.
    pub(super) fn is_mid_unit(&self) -> bool {
        self.unit.begun && self.owed.is_empty() || matches!(self.owed.back(), Some(Owed::Extended(..)))
    }

    /// The same, or its Sync is still to come after an error.
    pub(super) fn is_amid_unit(&self) -> bool {
        self.is_mid_unit() || self.skipping
    }

    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn copy(&self) -> Copy {
        self.copy
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether every message of the client is known to be answered or not.
    pub fn is_certain(&self) -> bool {
        !self.uncertain && !self.owed.iter().any(|owed| matches!(owed, Owed::Perhaps(_)))
    }

    /// Everything in flight was answered by somebody else than the server; `skipping`: up to a Sync that has not
    /// come.
    pub(super) fn settle(&mut self, transaction: Transaction, skipping: bool) {
        *self = Self {
            transaction,
            skipping,
            ..Self::new()
        };
    }

    /// The header of a message from the client passed, which asks for `work`.
    #[inline]
    pub fn from_client(&mut self, tag: u8, work: Work) {
        match self.owed.back_mut() {
            // Nearly all of a pipeline.
            Some(Owed::Extended(count, works))
                if is_extended(tag) && self.copy == Copy::None && !self.skipping =>
            {
                *count = count.saturating_add(1);
                works.add(work);
            }
            _ => self.other_from_client(tag, work),
        }
    }

    #[inline(never)]
    fn other_from_client(&mut self, tag: u8, work: Work) {
        if let Copy::In { open: true, .. } = self.copy {
            return self.during_copy(tag);
        }
        if self.skipping {
            if tag == from_client::SYNC {
                self.skipping = false;
                return self.push(Owed::Sync(1));
            }
            // If the doubtful Sync was a real one, this message is not skipped: assume it has to be answered.
            if !matches!(self.owed.front(), Some(Owed::Perhaps(_))) {
                return;
            }
        }
        if self.owed.is_empty() {
            self.unit.told = false;
        }
        match tag {
            tag if is_extended(tag) => self.push(Owed::Extended(1, work)),
            from_client::QUERY => self.push(Owed::Query(1, work)),
            from_client::SYNC => self.push(Owed::Sync(1)),
            from_client::FUNCTION_CALL => self.push(Owed::Function(1)),
            from_client::COPY_DONE | from_client::COPY_FAIL if !self.owed.is_empty() => {
                self.push(Owed::CopyEnd(1));
            }
            _ => {}
        }
    }

    fn during_copy(&mut self, tag: u8) {
        let Copy::In { ignored, open } = &mut self.copy else {
            return;
        };
        match tag {
            from_client::SYNC => *ignored = ignored.saturating_add(1),
            from_client::COPY_DONE | from_client::COPY_FAIL => *open = false,
            from_client::COPY_DATA | from_client::FLUSH | from_client::TERMINATE => {}
            _ => {
                *open = false;
                self.copy_cut_short();
            }
        }
    }

    /// A message from the server passed. `status` is the first byte of its body, for ReadyForQuery.
    #[inline]
    pub fn from_server(&mut self, tag: u8, status: Option<u8>) {
        match tag {
            from_server::PARSE_COMPLETE
            | from_server::BIND_COMPLETE
            | from_server::CLOSE_COMPLETE
            | from_server::NO_DATA
            | from_server::PORTAL_SUSPENDED
            | from_server::EMPTY_QUERY
            | from_server::ROW_DESCRIPTION => self.completed(),
            from_server::COMMAND_COMPLETE => {
                self.copy = Copy::None;
                self.completed();
            }
            _ => self.other_from_server(tag, status),
        }
    }

    #[inline(never)]
    fn other_from_server(&mut self, tag: u8, status: Option<u8>) {
        match tag {
            from_server::READY => self.ready(status),
            from_server::ERROR => self.failed(),
            from_server::COPY_IN => self.copy_in(),
            from_server::COPY_OUT => self.copy = Copy::Out,
            from_server::COPY_BOTH => self.copy = Copy::Both,
            _ => {}
        }
    }

    /// A reply that ends one extended-protocol message, or is one of many that a Query may have.
    #[inline]
    pub fn completed(&mut self) {
        match self.owed.front_mut() {
            Some(Owed::Extended(count @ 2.., _)) => {
                self.unit.begun = true;
                *count -= 1;
            }
            _ => self.other_completed(),
        }
    }

    #[inline(never)]
    fn other_completed(&mut self) {
        if !matches!(self.owed.front(), Some(Owed::Extended(..))) {
            self.drop_settled();
            // Neither a Sync nor a doubt is answered so. When one stands first and more was sent after it, its
            // ReadyForQuery came already and was booked on the doubt before it.
            while self.owed.len() > 1 && matches!(self.owed.front(), Some(Owed::Sync(_) | Owed::Perhaps(_))) {
                self.owed.pop_front();
            }
        }
        if let Some(Owed::Extended(count, work)) = self.owed.front_mut() {
            self.unit.begun = true;
            *count -= 1;
            if *count == 0 {
                self.unit.done.add(*work);
                self.owed.pop_front();
            }
        }
    }

    fn ready(&mut self, status: Option<u8>) {
        self.transaction = match status {
            Some(status::OPEN) => Transaction::Open,
            Some(status::FAILED) => Transaction::Failed,
            _ => Transaction::Idle,
        };
        self.copy = Copy::None;
        self.skipping = false;
        self.unit = Unit::NEW;
        while matches!(self.owed.front(), Some(Owed::Extended(..) | Owed::CopyEnd(_))) {
            self.owed.pop_front();
        }
        let doubted = matches!(self.owed.front(), Some(Owed::Perhaps(_)));
        self.pop_one();
        self.drop_settled();
        if doubted && let Some(Owed::Sync(count)) = self.owed.front().copied() {
            // It may have been the Sync that was answered, and the doubt was for nothing.
            self.owed[0] = Owed::Perhaps(count);
        }
        if self.owed.is_empty() && self.owed.capacity() > OWED_KEPT {
            self.owed = VecDeque::new();
        }
    }

    fn failed(&mut self) {
        self.drop_settled();
        let ignored = match self.copy {
            Copy::In { ignored, .. } => ignored,
            _ => 0,
        };
        self.copy = Copy::None;
        self.unit.told = true;
        let extended = matches!(self.owed.front(), Some(Owed::Extended(..)));
        if extended {
            let mut dropped = 0;
            while let Some(owed) = self.owed.front().copied()
                && !matches!(owed, Owed::Sync(_))
            {
                if let Owed::Extended(count, work) = owed {
                    self.unit.done.add(work);
                    dropped = count.saturating_add(dropped);
                }
                self.owed.pop_front();
            }
            self.skipping = self.owed.is_empty();
            // Whether what was sent behind a Sync that may not have been ignored is answered, nobody tells.
            self.uncertain |= ignored > 0 && dropped > 1;
        }
        if ignored > 0 {
            let place = if extended { 0 } else { self.owed.len().min(1) };
            self.owed.insert(place, Owed::Perhaps(ignored));
        }
    }

    /// COPY from the client begins: what was sent behind its command will be read as part of it.
    fn copy_in(&mut self) {
        self.drop_settled();
        let Some(begun @ (Owed::Extended(..) | Owed::Query(..))) = self.owed.front().copied() else {
            return;
        };
        self.pop_one();
        let mut cut_short = false;
        let mut copy = Copy::In {
            ignored: 0,
            open: true,
        };
        while let Copy::In {
            ignored,
            open: open @ true,
        } = &mut copy
            && let Some(owed) = self.owed.front().copied()
        {
            match owed {
                Owed::Sync(count) => {
                    *ignored = ignored.saturating_add(count);
                    self.owed.pop_front();
                }
                Owed::CopyEnd(_) => {
                    self.pop_one();
                    *open = false;
                }
                _ => {
                    *open = false;
                    cut_short = true;
                }
            }
        }
        self.owed.push_front(match begun {
            Owed::Extended(_, work) => Owed::Extended(1, work),
            Owed::Query(_, work) => Owed::Query(1, work),
            owed => owed,
        });
        self.copy = copy;
        if cut_short {
            self.copy_cut_short();
        }
    }

    /// A message that has no place in a COPY fails it, unless it has failed before. In the extended protocol
    /// that message is not answered either way, unless a Sync was sent ahead of it. Otherwise it is answered if the
    /// failure came first, and nothing that follows tells which: no client does this on purpose.
    fn copy_cut_short(&mut self) {
        let ahead = matches!(self.copy, Copy::In { ignored: 1.., .. });
        if ahead || matches!(self.owed.front(), Some(Owed::Query(..))) {
            self.uncertain = true;
        }
    }

    fn push(&mut self, one: Owed) {
        use Owed::*;
        match (self.owed.back_mut(), one) {
            (Some(Extended(count, works)), Extended(_, work)) => {
                *count = count.saturating_add(1);
                works.add(work);
            }
            (Some(Query(count, works)), Query(_, work)) if *works == work => {
                *count = count.saturating_add(1);
            }
            (Some(Sync(count)), Sync(_))
            | (Some(Function(count)), Function(_))
            | (Some(CopyEnd(count)), CopyEnd(_)) => *count = count.saturating_add(1),
            _ => {
                if self.owed.len() >= OWED_MAX {
                    self.uncertain = true;
                    self.owed = VecDeque::new();
                }
                self.owed.push_back(one);
            }
        }
    }

    /// How many entries there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.owed.capacity()
    }

    fn pop_one(&mut self) {
        use Owed::*;
        let Some(
            Extended(count, _)
            | Query(count, _)
            | Sync(count)
            | Function(count)
            | CopyEnd(count)
            | Perhaps(count),
        ) = self.owed.front_mut()
        else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.owed.pop_front();
        }
    }

    /// Outside COPY the server drops CopyDone and CopyFail without a word.
    fn drop_settled(&mut self) {
        while matches!(self.owed.front(), Some(Owed::CopyEnd(_))) {
            self.owed.pop_front();
        }
    }
}

/// Whether such a message of the client's has a reply that completes it, and an error skips the rest up to a Sync.
fn is_extended(tag: u8) -> bool {
    matches!(
        tag,
        from_client::PARSE
            | from_client::BIND
            | from_client::CLOSE
            | from_client::DESCRIBE
            | from_client::EXECUTE
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replay(steps: &str) -> Tracker {
        let mut tracker = Tracker::new();
        for step in steps.split_whitespace() {
            let tag = step.as_bytes()[1];
            match step.as_bytes()[0] {
                b'>' => tracker.from_client(tag, Work::NOTHING),
                _ => tracker.from_server(tag, step.as_bytes().get(2).copied()),
            }
        }
        tracker
    }

    #[test]
    fn a_query_is_in_flight_until_ready_for_query() {
        assert!(!replay(">Q <T <D <C").is_quiet());
        assert!(replay(">Q <T <D <C <ZI").is_idle());
    }

    #[test]
    fn two_pipelined_queries_need_two_ready_for_query() {
        assert!(!replay(">Q >Q <C <ZI").is_quiet());
        assert!(replay(">Q >Q <C <ZI <C <ZI").is_idle());
    }

    #[test]
    fn after_an_extended_error_a_simple_query_is_skipped_until_sync() {
        assert!(replay(">P >B >E >Q >S <E <ZI").is_idle());
        assert!(replay(">P <E >B >E >Q >S <ZI").is_idle());
        assert!(!replay(">P <E >Q").is_quiet());
    }

    #[test]
    fn an_error_of_a_simple_query_skips_nothing() {
        assert!(!replay(">Q >Q <E <ZI").is_quiet());
        assert!(replay(">Q >Q <E <ZI <C <ZI").is_idle());
    }

    #[test]
    fn an_error_of_a_query_behind_finished_extended_messages_skips_nothing() {
        assert!(!replay(">P >B >E >Q >Q <1 <2 <C <E <ZI").is_quiet());
        assert!(replay(">P >B >E >Q >Q <1 <2 <C <E <ZI <C <ZI").is_idle());
    }

    #[test]
    fn a_sync_sent_before_copy_done_is_ignored() {
        assert!(!replay(">P >B >E >S <1 <2 <G").is_quiet());
        assert!(replay(">P >B >E >S <1 <2 <G >d >c >S <C <ZI").is_idle());
    }

    #[test]
    fn a_flush_is_not_an_end() {
        assert!(replay(">P >H <1 >S <ZI").is_idle());
        assert!(!replay(">P >B >E >H <1 <2").is_quiet());
    }

    #[test]
    fn what_was_answered_upon_a_flush_is_not_over() {
        assert!(!replay(">P >B >E >H <1 <2 <C").is_quiet());
        assert!(replay(">P >B >E >H <1 <2 <C >S <ZI").is_idle());
    }

    #[test]
    fn a_failed_transaction_is_quiet_but_not_idle() {
        let tracker = replay(">Q <E <ZE");
        assert!(tracker.is_quiet() && !tracker.is_idle());
        assert_eq!(tracker.transaction(), Transaction::Failed);
    }

    #[test]
    fn notices_notifications_and_parameters_answer_nothing() {
        assert!(replay("<N <A <S").is_idle());
        assert!(!replay(">Q <N <A <S").is_quiet());
    }

    #[test]
    fn a_described_statement_answers_twice_for_one_message() {
        assert!(!replay(">D <t").is_quiet());
        assert!(replay(">D >S <t <n <ZI").is_idle());
        assert!(replay(">D >S <t <T <ZI").is_idle());
    }

    #[test]
    fn a_portal_that_is_suspended_has_answered_its_execute() {
        assert!(replay(">B >E >S <2 <D <s <ZT").is_quiet());
    }

    #[test]
    fn what_is_sent_into_a_copy_behind_a_sync_may_be_answered_or_not() {
        assert!(!replay(">E >S <G >P <E <ZI").is_quiet());
        assert!(!replay(">E >S >P >S <G <E <ZI <1 <ZI").is_quiet());
    }

    #[test]
    fn copy_done_of_a_copy_that_failed_owes_nothing() {
        assert!(replay(">Q <G >d <E <ZI >c").is_idle());
        assert!(replay(">Q >d >c <E <ZI").is_idle());
    }

    /// How a server works through messages, after `PostgresMain` and `CopyGetData`.
    #[derive(Debug, Default)]
    struct Server {
        skipping: bool,
        copying: Option<Protocol>,
        copy_failed: bool,
        no_copy: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Protocol {
        Simple,
        Extended,
    }

    impl Server {
        /// The replies to one message; `chance` picks among what could happen.
        fn take(&mut self, tag: u8, chance: u8) -> &'static str {
            if let Some(protocol) = self.copying {
                return self.take_copying(tag, chance, protocol);
            }
            if self.skipping && tag != b'S' {
                return "";
            }
            let fails = chance.is_multiple_of(4);
            match tag {
                b'S' => {
                    self.skipping = false;
                    ["Z", "Z", "EZ"][usize::from(chance % 3)]
                }
                b'F' => ["VZ", "EZ"][usize::from(fails)],
                b'Q' if chance % 5 == 1 && !self.no_copy => {
                    self.copying = Some(Protocol::Simple);
                    "G"
                }
                b'Q' => ["TDDCZ", "CTDEZ", "IZ", "HddcCZ", "TCSZ", "EZ"][usize::from(chance % 6)],
                b'P' | b'B' | b'C' | b'D' | b'E' if fails => {
                    self.skipping = true;
                    "E"
                }
                b'P' => "1",
                b'B' => "2",
                b'C' => "3",
                b'D' => ["tT", "tn", "T", "n"][usize::from(chance % 4)],
                b'E' if chance % 5 == 1 && !self.no_copy => {
                    self.copying = Some(Protocol::Extended);
                    "G"
                }
                b'E' => ["DDC", "NC", "I", "Ds", "HddcC"][usize::from(chance % 5)],
                _ => "",
            }
        }

        fn take_copying(&mut self, tag: u8, chance: u8, protocol: Protocol) -> &'static str {
            match tag {
                b'd' if !chance.is_multiple_of(4) => "",
                b'S' | b'H' => "",
                b'c' => {
                    self.copying = None;
                    ["CZ", "C"][usize::from(protocol == Protocol::Extended)]
                }
                _ => {
                    self.copy_failed = true;
                    self.copying = None;
                    self.skipping = protocol == Protocol::Extended;
                    ["EZ", "E"][usize::from(protocol == Protocol::Extended)]
                }
            }
        }
    }

    #[derive(Default)]
    struct World {
        tracker: Tracker,
        server: Server,
        to_server: VecDeque<u8>,
        to_client: VecDeque<u8>,
    }

    impl World {
        fn client_sends(&mut self, tag: u8) {
            self.tracker.from_client(tag, Work::NOTHING);
            self.to_server.push_back(tag);
        }

        fn server_works(&mut self, chance: u8) {
            if let Some(tag) = self.to_server.pop_front() {
                self.to_client.extend(self.server.take(tag, chance).bytes());
            }
        }

        fn reply_arrives(&mut self) {
            if let Some(tag) = self.to_client.pop_front() {
                self.tracker.from_server(tag, (tag == b'Z').then_some(b'I'));
            }
        }

        fn in_flight(&self) -> bool {
            // A CopyDone, Flush or stray data that waits to be dropped is not work.
            self.to_server.iter().any(|tag| b"PBCDEQFS".contains(tag))
                || !self.to_client.is_empty()
                || self.server.skipping
                || self.server.copying.is_some()
        }

        fn settle(&mut self) {
            while !self.to_server.is_empty() {
                self.server_works(3);
            }
            while !self.to_client.is_empty() {
                self.reply_arrives();
            }
        }
    }

    fn step() -> impl Strategy<Value = (u8, u8, u8)> {
        (
            0..3_u8,
            prop::sample::select(b"PBDECHSQFdcf".to_vec()),
            any::<u8>(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever a client sends, sensible or not, the tracker never calls a moment safe that is not.
        #[test]
        fn idle_is_never_claimed_while_something_is_in_flight(steps in prop::collection::vec(step(), 1..60)) {
            let mut world = World::default();
            for (who, tag, chance) in steps {
                match who {
                    0 => world.client_sends(tag),
                    1 => world.server_works(chance),
                    _ => world.reply_arrives(),
                }
                prop_assert!(!(world.tracker.is_quiet() && world.in_flight()), "{:?}", world.tracker);
            }
        }

        /// A client that ends what it begins always comes to rest.
        #[test]
        fn a_client_that_waits_for_its_answers_comes_to_rest(
            scripts in prop::collection::vec(
                prop::sample::select(vec!["Q", "PBDES", "PBEPBES", "F", "S", "PBEHS", "PBESPBES", "QQ", "PHS"]),
                1..12,
            ),
            chances in prop::collection::vec(any::<u8>(), 400),
        ) {
            let mut world = World::default();
            let mut chances = chances.into_iter();
            for script in scripts {
                // What is sent behind a COPY command without waiting is read as part of the COPY.
                world.server.no_copy = script.len() > 5 || script == "QQ";
                for tag in script.bytes() {
                    world.client_sends(tag);
                    if chances.next().unwrap_or(0) % 2 == 0 {
                        world.server_works(chances.next().unwrap_or(0));
                        world.reply_arrives();
                    }
                }
                world.settle();
                // A COPY that began: data, its end, and the Sync that the extended protocol needs.
                while let Some(protocol) = world.server.copying {
                    for tag in if protocol == Protocol::Simple { "ddc" } else { "dcS" }.bytes() {
                        world.client_sends(tag);
                    }
                    world.settle();
                }
                if world.server.skipping {
                    world.client_sends(b'S');
                    world.settle();
                }
                if !world.tracker.is_idle() {
                    // Whether a Sync sent during a COPY was answered shows with the next reply.
                    prop_assert!(world.server.copy_failed);
                    "PS".bytes().for_each(|tag| world.client_sends(tag));
                    world.settle();
                }
                prop_assert!(world.tracker.is_idle(), "{} left {:?}", script, world.tracker);
            }
        }
    }
}
