//! A wire between pgswivel and a server that can be cut after any message of any session's links.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nothing that is said here is longer.
const MESSAGE_MAX: usize = 1 << 20;

/// Where a session's wire is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub link: Which,
    /// Whose messages are counted.
    pub from: Side,
    /// So many of them arrive; of a link that is there, from now on.
    pub after: usize,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that the session is on.
    Old,
    /// The one that it opens next.
    New,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Pgswivel,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Both ends hear of it.
    Close,
    /// Nothing passes any more.
    Silence,
}

pub struct Severing {
    address: SocketAddr,
    plan: Plan,
    accepting: JoinHandle<()>,
}

/// What is to be cut, by the application name of the session.
#[derive(Clone, Default)]
struct Plan(Arc<Mutex<HashMap<String, Fate>>>);

#[derive(Default)]
struct Fate {
    cut: Option<Cut>,
    /// How many links the session had when the cut was planned.
    links_before: usize,
    links: usize,
    counted: usize,
}

/// One of a session's links, the first of which has the number 1.
#[derive(Clone)]
struct Link {
    session: String,
    number: usize,
    plan: Plan,
    cut: watch::Sender<Option<How>>,
}

impl Severing {
    /// Before a server on this port of loopback.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Plan::default();
        let plans = plan.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await;
                if let Ok(far) = far {
                    tokio::spawn(connect(near, far, plans.clone()));
                }
            }
        });
        Self {
            address,
            plan,
            accepting,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn plan(&self, session: &str, cut: Cut) {
        let mut plan = self.plan.lock();
        let fate = plan.entry(session.to_owned()).or_default();
        fate.cut = Some(cut);
        fate.links_before = fate.links;
        fate.counted = 0;
    }

    /// Nothing is cut any more; what would have been.
    pub fn give_up(&self) -> Vec<Cut> {
        let mut plan = self.plan.lock();
        plan.values_mut().filter_map(|fate| fate.cut.take()).collect()
    }
}

impl Drop for Severing {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Plan {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Fate>> {
        self.0.lock().unwrap()
    }
}

impl Link {
    fn of(session: String, plan: Plan) -> Self {
        let mut fates = plan.lock();
        let fate = fates.entry(session.clone()).or_default();
        fate.links += 1;
        let number = fate.links;
        drop(fates);
        Self {
            session,
            number,
            plan,
            cut: watch::Sender::new(None),
        }
    }

    /// A message of this side has passed, or none yet.
    fn passed(&self, from: Side, count: usize) {
        let mut plan = self.plan.lock();
        let fate = plan.get_mut(&self.session).expect("every link has a session");
        let Some(cut) = fate.cut else {
            return;
        };
        let number = match cut.link {
            Which::Old => fate.links_before,
            Which::New => fate.links_before + 1,
        };
        if number != self.number || cut.from != from {
            return;
        }
        fate.counted += count;
        if fate.counted >= cut.after {
            fate.cut = None;
            self.cut.send_replace(Some(cut.how));
        }
    }

    fn is_cut(&self) -> bool {
        self.cut.borrow().is_some()
    }

    async fn is_closed(&self) {
        let mut cut = self.cut.subscribe();
        // Its sender is here.
        let _ = cut.wait_for(|cut| *cut == Some(How::Close)).await;
    }
}

/// Passes on what both sides say, message by message.
async fn connect(mut near: TcpStream, mut far: TcpStream, plan: Plan) {
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    let Ok(startup) = packet(&mut near).await else {
        return;
    };
    let link = Link::of(application_name(&startup), plan);
    for side in [Side::Pgswivel, Side::Server] {
        link.passed(side, 0);
    }
    if link.is_cut() || far.write_all(&startup).await.is_err() {
        return;
    }
    let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
    let up = pass(near_reads, far_writes, Side::Pgswivel, link.clone());
    let down = pass(far_reads, near_writes, Side::Server, link.clone());
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        () = link.is_closed() => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    side: Side,
    link: Link,
) -> std::io::Result<()> {
    let mut message = Vec::new();
    loop {
        let mut header = [0; 5];
        if from.read_exact(&mut header).await.is_err() {
            return to.shutdown().await;
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        assert!((4..MESSAGE_MAX).contains(&length), "a message of {length} bytes");
        message.clear();
        message.extend_from_slice(&header);
        message.resize(length + 1, 0);
        from.read_exact(&mut message[5..]).await?;
        if link.is_cut() {
            continue;
        }
        to.write_all(&message).await?;
        // What others say comes at any time, and is no part of a conversation.
        if header[0] != b'A' {
            link.passed(side, 1);
        }
    }
}

/// The one without a tag.
async fn packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut packet = length.to_be_bytes().to_vec();
    packet.resize(length as usize, 0);
    stream.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// Empty: none.
fn application_name(startup: &[u8]) -> String {
    let mut words = startup[8..].split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name == b"application_name" {
            return String::from_utf8_lossy(value).into_owned();
        }
    }
    String::new()
}
