//! What a client has asked for last, kept while it is in flight: if a server says that it has undone it, and the
//! client has heard nothing of it, it can be asked for once more.

use bytes::Bytes;

use super::super::tag::{field, from_client, from_server};
use super::repeatable::repeats;
use crate::postgres::wire::frame::HEADER;
use crate::postgres::wire::parts::messages;
use crate::postgres::wire::read::error_field;

/// What an administrator or a timeout says to a backend that has not begun to commit.
const UNDONE: [&[u8]; 2] = [b"57P01", b"57P05"];

/// Room for the units of most clients: it is kept between them.
const ROOM: usize = 256;

/// One unit: a Query, or the messages up to a Sync. Units that only close something don't count: libraries send them along
/// with whatever comes next. Nor does what only prepares, as long as nothing is bound: some libraries wait for that before
/// they go on. Both are kept until they are answered.
#[derive(Debug, Default)]
pub struct Again {
    /// Whole messages.
    bytes: Vec<u8>,
    /// So many bytes of it pass, and are not among those yet.
    passing: usize,
    /// So many of the bytes come before whatever asks for more than to close something.
    closing: usize,
    bytes_max: usize,
    keeping: Keeping,
    /// The unit has asked for no more than to prepare and to close something.
    prepares: bool,
    /// Half of what was asked for first is told: what a statement takes, and not what it gives.
    is_half_told: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keeping {
    /// Nothing is in flight.
    #[default]
    Rests,
    /// A unit that may not be whole yet.
    Begun,
    /// Units that only close something.
    Closed,
    Whole,
    /// The same, and the server has acknowledged parts of it, which can still be taken back.
    Acknowledged,
    /// Too large, more than one unit, in a transaction, or the client has heard of it.
    Not,
    /// It was asked for once more, and has no answer yet.
    Asked,
}

impl Again {
    /// 0: nothing is kept.
    pub fn up_to(bytes_max: u32) -> Self {
        Self {
            bytes_max: bytes_max as usize,
            ..Self::default()
        }
    }

    /// A message of the client's passes, `whole` or the beginning of one, with so many bytes of a body. `is_idle`:
    /// nothing is in flight, and no transaction is open.
    #[inline]
    pub fn asked(&mut self, tag: u8, body: usize, whole: bool, is_idle: impl FnOnce() -> bool) {
        let is_kept = match self.keeping {
            Keeping::Not | Keeping::Asked => return,
            Keeping::Acknowledged => false,
            Keeping::Rests => is_idle(),
            // A Query in the middle of a unit is one too many.
            Keeping::Begun => tag != from_client::QUERY,
            Keeping::Closed => true,
            Keeping::Whole => only_closes(tag),
        };
        let before = self.bytes.len() + self.passing;
        let after = before + HEADER + body;
        if !is_kept || !whole || after > self.bytes_max {
            return self.forget();
        }
        let begins = matches!(self.keeping, Keeping::Rests | Keeping::Closed);
        self.prepares = only_prepares(tag) && (self.prepares || begins);
        self.passing += HEADER + body;
        if only_closes(tag) && self.closing == before {
            self.closing = after;
        }
        self.keeping = match tag {
            from_client::SYNC if self.closing == after => Keeping::Closed,
            from_client::QUERY | from_client::FUNCTION_CALL | from_client::SYNC => Keeping::Whole,
            _ if self.keeping == Keeping::Whole => Keeping::Whole,
            _ => Keeping::Begun,
        };
    }

    /// All that goes on to the server of what was read at once: the messages that were asked with are the last of it.
    #[inline]
    pub fn went_on(&mut self, bytes: &[u8]) {
        let passing = std::mem::take(&mut self.passing);
        if passing == 0 {
            return;
        }
        match bytes.len().checked_sub(passing) {
            Some(before) => self.keep(&bytes[before..]),
            None => self.forget(),
        }
    }

