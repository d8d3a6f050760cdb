-- What new sessions of this role begin with here, and whether they may: columns. Names are qualified and operators
-- spelled out because search_path may be anything.
    -- What is read at login only, each row of it by its version: a value that was changed and changed back counts.
    pg_catalog.concat_ws(' ', r.oid, pg_catalog.hashtext(r.rolname::pg_catalog.text), r.rolsuper,
        pg_catalog.pg_is_in_recovery(),
        (SELECT pg_catalog.string_agg(pg_catalog.concat_ws('.', s.setdatabase, s.setrole, s.xmin), ','
            ORDER BY s.setdatabase, s.setrole)
        FROM pg_catalog.pg_db_role_setting s
        WHERE s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, d.oid])
            AND s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, r.oid]))),
    -- Whether a session could begin now, and would begin with no more than that. The time that a session may be idle
    -- counts from the last answer, whoever it was for.
    r.rolcanlogin
        AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
        AND d.datallowconn
        AND pg_catalog.has_database_privilege(d.oid, 'CONNECT')
        AND COALESCE(pg_catalog.current_setting('idle_session_timeout', true), '0') OPERATOR(pg_catalog.=) '0'
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger e
            WHERE e.evtevent OPERATOR(pg_catalog.=) 'login' AND e.evtenabled OPERATOR(pg_catalog.<>) 'D'),
    -- How long ago the server's configuration was read.
    extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.pg_conf_load_time()),
