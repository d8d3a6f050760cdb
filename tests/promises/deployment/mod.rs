//! What people copy: examples of the configuration, manifests, the demonstration of docker compose, recipes.

mod compose;
mod configured;
mod recipes;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::skipped;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `tests/deployment/run` prints.
fn run(arguments: &[&str]) -> String {
    let program: PathBuf = repository().join("tests/deployment/run");
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    said
}

fn is_right(check: &str) {
    let said = run(&[check]);
    if said.contains("SKIPPED") {
        skipped(&said);
    }
}

#[test]
fn every_yaml_file_is_well_formed() {
    is_right("lint");
}

#[test]
fn the_images_are_written_as_they_should_be() {
    is_right("dockerfiles");
}

#[test]
fn compose_starts_everything_in_the_order_it_needs() {
    is_right("compose");
}

#[test]
fn the_systemd_units_are_read_without_a_complaint_and_leave_little_open() {
    is_right("systemd");
}

#[test]
fn what_rotates_by_itself_is_valid_and_may_do_no_more_than_it_has_to() {
    is_right("rotations");
}

#[test]
fn alerts_fire_when_they_should_and_keep_quiet_when_they_should() {
    is_right("prometheus");
}

#[test]
fn every_kubernetes_manifest_is_valid_and_runs_its_sidecar_as_it_should_be_run() {
    is_right("manifests");
}

#[test]
fn the_kustomize_component_adds_a_sidecar() {
    is_right("kustomize");
}

#[test]
fn helm_renders_the_sidecar_both_ways() {
    is_right("helm");
}

#[test]
fn ecs_takes_the_task_definition() {
    is_right("task-definition");
}

#[test]
fn the_task_role_may_do_what_it_must_and_nothing_else() {
    is_right("terraform-text");
}

#[test]
fn terraform_makes_a_container_that_ecs_takes() {
    is_right("terraform");
}
