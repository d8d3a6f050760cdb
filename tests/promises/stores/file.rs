use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use pgswivel::config::Source;
use pgswivel::credentials::Position;
use pgswivel::stores::Store;
use tempfile::TempDir;

use super::contract::{self, Fault, Habitable, Login, World, leading, read};
use crate::support::swivel::Unstarted;
use crate::support::{PATIENCE, within};

/// One file, replaced by rename as a careful writer does.
pub struct OneFile {
    directory: TempDir,
    login: Cell<Login>,
}

impl OneFile {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            login: Cell::new(Login(0)),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("orders.json")
    }

    fn replace(&self, bytes: &[u8]) {
        let beside = self.directory.path().join(".new");
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(beside, self.path()).unwrap();
    }
}

impl World for OneFile {
    fn open(&self) -> Box<dyn Store> {
        super::open(Source::File { path: self.path() })
    }

    async fn put(&self, login: Login) {
        self.login.set(login);
        self.replace(login.json().as_bytes());
    }

    async fn harm(&self, fault: Fault) {
        match fault.payload() {
            Some(payload) => self.replace(&payload),
            None => std::fs::remove_file(self.path()).unwrap(),
        }
    }

    async fn heal(&self) {
        self.put(self.login.get()).await;
    }
}

/// A volume as the kubelet mounts it: files are links through `..data`, which is swapped.
pub struct Volume {
    directory: TempDir,
    login: Cell<Login>,
    moment: Cell<u32>,
}

impl Volume {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["username", "password"] {
            symlink(format!("..data/{name}"), directory.path().join(name)).unwrap();
        }
        Self {
            directory,
            login: Cell::new(Login(0)),
            moment: Cell::new(0),
        }
    }

    fn swap(&self, files: &[(&str, &[u8])]) {
        let root = self.directory.path();
        let moment = self.moment.get() + 1;
        self.moment.set(moment);
        let before = std::fs::read_link(root.join("..data")).ok();
        let name = format!("..{moment}");
        std::fs::create_dir(root.join(&name)).unwrap();
        for (file, bytes) in files {
            std::fs::write(root.join(&name).join(file), bytes).unwrap();
        }
        symlink(&name, root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if let Some(before) = before {
            std::fs::remove_dir_all(root.join(before)).unwrap();
        }
    }
}

impl World for Volume {
    fn open(&self) -> Box<dyn Store> {
        let path = self.directory.path().to_owned();
        super::open(Source::File { path })
    }

    async fn put(&self, login: Login) {
        self.login.set(login);
        let (user, password) = (login.user(), login.password() + "\n");
        self.swap(&[("username", user.as_bytes()), ("password", password.as_bytes())]);
    }

    async fn harm(&self, fault: Fault) {
        match fault {
            Fault::Large => {
                let large = contract::large();
                self.swap(&[("username", b"app"), ("password", large.as_bytes())]);
            }
            Fault::Garbage => self.swap(&[("username", b"\xff\xfe"), ("password", b"x")]),
            Fault::Partial => self.swap(&[("username", b"app"), ("password", b"")]),
            Fault::Missing => self.swap(&[("username", b"app")]),
            fault => panic!("a volume can't be {fault:?}"),
        }
    }

    async fn heal(&self) {
        self.put(self.login.get()).await;
    }
}

impl Habitable for OneFile {
    fn settle(&self, swivel: Unstarted) -> Unstarted {
        swivel.store("file", self.path().to_str().unwrap())
    }
}

impl Habitable for Volume {
    fn settle(&self, swivel: Unstarted) -> Unstarted {
        swivel.store("file", self.directory.path().to_str().unwrap())
    }
}

const FILE_FAULTS: [Fault; 5] = [
    Fault::Missing,
    Fault::Empty,
    Fault::Garbage,
    Fault::Partial,
    Fault::Large,
];

