# The two to start with: `make demo` shows it, `make test` proves it. Both install what they need.

.PHONY: demo test long lint coverage bench regress clients rotate-kills image-check setup

# A PostgreSQL of its own, the same application with pgswivel and without, and a rotation every few seconds.
demo:
	tests/setup toolchain postgres
	cargo build --release
	target/release/pgswivel demo

# PostgreSQL 15 and 18; with PG_MATRIX=all, 14 to 18.
test: setup
	tests/run

# The long forms, for hours: 200 random schedules against what is said to be unused, every two things around it that
# stall, flood or are gone for a minute, 50 restarts and evictions and 1,000 rotations under a crowd. LONG=adversary::
# for some of them.
LONG ?= adversary:: around:: emergencies:: rotations::
long: setup
	PGSWIVEL_LONG=1 cargo nextest run --profile long --test promises $(LONG)

# Formatting, lints with every feature and with none, the scripts, and the documentation of the code.
lint:
	tests/setup toolchain lint
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --no-deps --document-private-items
	tests/shellcheck

# Which share of the lines in src/ the tests come through; COVERAGE=--lib for the unit tests alone.
coverage:
	tests/setup $(if $(filter --lib,$(COVERAGE)),toolchain)
	tests/setup coverage
	tests/coverage/run $(COVERAGE)

# pgswivel beside a direct connection, HAProxy and PgBouncer; BENCH='--only simple,idle --rounds 8' and the like.
bench:
	tests/setup toolchain postgres bench
	cargo bench --bench compare -- $(BENCH)

# PostgreSQL's own regression and isolation suites, directly and through pgswivel.
regress:
	tests/setup toolchain postgres regress
	cargo build --release
	tests/regress

# Client libraries' own test suites, directly and through pgswivel; CLIENTS='asyncpg psycopg2' for some of them.
clients:
	tests/setup toolchain postgres
	cargo build --release
	tests/clients/run $(CLIENTS)

# A rotation of each style, killed 200 times at random moments, and gone on with or back each time.
rotate-kills: setup
	PGSWIVEL_KILLS=200 cargo nextest run --profile long --test promises -E 'test(killed_at_random)'

# The image of the Dockerfile, built without a Docker engine and run as a container would be. As root, on Debian.
image-check:
	tests/image/check

setup:
	tests/setup
