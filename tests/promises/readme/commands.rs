//! Every command of the documents, and what becomes of it in the tests.

use std::path::Path;

use super::documents;
use super::markdown::Document;

/// What becomes of a command.
enum Fate {
    /// It is typed as it stands, in `typed.rs`.
    Typed,
    /// This promise does the same: its file and its name.
    Kept(&'static str, &'static str),
    /// Why it can't be run here, and the promise that looks at the files it is about.
    Looked(&'static str, &'static str, &'static str),
}

use Fate::{Kept, Looked, Typed};

const DEMO: Fate = Kept(
    "demo.rs",
    "the_application_behind_pgswivel_sees_no_error_and_the_other_one_does",
);
const STATUS: Fate = Kept(
    "admin/commands.rs",
    "status_says_in_a_terminal_whether_the_old_credential_is_safe_to_revoke",
);
const UNUSED: Fate = Kept(
    "admin/unused.rs",
    "a_user_is_unused_when_no_link_is_on_it_and_no_secret_wants_it",
);
const THIS_RUN: &str = "this is what runs this test";
const NO_DOCKER: &str = "there is no Docker engine";
const NO_CLUSTER: &str = "there is no cluster";
const NO_VAULT: &str = "Vault is in no package registry; its double has no command line";
const NO_AWS: &str = "it would need an account at AWS";
const NO_SYSTEMD: &str = "a test must not change the machine's own units";
const IMAGE: (&str, &str) = ("deployment/mod.rs", "the_images_are_written_as_they_should_be");
const COMPOSE: (&str, &str) = (
    "deployment/mod.rs",
    "compose_starts_everything_in_the_order_it_needs",
);
const MANIFESTS: (&str, &str) = (
    "deployment/mod.rs",
    "every_kubernetes_manifest_is_valid_and_runs_its_sidecar_as_it_should_be_run",
);
const UNITS: (&str, &str) = (
    "deployment/mod.rs",
    "the_systemd_units_are_read_without_a_complaint_and_leave_little_open",
);
const TARGETS: (&str, &str) = ("readme/mod.rs", "every_make_target_that_is_named_exists");

const IN_MANIFEST: (&str, &str) = ("readme/mod.rs", "what_vault_is_told_is_the_same_in_the_manifest");

const fn looked(why: &'static str, by: (&'static str, &'static str)) -> Fate {
    Looked(why, by.0, by.1)
}

/// A command that is not in this list fails the test, and so does a row that is in no document.
const COMMANDS: &[(&str, Fate)] = &[
    ("make demo", DEMO),
    ("make test", looked(THIS_RUN, TARGETS)),
    ("make long", looked("it takes hours", TARGETS)),
    ("make lint", looked("it compiles everything anew", TARGETS)),
    ("make coverage", looked("it compiles everything anew", TARGETS)),
    (
        "make coverage COVERAGE=--lib",
        looked("it compiles everything anew", TARGETS),
    ),
    (
        "make bench",
        looked(
            "it measures for an hour, and wants the machine for itself",
            TARGETS,
        ),
    ),
    (
        "make bench BENCH='--only connect --scram-iterations 1'",
        looked("it wants the machine for itself", TARGETS),
    ),
    (
        "make bench BENCH=--help",
        looked(
            "it measures for an hour, and wants the machine for itself",
            TARGETS,
        ),
    ),
    (
        "make regress",
        looked("it takes half an hour, by itself", TARGETS),
    ),
    (
        "make clients",
        looked("it fetches and runs ten test suites, by itself", TARGETS),
    ),
    (
        "make rotate-kills",
        looked("it takes an hour; the short form is among the promises", TARGETS),
    ),
    ("make image-check", looked("it needs root, and minutes", TARGETS)),
    ("PG_MATRIX=all make test", looked(THIS_RUN, TARGETS)),
    (
        "cargo nextest run --test promises -E 'test(/lending/)'",
        looked(THIS_RUN, TARGETS),
    ),
    (
        "cargo build --no-default-features",
        looked("`make lint` compiles it", TARGETS),
    ),
    ("pgswivel demo --help", Typed),
    ("pgswivel status --unused orders_v1 --fresh", UNUSED),
    (
        "pgswivel rotate gate orders --within 30m",
        Kept(
            "rotate/gate.rs",
            "the_gate_opens_when_sidecars_and_servers_have_left_the_old_user",
        ),
    ),
    (
        "pgswivel rotate age",
        Kept(
            "rotate/age.rs",
            "two_that_are_overdue_and_one_that_is_weak_are_three_lines",
        ),
    ),
    (
        "pgswivel rotate plan orders",
        Kept("rotate/run.rs", "a_plan_says_each_step_and_changes_nothing"),
    ),
    (
        "pgswivel rotate run orders --yes",
        Kept(
            "rotate/run.rs",
            "an_application_sees_nothing_of_users_that_take_turns",
        ),
    ),
    (
        "pgswivel rotate run orders --yes --if-due",
        Kept("rotate/run.rs", "nothing_is_done_before_it_is_due"),
    ),
    (
        "pgswivel rotate show orders",
        Kept(
            "rotate/in_the_way.rs",
            "who_is_not_behind_pgswivel_stops_a_run_before_the_old_users_end_and_is_named",
        ),
    ),
    (
        "pgswivel rotate rollback orders --yes",
        Kept(
            "rotate/killed.rs",
            "users_that_take_turns_go_back_from_every_point",
        ),
    ),
    (
        "pgswivel rotate emergency orders --role orders_a --yes",
        Kept(
            "rotate/in_the_way.rs",
            "in_an_emergency_nobody_is_left_on_it_and_sessions_behind_pgswivel_live_on",
        ),
    ),
    // A file.
    (
        "cargo build --release && export PATH=\"$PWD/target/release:$PATH\"",
        Typed,
    ),
    (
        "export PGSWIVEL_UPSTREAM='postgres://db.internal:5432/orders?sslmode=verify-full'",
        Typed,
    ),
    ("export PGSWIVEL_SECRET=file:orders.json", Typed),
    ("export PGSWIVEL_PASSWORD=a-long-random-local-password", Typed),
    ("umask 077", Typed),
    (
        "echo '{\"username\": \"orders_v1\", \"password\": \"todays\"}' > orders.json",
        Typed,
    ),
    ("pgswivel check", Typed),
    ("pgswivel run &", Typed),
    (
        "export DATABASE_URL=postgres://app:a-long-random-local-password@127.0.0.1:6432/orders",
        Typed,
    ),
    ("pgswivel health", Typed),
    ("psql \"$DATABASE_URL\" -c 'SELECT session_user'", Typed),
    (
        "psql postgres://postgres@db.internal:5432/orders -c \"ALTER ROLE orders_v1 PASSWORD 'tomorrows'\"",
        Typed,
    ),
    (
        "echo '{\"username\": \"orders_v1\", \"password\": \"tomorrows\"}' > orders.json.new",
        Typed,
    ),
    ("mv orders.json.new orders.json", Typed),
    ("pgswivel status", Typed),
    // systemd.
    ("install -m 0755 target/release/pgswivel /usr/local/bin/", Typed),
    (
        "install -m 0644 deploy/systemd/pgswivel.service deploy/systemd/pgswivel.socket /etc/systemd/system/",
        Typed,
    ),
    (
        "install -D -m 0644 config/file.toml /etc/pgswivel/pgswivel.toml",
        Typed,
    ),
    ("install -m 0600 app-password /etc/pgswivel/app-password", Typed),
    (
        "systemctl enable --now pgswivel.socket pgswivel.service",
        looked(NO_SYSTEMD, UNITS),
    ),
    ("pgswivel status --config /etc/pgswivel/pgswivel.toml", STATUS),
    ("systemctl edit pgswivel", looked(NO_SYSTEMD, UNITS)),
    ("systemctl status", looked(NO_SYSTEMD, UNITS)),
    ("systemctl reload", looked(NO_SYSTEMD, UNITS)),
    // Containers.
    ("docker build --tag pgswivel .", looked(NO_DOCKER, IMAGE)),
    ("docker compose up --build", looked(NO_DOCKER, COMPOSE)),
    (
        "docker compose exec pgswivel /pgswivel status",
        looked(NO_DOCKER, COMPOSE),
    ),
    (
        "aws ecs register-task-definition --cli-input-json file://deploy/ecs/task-definition.json",
        looked(NO_AWS, ("deployment/mod.rs", "ecs_takes_the_task_definition")),
    ),
    (
        "aws secretsmanager rotate-secret --secret-id prod/orders",
        looked(
            NO_AWS,
            ("rotation/aws.rs", "the_four_steps_of_a_rotation_a_second_apart"),
        ),
    ),
    (
        "vault policy write orders - <<< 'path \"database/static-creds/orders\" { capabilities = [\"read\"] }'",
        looked(NO_VAULT, IN_MANIFEST),
    ),
    (
        "vault write auth/kubernetes/role/orders bound_service_account_names=orders \
         bound_service_account_namespaces=default audience=vault policies=orders ttl=1h",
        looked(NO_VAULT, IN_MANIFEST),
    ),
    (
        "vault write -force database/rotate-role/orders",
        looked(
            NO_VAULT,
            (
                "rotation/vault.rs",
                "a_static_role_rotates_when_it_said_and_when_it_did_not",
            ),
        ),
    ),
    (
        "kubectl apply -f deploy/kubernetes/vault.yaml",
        looked(NO_CLUSTER, MANIFESTS),
    ),
    (
        "kubectl exec deploy/orders -c pgswivel -- /pgswivel status",
        looked(NO_CLUSTER, MANIFESTS),
    ),
    (
        "kubectl create secret generic orders-database --from-literal=username=orders_v1 --from-literal=password=todays",
        looked(NO_CLUSTER, MANIFESTS),
    ),
    (
        "kubectl apply -f deploy/kubernetes/mounted-secret.yaml",
        looked(NO_CLUSTER, MANIFESTS),
    ),
    (
        "kubectl patch secret orders-database --patch '{\"stringData\": {\"password\": \"tomorrows\"}}'",
        looked(NO_CLUSTER, MANIFESTS),
    ),
    // What the documents below deploy/ add.
    (
        "aws ecs register-task-definition --cli-input-json file://task-definition.json",
        looked(NO_AWS, ("deployment/mod.rs", "ecs_takes_the_task_definition")),
    ),
    (
        "promtool test rules rules_test.yml",
        Kept(
            "deployment/mod.rs",
            "alerts_fire_when_they_should_and_keep_quiet_when_they_should",
        ),
    ),
];

const PROGRAMS: [&str; 14] = [
    "pgswivel",
    "make",
    "cargo",
    "docker",
    "kubectl",
    "helm",
    "kustomize",
    "terraform",
    "systemctl",
    "psql",
    "promtool",
    "aws",
    "vault",
    "kill",
];

/// What blocks hold, and what is named in the middle of a sentence.
fn commands(document: &Document) -> Vec<String> {
    let shells = document.blocks.iter().filter(|block| block.language == "sh");
    let in_blocks = shells.flat_map(|block| block.commands());
    let in_prose = document.spans().into_iter().filter(|span| {
        let mut words = span.split(' ').skip_while(|word| word.contains('='));
        words.next().is_some_and(|word| PROGRAMS.contains(&word)) && words.next().is_some()
    });
    in_blocks.chain(in_prose).collect()
}

fn fate_of(command: &str) -> Option<&'static Fate> {
    let row = COMMANDS.iter().find(|(known, _)| *known == command);
    row.map(|(_, fate)| fate)
}

