//! What clients may say, short enough to be cut everywhere.

use super::Say;
use super::Say::{Bind, Close, Data, Done, Execute, Flush, Function, Parse, Query, Sync};

/// What clients say in one go; then they wait for the answers.
pub type Flight = Vec<Say>;

fn q(texts: &[&'static str]) -> Flight {
    texts.iter().map(|text| Query(text)).collect()
}

/// Parse, Bind, Execute of each, and then a Sync.
fn unit(texts: &[&'static str]) -> Flight {
    let each = texts.iter().flat_map(|text| [Parse("", text), Bind(""), Execute]);
    each.chain([Sync]).collect()
}

fn named(name: &'static str) -> Flight {
    vec![Bind(name), Execute, Sync]
}

pub fn conversations() -> Vec<Vec<Flight>> {
    let transaction = |end| vec![q(&["BEGIN"]), q(&["INSERT 1"]), q(&["INSERT 2"]), q(&[end])];
    vec![
        vec![q(&["INSERT 1"]), q(&["INSERT 2"])],
        vec![q(&["INSERT 1", "SHOW", "INSERT 2", "INSERT 3"])],
        vec![q(&["SHOW"]), q(&["SHOW", "SHOW"])],
        transaction("COMMIT"),
        transaction("ROLLBACK"),
        vec![q(&["BEGIN", "INSERT 1", "COMMIT"]), q(&["INSERT 2"])],
        vec![q(&["BEGIN", "INSERT 1", "COMMIT", "BEGIN", "INSERT 2", "COMMIT"])],
        vec![q(&["BEGIN"]), q(&["INSERT 1", "COMMIT"]), q(&["INSERT 3"])],
        vec![
            q(&["BEGIN"]),
            q(&["INSERT 1"]),
            q(&["COMMIT AND CHAIN", "INSERT 2", "COMMIT"]),
        ],
        vec![q(&["BEGIN"]), q(&["INSERT 1"]), q(&["ROLLBACK", "INSERT 2"])],
        vec![
            q(&["BEGIN"]),
            q(&["INSERT 1"]),
            q(&["SHOW; ROLLBACK", "INSERT 2"]),
        ],
        vec![q(&["BEGIN", "INSERT 1", "ROLLBACK"])],
        vec![q(&["BEGIN; INSERT 1", "INSERT 2", "ROLLBACK"])],
        vec![q(&["BEGIN BADLY", "INSERT 1"])],
        vec![[q(&["BEGIN BADLY"]), unit(&["SHOW", "INSERT 1"])].concat()],
        vec![
            q(&["BEGIN"]),
            q(&["FAIL"]),
            q(&["INSERT 1"]),
            q(&["ROLLBACK"]),
            q(&["INSERT 2"]),
        ],
        vec![q(&["BEGIN"]), q(&["FAIL", "COMMIT", "INSERT 1"])],
        vec![q(&["INSERT 1; INSERT 2"]), q(&["FAIL"]), q(&["INSERT 3; FAIL"])],
        vec![q(&["BEGIN; INSERT 1; COMMIT"]), q(&["INSERT 2"])],
        vec![q(&["BEGIN; INSERT 1"]), q(&["INSERT 2; COMMIT"])],
        vec![q(&["BEGIN"]), q(&["INSERT 1"]), q(&["ROLLBACK; INSERT 2"])],
        vec![unit(&["INSERT 1"]), unit(&["INSERT 2"])],
        vec![unit(&["INSERT 1", "INSERT 2"]), unit(&["SHOW"])],
        vec![unit(&["INSERT 1", "FAIL", "INSERT 2"]), unit(&["INSERT 3"])],
        vec![unit(&["BEGIN", "INSERT 1", "COMMIT"])],
        vec![
            unit(&["BEGIN", "INSERT 1"]),
            unit(&["INSERT 2"]),
            unit(&["COMMIT"]),
        ],
        vec![[unit(&["BEGIN"]), unit(&["INSERT 1"]), unit(&["COMMIT"])].concat()],
        vec![
            unit(&["BEGIN"]),
            [unit(&["INSERT 1"]), unit(&["COMMIT"]), unit(&["INSERT 3"])].concat(),
        ],
        vec![
            unit(&["BEGIN"]),
            unit(&["FAIL"]),
            unit(&["ROLLBACK"]),
            unit(&["INSERT 1"]),
        ],
        vec![
            vec![
                Parse("b", "BEGIN"),
                Parse("c", "COMMIT"),
                Parse("i", "INSERT 1"),
                Sync,
            ],
            named("b"),
            named("i"),
            named("c"),
        ],
        vec![
            vec![Parse("b", "BEGIN"), Parse("r", "ROLLBACK"), Sync],
            vec![Parse("i", "INSERT 1"), Parse("j", "INSERT 2"), Sync],
            [named("b"), named("i"), named("r"), named("j")].concat(),
        ],
        vec![vec![Sync], vec![Sync, Sync], unit(&["INSERT 1"]), vec![Sync]],
        vec![
            q(&["BEGIN"]),
            vec![Sync, Sync],
            unit(&["INSERT 1"]),
            vec![Sync, Query("COMMIT")],
        ],
        vec![
            vec![Parse("", "INSERT 1"), Bind(""), Execute, Flush],
            vec![Parse("", "INSERT 2"), Bind(""), Flush],
            vec![Execute, Sync],
        ],
        vec![
            q(&["BEGIN"]),
            vec![Parse("", "INSERT 1"), Bind(""), Execute, Flush],
            vec![Parse("", "COMMIT"), Bind(""), Execute, Sync],
        ],
        vec![
            vec![Parse("", "FAIL"), Bind(""), Execute, Query("INSERT 1"), Sync],
            q(&["INSERT 2"]),
        ],
        vec![vec![
            Function("INSERT 1"),
            Function("INSERT 2"),
            Query("INSERT 3"),
        ]],
        vec![
            q(&["BEGIN"]),
            vec![Function("INSERT 1")],
            vec![Function("INSERT 2"), Query("COMMIT")],
        ],
        vec![
            vec![Parse("i", "INSERT 1"), Sync],
            named("i"),
            [vec![Close("i"), Sync], unit(&["INSERT 2"])].concat(),
            vec![
                Close(""),
                Sync,
                Close(""),
                Close(""),
                Sync,
                Query("INSERT 3"),
                Close(""),
                Sync,
            ],
            vec![Close(""), Flush, Parse("", "INSERT 4"), Bind(""), Execute, Sync],
        ],
        vec![[unit(&["INSERT 1"]), vec![Close(""), Sync], unit(&["INSERT 2"])].concat()],
        vec![
            q(&["BEGIN"]),
            [vec![Close(""), Sync], unit(&["INSERT 1"])].concat(),
            [vec![Close(""), Sync], unit(&["COMMIT"])].concat(),
        ],
        vec![vec![Query("COPY 1"), Data, Data, Done], q(&["INSERT 2"])],
        vec![q(&["BEGIN"]), vec![Query("COPY 1"), Data, Done, Query("COMMIT")]],
        vec![
            q(&["BEGIN"]),
            q(&["INSERT 1"]),
            vec![Query("COPY 2"), Data, Done],
            q(&["COMMIT"]),
        ],
        vec![
            vec![Parse("", "COPY 1"), Bind(""), Execute, Data, Done, Sync],
            q(&["INSERT 2"]),
        ],
    ]
}
