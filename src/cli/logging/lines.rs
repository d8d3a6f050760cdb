//! Log lines on their way out. A thread of its own writes them: whoever reads the log may stall, and then lines are lost,
//! and counted, but nobody who has something to say waits.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::lock::lock;

/// What waits to be written. Some thousands of lines: a burst passes, a reader that stalls costs no more than this.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Room that is kept when a burst is over.
const KEPT_BYTES: usize = 64 << 10;

#[derive(Clone)]
pub(in crate::cli) struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    more: Condvar,
    /// Everything is written.
    done: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    lines: u64,
    is_writing: bool,
    /// Dropped since it was last said.
    unsaid: u64,
}

impl Lines {
    /// Writes to a copy of this stream from now on.
    pub(in crate::cli) fn to(stream: impl AsFd) -> io::Result<Self> {
        let out = File::from(stream.as_fd().try_clone_to_owned()?);
        let lines = Self(Arc::new(Shared {
            waiting: Mutex::default(),
            more: Condvar::new(),
            done: Condvar::new(),
            dropped: Arc::default(),
        }));
        let shared = Arc::clone(&lines.0);
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || shared.write_for_ever(out))?;
        Ok(lines)
    }

    /// How many lines nobody will read, so far.
    pub(in crate::cli) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.dropped)
    }

    /// Waits until everything is written, but no longer than this.
    pub(in crate::cli) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut waiting = self.0.waiting();
        while waiting.is_writing || !waiting.bytes.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.done.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            waiting.unsaid += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes.extend_from_slice(line);
        waiting.lines += 1;
        if !waiting.is_writing {
            self.more.notify_one();
        }
    }

    fn write_for_ever(&self, mut out: File) {
        let mut bytes = Vec::new();
        loop {
            let lines = self.take(&mut bytes);
            let written = write_all(&mut out, &bytes);
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
            let unsaid = self.written(lines, written.is_ok());
            if unsaid > 0 {
                warn!(
                    lines = unsaid,
                    "log lines were dropped: whoever reads the log did not keep up"
                );
            }
        }
    }

    /// Waits for something to write, and how many lines it is.
    fn take(&self, bytes: &mut Vec<u8>) -> u64 {
        let mut waiting = self.waiting();
        while waiting.bytes.is_empty() {
            waiting.is_writing = false;
            self.done.notify_all();
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_writing = true;
        std::mem::swap(&mut waiting.bytes, bytes);
        std::mem::take(&mut waiting.lines)
    }

    /// How many were dropped that nobody has heard of, if they can be told of now.
    fn written(&self, lines: u64, is_well: bool) -> u64 {
        let mut waiting = self.waiting();
        if is_well {
            return std::mem::take(&mut waiting.unsaid);
        }
        waiting.unsaid += lines;
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        0
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

/// Waits for as long as it takes. A stream that somebody else set not to block is one that blocks here.
fn write_all(out: &mut (impl Write + AsFd), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let fd = out.as_fd();
                poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One event is one write.
pub(in crate::cli) struct Line<'a>(&'a Shared);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use super::*;

    const LINE: &[u8] = b"0123456789012345678901234567890123456789012345678901234567890123\n";
    const LONG: Duration = Duration::from_secs(20);

    fn stalled() -> (PipeReader, Lines) {
        let (reader, writer) = pipe().unwrap();
        (reader, Lines::to(writer).unwrap())
    }

    fn say(lines: &Lines, count: usize) {
        for _ in 0..count {
            lines.make_writer().write_all(LINE).unwrap();
        }
    }

    fn dropped(lines: &Lines) -> u64 {
        lines.dropped().load(Ordering::Relaxed)
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_costs_lines_that_are_counted() {
        let (mut reader, lines) = stalled();
        let said = 100_000;
        say(&lines, said);
        assert!(dropped(&lines) > 0);
        let began = Instant::now();
        lines.flush(Duration::from_millis(50));
        assert!(began.elapsed() < LONG, "the end does not wait for the reader");
        // It reads again: what waited is whole lines, and with those that were dropped it is all that was said.
        let mut read = 0;
        let expected = said - usize::try_from(dropped(&lines)).unwrap();
        let mut line = vec![0; LINE.len()];
        while read < expected {
            reader.read_exact(&mut line).unwrap();
            assert_eq!(line, LINE);
            read += 1;
        }
        lines.flush(LONG);
        assert!(lines.0.waiting().bytes.is_empty());
    }

    #[test]
    fn everything_is_written_before_the_end_when_somebody_reads() {
        let (mut reader, lines) = stalled();
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map(|_| text.len())
        });
        say(&lines, 10_000);
        lines.flush(LONG);
        assert_eq!(dropped(&lines), 0);
        let waiting = lines.0.waiting();
        assert!(waiting.bytes.is_empty() && !waiting.is_writing);
        drop(waiting);
        drop(reading);
    }

    #[test]
    fn a_reader_that_is_gone_stops_nothing() {
        let (reader, lines) = stalled();
        drop(reader);
        say(&lines, 10);
        lines.flush(LONG);
        assert_eq!(dropped(&lines), 10);
    }

    #[test]
    fn a_stream_that_does_not_block_loses_nothing_while_it_is_read() {
        let (mut reader, writer) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let lines = Lines::to(writer).unwrap();
        say(&lines, 2000);
        let mut text = vec![0; 2000 * LINE.len()];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(dropped(&lines), 0);
    }
}
