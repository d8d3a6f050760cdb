//! What `pgswivel rotate` works on.

use super::*;

const BESIDE: &str = "[upstream.orders]\nhosts = 'db'\n[secret.orders]\nstore = 'file'\nid = '/s'\n\
                      [secret.watcher]\nstore = 'file'\nid = '/w'\n[rotation.orders]\n";

fn rotation(lines: &str) -> Stage {
    Stage::with_file(&format!("{BESIDE}{lines}"))
}

#[test]
fn a_rotation_needs_no_role_beside_it() {
    let stage = rotation(
        "secret = 'orders'\nadmin = 'watcher'\nupstreams = ['orders']\nusers = ['a', 'b']\n\
         sidecars = ['http://10.0.0.1:9632', 'dns+http://pgswivel.orders.svc', 'http://[::1]:1/']\n",
    );
    assert!(stage.refused().contains("role.app"), "a proxy needs one");
    let config = super::super::load_for_rotation(&stage.flags, &stage).unwrap();
    assert!(config.roles.is_empty());
    let rotation = only(&config.rotations);
    assert_eq!(
        (rotation.secret.as_str(), rotation.admin.as_str()),
        ("orders", "watcher")
    );
    assert_eq!(rotation.users, ["a", "b"]);
    let sidecars: Vec<String> = rotation.sidecars.iter().map(ToString::to_string).collect();
    assert_eq!(
        sidecars,
        [
            "http://10.0.0.1:9632",
            "dns+http://pgswivel.orders.svc:9632",
            "http://[::1]:1"
        ]
    );
}

fn problems(lines: &str) -> String {
    let stage = rotation(lines);
    match super::super::load_for_rotation(&stage.flags, &stage) {
        Ok(_) => panic!("it was accepted"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn everything_that_is_wrong_with_a_rotation_is_said_at_once() {
    let said = problems(
        "secret = 'ordes'\nupstreams = ['orders', 'other']\nusers = ['a']\nsidecars = ['https://x', 'x:1']\nstyel = 'x'\n",
    );
    for words in [
        "rotation.orders.secret: no secret named \"ordes\"; did you mean \"orders\"?",
        "rotation.orders.admin: must be set",
        "no upstream named \"other\"",
        "rotation.orders.users: one user takes no turns",
        "expected http://host:port",
        "rotation.orders.styel: unknown key",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
    let twice =
        problems("secret = 'orders'\nadmin = 'watcher'\nupstreams = ['orders']\nusers = ['a', 'a']\n");
    assert!(twice.contains("stands there twice"));
}