pub fn is_typed(command: &str) -> bool {
    matches!(fate_of(command), Some(Typed))
}

#[test]
fn every_command_of_the_documents_is_run_or_looked_at() {
    let mut named = Vec::new();
    for document in documents() {
        for command in commands(&document) {
            let name = document.name;
            assert!(
                fate_of(&command).is_some(),
                "{name}: nobody runs this command, and nobody says why not:\n{command}"
            );
            named.push(command);
        }
    }
    for (command, _) in COMMANDS {
        assert!(
            named.iter().any(|named| named == command),
            "no document has this command any more: {command}"
        );
    }
}

#[test]
fn what_is_said_to_run_a_command_exists() {
    let promises = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises");
    for (command, fate) in COMMANDS {
        let (file, name) = match fate {
            Typed => continue,
            Kept(file, name) => (file, name),
            Looked(why, file, name) => {
                assert!(!why.is_empty());
                (file, name)
            }
        };
        let source = std::fs::read_to_string(promises.join(file)).unwrap();
        assert!(
            source.contains(&format!("fn {name}(")),
            "{command}: there is no {name} in {file}"
        );
    }
}

#[test]
fn every_file_that_a_command_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for document in documents() {
        // A command is typed where its document is, but for those of docs/, which are typed at the root.
        let here = root.join(document.name.trim_start_matches("docs/"));
        let here = here.parent().unwrap();
        for command in commands(&document) {
            for word in command.split(' ') {
                let word = word.strip_prefix("file://").unwrap_or(word);
                let ours = ["deploy/", "config/", "tests/"]
                    .iter()
                    .any(|top| word.starts_with(top) && word.contains('.'));
                if ours || word.ends_with(".json") && command.contains("file://") {
                    assert!(here.join(word).exists(), "{}: {word}", document.name);
                    found += 1;
                }
            }
        }
    }
    assert!(found >= 6, "only {found}");
}
