use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Spotted {
    Vocabulary::default().read(text.as_bytes())
}

fn settings(text: &str) -> Vec<String> {
    let spotted = read(text);
    assert!(!spotted.blind, "{text}");
    spotted.settings
}

/// What drivers and object mappers send all day, and what must not cost a survey.
const SILENT: [&str; 35] = [
    // Rails
    "SELECT \"users\".* FROM \"users\" WHERE \"users\".\"id\" = $1 LIMIT $2",
    "UPDATE \"orders\" SET \"status\" = $1, \"updated_at\" = $2 WHERE \"orders\".\"id\" = $3",
    "INSERT INTO \"posts\" (\"title\", \"created_at\", \"updated_at\") VALUES ($1, $2, $3) RETURNING \"id\"",
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = '\"t\"'::regclass",
    "SELECT 1 AS one FROM \"email_templates\" WHERE \"email_templates\".\"name\" = $1 LIMIT 1",
    "/*application:Shop,controller:orders,action:index*/ SELECT COUNT(*) FROM \"orders\" OFFSET 20",
    "SELECT pg_advisory_xact_lock($1)",
    "SELECT pg_try_advisory_xact_lock_shared(1, 2)",
    // Django
    "SELECT \"django_session\".\"session_key\" FROM \"django_session\" WHERE \"django_session\".\"expire_date\" > '2024-01-01'::timestamptz",
    "UPDATE \"auth_user\" SET \"last_login\" = '2024-01-01'::timestamptz WHERE \"auth_user\".\"id\" = 1",
    "SELECT \"django_content_type\".\"id\", \"django_content_type\".\"app_label\" FROM \"django_content_type\"",
    // Hibernate
    "select order0_.id as id1_0_, order0_.total as total2_0_ from orders order0_ where order0_.customer_id=?",
    "update customer set first_name=$1, last_name=$2, version=$3 where id=$4 and version=$5",
    "select nextval ('hibernate_sequence')",
    // Prisma
    "SELECT \"public\".\"User\".\"id\", \"public\".\"User\".\"email\" FROM \"public\".\"User\" WHERE 1=1 LIMIT $1 OFFSET $2",
    "UPDATE \"public\".\"User\" SET \"name\" = $1 WHERE (\"public\".\"User\".\"id\" = $2 AND 1=1)",
    // pgjdbc, npgsql, pgx
    "SELECT TRUE AS \"is\", n.nspname FROM pg_catalog.pg_namespace n",
    "SELECT typname, oid FROM pg_type WHERE typname = ANY($1)",
    "select name, setting from pg_catalog.pg_settings where name = 'max_connections'",
    "",
    ";",
    "-- ping",
    "SELECT 1",
    // Words that are something else here.
    "SELECT temp, temperature FROM readings WHERE temp > 30",
    "SELECT (temp) FROM readings r WHERE r.temp = 1 ORDER BY\n temp",
    "SELECT attempts, contemporary, templates FROM t WHERE hot OR temp > 3",
    "SELECT \"temp\" FROM readings",
    "INSERT INTO t (kind) VALUES ('reset'), ('offset')",
    "UPDATE t SET load = load + 1, reset = false",
    "SELECT dataset.set_id FROM dataset",
    "INSERT INTO t SELECT * FROM s ON CONFLICT (id) DO UPDATE SET a = excluded.a",
    "MERGE INTO t USING s ON s.id = t.id WHEN MATCHED THEN UPDATE SET v = s.v",
    "SELECT count(*) FROM pg_replication_slots",
    "SELECT * FROM my_set_configs",
    "DECLARE c NO SCROLL CURSOR FOR SELECT * FROM holdings",
];

