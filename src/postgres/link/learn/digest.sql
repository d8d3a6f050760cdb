/* pgswivel */ -- Changes with what learn.sql would tell: a row that is made or replaced has another xmin. Columns and
-- names of tables change with pg_class; what depends on what, with what depends.
SELECT pg_catalog.count(*),
    pg_catalog.bit_xor(pg_catalog.hashtextextended(c.mark, c.oid::pg_catalog.int8))
FROM (
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_proc
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_rewrite
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_attrdef
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_constraint
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_policy
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_trigger
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_event_trigger
    UNION ALL
    SELECT indexrelid, xmin::pg_catalog.text FROM pg_catalog.pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
    UNION ALL
    SELECT inhrelid, inhparent::pg_catalog.text FROM pg_catalog.pg_inherits
    UNION ALL
    SELECT oid, xmin::pg_catalog.text FROM pg_catalog.pg_class
    WHERE relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'v', 'p', 'm', 'f']::pg_catalog."char"[])
        -- Of one session, and its own to tell.
        AND relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog."char"
) c (oid, mark)
WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