#[tokio::test]
async fn a_file_keeps_the_contract() {
    let world = OneFile::new();
    contract::gives_what_is_there_and_names_it_stably(&world).await;
    contract::says_what_is_wrong_and_recovers(&world, &FILE_FAULTS).await;
    contract::tells_when_it_was_made(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_never_mixed_from_two_values() {
    contract::never_mixes_two_values(&OneFile::new(), 500).await;
}

#[tokio::test]
async fn a_mounted_volume_keeps_the_contract() {
    let world = Volume::new();
    let faults = [Fault::Missing, Fault::Garbage, Fault::Partial, Fault::Large];
    contract::gives_what_is_there_and_names_it_stably(&world).await;
    contract::says_what_is_wrong_and_recovers(&world, &faults).await;
    contract::tells_when_it_was_made(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_volume_is_never_mixed_from_two_values() {
    contract::never_mixes_two_values(&Volume::new(), 500).await;
}

async fn notices(store: &mut dyn Store, what: &str) {
    within(PATIENCE, what, store.changed()).await;
}

#[tokio::test]
async fn a_file_that_changes_in_any_way_is_noticed() {
    let world = OneFile::new();
    let mut store = world.open();
    assert_eq!(contract_label(&mut *store).await, "missing");

    world.put(Login(1)).await;
    notices(&mut *store, "the file appears").await;
    assert_eq!(leading(&read(&mut *store).await), 1);

    world.put(Login(2)).await;
    notices(&mut *store, "the file is replaced").await;
    assert_eq!(leading(&read(&mut *store).await), 2);

    let (written, ()) = tokio::join!(
        async { std::fs::write(world.path(), Login(3).json()) },
        notices(&mut *store, "the file is written in place"),
    );
    written.unwrap();
    assert_eq!(leading(&read(&mut *store).await), 3);

    std::fs::remove_file(world.path()).unwrap();
    symlink("elsewhere.json", world.path()).unwrap();
    std::fs::write(world.directory.path().join("elsewhere.json"), Login(4).json()).unwrap();
    notices(&mut *store, "the file becomes a link").await;
    assert_eq!(leading(&read(&mut *store).await), 4);
}

#[tokio::test]
async fn a_volume_that_is_swapped_is_noticed() {
    let world = Volume::new();
    world.put(Login(1)).await;
    let mut store = world.open();
    assert_eq!(leading(&read(&mut *store).await), 1);
    for number in 2..5 {
        let ((), ()) = tokio::join!(
            world.put(Login(number)),
            notices(&mut *store, "the volume is swapped")
        );
        assert_eq!(leading(&read(&mut *store).await), number);
    }
}

/// The kubelet may take the whole directory away and mount another.
#[tokio::test]
async fn a_directory_that_is_made_anew_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mounted/orders.json");
    let write = |login: Login| {
        std::fs::create_dir(root.path().join("mounted")).unwrap();
        std::fs::write(&path, login.json()).unwrap();
    };
    write(Login(1));
    let mut store = super::open(Source::File { path: path.clone() });
    assert_eq!(leading(&read(&mut *store).await), 1);

    std::fs::remove_dir_all(root.path().join("mounted")).unwrap();
    notices(&mut *store, "the directory goes").await;
    assert_eq!(contract_label(&mut *store).await, "missing");

    write(Login(2));
    notices(&mut *store, "the directory is back").await;
    assert_eq!(leading(&read(&mut *store).await), 2);
}

async fn contract_label(store: &mut dyn Store) -> &'static str {
    pgswivel::stores::read(store).await.unwrap_err().label()
}

#[tokio::test]
async fn what_is_no_file_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut store = super::open(Source::File { path: fifo });
    let error = within(
        PATIENCE,
        "an answer about a FIFO",
        pgswivel::stores::read(&mut *store),
    )
    .await;
    assert_eq!(error.unwrap_err().label(), "failed");
}

#[tokio::test]
async fn dotenv_text_gives_current_and_next_by_their_names() {
    use pgswivel::config::{FieldPair, Fields};
    use pgswivel::stores::{self, DigestKey, Surroundings};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.env");
    std::fs::write(
        &path,
        "# orders\nexport DB_USER=app\r\nDB_PASS_CURRENT='a b'\nDB_PASS_NEXT=\"c\\\"d\" # soon\n",
    )
    .unwrap();
    let pair = |password: &str| FieldPair {
        user: "DB_USER".to_owned(),
        password: password.to_owned(),
    };
    let fields = Fields {
        current: pair("DB_PASS_CURRENT"),
        next: Some(pair("DB_PASS_NEXT")),
        previous: None,
    };
    let around = Surroundings {
        endpoints: &[],
        digests: &DigestKey::random(),
    };
    let secret = super::secret(Source::File { path }, Some(fields));
    let mut store = stores::open(&secret, around).unwrap();
    let reading = read(&mut *store).await;
    let found: Vec<_> = reading
        .credentials
        .iter()
        .map(|credential| (credential.position, credential.password.expose()))
        .collect();
    assert_eq!(
        found,
        [(Position::Current, &b"a b"[..]), (Position::Next, &b"c\"d"[..])]
    );
}