    #[inline]
    fn keep(&mut self, messages: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(ROOM.max(messages.len()));
        }
        self.bytes.extend_from_slice(messages);
    }

    /// The client hears something. True: as long as it has not gone on, it can be taken back, and all that follows it.
    #[inline]
    pub fn told(&mut self, tag: u8) -> bool {
        let is_one_more = self.keeping == Keeping::Acknowledged && acknowledges(tag);
        !is_one_more && self.keeps() && self.heard(tag)
    }

    /// What was told has gone on.
    #[inline]
    pub fn passed(&mut self) {
        if self.keeping == Keeping::Acknowledged {
            self.forget();
        }
    }

    /// The server's last words came along with what it had acknowledged. True: the client is to hear none of that.
    pub fn takes_back(&mut self) -> bool {
        let is_acknowledged = self.keeping == Keeping::Acknowledged;
        if is_acknowledged {
            self.keeping = Keeping::Whole;
        }
        is_acknowledged
    }

    fn keeps(&self) -> bool {
        use Keeping::{Acknowledged, Begun, Closed, Whole};
        matches!(self.keeping, Begun | Closed | Whole | Acknowledged)
    }

    /// That something is closed, as was asked for first, is no answer to what comes behind it.
    #[inline(never)]
    fn heard(&mut self, tag: u8) -> bool {
        if self.keeping == Keeping::Whole && self.closing == 0 && acknowledges(tag) {
            self.keeping = Keeping::Acknowledged;
            return true;
        }
        if !self.answers_first(tag) {
            self.forget();
        }
        false
    }

    /// Drops what this answers, if that only closes or prepares something and comes first.
    fn answers_first(&mut self, tag: u8) -> bool {
        let answered = match tag {
            from_server::PARSE_COMPLETE => from_client::PARSE,
            from_server::PARAMETER_DESCRIPTION | from_server::ROW_DESCRIPTION | from_server::NO_DATA => {
                from_client::DESCRIBE
            }
            from_server::CLOSE_COMPLETE => from_client::CLOSE,
            from_server::READY => from_client::SYNC,
            _ => return false,
        };
        let limit = match self.prepares {
            true => self.bytes.len(),
            false => self.closing,
        };
        if limit == 0 {
            return false;
        }
        let mut end = 0;
        // A Flush has no answer.
        let first = messages(&self.bytes[..limit]).find(|(first, body)| {
            end += HEADER + body.len();
            *first != from_client::FLUSH
        });
        if first.is_none_or(|(first, _)| first != answered) {
            return false;
        }
        self.is_half_told = tag == from_server::PARAMETER_DESCRIPTION;
        if !self.is_half_told {
            self.bytes.drain(..end);
            self.closing = self.closing.saturating_sub(end);
        }
        true
    }

    /// Everything was answered, and no transaction is open.
    #[inline]
    pub fn answered(&mut self) {
        self.keeping = Keeping::Rests;
    }

    #[inline(never)]
    pub fn forget(&mut self) {
        self.keeping = Keeping::Not;
        match self.bytes.capacity() {
            0..=ROOM => self.bytes.clear(),
            _ => self.bytes = Vec::new(),
        }
        (self.passing, self.closing) = (0, 0);
        (self.prepares, self.is_half_told) = (false, false);
    }

    /// What was in flight is answered by somebody else than the server.
    pub fn lost(&mut self) {
        self.forget();
        self.keeping = Keeping::Rests;
    }

