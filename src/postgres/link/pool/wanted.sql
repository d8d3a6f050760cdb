-- Whether somebody waits for the database to be empty (DROP, RENAME, TEMPLATE), or the server has next to no connection
-- left: a column.
EXISTS (SELECT FROM pg_catalog.pg_lock_status() l
        WHERE l.locktype OPERATOR(pg_catalog.=) 'object' AND l.database OPERATOR(pg_catalog.=) 0::pg_catalog.oid
            AND l.classid OPERATOR(pg_catalog.=) 1262::pg_catalog.oid
            AND l.objid OPERATOR(pg_catalog.=) d.oid
            AND l.mode OPERATOR(pg_catalog.=) ANY (ARRAY['AccessExclusiveLock', 'ShareLock']))
    OR (SELECT pg_catalog.sum(pg_catalog.pg_stat_get_db_numbackends(a.oid)) FROM pg_catalog.pg_database a)
        OPERATOR(pg_catalog.>) (0.95 OPERATOR(pg_catalog.*)
            (pg_catalog.current_setting('max_connections')::pg_catalog.int4 OPERATOR(pg_catalog.-)
            pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4))
