//! The page, in a real browser.

use crate::support::admin::ask;
use crate::support::browser::Browser;
use crate::support::{Postgres, Swivel, eventually};

fn url(swivel: &Swivel) -> String {
    format!("http://127.0.0.1:{}/", swivel.admin_port())
}

async fn ready(postgres: &Postgres) -> Swivel {
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(postgres)
        .secret_line("grace = \"1s\"")
        .start()
        .await;
    eventually("it is ready", async || {
        ask(&swivel, "GET /readyz").await.status == 200
    })
    .await;
    swivel
}

/// True if an element that this selects has these words.
fn says(selector: &str, words: &str) -> String {
    format!("[...document.querySelectorAll('{selector}')].some(one => one.textContent.includes('{words}'))")
}

#[tokio::test]
async fn the_page_follows_a_rotation() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let postgres = Postgres::start(18);
    let swivel = ready(&postgres).await;
    let client = swivel.connect().await;
    client.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
    browser.open(&url(&swivel)).await;
    browser.shows(&says(".words", "new sessions use orders_v1")).await;
    browser.evaluate("window.opened = 'once'").await;
    swivel.write_secret("orders_v2", "second");
    browser.shows(&says(".steps .now", "sessions moving")).await;
    browser.shows(&says("td", "temporary objects")).await;
    client.batch_execute("DROP TABLE t").await.unwrap();
    browser.shows(&says(".steps .now", "safe to revoke")).await;
    browser
        .shows(&says(".words", "safe to revoke: nothing here uses orders_v1"))
        .await;
    browser
        .shows("document.querySelectorAll('polygon').length === 2")
        .await;
    browser
        .shows(&says(".events td", "leading: new sessions use it"))
        .await;
    assert_eq!(
        browser.evaluate("window.opened").await,
        "once",
        "it was loaded again"
    );
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// What is long gone does not stand before what is in use, and whoever looks at it is not interrupted.
#[tokio::test]
async fn what_is_gone_is_folded_and_stays_open_for_who_unfolds_it() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let postgres = Postgres::start(18);
    let swivel = ready(&postgres).await;
    browser.open(&url(&swivel)).await;
    swivel.write_secret("orders_v2", "second");
    browser.shows(&says("details td", "orders_v1")).await;
    browser
        .shows(&says(".cards:not(details .cards) td", "orders_v2"))
        .await;
    browser.shows(&says(".rotations li", "orders_v2")).await;
    browser
        .evaluate(
            "document.querySelector('details').open = true; window.before = document.querySelector('details')",
        )
        .await;
    browser
        .shows(
            "window.before !== document.querySelector('details') && document.querySelector('details').open",
        )
        .await;
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Some short cell of a table is higher than one line.
const BREAKS_A_WORD: &str = "[...document.querySelectorAll('.cards th, .cards td')] \
    .filter(cell => !cell.textContent.trim().includes(' ')) \
    .some(cell => { const words = document.createRange(); words.selectNodeContents(cell); \
        return words.getBoundingClientRect().height > 30; })";

#[tokio::test]
async fn the_page_fits_phones_and_desks_by_day_and_by_night() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let postgres = Postgres::start(18);
    let swivel = ready(&postgres).await;
    let mut grounds = Vec::new();
    for width in [390, 1280] {
        for scheme in ["light", "dark"] {
            browser.looks(width, scheme).await;
            browser.open(&url(&swivel)).await;
            let root = "document.documentElement";
            let fits = format!("{root}.scrollWidth <= {root}.clientWidth");
            assert_eq!(browser.evaluate(&fits).await, true, "{width} {scheme}");
            assert_eq!(browser.evaluate(BREAKS_A_WORD).await, false, "{width} {scheme}");
            let ground = browser
                .evaluate("getComputedStyle(document.body).backgroundColor")
                .await;
            grounds.push(ground);
        }
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(grounds[..2], grounds[2..]);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[tokio::test]
async fn the_page_is_whole_without_a_script_and_loads_nothing_else() {
    let postgres = Postgres::start(18);
    let swivel = ready(&postgres).await;
    let _client = swivel.connect().await;
    let answer = ask(&swivel, "GET /").await;
    assert!(answer.head.contains("content-type: text/html"));
    assert!(
        answer
            .head
            .contains("content-security-policy: default-src 'none'; ")
    );
    let html = answer.body;
    for words in [
        "<noscript><meta http-equiv=\"refresh\"",
        "new sessions use orders_v1",
        ">ready<",
        "<table",
        "sessions by credential",
    ] {
        assert!(html.contains(words), "{words:?} is not in:\n{html}");
    }
    for elsewhere in ["src=", "://", "url(", "@import"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    browser.without_scripts().await;
    browser.open(&url(&swivel)).await;
    browser.shows(&says("td", "orders_v1")).await;
    // It comes again by itself, as a new document.
    browser.evaluate("window.opened = 'once'").await;
    browser.shows("window.opened === undefined").await;
    browser.shows(&says(".words", "new sessions use orders_v1")).await;
}

/// Names come from a configuration and from stores: somebody may want them to be more than names.
#[tokio::test]
async fn nothing_that_is_shown_becomes_markup() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .credential("<img src=x onerror=alert(1)>", "\"'><script>")
        .start()
        .await;
    eventually("it is shown", async || {
        let html = ask(&swivel, "GET /").await.body;
        html.contains("&lt;img src=x onerror=alert(1)&gt;")
    })
    .await;
    assert!(!ask(&swivel, "GET /").await.body.contains("<img"));
}