    /// Whether it can be asked for once more after these last words of the server's. `text_of` knows the statements
    /// that the client has prepared before; `is_plain`: that nothing a text names does more than the text says.
    pub fn is_undone<'a>(
        &self,
        fatal: &[u8],
        text_of: impl Fn(&[u8]) -> Option<&'a [u8]>,
        is_plain: impl Fn(&[u8]) -> bool,
    ) -> bool {
        let is_undone = error_field(fatal, field::SQLSTATE).is_some_and(|state| UNDONE.contains(&state));
        self.keeps() && is_undone && !self.is_half_told && repeats(&self.bytes, text_of, is_plain)
    }

    /// The messages, to be shown again.
    pub fn take(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes);
        self.forget();
        self.keeping = match bytes.is_empty() {
            true => Keeping::Rests,
            false => Keeping::Asked,
        };
        bytes.into()
    }

    /// Memory held.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Whether such a message asks for nothing but that something is closed, and for the end of that.
#[inline]
fn only_closes(tag: u8) -> bool {
    matches!(tag, from_client::CLOSE | from_client::FLUSH | from_client::SYNC)
}

/// Whether such a message asks for nothing but that statements come or go, and not for the end of their unit.
#[inline]
fn only_prepares(tag: u8) -> bool {
    matches!(
        tag,
        from_client::PARSE | from_client::DESCRIBE | from_client::CLOSE | from_client::FLUSH
    )
}

