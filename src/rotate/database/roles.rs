//! What a server says of the roles that take part in a rotation, and the statements that change them.
//!
//! No statement holds a password: the server is told a verifier that was computed here.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::{Backend, DatabaseError, Session};

/// What a server is, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub is_primary: bool,
    /// As `server_version_num`.
    pub version: i32,
    pub admin: String,
    pub admin_is_superuser: bool,
}

/// One role, as far as a rotation minds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub can_login: bool,
    pub is_superuser: bool,
    pub inherits: bool,
    pub creates_databases: bool,
    pub creates_roles: bool,
    pub replicates: bool,
    pub bypasses_rls: bool,
    pub connections_max: i32,
    /// `VALID UNTIL` is over.
    pub is_expired: bool,
    /// Whoever asks may give it a password.
    pub may_change: bool,
    /// Whoever asks may end its backends.
    pub may_end: bool,
    pub groups: BTreeSet<String>,
    pub settings: BTreeSet<Setting>,
}

/// From `ALTER ROLE … [IN DATABASE …] SET`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// Empty: everywhere.
    pub database: String,
    pub name: String,
    pub value: String,
}

/// What one role has and another has not, so that they are not the same to an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub role: String,
    /// Empty: what is shared by all databases.
    pub database: String,
    pub what: DriftKind,
    pub count: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftKind {
    /// It owns them itself.
    Owns,
    /// It was granted something, and the other was not.
    Granted,
}

impl Session {
    pub async fn greeting(&self) -> Result<Greeting, DatabaseError> {
        const STATEMENT: &str = "SELECT NOT pg_catalog.pg_is_in_recovery(), \
             pg_catalog.current_setting('server_version_num')::int4, rolname::text, rolsuper \
             FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let row = self.one(STATEMENT, &[]).await?;
        Ok(Greeting {
            is_primary: row.try_get(0)?,
            version: row.try_get(1)?,
            admin: row.try_get(2)?,
            admin_is_superuser: row.try_get(3)?,
        })
    }