const SIGNALLED: [&str; 41] = [
    "SELECT set_config('search_path', 'app', false)",
    "select pg_catalog.SET_CONFIG ('x.y', '1', true)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(3905, 17)",
    "SELECT pg_advisory_unlock_all()",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE TEMPORARY TABLE t (a int)",
    "create or replace temp view v as select 1",
    "CREATE LOCAL TEMPORARY TABLE t (a int)",
    "SELECT 1 AS a INTO TEMP t",
    "SELECT 1 AS a INTO\n\tTEMPORARY TABLE t",
    "CREATE /* here */ TEMP TABLE t AS SELECT 1",
    "CREATE -- here, there and everywhere\n TEMP TABLE t AS SELECT 1",
    "CREATE TABLE pg_temp.t AS SELECT 1",
    "CREATE TABLE \"pg_temp\".t AS SELECT 1",
    "CREATE TABLE pg_temp_3.t AS SELECT 1",
    "SELECT exec('CREATE ' || 'TEMP TABLE t (a int)')",
    "SELECT dblink_connect('myconn', 'dbname=other')",
    "SELECT public.dblink_exec('myconn', 'delete from t')",
    "SELECT setseed(0.5)",
    "SELECT pg_replication_origin_session_setup('node')",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput', true)",
    "SELECT pg_backup_start('b')",
    "SELECT pg_start_backup('b', true, false)",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "DECLARE c CURSOR WITH -- or without\n HOLD FOR SELECT 1",
    "EXECUTE stmt(1)",
    "EXPLAIN ANALYZE EXECUTE stmt(1)",
    "CREATE TABLE t AS EXECUTE stmt",
    "UPDATE pg_settings SET setting = '1MB' WHERE name = 'work_mem'",
    "update only pg_catalog.pg_settings set setting = 'x'",
    "SELECT U&\"s\\0065t_config\"('a.b', 'c', false)",
    "SELECT set_limit(0.4)",
    "SELECT pgv_set('vars', 'int1', 101)",
    "SELECT query_to_xml('select set_config(''a.b'', ''1'', false)', true, true, '')",
    "COPY (SELECT set_config('a.b', '1', false)) TO STDOUT",
    "WITH x AS (SELECT pg_advisory_lock_shared(1)) SELECT 1",
    // Liquibase, Flyway, golang-migrate, Prisma Migrate, Rails
    "SELECT pg_try_advisory_lock(-7723422498376212)",
    "SELECT pg_advisory_lock(72707369)",
    "SELECT pg_try_advisory_lock(1000000001)",
    "SELECT pg_advisory_unlock(1000000001)",
];

#[test]
fn what_applications_send_all_day_signals_nothing() {
    for text in SILENT {
        assert_eq!(read(text), Spotted::default(), "{text}");
    }
}

#[test]
fn what_no_tag_tells_is_signalled() {
    for text in SIGNALLED {
        assert!(read(text).signalled, "{text}");
        assert!(read(&text.to_uppercase()).signalled, "{text}");
        assert!(read(&format!("SELECT 1; {text}")).signalled, "{text}");
        assert!(
            read(&format!("{}{text}", "-".repeat(1000) + "\n")).signalled,
            "{text}"
        );
    }
}

#[test]
fn names_of_custom_settings_are_learned() {
    for text in [
        "SET app.tenant = 'x'",
        "set app.tenant to default",
        "SET SESSION app.tenant = 'x'",
        "SET LOCAL app.tenant TO 'x'",
        "RESET app.tenant",
        "SET app . tenant = 1",
        "SET /* who */ app.tenant = 1",
        "SET -- who\n app.tenant = 1",
        "SET\n\tApp.Tenant\n=\n1",
        "SET \"app\".\"tenant\" = 1",
        "SET\"app\".tenant = 1",
        "SET \"app.tenant\" = 1",
        "BEGIN; SET LOCAL app.tenant = 'x'; SELECT 1; COMMIT",
        "SELECT set_config('app.tenant', $1, false)",
        "SELECT set_config('App.Tenant', $1, true)",
        "SELECT pg_catalog.set_config(E'app.tenant', 'x', false)",
        "SELECT \"set_config\" ( /* name */ 'app.tenant' , 'x', false)",
        "SELECT \"pg_catalog\".\"set_config\"('app.tenant', 'x', false)",
        "SELECT set_config('app.tenant'::text, $1::text, $2::bool)",
        "SELECT set_config($$app.tenant$$, $1, true)",
        "SELECT set_config($x$app.tenant$x$, $1, true)",
        "SELECT exec('SELECT set_config(''app.tenant'', ''x'', false)')",
        "DO $$BEGIN SET app.tenant = 'x'; END$$",
        "DO $$BEGIN PERFORM set_config('app.tenant', 'x', false); END$$",
        "DO $$BEGIN EXECUTE 'SET app.tenant = 1'; END$$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql SET app.tenant = 'x' AS ''",
    ] {
        assert_eq!(settings(text), ["app.tenant"], "{text}");
    }
}

