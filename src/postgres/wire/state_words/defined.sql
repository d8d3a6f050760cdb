-- What functions, views, triggers and policies of a database come to: another text when any of them was made or
-- changed. Functions by their rows' versions; the rest by the server's counters.
(SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(p.xmin::pg_catalog.text::pg_catalog.int8))
    FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid)
    OPERATOR(pg_catalog.||) (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', '',
        pg_catalog.pg_stat_get_tuples_inserted(c.oid), pg_catalog.pg_stat_get_tuples_updated(c.oid)), ''
        ORDER BY c.oid)
    FROM pg_catalog.unnest(ARRAY[2618, 2620, 3256]::pg_catalog.oid[]) c (oid))