    pub async fn role(&self, name: &str) -> Result<Option<Role>, DatabaseError> {
        // From 16 on, who may create roles may change only those that it has the admin option on.
        const STATEMENT: &str = "SELECT r.rolcanlogin, r.rolsuper, r.rolinherit, r.rolcreatedb, r.rolcreaterole, \
             r.rolreplication, r.rolbypassrls, r.rolconnlimit, coalesce(r.rolvaliduntil <= now(), false), \
             me.rolsuper OR me.oid = r.oid OR NOT r.rolsuper AND me.rolcreaterole AND \
             (pg_catalog.current_setting('server_version_num')::int4 < 160000 \
              OR pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION')), \
             me.rolsuper OR NOT r.rolsuper AND (pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE') \
              OR pg_catalog.pg_has_role(me.oid, 'pg_signal_backend'::name, 'USAGE')), \
             ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g \
              ON g.oid = m.roleid WHERE m.member = r.oid) \
             FROM pg_catalog.pg_roles r, pg_catalog.pg_roles me \
             WHERE r.rolname = $1 AND me.rolname = current_user";
        let rows = self.query(STATEMENT, &[&name]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let groups: Vec<String> = row.try_get(11)?;
        Ok(Some(Role {
            can_login: row.try_get(0)?,
            is_superuser: row.try_get(1)?,
            inherits: row.try_get(2)?,
            creates_databases: row.try_get(3)?,
            creates_roles: row.try_get(4)?,
            replicates: row.try_get(5)?,
            bypasses_rls: row.try_get(6)?,
            connections_max: row.try_get(7)?,
            is_expired: row.try_get(8)?,
            may_change: row.try_get(9)?,
            may_end: row.try_get(10)?,
            groups: groups.into_iter().collect(),
            settings: self.settings_of(name).await?,
        }))
    }

    async fn settings_of(&self, role: &str) -> Result<BTreeSet<Setting>, DatabaseError> {
        const STATEMENT: &str = "SELECT coalesce(d.datname, '')::text, c FROM pg_catalog.pg_db_role_setting s \
             JOIN pg_catalog.pg_roles r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, \
             unnest(s.setconfig) c WHERE r.rolname = $1";
        let mut settings = BTreeSet::new();
        for row in self.query(STATEMENT, &[&role]).await? {
            let (database, line): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some((name, value)) = line.split_once('=') {
                settings.insert(Setting {
                    database,
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
        Ok(settings)
    }

    /// In what two roles differ that no role that both are in can cover. One of them may not be there yet.
    pub async fn drift(&self, one: &str, other: &str) -> Result<Vec<Drift>, DatabaseError> {
        const STATEMENT: &str = "WITH d AS (SELECT r.rolname::text AS role, s.dbid, s.classid, s.objid, s.objsubid, \
              s.deptype FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid \
              WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.deptype IN ('o', 'a') \
              AND s.classid <> 'pg_catalog.pg_auth_members'::regclass AND r.rolname IN ($1, $2)) \
             SELECT d.role, coalesce(b.datname, '')::text, d.deptype = 'o', count(*) FROM d \
             LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid \
             WHERE d.deptype = 'o' OR NOT EXISTS (SELECT 1 FROM d o WHERE o.role <> d.role AND o.deptype = d.deptype \
              AND (o.dbid, o.classid, o.objid, o.objsubid) = (d.dbid, d.classid, d.objid, d.objsubid)) \
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        let rows = self.query(STATEMENT, &[&one, &other]).await?;
        let drift = |row: &tokio_postgres::Row| {
            let owns: bool = row.try_get(2)?;
            Ok(Drift {
                role: row.try_get(0)?,
                database: row.try_get(1)?,
                what: if owns { DriftKind::Owns } else { DriftKind::Granted },
                count: row.try_get(3)?,
            })
        };
        let found: Result<_, tokio_postgres::Error> = rows.iter().map(drift).collect();
        Ok(found?)
    }

    /// The server's own clock.
    pub async fn now(&self) -> Result<String, DatabaseError> {
        let row = self.one("SELECT pg_catalog.clock_timestamp()::text", &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// Asks these backends of a role to end, if they still are its. Answers with how many were asked.
    pub async fn end(&self, role: &str, backends: &[Backend]) -> Result<usize, DatabaseError> {
        const STATEMENT: &str = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE usename = $1 AND pid = ANY($2)";
        let pids: Vec<i32> = backends.iter().map(|backend| backend.pid).collect();
        Ok(self.query(STATEMENT, &[&role, &pids]).await?.len())
    }

    pub async fn change(&self, statement: &Statement) -> Result<(), DatabaseError> {
        self.execute(&statement.text).await
    }

    /// As it stands with the other role, so that both have the same text. Only lists of names have to be taken apart by the
    /// server: to it one name with a comma in it is another thing than two.
    pub async fn set_for(&self, role: &str, setting: &Setting) -> Result<(), DatabaseError> {
        let Setting {
            database,
            name,
            value,
        } = setting;
        let place = match database.as_str() {
            "" => String::new(),
            database => format!(" IN DATABASE {}", identifier(database)),
        };
        let role = identifier(role);
        if !LISTS.contains(&name.as_str()) {
            let text = format!(
                "ALTER ROLE {role}{place} SET {} TO {}",
                setting_name(name),
                literal(value)
            );
            return self.execute(&text).await;
        }
        self.query("SELECT pg_catalog.set_config($1, $2, false)", &[name, value])
            .await?;
        let text = format!("ALTER ROLE {role}{place} SET {} FROM CURRENT", setting_name(name));
        self.execute(&text).await
    }
}

/// Settings whose value is a list of names.
const LISTS: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "createrole_self_grant",
];

/// One statement, wiped when dropped: a verifier is nothing to leave lying about.
pub struct Statement {
    text: Zeroizing<String>,
}

impl Statement {
    fn new(text: String) -> Self {
        Self {
            text: Zeroizing::new(text),
        }
    }

    pub fn password(role: &str, login: bool, verifier: &str) -> Self {
        let login = if login { " LOGIN" } else { "" };
        let verifier = Zeroizing::new(literal(verifier));
        Self::new(format!(
            "ALTER ROLE {}{login} PASSWORD {}",
            identifier(role),
            *verifier
        ))
    }

    pub fn close(role: &str) -> Self {
        Self::new(format!("ALTER ROLE {} NOLOGIN", identifier(role)))
    }

    /// A role with the attributes of another, that can't log in yet.
    pub fn create(role: &str, like: &Role) -> Self {
        let mut text = format!("CREATE ROLE {} NOLOGIN", identifier(role));
        for (has, word, not) in [
            (like.inherits, "INHERIT", "NOINHERIT"),
            (like.creates_databases, "CREATEDB", ""),
            (like.creates_roles, "CREATEROLE", ""),
            (like.replicates, "REPLICATION", ""),
            (like.bypasses_rls, "BYPASSRLS", ""),
        ] {
            text.push(' ');
            text.push_str(if has { word } else { not });
        }
        if like.connections_max >= 0 {
            text.push_str(&format!(" CONNECTION LIMIT {}", like.connections_max));
        }
        Self::new(text)
    }

    pub fn grant(group: &str, role: &str) -> Self {
        Self::new(format!("GRANT {} TO {}", identifier(group), identifier(role)))
    }
}

pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// `app.tenant` is two names.
fn setting_name(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(identifier).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_can_not_end_a_statement() {
        let statement = Statement::password("a\"; DROP ROLE b; --", true, "it's\\");
        assert_eq!(
            *statement.text,
            "ALTER ROLE \"a\"\"; DROP ROLE b; --\" LOGIN PASSWORD  E'it''s\\\\'"
        );
        assert_eq!(setting_name("app.tenant"), "\"app\".\"tenant\"");
    }

    #[test]
    fn a_twin_is_made_with_the_attributes_of_the_other_and_can_not_log_in_yet() {
        let like = Role {
            inherits: true,
            creates_databases: true,
            connections_max: 20,
            can_login: true,
            ..Role::default()
        };
        let text = Statement::create("b", &like)
            .text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(
            text,
            "CREATE ROLE \"b\" NOLOGIN INHERIT CREATEDB CONNECTION LIMIT 20"
        );
    }
}