#[test]
fn several_names_are_learned_once_each() {
    // PostgREST
    let text = "select set_config('search_path', $1, true), set_config('role', $2, true), \
                set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true), \
                set_config('request.method', $5, true)";
    assert_eq!(settings(text), ["request.jwt.claims", "request.method"]);
    assert_eq!(
        settings("SET a.b = 1; set c.d.e = 2; RESET a.b"),
        ["a.b", "c.d.e"]
    );
}

#[test]
fn what_needs_no_name_learns_none() {
    for text in [
        "SET search_path TO app, public",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET TIME ZONE 'UTC'",
        "SET extra_float_digits = 3",
        "SET application_name = 'PostgreSQL JDBC Driver'",
        "SET client_min_messages TO 'warning';SET standard_conforming_strings = on",
        "SET SESSION AUTHORIZATION 'app'",
        "SET ROLE app",
        "RESET ALL",
        "SELECT set_config('bytea_output','hex',false) FROM pg_settings WHERE name = 'bytea_output'",
    ] {
        assert_eq!(settings(text), [""; 0], "{text}");
    }
}

const BLIND: [&str; 10] = [
    "SELECT set_config($1, $2, false)",
    "SELECT set_config('app.' || $1, $2, false)",
    "SELECT set_config(name, value, false) FROM wanted",
    "SELECT set_config('app.'\n'x', '1', false)",
    "SELECT set_config(E'app\\x2ex', '1', false)",
    "SELECT set_config(U&'app\\002ex', '1', false)",
    "SELECT set_config(lower('app.x'), '1', false)",
    "SELECT set_config('app.'::text || 'x', '1', false)",
    "SELECT set_config(?, ?, ?)",
    "SET U&\"app\".x = 1",
];

#[test]
fn a_name_that_can_not_be_known_makes_blind() {
    for text in BLIND {
        let spotted = read(text);
        assert!(
            (spotted.blind || spotted.parameters.outlive()) && spotted.signalled | text.starts_with("SET"),
            "{text}"
        );
    }
}

#[test]
fn what_is_too_far_apart_to_be_read_makes_blind_rather_than_deaf() {
    let far = " ".repeat(400);
    for text in [
        format!("SELECT set_config({far}'app.x', '1', false)"),
        format!("SELECT set_config{far}('app.x', '1', false)"),
        format!("SET {far} app.x = 1"),
        format!("SET app.{far} x = 1"),
        format!("SET app{far}.x = 1"),
        format!("SELECT set_config('app.{}', '1', false)", "x".repeat(400)),
    ] {
        assert!(read(&text).blind, "{text}");
    }
}

#[test]
fn names_beyond_the_limit_make_blind() {
    let text: String = (0..=NAMES_MAX).map(|n| format!("SET a.s{n} = 1;")).collect();
    let spotted = read(&text);
    assert_eq!(spotted.settings.len(), NAMES_MAX);
    assert!(spotted.blind);
}

#[test]
fn state_that_no_survey_sees_is_named() {
    let unseen = |text: &str| read(text).unseen;
    assert_eq!(unseen("SELECT setseed(0.1)"), Unseen::SEED);
    assert_eq!(unseen("SELECT dblink_connect_u('a', 'b')"), Unseen::DBLINK);
    assert_eq!(
        unseen("SELECT * FROM dblink('dbname=a', 'select 1') AS t(a int)"),
        Unseen::NONE
    );
    let both = unseen("SELECT pg_replication_origin_session_setup('n'), pg_backup_start('b')");
    assert_eq!(both, Unseen::ORIGIN | Unseen::BACKUP);
    assert_eq!(both.names().count(), 2);
    assert_eq!(unseen("SELECT pg_advisory_lock(1)"), Unseen::NONE);
}