/// Whether such an answer says only that a statement is about to be carried out: nothing of it is done yet.
#[inline]
fn acknowledges(tag: u8) -> bool {
    matches!(
        tag,
        from_server::PARSE_COMPLETE
            | from_server::BIND_COMPLETE
            | from_server::PARAMETER_DESCRIPTION
            | from_server::ROW_DESCRIPTION
            | from_server::NO_DATA
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FATAL: &[u8] = b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0";

    const SELECT: (u8, &[u8]) = (b'Q', b"SELECT 1\0");

    fn after(asked: &[(u8, &[u8])]) -> Again {
        let mut again = Again::up_to(60);
        for (at, message) in asked.iter().enumerate() {
            ask(&mut again, *message, at == 0);
        }
        again
    }

    /// It is read by itself.
    fn ask(again: &mut Again, (tag, body): (u8, &[u8]), is_idle: bool) {
        again.asked(tag, body.len(), true, || is_idle);
        again.went_on(&framed(tag, body));
    }

    fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn is_undone(again: &Again, fatal: &[u8]) -> bool {
        again.is_undone(fatal, |_| None, |_| true)
    }

    #[test]
    fn what_the_client_has_heard_nothing_of_is_undone_if_the_server_says_so() {
        assert!(is_undone(&after(&[SELECT]), FATAL));
        for fatal in [&b"C57P02\0\0"[..], b"C57P03\0\0", b"CXX000\0\0", b"\0"] {
            assert!(!is_undone(&after(&[SELECT]), fatal));
        }
        let mut told = after(&[SELECT]);
        told.told(b'C');
        assert!(!is_undone(&told, FATAL) && told.capacity() <= ROOM);
        assert!(!is_undone(&Again::default(), FATAL));
    }

    #[test]
    fn one_unit_outside_of_a_transaction_is_kept() {
        let parse = (b'P', &b"\0SELECT 1\0\0\0"[..]);
        let run = [parse, (b'B', b"\0\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")];
        let unit = [&run[..], &[(b'S', b"")]].concat();
        assert!(is_undone(&after(&run), FATAL) && is_undone(&after(&unit), FATAL));
        for more in [SELECT, parse] {
            assert!(!is_undone(&after(&[&unit[..], &[more]].concat()), FATAL));
            assert!(!is_undone(&after(&[SELECT, more]), FATAL));
        }
        let mut open = Again::up_to(60);
        ask(&mut open, SELECT, false);
        assert!(!is_undone(&open, FATAL));
    }

    const PARSE: (u8, &[u8]) = (b'P', b"\0SELECT 1\0\0\0");
    const STATEMENT: (u8, &[u8]) = (b'C', b"Ss\0");
    const PORTAL: (u8, &[u8]) = (b'C', b"Pp\0");
    const DESCRIBE: (u8, &[u8]) = (b'D', b"S\0");
    const FLUSH: (u8, &[u8]) = (b'H', b"");
    const SYNC: (u8, &[u8]) = (b'S', b"");

    #[test]
    fn units_that_only_close_something_do_not_count() {
        for closing in [
            &[STATEMENT, SYNC][..],
            &[PORTAL, SYNC],
            &[STATEMENT, SYNC, PORTAL, SYNC],
            &[STATEMENT, PORTAL, FLUSH, SYNC],
            &[SYNC],
        ] {
            for unit in [&[SELECT][..], &[PARSE, SYNC], &[STATEMENT, PARSE, SYNC], &[PARSE]] {
                let before = [closing, unit].concat();
                assert!(is_undone(&after(&before), FATAL), "{before:?}");
                let behind = [unit, closing].concat();
                assert!(is_undone(&after(&behind), FATAL), "{behind:?}");
                let two = [closing, &[SELECT], closing, unit].concat();
                assert!(!is_undone(&after(&two), FATAL), "{two:?}");
            }
        }
        // A Query in the middle of a unit is one too many.
        assert!(!is_undone(&after(&[STATEMENT, SELECT]), FATAL));
    }

    #[test]
    fn what_is_closed_is_not_asked_for_again() {
        let closing = [STATEMENT, FLUSH, PORTAL, SYNC, STATEMENT, SYNC];
        let select = b"Q\0\0\0\x0dSELECT 1\0";
        let (last, sync) = (b"C\0\0\0\x07Ss\0", b"S\0\0\0\x04");
        let all = [&last[..], sync, select].concat();
        for (heard, left) in [
            (&b"33Z"[..], all.clone()),
            (b"33", [sync, &all[..]].concat()),
            (b"33Z3", [sync, &select[..]].concat()),
            (b"33Z3Z", select.to_vec()),
        ] {
            // Answers may come before the request that these were sent along with.
            for early in [false, true] {
                let mut again = after(&closing);
                if !early {
                    ask(&mut again, SELECT, false);
                }
                for tag in heard {
                    assert!(!again.told(*tag));
                }
                if early {
                    ask(&mut again, SELECT, false);
                }
                assert!(is_undone(&again, FATAL), "{heard:?}");
                assert_eq!(again.take(), left);
            }
        }
    }

    #[test]
    fn an_answer_to_more_than_a_close_is_one() {
        for heard in [
            &b"Z"[..],
            b"3C",
            b"33",
            b"3ZC",
            b"3ZZ",
            b"3Z3",
            b"E",
            b"N",
            b"S",
            b"1",
        ] {
            let mut again = after(&[STATEMENT, SYNC, SELECT]);
            for tag in heard {
                again.told(*tag);
            }
            assert!(!is_undone(&again, FATAL) && again.bytes.is_empty(), "{heard:?}");
        }
        // Of a unit itself, only what it begins with.
        let mut again = after(&[PARSE, STATEMENT, SYNC]);
        again.told(b'3');
        assert!(!is_undone(&again, FATAL));
        let mut again = after(&[STATEMENT, PARSE, SYNC]);
        again.told(b'3');
        assert!(is_undone(&again, FATAL));
    }

    #[test]
    fn what_is_prepared_before_anything_is_bound_is_not_asked_for_again() {
        let describe = (b'D', &b"Ss\0"[..]);
        let run = [(b'B', &b"\0s\0\0\0\0\0\0\0"[..]), (b'E', b"\0\0\0\0\0"), SYNC];
        let prepare = [PARSE, describe, FLUSH];
        for before in [&[][..], &[STATEMENT, SYNC]] {
            let said = [before, &prepare].concat();
            let closed = if before.is_empty() { &b""[..] } else { b"3Z" };
            for (heard, left) in [(&b""[..], 3), (b"1", 2), (b"1tT", 1), (b"1tn", 1)] {
                let mut again = after(&said);
                for tag in closed.iter().chain(heard) {
                    assert!(!again.told(*tag));
                    again.passed();
                }
                let count = |again: &Again| again.bytes.len();
                assert_eq!(count(&again), count(&after(&prepare[3 - left..])), "{heard:?}");
                assert!(is_undone(&again, FATAL));
                run.iter().for_each(|message| ask(&mut again, *message, false));
                let text_of = |name: &[u8]| (name == b"s").then_some(&b"SELECT 1"[..]);
                assert!(again.is_undone(FATAL, text_of, |_| true), "{heard:?}");
            }
            for heard in [&b"1t"[..], b"12", b"1tTT", b"T", b"1E"] {
                let mut again = after(&said);
                for tag in closed.iter().chain(heard) {
                    again.told(*tag);
                }
                assert!(!is_undone(&again, FATAL), "{heard:?}");
            }
        }
        let mut nothing = after(&[PARSE]);
        nothing.told(b'1');
        assert!(is_undone(&nothing, FATAL) && nothing.take().is_empty());
        ask(&mut nothing, SELECT, true);
        assert!(
            is_undone(&nothing, FATAL),
            "it is as if nothing had been asked for"
        );
    }

    #[test]
    fn what_is_acknowledged_was_heard_as_soon_as_it_has_gone_on() {
        for gone_on in [false, true] {
            let mut again = after(&[PARSE, SYNC]);
            assert!(again.told(b'1') && !again.told(b't') && !again.told(b'T'));
            if gone_on {
                again.passed();
            }
            assert_eq!(again.takes_back(), !gone_on);
            again.passed();
            assert_eq!(is_undone(&again, FATAL), !gone_on);
        }
        for answer in [b'C', b's', b'I', b'N', b'3', b'Z'] {
            let mut again = after(&[PARSE, SYNC]);
            again.told(b'1');
            assert!(!again.told(answer) && !again.takes_back() && !is_undone(&again, FATAL));
        }
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let long = [b"SELECT '", &[b'x'; 60][..], b"'\0"].concat();
        let again = after(&[(b'Q', &long)]);
        assert!(!is_undone(&again, FATAL) && again.capacity() == 0);
        let mut cut = Again::up_to(60);
        cut.asked(SELECT.0, SELECT.1.len(), false, || true);
        assert!(!is_undone(&cut, FATAL));
        let mut off = Again::up_to(0);
        ask(&mut off, SELECT, true);
        assert!(!is_undone(&off, FATAL) && off.capacity() == 0);
    }

    #[test]
    fn of_what_is_read_at_once_the_unit_is_kept() {
        // Somebody else's answer was left out, and something passed before.
        let mut again = Again::up_to(60);
        let unit = [PARSE, DESCRIBE, SYNC]
            .map(|(tag, body)| framed(tag, body))
            .concat();
        for (at, (tag, body)) in [PARSE, DESCRIBE, SYNC].iter().enumerate() {
            again.asked(*tag, body.len(), true, || at == 0);
        }
        again.went_on(&[&framed(b'f', b"no\0"), &unit[..]].concat());
        assert!(is_undone(&again, FATAL));
        assert_eq!(again.take(), unit);
    }

    #[test]
    fn a_large_unit_leaves_no_room_behind() {
        let mut again = Again::up_to(10_000);
        let large = [b'x'; 1000];
        ask(&mut again, (b'Q', &large), true);
        assert!(again.capacity() > ROOM);
        again.told(b'C');
        assert_eq!(again.capacity(), 0);
    }

    #[test]
    fn nothing_is_asked_for_twice_until_something_is_answered() {
        let mut again = after(&[SELECT]);
        assert_eq!(again.take(), &b"Q\0\0\0\x0dSELECT 1\0"[..]);
        ask(&mut again, SELECT, true);
        again.told(b'C');
        assert!(!is_undone(&again, FATAL));
        again.answered();
        ask(&mut again, SELECT, true);
        assert!(is_undone(&again, FATAL));
    }
}
