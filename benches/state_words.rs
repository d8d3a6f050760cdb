//! What it costs to read one statement text, by its kind and by how many names were learned.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pgswivel::postgres::wire::state_words::{Vocabulary, tag_signals};

const TEXTS: [(&str, &str); 5] = [
    ("ping", "select 1"),
    (
        "select",
        "SELECT id, name, email, created_at FROM customers WHERE region = $1 AND active AND id > $2 LIMIT 50",
    ),
    (
        "update",
        "UPDATE accounts SET balance = balance + $1, updated_at = now() WHERE id = $2 AND tenant = $3 RETURNING id",
    ),
    (
        "object mapper",
        r#"SELECT "users"."id" AS t0_r0, "users"."email" AS t0_r1, "users"."name" AS t0_r2, "posts"."id" AS t1_r0,
        "posts"."title" AS t1_r1, "posts"."body" AS t1_r2 FROM "users" LEFT OUTER JOIN "posts"
        ON "posts"."user_id" = "users"."id" WHERE "users"."active" = $1 ORDER BY "users"."id" ASC LIMIT $2"#,
    ),
    ("set_config", "SELECT set_config('app.tenant', $1, false)"),
];

const ROUNDS: u32 = 500;
const READS: u32 = 200;

fn main() {
    for learned in [0, 20, 100, 1000] {
        let names: Vec<String> = (0..learned).map(|n| format!("apply_rule_{n}")).collect();
        let vocabulary = Vocabulary::new(names.iter().map(String::as_str));
        for (kind, text) in TEXTS {
            let best = best(|| _ = black_box(vocabulary.read(black_box(text.as_bytes()))));
            let bytes = text.len();
            println!("{learned:4} names learned, {kind} ({bytes} bytes): {best:.0} ns");
        }
    }
    let tag = best(|| _ = black_box(tag_signals(black_box(b"INSERT 0 1\0"))));
    println!("a tag: {tag:.1} ns");
}

/// The best of many rounds, in nanoseconds a call: what else runs on the machine only adds.
fn best(mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..READS {
            call();
        }
        start.elapsed()
    };
    let best = (0..ROUNDS).map(round).min().unwrap_or(Duration::ZERO);
    best.as_secs_f64() * 1e9 / f64::from(READS)
}
