mod complaint;
mod write;

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use self::write::writable as writable_command;
use super::{
    Calls, DigestKey, Operation, PAYLOAD_BYTES_MAX, Reading, Said, Store, StoreError, StoreFuture, Unsuitable,
};
use crate::config::Fields;

/// A program that prints a payload and exits with 0. No shell is involved.
pub struct CommandStore {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
    fields: Option<Fields>,
    digests: DigestKey,
    calls: Arc<Calls>,
}

/// What is looked at of what a program complains in one run; the rest is read and dropped.
const STDERR_BYTES_MAX: u64 = 4096;

/// Who was started by a program that has ended may hold its output open for ever. What the program wrote itself is there
/// to be read by then.
const LEFT_OPEN_MAX: Duration = Duration::from_secs(1);

impl CommandStore {
    pub fn new(
        argv: Vec<String>,
        timeout: Duration,
        fields: Option<Fields>,
        digests: DigestKey,
    ) -> Result<Self, StoreError> {
        let mut argv = argv.into_iter();
        Ok(Self {
            program: argv.next().ok_or(StoreError::Unsuitable(Unsuitable::NoProgram))?,
            arguments: argv.collect(),
            timeout,
            fields,
            digests,
            calls: Arc::default(),
        })
    }

    async fn take(&self) -> Result<Reading, StoreError> {
        let stdout = self.output(None).await?;
        super::digested(&stdout, self.fields.as_ref(), &self.digests)
    }

    /// What the program prints when it is given this to read, and is content.
    async fn output(&self, input: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        self.calls.count(Operation::RunCommand);
        let (status, stdout) = self.run(input).await?;
        match status.success() {
            true => Ok(stdout),
            false => Err(StoreError::Failed(Said::new(format_args!(
                "{}: {status}",
                self.program
            )))),
        }
    }

    async fn run(&self, input: Option<&[u8]>) -> Result<(ExitStatus, Zeroizing<Vec<u8>>), StoreError> {
        let mut running = self.spawn(input).map_err(|error| self.failure(&error))?;
        let (stdout, stderr) = (running.child.stdout.take(), running.child.stderr.take());
        let stdin = running.child.stdin.take();
        let mut answer = Zeroizing::new(Vec::with_capacity(4096));
        let mut complaint = Vec::new();
        let (status, read) = {
            let answered = read_up_to(stdout, PAYLOAD_BYTES_MAX as u64 + 1, &mut answer);
            let complained = read_and_drop_rest(stderr, &mut complaint);
            let given = async {
                if let (Some(mut stdin), Some(input)) = (stdin, input) {
                    // One that does not read what it is given says by its exit code whether that was right.
                    let _ = stdin.write_all(input).await;
                }
            };
            let mut heard = pin!(async { tokio::join!(answered, complained, given).0 });
            tokio::select! {
                read = &mut heard => (running.child.wait().await, read),
                status = running.child.wait() => {
                    let read = timeout(LEFT_OPEN_MAX, heard).await;
                    (status, read.unwrap_or(Ok(())))
                }
            }
        };
        read.map_err(|error| self.failure(&error))?;
        if answer.len() > PAYLOAD_BYTES_MAX {
            return Err(StoreError::TooLarge {
                limit: PAYLOAD_BYTES_MAX,
            });
        }
        let status = status.map_err(|error| self.failure(&error))?;
        running.ended = true;
        self.say(&complaint, status);
        Ok((status, answer))
    }

    fn say(&self, complaint: &[u8], status: ExitStatus) {
        if complaint.is_empty() {
            return;
        }
        let about = complaint::hints(complaint).join(", ");
        tracing::warn!(
            program = self.program, %status, about, bytes = complaint.len(),
            "the secret command complained: its words may hold a secret and are not logged, run it by hand to read them"
        );
    }

    fn spawn(&self, input: Option<&[u8]>) -> io::Result<Running> {
        let stdin = match input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Running { child, ended: false })
    }

    fn failure(&self, error: &io::Error) -> StoreError {
        let said = Said::new(format_args!("{}: {error}", self.program));
        match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(said),
            io::ErrorKind::PermissionDenied => StoreError::Denied(said),
            _ => StoreError::Failed(said),
        }
    }
}

impl Store for CommandStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.take())
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    fn read_time_max(&self) -> Duration {
        self.timeout
    }
}

/// A program with whatever it started: all of it goes when nobody waits for it any more.
struct Running {
    child: Child,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let leader = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let (false, Some(leader)) = (self.ended, leader) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn read_up_to(from: Option<impl AsyncRead + Unpin>, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    if let Some(from) = from {
        from.take(limit).read_to_end(bytes).await?;
    }
    Ok(())
}

/// A program that complains without end is heard to its end, so that it never blocks on a full pipe.
async fn read_and_drop_rest(from: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    if let Some(mut from) = from {
        let heard = (&mut from).take(STDERR_BYTES_MAX).read_to_end(bytes).await;
        if heard.is_ok() {
            let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        }
    }
}