#[test]
fn libraries_are_named_in_order() {
    let spotted = read("LOAD 'age'; load '$libdir/plugins/auto_explain'; SET search_path = ag_catalog");
    assert_eq!(spotted.libraries, ["age", "$libdir/plugins/auto_explain"]);
}

#[test]
fn learned_names_are_found_as_names_only() {
    let vocabulary = Vocabulary::new(["apply_tenant", "Odd Name", "set", "f", ""]);
    for text in [
        "SELECT apply_tenant(1)",
        "select APPLY_TENANT (1)",
        "SELECT app.apply_tenant(1)",
        "SELECT \"app\".\"apply_tenant\"(1)",
        "CALL x(); SELECT apply_tenant(1)",
        "SELECT \"Odd Name\"()",
        "UPDATE t SET a = 1",
        "select f($1)",
    ] {
        assert!(vocabulary.read(text.as_bytes()).signalled, "{text}");
    }
    for text in [
        "SELECT apply_tenants(1)",
        "SELECT my_apply_tenant(1)",
        "SELECT \"Odd Names\"()",
        "select f1, of from t",
    ] {
        assert!(!vocabulary.read(text.as_bytes()).signalled, "{text}");
    }
}

#[test]
fn more_names_than_a_vocabulary_takes_signal_everything() {
    let names: Vec<String> = (0..5000).map(|n| format!("function_{n}")).collect();
    let vocabulary = Vocabulary::new(names.iter().map(String::as_str));
    assert!(vocabulary.read(b"select f()").signalled);
    let vocabulary = Vocabulary::new(names.iter().take(4096).map(String::as_str));
    assert!(vocabulary.read(b"select function_17(1)").signalled);
    assert!(!vocabulary.read(b"select 1").signalled);
}

#[test]
fn a_name_longer_than_any_word_is_found_by_its_beginning() {
    let name = "n".repeat(200);
    let vocabulary = Vocabulary::new([name.as_str()]);
    assert!(
        vocabulary
            .read(format!("select \"{name}\"()").as_bytes())
            .signalled
    );
}

#[test]
fn arbitrary_bytes_never_panic() {
    let vocabulary = Vocabulary::default();
    proptest!(|(text in prop::collection::vec(any::<u8>(), 0..1500))| {
        let _ = vocabulary.read(&text);
        let _ = tag_signals(&text);
    });
}

#[test]
fn a_text_that_breaks_off_anywhere_never_panics() {
    let vocabulary = Vocabulary::default();
    for text in [SIGNALLED.as_slice(), &SILENT, &BLIND].concat() {
        for end in 0..text.len() {
            let _ = vocabulary.read(&text.as_bytes()[..end]);
        }
    }
}

#[test]
fn a_word_is_found_wherever_it_stands() {
    let vocabulary = Vocabulary::default();
    let text = prop::sample::select(SIGNALLED.to_vec());
    proptest!(|(before in 0..1500_usize, after in 0..1500_usize, text in text)| {
        let padded = format!("{}{text};{}", " ".repeat(before), " ".repeat(after));
        prop_assert!(vocabulary.read(padded.as_bytes()).signalled);
    });
}

#[test]
fn case_does_not_matter() {
    let vocabulary = Vocabulary::default();
    let text = prop::sample::select([SIGNALLED.as_slice(), &SILENT].concat());
    let upper = prop::collection::vec(any::<bool>(), 200);
    proptest!(|(text in text, upper in upper)| {
        let mixed: String = text
            .chars()
            .zip(upper.into_iter().cycle())
            .map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        prop_assert_eq!(vocabulary.read(mixed.as_bytes()), vocabulary.read(text.as_bytes()));
    });
}
