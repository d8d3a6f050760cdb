//! The page, in a real browser.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::admin::ask;
use crate::support::{Postgres, Swivel, eventually, temporary_directory};

/// Programs of browsers that understand these flags.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

fn browser() -> Option<PathBuf> {
    let found = BROWSERS.iter().find(|program| {
        let mut ask = Command::new(program);
        let asked = ask.arg("--version").stdout(Stdio::null());
        asked
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    if found.is_none() {
        eprintln!("SKIPPED: no Chromium; tests/setup browser installs it where it can");
    }
    found.map(PathBuf::from)
}

/// The document after the browser has had it for so many milliseconds, and what it complained of.
async fn shown(browser: PathBuf, swivel: &Swivel, milliseconds: u32, more: &[&str]) -> (String, String) {
    let profile = temporary_directory();
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--v=0", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--timeout={milliseconds}"))
        .args(more)
        .arg(format!("http://127.0.0.1:{}/", swivel.admin_port()));
    let output = tokio::task::spawn_blocking(move || command.output());
    let Output { stdout, stderr, .. } = output.await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&stdout), text(&stderr))
}

async fn rotating(postgres: &Postgres) -> Swivel {
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(postgres)
        .secret_line("grace = \"1s\"")
        .section("[log]\nlevel = \"debug\"")
        .start()
        .await;
    eventually("it is ready", async || {
        ask(&swivel, "GET /readyz").await.status == 200
    })
    .await;
    swivel
}

#[tokio::test]
async fn the_page_follows_a_rotation_in_a_browser() {
    let Some(browser) = browser() else { return };
    let postgres = Postgres::start(18);
    let swivel = rotating(&postgres).await;
    let client = swivel.connect().await;
    client.batch_execute("SELECT 1").await.unwrap();
    let looked = shown(browser, &swivel, 8000, &[]);
    let rotated = async {
        // The browser has the page as it was before; what asks again is the script in it.
        eventually("the script asks for the page", async || {
            swivel.said("\"path\":\"/\"") > 1
        })
        .await;
        swivel.write_secret("orders_v2", "second");
    };
    let ((html, complaints), ()) = tokio::join!(looked, rotated);
    assert!(
        html.contains("safe to revoke: nothing here uses orders_v1"),
        "{html}"
    );
    assert!(html.contains("class=\"now good\"><span>safe to revoke"), "{html}");
    assert!(html.contains("leading: new sessions use it") && html.contains("<polygon"));
    assert!(!complaints.contains("Content Security Policy"), "{complaints}");
    assert!(!complaints.contains("CONSOLE"), "{complaints}");
}

#[tokio::test]
async fn the_page_is_whole_without_a_script_and_loads_nothing_else() {
    let postgres = Postgres::start(18);
    let swivel = rotating(&postgres).await;
    let _client = swivel.connect().await;
    let answer = ask(&swivel, "GET /").await;
    assert!(answer.head.contains("content-type: text/html"));
    assert!(
        answer
            .head
            .contains("content-security-policy: default-src 'none'; ")
    );
    let html = answer.body;
    assert!(html.contains("<noscript><meta http-equiv=\"refresh\""));
    for words in [
        "orders_v1",
        "new sessions use orders_v1",
        ">ready<",
        "<table",
        "Sessions by credential",
    ] {
        assert!(html.contains(words), "{words:?} is not in:\n{html}");
    }
    for elsewhere in ["src=", "://", "url(", "@import"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    let Some(browser) = browser() else { return };
    let (html, complaints) = shown(browser, &swivel, 1000, &["--blink-settings=scriptEnabled=false"]).await;
    assert!(html.contains("new sessions use orders_v1"), "{html}");
    assert!(!complaints.contains("Content Security Policy"), "{complaints}");
}

/// Names come from a configuration and from stores: somebody may want them to be more than names.
#[tokio::test]
async fn nothing_that_is_shown_becomes_markup() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .credential("<img src=x onerror=alert(1)>", "\"'><script>")
        .start()
        .await;
    eventually("it is refused", async || {
        ask(&swivel, "GET /")
            .await
            .body
            .contains("&lt;img src=x onerror=alert(1)&gt;")
    })
    .await;
    assert!(!ask(&swivel, "GET /").await.body.contains("<img"));
}
